//! The tree of files and directories: looking, making, removing, renaming.
//!
//! A rename is copies, then deletes, never a delete before its copy is done: whatever dies in
//! between, nothing is lost. What is left then is under both names.

use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::auth::{Permission, User};
use crate::config::Overwrite;
use crate::session::{Entry, FtpPath};

use super::directories::Directories;
use super::{Storage, StorageError, permit};

/// Why a directory can't be renamed.
const HIDDEN: &str = "there is a key in it that FTP can't show";

/// Copies or deletes under way at once in the rename of a directory.
const PARALLEL: usize = 16;

impl Storage {
    /// What a path is. Whoever may do something with a file of a known name may look at it: clients
    /// that only upload ask for the size of what they have sent, and renames look first.
    ///
    /// # Errors
    /// When there is nothing, or the store fails.
    pub async fn stat(&self, user: &User, path: &FtpPath) -> Result<Entry, StorageError> {
        let enough = [Permission::Read, Permission::Write, Permission::Rename];
        if !enough.iter().any(|any| user.permissions.allows(*any)) {
            permit(user, Permission::List)?;
        }
        self.look(user, path).await
    }

    /// Checks that a path is a directory to change into.
    ///
    /// # Errors
    /// When it is not one, or the store fails.
    pub async fn enter(&self, user: &User, path: &FtpPath) -> Result<(), StorageError> {
        if path.is_root() {
            return Ok(());
        }
        // A bucket can have a file of the same name; who changes into it means the directory.
        match self.directory_exists(user, path).await {
            // Credentials that may only write can't tell: let the client go where it will.
            Ok(true) | Err(StorageError::StoreDenied(_)) => Ok(()),
            Err(error) => Err(error),
            Ok(false) => match self.file_entry(user, path).await {
                Ok(_) => Err(StorageError::NotADirectory),
                Err(_) => Err(StorageError::NotFound),
            },
        }
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// When something of that name exists, or the store fails.
    pub async fn make_directory(&self, user: &User, path: &FtpPath) -> Result<(), StorageError> {
        permit(user, Permission::Mkdir)?;
        match self.look(user, path).await {
            Ok(_) => return Err(StorageError::Occupied),
            Err(StorageError::NotFound | StorageError::StoreDenied(_)) => {}
            Err(error) => return Err(error),
        }
        let key = self.keys.directory(user, path)?;
        self.directories.create(&key).await
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// When it is not empty or not there, or the store fails.
    pub async fn remove_directory(&self, user: &User, path: &FtpPath) -> Result<(), StorageError> {
        permit(user, Permission::Delete)?;
        if path.is_root() {
            return Err(StorageError::NotEmpty);
        }
        let key = self.keys.directory(user, path)?;
        let first = self.pages(key.clone()).next().await.transpose()?;
        let first = first.unwrap_or_default();
        if !first.is_childless() {
            return Err(StorageError::NotEmpty);
        }
        if !first.marker && !self.directories.keeps(&key).await {
            return match self.file_entry(user, path).await {
                Ok(_) => Err(StorageError::NotADirectory),
                Err(error) => Err(error),
            };
        }
        self.directories.remove(&key).await
    }

    /// Deletes a file.
    ///
    /// # Errors
    /// When it is not there or is a directory, or the store fails.
    pub async fn delete(&self, user: &User, path: &FtpPath) -> Result<(), StorageError> {
        permit(user, Permission::Delete)?;
        if self.look(user, path).await?.is_directory() {
            return Err(StorageError::IsDirectory);
        }
        let key = self.file_key(user, path)?;
        self.store.delete(&key).await?;
        self.keep_directory(user, &path.parent()).await;
        Ok(())
    }

    /// Renames a file or a directory.
    ///
    /// # Errors
    /// When `from` is not there, `to` may not be replaced, or the store fails. After a failure of
    /// the store both names may exist; nothing is lost.
    pub async fn rename(
        &self,
        user: &User,
        from: &FtpPath,
        to: &FtpPath,
    ) -> Result<(), StorageError> {
        permit(user, Permission::Rename)?;
        let source = self.look(user, from).await?;
        if from == to {
            return Ok(());
        }
        if from.is_root() || to.is_root() || to.is_below(from) {
            return Err(StorageError::IntoItself);
        }
        self.check_target(user, &source, to).await?;
        if source.is_directory() {
            self.rename_directory(user, from, to).await
        } else {
            self.rename_file(user, from, to).await?;
            self.keep_directory(user, &from.parent()).await;
            Ok(())
        }
    }

    /// A directory that has lost its last file stays, as clients that pick files up expect: it gets
    /// a marker if it has none.
    async fn keep_directory(&self, user: &User, path: &FtpPath) {
        if path.is_root() || !self.directories.vanish() {
            return;
        }
        let kept = async {
            if self.directory_exists(user, path).await? {
                return Ok(());
            }
            let key = self.keys.directory(user, path)?;
            self.directories.create(&key).await
        };
        if let Err(error) = kept.await {
            tracing::debug!(%path, %error, "can't keep an empty directory");
        }
    }

    /// A file takes the place of a file, where overwriting is allowed; nothing else of anything.
    async fn check_target(
        &self,
        user: &User,
        source: &Entry,
        to: &FtpPath,
    ) -> Result<(), StorageError> {
        match self.look(user, to).await {
            Err(StorageError::NotFound) => Ok(()),
            Err(error) => Err(error),
            Ok(target) if target.is_directory() || source.is_directory() => {
                Err(StorageError::Exists)
            }
            Ok(_) if self.overwrite(user) == Overwrite::Deny => Err(StorageError::Exists),
            Ok(_) => Ok(()),
        }
    }

    async fn rename_file(
        &self,
        user: &User,
        from: &FtpPath,
        to: &FtpPath,
    ) -> Result<(), StorageError> {
        let from = self.file_key(user, from)?;
        let to = self.file_key(user, to)?;
        Ok(self.store.rename(&from, &to).await?)
    }

    async fn rename_directory(
        &self,
        user: &User,
        from: &FtpPath,
        to: &FtpPath,
    ) -> Result<(), StorageError> {
        let from = self.keys.directory(user, from)?;
        let to = self.keys.directory(user, to)?;
        if let Directories::Local(local) = &self.directories {
            return super::directories::rename_local(local, &from, &to).await;
        }
        let tree = self.walk(from.clone()).await?;
        for kept in &tree.kept {
            self.directories.create(&moved(kept, &from, &to)).await?;
        }
        self.copy_all(&tree.files, &from, &to).await?;
        self.delete_all(tree.files).await?;
        for kept in &tree.kept {
            self.directories.remove(kept).await?;
        }
        Ok(())
    }

    /// All files below a directory, and the directories that are kept by themselves.
    async fn walk(&self, top: Path) -> Result<Tree, StorageError> {
        let mut tree = Tree::default();
        let mut open = vec![top];
        while let Some(directory) = open.pop() {
            let mut kept = self.directories.keeps(&directory).await;
            let mut pages = self.pages(directory.clone());
            while let Some(page) = pages.next().await.transpose()? {
                if page.hidden > 0 {
                    // What can't be named can't be moved, and must not be left behind.
                    return Err(StorageError::Name(HIDDEN.to_owned()));
                }
                kept |= page.marker;
                for entry in page.entries {
                    let child = child(&directory, &entry.name)?;
                    if entry.is_directory() {
                        open.push(child);
                    } else {
                        tree.files.push(child);
                    }
                }
            }
            if kept {
                tree.kept.push(directory);
            }
        }
        Ok(tree)
    }

    async fn copy_all(&self, files: &[Path], from: &Path, to: &Path) -> Result<(), StorageError> {
        stream::iter(files.iter().map(Ok))
            .try_for_each_concurrent(PARALLEL, |file| async move {
                Ok(self.store.copy(file, &moved(file, from, to)).await?)
            })
            .await
    }

    async fn delete_all(&self, files: Vec<Path>) -> Result<(), StorageError> {
        let files = stream::iter(files).map(Ok).boxed();
        let deleted = self.store.delete_stream(files);
        deleted
            .try_for_each(|_| async { Ok(()) })
            .await
            .map_err(StorageError::from)
    }

    /// What a path is, whoever asks.
    async fn look(&self, user: &User, path: &FtpPath) -> Result<Entry, StorageError> {
        if path.is_root() {
            return Ok(Entry::directory(path.name()));
        }
        match self.file_entry(user, path).await {
            Err(StorageError::NotFound | StorageError::IsDirectory | StorageError::Name(_)) => {}
            result => return result,
        }
        if self.directory_exists(user, path).await? {
            Ok(Entry::directory(path.name()))
        } else {
            Err(StorageError::NotFound)
        }
    }

    /// Whether anything lies below, or is kept for it.
    async fn directory_exists(&self, user: &User, path: &FtpPath) -> Result<bool, StorageError> {
        let key = self.keys.directory(user, path)?;
        if self.directories.keeps(&key).await {
            return Ok(true);
        }
        self.has_anything(&key).await
    }
}

#[derive(Debug, Default)]
struct Tree {
    files: Vec<Path>,
    kept: Vec<Path>,
}

fn child(directory: &Path, name: &str) -> Result<Path, StorageError> {
    Ok(
        Path::parse(format!("{directory}/{name}").trim_start_matches('/'))
            .map_err(object_store::Error::from)?,
    )
}

/// Where a key below `from` goes below `to`.
fn moved(key: &Path, from: &Path, to: &Path) -> Path {
    match key.prefix_match(from) {
        Some(rest) => to.parts().chain(rest).collect(),
        // Only keys below `from` are asked about.
        None => key.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_move_with_their_directory() {
        let (from, to) = (Path::from("in/a"), Path::from("out"));
        assert_eq!(
            moved(&Path::from("in/a/b/c"), &from, &to),
            Path::from("out/b/c")
        );
        assert_eq!(moved(&from, &from, &to), to);
    }
}
