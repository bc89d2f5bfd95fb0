//! The folder that everything lies in: held open, and known again.
//!
//! All paths are opened below its handle (`cap-std`), so that no symbolic link leads out of it. A file in it says which
//! store it is: where a mount went away, the folder at the same path is another, and must not be written to.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, MetadataExt, OpenOptions, OpenOptionsExt};
use tokio::sync::Semaphore;

use crate::config::Create;
use crate::storage::store::RESERVED;
use crate::storage::store::local::modes::{FILE_MODE, make_directory, make_root};
use crate::storage::store::local::names::{self, NameLocks};

/// What says which store this is.
const IDENTITY: &str = "identity";

/// Longest that an identity is; ours are shorter.
const MAX_IDENTITY: u64 = 256;

/// As many changes run or wait for names at once; the runtime has 512 threads for all that waits for the disk.
const MAX_CHANGES: usize = 128;

/// A folder that stays the same one.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    /// None where the folder can't be written to. Then no other is taken for it.
    identity: Option<String>,
    held: Mutex<Arc<Dir>>,
    pub(crate) names: NameLocks,
    /// Changes that may wait for names at once: reads find threads all the same.
    pub(crate) changes: Semaphore,
}

impl Root {
    /// Opens a folder, and makes it where that is wanted.
    pub(crate) fn open(path: PathBuf, create: Create) -> io::Result<Self> {
        if create == Create::Missing {
            make_root(&path)?;
        }
        let dir = match Dir::open_ambient_dir(&path, ambient_authority()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(no_identity(&path));
            }
            dir => dir?,
        };
        let identity = match read_identity(&dir)? {
            Some(identity) => Some(identity),
            None if create == Create::Never => return Err(no_identity(&path)),
            None => make_identity(&dir)?,
        };
        if identity.is_none() {
            let path = path.display();
            tracing::warn!(%path, "the folder can't be written to: files can be fetched, and none be stored");
        }
        if identity.is_some() {
            names::prepare(&dir)?;
        }
        Ok(Self {
            path,
            identity,
            held: Mutex::new(Arc::new(dir)),
            names: NameLocks::default(),
            changes: Semaphore::new(MAX_CHANGES),
        })
    }

    /// The folder.
    ///
    /// # Errors
    /// When there is none at its path now, or another.
    pub(crate) fn dir(&self) -> io::Result<Arc<Dir>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let found = std::fs::metadata(&self.path).map_err(|error| self.lost(&error.to_string()))?;
        // The handle of what was unmounted may be of no use any more.
        let same = held.dir_metadata();
        if same.is_ok_and(|held| is_same(&held, &found)) {
            return Ok(Arc::clone(&held));
        }
        // It may have been mounted anew.
        let dir = Dir::open_ambient_dir(&self.path, ambient_authority())?;
        if self.identity.is_none() || read_identity(&dir)? != self.identity {
            return Err(self.lost("another folder is there"));
        }
        *held = Arc::new(dir);
        Ok(Arc::clone(&held))
    }

    fn lost(&self, why: &str) -> io::Error {
        let path = self.path.display();
        io::Error::new(
            io::ErrorKind::NotConnected,
            format!(
                "the folder {path} is no longer the one that was opened ({why}); is it mounted?"
            ),
        )
    }
}

fn is_same(held: &cap_std::fs::Metadata, found: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (held.dev(), held.ino()) == (found.dev(), found.ino())
}

fn no_identity(path: &FsPath) -> io::Error {
    let file = path.join(RESERVED).join(IDENTITY);
    let file = file.display();
    io::Error::new(
        io::ErrorKind::NotFound,
        format!(
            "store.create is \"never\", and {file}, which tells the store from an empty folder, is missing; \
             mount the store, or start once with store.create = \"missing\""
        ),
    )
}

fn read_identity(dir: &Dir) -> io::Result<Option<String>> {
    let path = FsPath::new(RESERVED).join(IDENTITY);
    if dir.metadata(&path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other(format!("{} is no file", path.display())));
    }
    let file = match dir.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut identity = String::new();
    file.take(MAX_IDENTITY).read_to_string(&mut identity)?;
    let identity = identity.trim();
    if identity.len() != 32 || !identity.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let path = FsPath::new(RESERVED).join(IDENTITY);
        let message = format!(
            "{} holds no identity; restore it, or remove it",
            path.display()
        );
        return Err(io::Error::other(message));
    }
    Ok(Some(identity.to_owned()))
}

/// Gives the folder an identity, if it can be written to. Of two gateways that do so at once, both have the same.
fn make_identity(dir: &Dir) -> io::Result<Option<String>> {
    let made = write_identity(dir);
    match made {
        Ok(()) => read_identity(dir),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read_identity(dir),
        Err(error) if is_read_only(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_identity(dir: &Dir) -> io::Result<()> {
    match make_directory(dir, RESERVED) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let own = dir.open_dir(RESERVED)?;
    let id: u128 = rand::random();
    // Written under another name first: a reader finds the whole of it, or none.
    let draft = format!("{IDENTITY}-{id:032x}");
    let mut options = OpenOptions::new();
    let mut file = own.open_with(&draft, options.write(true).create_new(true).mode(FILE_MODE))?;
    writeln!(file, "{id:032x}")?;
    file.sync_all()?;
    match own.hard_link(&draft, &own, IDENTITY) {
        // Not every file system has links.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            own.rename(&draft, &own, IDENTITY)?;
        }
        linked => {
            own.remove_file(&draft)?;
            linked?;
        }
    }
    sync(&own)?;
    sync(dir)
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

fn sync(dir: &Dir) -> io::Result<()> {
    make_durable(&handle(dir)?)
}

/// Makes the names in a directory survive a crash, by its handle.
pub(crate) fn make_durable(directory: &File) -> io::Result<()> {
    match directory.sync_all() {
        // Some file systems have nothing to do for it, and say so.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// A handle to make the names in a directory durable: that of a path can't.
pub(crate) fn handle(dir: &Dir) -> io::Result<File> {
    Ok(dir.open(".")?.into_std())
}
