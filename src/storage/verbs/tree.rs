//! The tree of files and directories: looking, making, removing, renaming.
//!
//! A rename is copies, then deletes, never a delete before its copy is done: whatever dies in
//! between, nothing is lost. That of a directory in a bucket is in [`rename`](super::rename).

use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use crate::auth::{Permission, User};
use crate::config::Overwrite;
use crate::session::{Entry, FtpPath};

use crate::storage::store::assembly::Base;
use crate::storage::store::directories::Directories;
use crate::storage::verbs::note::Note;
use crate::storage::{Storage, StorageError, permit};

/// S3 copies no more in one request.
const LARGEST_COPY: u64 = 5 << 30;

/// What is to be renamed.
enum Source {
    File(ObjectMeta),
    Directory(Path),
}

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
        self.keep(&key).await
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
        let first = self.pages(&key).next().await.transpose()?;
        let first = first.unwrap_or_default();
        if !first.is_childless() {
            return Err(StorageError::NotEmpty);
        }
        if !first.marker && !self.is_folder(&key).await {
            return match self.file_entry(user, path).await {
                Ok(_) => Err(StorageError::NotADirectory),
                Err(error) => Err(error),
            };
        }
        self.unkeep(&key).await
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
        match self.raw() {
            Some(raw) => raw.delete(key.as_ref()).await?,
            None => self.store.delete(&key).await?,
        }
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
        let source = self.source(user, from).await?;
        if from == to {
            return Ok(());
        }
        if from.is_root() || to.is_root() || to.is_below(from) {
            return Err(StorageError::IntoItself);
        }
        match &source {
            Source::File(file) => {
                self.check_file_target(user, to).await?;
                self.rename_file(file, &self.file_key(user, to)?).await?;
            }
            Source::Directory(key) => {
                let target = self.keys.directory(user, to)?;
                let only = self.renaming.begin(key, &target);
                let _only = only.ok_or(StorageError::Renaming)?;
                let begun = self.check_directory_target(user, key, to, &target).await?;
                self.rename_directory(key, &target, begun).await?;
            }
        }
        self.keep_directory(user, &from.parent()).await;
        Ok(())
    }

    /// What is to be renamed: a file, as long as there is one of that name.
    async fn source(&self, user: &User, path: &FtpPath) -> Result<Source, StorageError> {
        if !path.is_root()
            && let Ok(key) = self.keys.file(user, path)
            && let Some(meta) = self.meta(&key).await?
        {
            return Ok(Source::File(meta));
        }
        let directory = path.is_root() || self.directory_exists(user, path).await?;
        let key = self.keys.directory(user, path)?;
        directory
            .then_some(Source::Directory(key))
            .ok_or(StorageError::NotFound)
    }

    /// A directory that has lost its last file stays, as clients that pick files up expect: it gets
    /// a marker if it has none.
    async fn keep_directory(&self, user: &User, path: &FtpPath) {
        if path.is_root() || self.raw().is_none() {
            return;
        }
        let kept = async {
            if self.directory_exists(user, path).await? {
                return Ok(());
            }
            let key = self.keys.directory(user, path)?;
            self.keep(&key).await
        };
        if let Err(error) = kept.await {
            tracing::debug!(%path, %error, "can't keep an empty directory");
        }
    }

    /// A file takes the place of a file, where overwriting is allowed.
    async fn check_file_target(&self, user: &User, to: &FtpPath) -> Result<(), StorageError> {
        match self.look(user, to).await {
            Err(StorageError::NotFound) => Ok(()),
            Err(error) => Err(error),
            Ok(target) if target.is_directory() => Err(StorageError::Exists),
            Ok(_) if self.overwrite(user) == Overwrite::Deny => Err(StorageError::Exists),
            Ok(_) => Ok(()),
        }
    }

    /// A directory takes the place of nothing but the remains of the same rename, which it ends.
    async fn check_directory_target(
        &self,
        user: &User,
        key: &Path,
        to: &FtpPath,
        target: &Path,
    ) -> Result<Option<Note>, StorageError> {
        match self.look(user, to).await {
            Err(StorageError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let begun = self.unfinished_rename(key, target).await?;
        begun.map(Some).ok_or(StorageError::Exists)
    }

    /// What is at a key, if anything is.
    pub(crate) async fn meta(&self, key: &Path) -> Result<Option<ObjectMeta>, StorageError> {
        match self.store.head(key).await.map_err(StorageError::from) {
            Ok(meta) => Ok(Some(meta)),
            Err(StorageError::NotFound | StorageError::IsDirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn rename_file(&self, source: &ObjectMeta, to: &Path) -> Result<(), StorageError> {
        let from = &source.location;
        let Some(raw) = self.raw() else {
            return Ok(self.store.rename(from, to).await?);
        };
        self.copy_object(source, to).await?;
        // What another has written meanwhile stays where it is.
        let copied = source.into();
        if !raw.deletes_only(&copied) && self.meta(from).await?.as_ref() != Some(source) {
            return Ok(());
        }
        raw.delete_unchanged(&[copied]).await?;
        Ok(())
    }

    /// Copies an object on the store's side, with all that it says of itself. It is there afterwards.
    pub(crate) async fn copy_object(
        &self,
        source: &ObjectMeta,
        to: &Path,
    ) -> Result<(), StorageError> {
        if source.size > LARGEST_COPY {
            let base = Base::of(source);
            return Ok(self.assembly.copy_large(base, to).await?);
        }
        self.store.copy(&source.location, to).await?;
        match self.raw() {
            Some(raw) => Ok(raw.settle_copy(to.as_ref()).await?),
            None => Ok(()),
        }
    }

    async fn rename_directory(
        &self,
        from: &Path,
        to: &Path,
        begun: Option<Note>,
    ) -> Result<(), StorageError> {
        match (&self.directories, self.raw()) {
            (Directories::Local(local), _) => {
                crate::storage::store::directories::rename_local(local, from, to).await
            }
            (_, Some(raw)) => self.move_directory(raw, from, to, begun).await,
            (_, None) => Err(StorageError::Unsupported("renames".to_owned())),
        }
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
        if self.is_folder(&key).await {
            return Ok(true);
        }
        self.has_anything(&key).await
    }
}
