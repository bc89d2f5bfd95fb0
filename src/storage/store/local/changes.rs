//! Changes of names in the folder: each whole, under a lock on the name, and durable before it is reported.
//!
//! A new name is made by a link, which never replaces. An old one is replaced by a rename out of the gateway's own
//! directory. The lock is held while the precondition is looked at and the name is changed; other processes take it
//! too.

use std::fs::File;
use std::io;

use cap_std::fs::{Dir, Metadata, MetadataExt};
use md5::{Digest, Md5};
use object_store::UpdateVersion;
use object_store::path::Path;
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use crate::storage::store::RESERVED;
use crate::storage::store::causes::Unsure;
use crate::storage::store::local::blocking::{Changed, leads_out};
use crate::storage::store::local::modes::make_directory;
use crate::storage::store::local::names::LOCKS;
use crate::storage::store::local::root::{Root, handle, make_durable};
use crate::storage::store::local::stage::{Stage, random_name, stages};
use crate::storage::store::local::version::e_tag;
use crate::storage::store::precondition::Precondition;

/// So often a directory may be removed that something is to go to.
const MAX_REMOVALS: usize = 8;

/// Publishes a stage at a key, whose directories are made where they are missing. Says which version it has become.
pub(crate) fn publish(
    root: &Root,
    stage: &Stage,
    key: &Path,
    precondition: &Precondition,
) -> io::Result<UpdateVersion> {
    stage.sync()?;
    let dir = root.dir()?;
    despite_removals(|| Target::make(&dir, key)?.publish(root, &dir, stage, precondition))?;
    // It is published, whatever can be said of it.
    let e_tag = stage.settled().ok().as_ref().map(e_tag);
    Ok(UpdateVersion {
        e_tag,
        version: None,
    })
}

/// Makes a change again whose directory was removed between its making and its use. A removed directory must not look
/// like a file that is missing.
fn despite_removals(change: impl Fn() -> io::Result<()>) -> io::Result<()> {
    for _ in 1..MAX_REMOVALS {
        match change() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            changed => return changed,
        }
    }
    change()
}

/// Renames a file, on what has to hold of its old name and of its new one.
///
/// # Errors
/// [`io::ErrorKind::CrossesDevices`] if the target is on another file system.
pub(crate) fn rename(
    root: &Root,
    from: &Path,
    to: &Path,
    names: &[Precondition; 2],
) -> io::Result<()> {
    despite_removals(|| rename_once(root, from, to, names))
}

fn rename_once(
    root: &Root,
    from: &Path,
    to: &Path,
    [taken, given]: &[Precondition; 2],
) -> io::Result<()> {
    let dir = root.dir()?;
    let source = Target::find(&dir, from)?;
    let target = Target::make(&dir, to)?;
    let _held = root
        .names
        .hold(&dir, vec![source.lock()?, target.lock()?])?;
    source.check(taken)?;
    target.check(given)?;
    match given {
        Precondition::Absent => source.rename_to_nothing(&target)?,
        // For the system that is nothing to do: both names stay.
        _ if source.is_same_file_as(&target)? => source.parent.remove_file(&source.name)?,
        Precondition::None | Precondition::Unchanged(_) => {
            source
                .parent
                .rename(&source.name, &target.parent, &target.name)?;
        }
    }
    let durable = target.sync().and_then(|()| source.sync());
    durable.map_err(unsure)
}

/// Renames a directory, with all in it. It takes the place of nothing.
pub(crate) fn rename_directory(root: &Root, from: &Path, to: &Path) -> io::Result<()> {
    despite_removals(|| rename_directory_once(root, from, to))
}

fn rename_directory_once(root: &Root, from: &Path, to: &Path) -> io::Result<()> {
    let dir = root.dir()?;
    let source = Target::find(&dir, from)?;
    let target = Target::make(&dir, to)?;
    let _held = root
        .names
        .hold(&dir, vec![source.lock()?, target.lock()?])?;
    source.rename_to_nothing(&target)?;
    let durable = target.sync().and_then(|()| source.sync());
    durable.map_err(unsure)
}

/// Deletes a file. It is no error if there is none, unless one of a version was meant.
pub(crate) fn delete(root: &Root, key: &Path, precondition: &Precondition) -> io::Result<()> {
    let dir = root.dir()?;
    let target = match Target::find(&dir, key) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return gone(precondition),
        target => target?,
    };
    let _held = root.names.hold(&dir, vec![target.lock()?])?;
    target.check(precondition)?;
    match target.parent.remove_file(&target.name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => gone(precondition),
        deleted => deleted.and_then(|()| target.sync().map_err(unsure)),
    }
}

/// What it means for a deletion that nothing is there.
fn gone(precondition: &Precondition) -> io::Result<()> {
    match precondition {
        Precondition::Unchanged(_) => Err(io::Error::other(Changed)),
        Precondition::None | Precondition::Absent => Ok(()),
    }
}

/// Makes a directory and those above it.
pub(crate) fn create_directory(root: &Root, directory: &Path) -> io::Result<()> {
    directories(&*root.dir()?, directory.as_ref()).map(drop)
}

/// Removes an empty directory.
pub(crate) fn remove_directory(root: &Root, directory: &Path) -> io::Result<()> {
    let target = Target::find(&*root.dir()?, directory)?;
    // The gateway's own directory in it, if it is empty, does not make it one that is in use.
    if let Ok(inside) = target.parent.open_dir(&target.name) {
        let _ = inside.remove_dir(format!("{RESERVED}/stages"));
        let _ = inside.remove_dir(RESERVED);
    }
    target.parent.remove_dir(&target.name)?;
    target.sync().map_err(unsure)
}

/// A name in a directory, which is held open: the name can be made durable whatever becomes of its path.
struct Target {
    parent: Dir,
    /// Opened before anything changes: a directory that can't be read can't be made durable.
    handle: File,
    name: String,
}

impl Target {
    /// The name of a key, in a directory that is there.
    fn find(root: &Dir, key: &Path) -> io::Result<Self> {
        let (directory, name) = split(key);
        let parent = if directory.is_empty() {
            root.try_clone()?
        } else {
            root.open_dir(directory)?
        };
        Self::of(parent, name)
    }

    /// The same, in a directory that is made where it is missing.
    fn make(root: &Dir, key: &Path) -> io::Result<Self> {
        let (directory, name) = split(key);
        Self::of(directories(root, directory)?, name)
    }

    fn of(parent: Dir, name: String) -> io::Result<Self> {
        let handle = handle(&parent)?;
        Ok(Self {
            parent,
            handle,
            name,
        })
    }

    /// Which lock stands for it: by the directory itself, as several paths may lead there.
    fn lock(&self) -> io::Result<u8> {
        let directory = self.parent.dir_metadata()?;
        let place = format!("{}/{}/{}", directory.dev(), directory.ino(), self.name);
        Ok(Md5::digest(place).first().map_or(0, |first| first % LOCKS))
    }

    fn publish(
        &self,
        root: &Root,
        dir: &Dir,
        stage: &Stage,
        precondition: &Precondition,
    ) -> io::Result<()> {
        let _held = root.names.hold(dir, vec![self.lock()?])?;
        self.check(precondition)?;
        self.place(dir, stage, precondition)
    }

    /// Whether both names are of one file.
    fn is_same_file_as(&self, other: &Self) -> io::Result<bool> {
        let found = self.parent.symlink_metadata(&self.name)?;
        let other = other.parent.symlink_metadata(&other.name);
        Ok(other.is_ok_and(|other| (found.dev(), found.ino()) == (other.dev(), other.ino())))
    }

    /// Looks whether a precondition holds, for a file. The lock has to be held.
    fn check(&self, precondition: &Precondition) -> io::Result<()> {
        let found = self.found()?;
        if found.as_ref().is_some_and(Metadata::is_dir) {
            return Err(Errno::ISDIR.into());
        }
        match (precondition, found) {
            (Precondition::None, _) | (Precondition::Absent, None) => Ok(()),
            (Precondition::Absent, Some(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            (Precondition::Unchanged(version), Some(found))
                if version.e_tag.as_ref() == Some(&e_tag(&found)) =>
            {
                Ok(())
            }
            (Precondition::Unchanged(_), _) => Err(io::Error::other(Changed)),
        }
    }

    /// What has the name: what a link leads to, or the link, if it leads nowhere or out of the folder.
    fn found(&self) -> io::Result<Option<Metadata>> {
        match self.parent.metadata(&self.name) {
            Ok(found) => return Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound || leads_out(&error) => {}
            Err(error) => return Err(error),
        }
        match self.parent.symlink_metadata(&self.name) {
            Ok(link) => Ok(Some(link)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has the stage take the name.
    fn place(&self, root: &Dir, stage: &Stage, precondition: &Precondition) -> io::Result<()> {
        match stage.link(&self.parent, &self.name) {
            // The client has had no reply yet, so a name that may not outlive a crash is removed again.
            Ok(()) => self
                .sync()
                .map_err(|error| match self.parent.remove_file(&self.name) {
                    Ok(()) => error,
                    Err(_) => unsure(error),
                }),
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists
                    && *precondition != Precondition::Absent =>
            {
                self.replace(root, stage)
            }
            Err(error) if has_no_links(&error) && stage.has_name() => {
                self.place_without_links(stage, precondition)
            }
            Err(error) => Err(error),
        }
    }

    /// On file systems without hard links: by a rename alone. Where it can't be told to replace nothing, it was looked
    /// for under the lock.
    fn place_without_links(&self, stage: &Stage, precondition: &Precondition) -> io::Result<()> {
        let flags = match precondition {
            Precondition::Absent => RenameFlags::NOREPLACE,
            Precondition::None | Precondition::Unchanged(_) => RenameFlags::empty(),
        };
        match stage.move_to(&self.parent, &self.name, flags) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                stage.move_to(&self.parent, &self.name, RenameFlags::empty())?;
            }
            moved => moved?,
        }
        self.sync().map_err(unsure)
    }

    /// Replaces what has the name by the stage.
    fn replace(&self, root: &Dir, stage: &Stage) -> io::Result<()> {
        if stage.has_name() {
            stage.move_to(&self.parent, &self.name, RenameFlags::empty())?;
            return self.sync().map_err(unsure);
        }
        let name = random_name();
        let own = self.link_aside(root, stage, &name)?;
        match own.rename(&name, &self.parent, &self.name) {
            // On NFS, the first try's answer may have been lost.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && stage.is_at(&self.parent, &self.name) => {}
            Err(error) => {
                let _ = own.remove_file(&name);
                return Err(error);
            }
            Ok(()) => {}
        }
        self.sync().map_err(unsure)
    }

    /// Links the stage in a directory of the gateway's own, on the file system of the target.
    fn link_aside(&self, root: &Dir, stage: &Stage, name: &str) -> io::Result<Dir> {
        let own = stages(root)?;
        match stage.link(&own, name) {
            Ok(()) => Ok(own),
            // Another file system is mounted below the root.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let own = stages(&self.parent)?;
                stage.link(&own, name)?;
                Ok(own)
            }
            Err(error) => Err(error),
        }
    }

    /// Renames it to a name that nothing has.
    fn rename_to_nothing(&self, target: &Self) -> io::Result<()> {
        let (from, to) = (self.name.as_str(), target.name.as_str());
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&self.parent, from, &target.parent, to, flags) {
            // Not every file system knows the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                if target.parent.symlink_metadata(to).is_ok() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                self.parent.rename(from, &target.parent, to)
            }
            renamed => Ok(renamed?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        make_durable(&self.handle)
    }
}

/// The directory of a key, and its name there.
fn split(key: &Path) -> (&str, String) {
    let (directory, name) = key.as_ref().rsplit_once('/').unwrap_or(("", key.as_ref()));
    (directory, name.to_owned())
}

/// Opens a directory, and makes those that are missing; each that is new survives a crash, or is none.
fn directories(root: &Dir, directory: &str) -> io::Result<Dir> {
    let mut at = root.try_clone()?;
    let ends = directory.match_indices('/').map(|(end, _)| end);
    for end in ends
        .chain([directory.len()])
        .filter(|_| !directory.is_empty())
    {
        // From the root on: a link on the way may lead to elsewhere in the folder.
        let path = &directory[..end];
        at = match root.open_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(root, &at, path)?;
                root.open_dir(path)?
            }
            opened => opened?,
        };
    }
    Ok(at)
}

fn make(root: &Dir, above: &Dir, path: &str) -> io::Result<()> {
    let above = handle(above)?;
    match make_directory(root, path) {
        Ok(()) => make_durable(&above).map_err(|error| match root.remove_dir(path) {
            Ok(()) => error,
            Err(_) => unsure(error),
        }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the file system has no hard links: not every one says so by the same error.
fn has_no_links(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        errno,
        Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK)
    )
}

/// The change is made, and may not outlive a crash.
fn unsure(error: io::Error) -> io::Error {
    io::Error::other(Unsure(error))
}

#[cfg(test)]
mod tests;
