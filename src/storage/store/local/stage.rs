//! A file in the making. No name leads to it, so that nobody sees it and a killed process leaves nothing.
//!
//! Where the file system has no such files (NFS, FUSE), it has a random name in the gateway's own directory, and the
//! sweep removes what a killed process leaves there.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use cap_std::fs::{Dir, Metadata, MetadataExt as _, OpenOptions, OpenOptionsExt};
use object_store::PutPayload;
use object_store::path::Path;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::storage::store::RESERVED;
use crate::storage::store::local::blocking::Changed;
use crate::storage::store::local::modes::{FILE_MODE, make_directories};

/// Where named stages lie, below the gateway's own directory.
const STAGES: &str = "stages";

/// A file in the making.
#[derive(Debug)]
pub(crate) struct Stage {
    file: File,
    /// The directory and the name of one that has a name.
    named: Option<(Dir, String)>,
    /// Its name is its own no more: it was renamed to where it was to go, or taken back.
    moved: AtomicBool,
}

impl Stage {
    /// A new file on the file system that the file at this key will be on.
    pub(crate) fn for_key(root: &Dir, key: &Path) -> io::Result<Self> {
        let mut near = root.try_clone()?;
        let (directory, _) = key.as_ref().rsplit_once('/').unwrap_or_default();
        let ends = directory.match_indices('/').map(|(end, _)| end);
        for end in ends
            .chain([directory.len()])
            .filter(|_| !directory.is_empty())
        {
            match root.open_dir(&directory[..end]) {
                Ok(directory) => near = directory,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        Self::beside(root, &near)
    }

    fn beside(root: &Dir, near: &Dir) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(near, ".", flags, Mode::from_raw_mode(FILE_MODE)) {
            Ok(file) => Ok(Self {
                file: file.into(),
                named: None,
                moved: AtomicBool::new(false),
            }),
            // Kernels and file systems that don't know it take it for a directory to be written.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                let is_mounted = root.dir_metadata()?.dev() != near.dir_metadata()?.dev();
                Self::with_name(if is_mounted { near } else { root })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// One with a name.
    pub(crate) fn with_name(root: &Dir) -> io::Result<Self> {
        let own = stages(root)?;
        let name = random_name();
        let mut options = OpenOptions::new();
        let options = options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE);
        let file = own.open_with(&name, options)?.into_std();
        Ok(Self {
            file,
            named: Some((own, name)),
            moved: AtomicBool::new(false),
        })
    }

    /// Whether it has a name.
    pub(crate) fn has_name(&self) -> bool {
        self.named.is_some()
    }

    /// Writes at an offset; several writes may be under way at once.
    pub(crate) fn write(&self, mut at: u64, data: &PutPayload) -> io::Result<()> {
        for chunk in data {
            self.file.write_all_at(chunk, at)?;
            at += chunk.len() as u64;
        }
        Ok(())
    }

    /// Begins with the first bytes of another file, and with its mode. The kernel copies, and on file systems that
    /// share blocks that costs next to nothing.
    ///
    /// # Errors
    /// [`Changed`] if the other file has become shorter.
    pub(crate) fn begin_with(&self, base: &File, size: u64) -> io::Result<()> {
        self.file.set_permissions(base.metadata()?.permissions())?;
        let copied = io::copy(&mut base.take(size), &mut &self.file)?;
        let is_all = copied == size;
        is_all
            .then_some(())
            .ok_or_else(|| io::Error::other(Changed))
    }

    /// Makes the bytes survive a crash.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives it a name that nothing has yet.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if something has it.
    pub(crate) fn link(&self, directory: &Dir, name: &str) -> io::Result<()> {
        let linked = match &self.named {
            None => {
                let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, own, directory, name, AtFlags::SYMLINK_FOLLOW)
            }
            Some((own, staged)) => {
                rustix::fs::linkat(own, staged.as_str(), directory, name, AtFlags::empty())
            }
        };
        match linked {
            // On NFS, an answer that was lost is asked for again, and the second try finds the first one's link.
            Err(Errno::EXIST) if self.is_at(directory, name) => Ok(()),
            linked => Ok(linked?),
        }
    }

    /// Renames one that has a name, where the file system has no links. What is at the target is replaced, unless
    /// `flags` say otherwise.
    pub(crate) fn move_to(
        &self,
        directory: &Dir,
        name: &str,
        flags: RenameFlags,
    ) -> io::Result<()> {
        let Some((own, staged)) = &self.named else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        match rustix::fs::renameat_with(own, staged.as_str(), directory, name, flags) {
            // As with links: the first try's answer was lost.
            Err(Errno::NOENT) if self.is_at(directory, name) => {}
            renamed => renamed?,
        }
        self.moved.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// What the file says of itself, once it is published. A name of its own is taken back first: to lose it changes the
    /// file's version.
    pub(crate) fn settled(&self) -> io::Result<Metadata> {
        if let Some((own, name)) = &self.named
            && !self.moved.load(Ordering::Relaxed)
        {
            own.remove_file(name)?;
            self.moved.store(true, Ordering::Relaxed);
        }
        Metadata::from_file(&self.file)
    }

    /// Whether this very file has the name.
    pub(crate) fn is_at(&self, directory: &Dir, name: &str) -> bool {
        let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let own = self.file.metadata();
        matches!((found, own), (Ok(found), Ok(own)) if (found.st_dev, found.st_ino) == (own.dev(), own.ino()))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some((own, name)) = &self.named
            && !*self.moved.get_mut()
            && let Err(error) = own.remove_file(name)
        {
            tracing::warn!(name, %error, "can't remove a file in the making, the sweep will");
        }
    }
}

/// Removes stages that were written before this time. How many there were.
pub(crate) fn sweep(root: &Dir, before: SystemTime) -> io::Result<usize> {
    let own = match root.open_dir(format!("{RESERVED}/{STAGES}")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        own => own?,
    };
    let mut swept = 0;
    for entry in own.entries()? {
        let entry = entry?;
        if entry.metadata()?.modified()?.into_std() < before {
            own.remove_file(entry.file_name())?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// The directory of named stages.
pub(crate) fn stages(root: &Dir) -> io::Result<Dir> {
    let path = format!("{RESERVED}/{STAGES}");
    make_directories(root, &path)?;
    root.open_dir(path)
}

/// A name that nothing else has.
pub(crate) fn random_name() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cap_std::ambient_authority;

    use super::*;

    #[test]
    fn what_is_old_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
        assert_eq!(sweep(&root, SystemTime::now()).unwrap(), 0);
        let stage = Stage::with_name(&root).unwrap();
        let hour = Duration::from_hours(1);
        assert_eq!(sweep(&root, SystemTime::now() - hour).unwrap(), 0);
        assert_eq!(sweep(&root, SystemTime::now() + hour).unwrap(), 1);
        drop(stage);
        drop(Stage::with_name(&root).unwrap());
        assert_eq!(stages(&root).unwrap().entries().unwrap().count(), 0);
    }
}
