//! Names that are being changed: one change of a name at a time, in all processes that write to the folder.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::storage::store::RESERVED;
use crate::storage::store::local::modes::{FILE_MODE, make_directories};

/// Files that stand for the names. Two names may share one, which costs a short wait.
pub(crate) const LOCKS: u8 = 64;

/// How long a name is waited for, which is held for the time of a look and a change.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The wait between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// The locks of one folder. Each is one of this process and one of the folder: not every file system has locks.
pub(crate) struct NameLocks(Vec<Mutex<()>>);

impl Default for NameLocks {
    fn default() -> Self {
        Self((0..LOCKS).map(|_| Mutex::default()).collect())
    }
}

impl fmt::Debug for NameLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameLocks")
    }
}

/// Names that nobody else changes until this is dropped.
pub(crate) struct Held<'a> {
    _here: Vec<MutexGuard<'a, ()>>,
    _everywhere: Vec<File>,
}

impl NameLocks {
    /// Waits for the locks of these numbers.
    pub(crate) fn hold(&self, root: &Dir, mut numbers: Vec<u8>) -> io::Result<Held<'_>> {
        // In one order, so that two never wait for each other.
        numbers.sort_unstable();
        numbers.dedup();
        let give_up = Instant::now() + LOCK_TIMEOUT;
        let mutexes = numbers
            .iter()
            .filter_map(|number| self.0.get(usize::from(*number)));
        let here = mutexes.map(|mutex| wait(give_up, || Ok(try_here(mutex))));
        let here = here.collect::<io::Result<_>>()?;
        let own = locks(root)?;
        let files = numbers.iter().map(|number| {
            let file = open(&own, *number)?;
            wait(give_up, || try_everywhere(&file))?;
            Ok(file)
        });
        Ok(Held {
            _everywhere: files.collect::<io::Result<_>>()?,
            _here: here,
        })
    }
}

/// Makes the files of all locks, so that none needs room on a full disk, and a folder that can't have them is found at
/// the start.
pub(crate) fn prepare(root: &Dir) -> io::Result<()> {
    let own = locks(root)?;
    (0..LOCKS).try_for_each(|number| open(&own, number).map(drop))
}

/// Tries until there is an answer, or time is over: a process that holds a lock and does not go on must not hold all
/// others up.
fn wait<T>(give_up: Instant, mut attempt: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    loop {
        match attempt()? {
            Some(held) => return Ok(held),
            None if Instant::now() < give_up => std::thread::sleep(LOCK_PAUSE),
            None => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the name is being changed",
                ));
            }
        }
    }
}

fn try_here(mutex: &Mutex<()>) -> Option<MutexGuard<'_, ()>> {
    match mutex.try_lock() {
        Ok(held) => Some(held),
        Err(TryLockError::Poisoned(held)) => Some(held.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

fn try_everywhere(file: &File) -> io::Result<Option<()>> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS) => Ok(Some(())),
        // A server of locks that is away may come back.
        Err(Errno::WOULDBLOCK | Errno::NOLCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn locks(root: &Dir) -> io::Result<Dir> {
    let path = format!("{RESERVED}/locks");
    match root.open_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directories(root, &path)?;
            root.open_dir(&path)
        }
        own => own,
    }
}

fn open(own: &Dir, number: u8) -> io::Result<File> {
    // NFS locks only what is open for writing.
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).mode(FILE_MODE);
    let file = own.open_with(number.to_string(), options);
    let named = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("{RESERVED}/locks/{number} can't be written: {error}"),
        )
    };
    Ok(file.map_err(named)?.into_std())
}

#[cfg(test)]
mod tests {
    use cap_std::ambient_authority;

    use super::*;

    #[test]
    fn a_name_is_held_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let root = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
        // Of another process, which has its own.
        let (ours, theirs) = (NameLocks::default(), NameLocks::default());
        for other in [&ours, &theirs] {
            let held = ours.hold(&root, vec![3, 1, 3]).unwrap();
            let waited = std::thread::scope(|scope| {
                let waiting = scope.spawn(|| drop(other.hold(&root, vec![1]).unwrap()));
                std::thread::sleep(Duration::from_millis(50));
                let waits = !waiting.is_finished();
                drop(held);
                waiting.join().unwrap();
                waits
            });
            assert!(waited);
        }
    }
}
