//! Appends in a local folder: to a copy of the file, which then takes its target.
//!
//! The copy is made by the kernel, and on file systems that share blocks costs next to nothing.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use object_store::local::LocalFileSystem;
use object_store::{Error, ObjectStoreExt, PutPayload, Result, UploadPart};
use rustix::fs::FlockOperation;

use crate::storage::store::local::blocking::{blocking, failed};
use crate::storage::store::precondition::Precondition;
use crate::storage::store::upload::{Base, Start, Upload};

/// What tells a file from another, and from itself after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// Tries to find a name for the copy.
const TRIES: usize = 100;

/// A file that will take the target of the one it was copied from.
#[derive(Debug)]
pub(crate) struct LocalAppend {
    /// The file that is there.
    base: Arc<File>,
    /// What it was when it was copied.
    was: Identity,
    target: PathBuf,
    /// Its successor. No listing shows such a name.
    staged: Arc<File>,
    staged_at: PathBuf,
    next: u64,
}

impl LocalAppend {
    /// Copies the file that is there.
    pub(crate) async fn begin(local: &LocalFileSystem, start: Start) -> Result<Self> {
        let target = local.path_to_filesystem(&start.key)?;
        let Some(expected) = start.base else {
            return Err(failed(io::Error::other("nothing to append to")));
        };
        let opened = target.clone();
        let base = blocking(move || File::open(opened)).await?;
        check(local, &expected).await?;
        blocking(move || {
            let was = base.metadata()?;
            let (staged, staged_at) = stage(&target)?;
            let copied = copy(&base, &was, &staged);
            let next = copied.inspect_err(|_| remove(&staged_at))?;
            Ok(Self {
                base: Arc::new(base),
                was: Identity::of(&was),
                target,
                staged: Arc::new(staged),
                staged_at,
                next,
            })
        })
        .await
    }
}

#[async_trait]
impl Upload for LocalAppend {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let at = self.next;
        self.next += data.content_length() as u64;
        let staged = Arc::clone(&self.staged);
        Box::pin(blocking(move || write(&staged, at, &data)))
    }

    /// The file has to be the one that was copied, whatever else has to hold.
    async fn publish(&mut self, _: &Precondition) -> Result<()> {
        let (base, staged) = (Arc::clone(&self.base), Arc::clone(&self.staged));
        let (target, staged_at) = (self.target.clone(), self.staged_at.clone());
        let path = target.display().to_string();
        let was = self.was;
        let taken = blocking(move || {
            staged.sync_all()?;
            Ok(lock(&base)? && replace(was, &target, &staged_at)?)
        });
        if !taken.await? {
            let source = "the file was changed meanwhile".into();
            return Err(Error::Precondition { path, source });
        }
        Ok(())
    }

    async fn abort(&mut self) -> Result<()> {
        let staged_at = self.staged_at.clone();
        blocking(move || std::fs::remove_file(staged_at)).await
    }
}

/// The file has to be the one that the append was begun for.
async fn check(local: &LocalFileSystem, expected: &Base) -> Result<()> {
    let found = local.head(&expected.key).await?;
    if found.e_tag == expected.version.e_tag {
        return Ok(());
    }
    Err(Error::Precondition {
        path: expected.key.to_string(),
        source: "the file was changed meanwhile".into(),
    })
}

/// A new file beside `target`, with the name that `object_store` gives to those it does not show.
fn stage(target: &FsPath) -> io::Result<(File, PathBuf)> {
    for _ in 0..TRIES {
        let suffix: u32 = rand::random();
        let mut name = target.as_os_str().to_owned();
        name.push(format!("#{suffix}"));
        match OpenOptions::new().write(true).create_new(true).open(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return Ok((opened?, name.into())),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn remove(path: &FsPath) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "can't remove an unfinished file");
    }
}

fn write(file: &File, mut at: u64, data: &PutPayload) -> io::Result<()> {
    for chunk in data {
        file.write_all_at(chunk, at)?;
        at += chunk.len() as u64;
    }
    Ok(())
}

/// Copies bytes and mode; the kernel does it, where both are files.
fn copy(mut from: &File, was: &Metadata, mut to: &File) -> io::Result<u64> {
    to.set_permissions(was.permissions())?;
    io::copy(&mut from, &mut to)
}

/// Whether nobody else is about to take the target of this file. Who appends, in whichever process,
/// holds this lock while it looks and renames; file systems without locks have to do without.
fn lock(base: &File) -> io::Result<bool> {
    use rustix::io::Errno;
    match rustix::fs::flock(base, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) | Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Puts the staged file in its target, if what is there is as it was. Whether it was.
fn replace(was: Identity, target: &FsPath, staged_at: &FsPath) -> io::Result<bool> {
    let unchanged = match std::fs::metadata(target) {
        Ok(found) => was == Identity::of(&found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    if unchanged {
        std::fs::rename(staged_at, target)?;
        if let Some(parent) = target.parent() {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(unchanged)
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}
