//! What makes a directory exist when nothing is in it: a real one, or a marker.
//!
//! A directory with something under it exists on every store by that alone; see `listing`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::list::PaginatedListStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;

use super::StorageError;
use super::signed::SignedS3;

/// How empty directories are kept, by kind of store.
#[derive(Debug)]
pub(super) enum Directories {
    /// A local folder has real ones.
    Local(LocalFileSystem),
    /// In memory they are remembered beside the objects.
    Memory(Mutex<BTreeSet<Path>>),
    /// On S3 they are markers.
    S3(Arc<SignedS3>),
    /// They can't be kept: only what has something in it is a directory.
    Implied(Paged),
}

impl Directories {
    pub(super) fn memory() -> Self {
        Self::Memory(Mutex::default())
    }

    /// Whether a directory is gone with its last file, unless it is kept.
    pub(super) fn vanish(&self) -> bool {
        matches!(self, Self::Memory(_) | Self::S3(_))
    }

    /// Makes an empty directory exist.
    pub(super) async fn create(&self, key: &Path) -> Result<(), StorageError> {
        match self {
            Self::Local(local) => create_local(local, key).await,
            Self::Memory(known) => {
                known
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(key.clone());
                Ok(())
            }
            Self::S3(s3) => Ok(s3.create_marker(key).await?),
            Self::Implied(_) => Err(StorageError::Unsupported(
                "empty directories; upload into the directory and it is there".to_owned(),
            )),
        }
    }

    /// Removes what keeps an empty directory; no error if nothing does.
    pub(super) async fn remove(&self, key: &Path) -> Result<(), StorageError> {
        match self {
            Self::Local(local) => Ok(tokio::fs::remove_dir(local.folder(key)?).await?),
            Self::Memory(known) => {
                known
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(key);
                Ok(())
            }
            Self::S3(s3) => Ok(s3.remove_marker(key).await?),
            Self::Implied(_) => Err(StorageError::Unsupported(
                "removing a directory's marker".to_owned(),
            )),
        }
    }

    /// Whether an empty directory is kept that a listing of the store does not show.
    pub(super) async fn keeps(&self, key: &Path) -> bool {
        match self {
            Self::Local(local) => match local.folder(key) {
                Ok(path) => tokio::fs::metadata(path)
                    .await
                    .is_ok_and(|meta| meta.is_dir()),
                Err(_) => false,
            },
            Self::Memory(known) => {
                let known = known.lock().unwrap_or_else(PoisonError::into_inner);
                known.iter().any(|kept| kept.prefix_matches(key))
            }
            Self::S3(_) | Self::Implied(_) => false,
        }
    }

    /// The names of kept directories right under `key` that a listing of the store does not show.
    pub(super) fn children(&self, key: &Path) -> BTreeSet<String> {
        match self {
            Self::Memory(known) => {
                let known = known.lock().unwrap_or_else(PoisonError::into_inner);
                known
                    .iter()
                    .filter_map(|kept| {
                        let child = kept.prefix_match(key)?.next()?;
                        Some(child.as_ref().to_owned())
                    })
                    .collect()
            }
            Self::Local(_) | Self::S3(_) | Self::Implied(_) => BTreeSet::new(),
        }
    }
}

/// A store that gives its listings page by page.
pub(super) struct Paged(pub(super) Arc<dyn PaginatedListStore>);

impl fmt::Debug for Paged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Paged")
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
pub(super) trait Folders {
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
pub(super) async fn rename_local(
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
