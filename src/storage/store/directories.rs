//! What makes a directory exist when nothing is in it: a real one, or a marker.
//!
//! A directory with something under it exists on every store by that alone; see `listing`. In a bucket,
//! the marker of a directory is the object `name/`, as consoles and rclone write it.

use bytes::Bytes;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;

use crate::storage::store::raw::Raw;
use crate::storage::store::s3::signed::SignedS3;
use crate::storage::{Storage, StorageError};

/// How directories are kept, by kind of store.
#[derive(Debug)]
pub(crate) enum Directories {
    /// A local folder has real ones.
    Local(LocalFileSystem),
    /// A bucket on S3 has markers.
    S3(Arc<SignedS3>),
    /// So have all others.
    Marked,
}

/// The key of a directory's marker, which all keys in it begin with; nothing for the bucket's root.
pub(crate) fn marker(directory: &Path) -> String {
    match directory.as_ref() {
        "" => String::new(),
        directory => format!("{directory}/"),
    }
}

impl Storage {
    /// The bucket by its keys; a local folder is none.
    pub(crate) fn raw(&self) -> Option<&dyn Raw> {
        self.raw.as_deref()
    }

    /// Makes an empty directory exist.
    pub(crate) async fn keep(&self, key: &Path) -> Result<(), StorageError> {
        match (&self.directories, self.raw()) {
            (Directories::Local(local), _) => create_local(local, key).await,
            (_, Some(raw)) => Ok(raw.put(&marker(key), Bytes::new(), false).await?),
            (_, None) => Ok(()),
        }
    }

    /// Removes what keeps an empty directory; no error if nothing does.
    pub(crate) async fn unkeep(&self, key: &Path) -> Result<(), StorageError> {
        match (&self.directories, self.raw()) {
            (Directories::Local(local), _) => Ok(tokio::fs::remove_dir(local.folder(key)?).await?),
            (_, Some(raw)) => Ok(raw.delete(&marker(key)).await?),
            (_, None) => Ok(()),
        }
    }

    /// Whether an empty directory is kept that a listing of the store does not show.
    pub(crate) async fn is_folder(&self, key: &Path) -> bool {
        let Directories::Local(local) = &self.directories else {
            return false;
        };
        match local.folder(key) {
            Ok(path) => tokio::fs::metadata(path)
                .await
                .is_ok_and(|meta| meta.is_dir()),
            Err(_) => false,
        }
    }
}

/// Creates the directory and makes it survive a crash, as uploads do.
async fn create_local(local: &LocalFileSystem, key: &Path) -> Result<(), StorageError> {
    let path = local.folder(key)?;
    tokio::fs::create_dir_all(&path).await?;
    if let Some(parent) = path.parent() {
        tokio::fs::File::open(parent).await?.sync_all().await?;
    }
    Ok(())
}

/// Paths of directories in a local folder.
pub(crate) trait Folders {
    /// The folder of a key.
    fn folder(&self, key: &Path) -> Result<std::path::PathBuf, StorageError>;
}

impl Folders for LocalFileSystem {
    /// `path_to_filesystem` refuses the root and names like `x#1`, which are fine for directories:
    /// ask it for a file inside and take the parent.
    fn folder(&self, key: &Path) -> Result<std::path::PathBuf, StorageError> {
        let mut inside = self.path_to_filesystem(&key.clone().join("file"))?;
        inside.pop();
        Ok(inside)
    }
}

/// A local folder renames its directories itself, at once and whole.
pub(crate) async fn rename_local(
    local: &LocalFileSystem,
    from: &Path,
    to: &Path,
) -> Result<(), StorageError> {
    let (from, to) = (local.folder(from)?, local.folder(to)?);
    if let Some(parent) = to.parent() {
        tokio::fs::create_dir_all(parent).await?;
    }
    tokio::fs::rename(&from, &to).await?;
    for changed in [from.parent(), to.parent()].into_iter().flatten() {
        tokio::fs::File::open(changed).await?.sync_all().await?;
    }
    Ok(())
}
