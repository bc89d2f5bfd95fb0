//! The tree of files and directories: looking, making, removing, renaming.
//!
//! A rename is copies, then deletes, never a delete before its copy is done: whatever dies in
//! between, nothing is lost. That of a directory in a bucket is in [`rename`](super::rename).

use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore};

use crate::auth::{Permission, User};
use crate::config::MissingDirectories;
use crate::session::{Entry, FtpPath, OwnUploads};

use crate::storage::Storage;
use crate::storage::error::StorageError;
use crate::storage::store::description::Carries;
use crate::storage::store::keys::Object;
use crate::storage::store::mark::Mark;
use crate::storage::store::precondition::{Precondition, is_version};
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::Base;
use crate::storage::verbs::contract::{
    Spot, Taken, permit, permit_look, permit_rename, permit_rename_of_directory,
};
use crate::storage::verbs::listing::Listed;
use crate::storage::verbs::note::{Note, is_foreign};
use crate::storage::write::conditions::Operation;
use crate::storage::write::verdict::{self, Found};

/// What is to be renamed.
enum Source {
    /// It carries what a copy of it is to carry.
    File(ObjectMeta, Carries),
    Directory(Path),
}

/// What a deletion has found.
pub(crate) enum Removed {
    /// What was to be deleted.
    Deleted,
    /// Nothing: another has taken it away.
    Absent,
    /// Another version, which stays; or nothing, where the store keeps versions.
    Changed,
    /// Nothing, or another version, which stays. The answer to an earlier try was lost: that one may have deleted it, or
    /// another client.
    Unclear {
        is_replaced: bool,
        error: object_store::Error,
    },
}

impl Storage {
    /// What a path is.
    ///
    /// # Errors
    /// When there is nothing, or the store fails.
    pub async fn stat(&self, user: &User, path: &FtpPath) -> Result<Entry, StorageError> {
        permit_look(user)?;
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
            Ok(false) => match self.file(user, path).await {
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
        self.check_directory_of(user, path).await?;
        let key = self.keys.key(user, path)?;
        match self.store.create_directory(&key).await {
            Err(object_store::Error::AlreadyExists { .. }) => Err(StorageError::Occupied),
            made => Ok(made?),
        }
    }

    /// The marker of a directory with nothing else in it, if there is one.
    async fn marker_of_empty(&self, key: &Path) -> Result<Option<Object>, StorageError> {
        let _memory = self.listing_memory.page().await?;
        let first = self.pages(key).next().await.transpose()?;
        let first = first.unwrap_or_default();
        if first.is_childless() {
            Ok(first.marker)
        } else {
            Err(StorageError::NotEmpty)
        }
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
        let key = self.keys.key(user, path)?;
        if let Some(marker) = self.marker_of_empty(&key).await? {
            self.remove_marker(user.shown(path.as_str()), marker)
                .await?;
        } else if self.store.directory_changed(&key).await.is_some() {
            self.store.remove_directory(&key).await?;
        } else {
            return match self.file(user, path).await {
                Ok(_) => Err(StorageError::NotADirectory),
                Err(error) => Err(error),
            };
        }
        self.keep_directory(user, &path.parent()).await;
        Ok(())
    }

    /// Removes the marker that was found, and no other. One with content is somebody's object.
    async fn remove_marker(&self, path: String, marker: Object) -> Result<(), StorageError> {
        if is_foreign(&marker) {
            return Err(StorageError::MarkerInUse(path));
        }
        match self.store.delete_unchanged(&[marker]).await? {
            0 => Ok(()),
            _ => Err(StorageError::Conflict),
        }
    }

    /// Deletes a file.
    ///
    /// # Errors
    /// When it is not there or is a directory, or the store fails.
    pub async fn delete(&self, user: &User, path: &FtpPath) -> Result<(), StorageError> {
        permit(user, Permission::Delete)?;
        let key = self.file_key(user, path)?;
        let Some(found) = self.meta(&key).await? else {
            return Err(match self.look(user, path).await {
                Ok(_) => StorageError::IsDirectory,
                Err(error) => error,
            });
        };
        match self.remove(&found).await? {
            // If another has added to it, what was to be deleted is still in it.
            Removed::Changed if self.meta(&key).await?.is_some() => {
                return Err(StorageError::Conflict);
            }
            Removed::Unclear {
                is_replaced: true,
                error,
            } => return Err(StorageError::Unresolved(error)),
            // Whoever has deleted it, it is gone.
            Removed::Unclear { .. } | Removed::Deleted | Removed::Absent | Removed::Changed => {}
        }
        self.keep_directory(user, &path.parent()).await;
        Ok(())
    }

    /// Renames a file or a directory. `own` is what the session has stored itself.
    ///
    /// # Errors
    /// When `from` is not there or may not be taken away, `to` may not be replaced, or the store fails. After a failure of
    /// the store both names may exist; nothing is lost.
    pub async fn rename(
        &self,
        own: &OwnUploads,
        from: Spot<'_>,
        to: Spot<'_>,
    ) -> Result<(), StorageError> {
        permit_rename(from.user, to.user)?;
        let source = self.source(from.user, from.path).await?;
        if from.path.is_root() || to.path.is_root() {
            return Err(StorageError::IntoItself);
        }
        // By keys: what is mounted may lie in what it is mounted into.
        let [old, target] = [from, to].map(|it| self.keys.key(it.user, it.path));
        let (old, target) = (old?, target?);
        if old == target {
            return Ok(());
        }
        if target.prefix_matches(&old) {
            return Err(StorageError::IntoItself);
        }
        self.check_directory_of(to.user, to.path).await?;
        match &source {
            Source::File(file, carries) => {
                self.rename_one(own, file, carries, from.user, to).await?;
            }
            Source::Directory(key) => {
                self.permit_taking_directory(from.user)?;
                permit_rename_of_directory(from.user, to.user)?;
                let only = self.renaming.begin(key, &target);
                let _only = only.ok_or(StorageError::Renaming)?;
                let begun = self.check_directory_target(to, key, &target).await?;
                self.rename_directory(key, &target, begun).await?;
            }
        }
        self.keep_directory(from.user, &from.path.parent()).await;
        Ok(())
    }

    async fn rename_one(
        &self,
        own: &OwnUploads,
        file: &ObjectMeta,
        carries: &Carries,
        taker: &User,
        to: Spot<'_>,
    ) -> Result<(), StorageError> {
        let key = self.file_key(to.user, to.path)?;
        let taken = self.check_taking(taker, own, file, Some(&key)).await?;
        let given = self.check_file_target(to, file, &key).await?;
        let _only = self.only_append(&file.location)?;
        let renamed = self
            .rename_file(file, carries, &key, [&taken, &given])
            .await;
        renamed.map_err(|error| match (error, self.refusal_to_replace(to.user)) {
            (StorageError::Exists, Some(refusal)) => refusal,
            (error, _) => error,
        })
    }

    /// Which upload is at a key, where uploads can be told apart.
    async fn mark_of(&self, file: &ObjectMeta) -> Result<Option<Mark>, StorageError> {
        if self.store.traits().metadata.is_none() {
            return Ok(None);
        }
        match verdict::look(self.store.objects().as_ref(), &file.location).await? {
            Found::Object { attributes, .. } => Ok(Mark::of(&attributes)),
            Found::Nothing => Err(StorageError::TakenAway),
        }
    }

    /// What is to be moved into another store.
    pub(crate) async fn take(
        &self,
        own: &OwnUploads,
        from: Spot<'_>,
    ) -> Result<Taken, StorageError> {
        match self.source(from.user, from.path).await? {
            Source::Directory(_) => Err(StorageError::BetweenStores),
            Source::File(file, _) => {
                self.check_taking(from.user, own, &file, None).await?;
                let mark = self.mark_of(&file).await?;
                Ok(Taken { file, mark })
            }
        }
    }

    /// Deletes what was moved into another store. What was written there since stays.
    pub(crate) async fn give_away(
        &self,
        from: Spot<'_>,
        taken: &Taken,
    ) -> Result<(), StorageError> {
        // On S3 a version is one of the content: the same content that another has written, or that was just stored at
        // the same key by another name of the store, has it too.
        if self.mark_of(&taken.file).await? != taken.mark {
            return Err(StorageError::Conflict);
        }
        self.remove_source(&taken.file).await?;
        self.keep_directory(from.user, &from.path.parent()).await;
        Ok(())
    }

    /// What is to be renamed: a file, as long as there is one of that name.
    async fn source(&self, user: &User, path: &FtpPath) -> Result<Source, StorageError> {
        if !path.is_root()
            && let Ok(key) = self.keys.key(user, path)
            && let Some((meta, carries)) = self.meta_and_carries(&key).await?
        {
            return Ok(Source::File(meta, carries));
        }
        let directory = path.is_root() || self.directory_exists(user, path).await?;
        let key = self.keys.key(user, path)?;
        directory
            .then_some(Source::Directory(key))
            .ok_or(StorageError::NotFound)
    }

    /// A directory that has lost the last that was in it stays, be that a file or a directory, until it is
    /// removed itself. Clients that pick files up expect so, and those that delete a tree from its leaves up. It
    /// gets a marker if it has none.
    async fn keep_directory(&self, user: &User, path: &FtpPath) {
        if path.is_root() || self.store.traits().directories {
            return;
        }
        let kept = async {
            if self.directory_exists(user, path).await? {
                return Ok(());
            }
            let key = self.keys.key(user, path)?;
            self.store.create_directory(&key).await?;
            Ok::<_, StorageError>(())
        };
        if let Err(error) = kept.await {
            tracing::debug!(%path, %error, "can't keep an empty directory");
        }
    }

    /// Whether there is a directory for what is to be made here, where that is asked for.
    pub(crate) async fn check_directory_of(
        &self,
        user: &User,
        path: &FtpPath,
    ) -> Result<(), StorageError> {
        let directory = path.parent();
        let may_be_missing = self.upload.missing_directories == MissingDirectories::Create;
        let is_there = directory.is_root() || user.leads_to_mount(directory.as_str());
        if may_be_missing || is_there || self.directory_exists(user, &directory).await? {
            return Ok(());
        }
        Err(StorageError::MissingDirectory(
            user.shown(directory.as_str()),
        ))
    }

    /// On what a file may take a name. It takes the place of a file, where the user may replace that.
    async fn check_file_target(
        &self,
        to: Spot<'_>,
        source: &ObjectMeta,
        key: &Path,
    ) -> Result<Precondition, StorageError> {
        let refusal = self.refusal_to_replace(to.user);
        match (self.look(to.user, to.path).await, refusal) {
            (Err(StorageError::NotFound), Some(_)) => Ok(Precondition::Absent),
            (Err(StorageError::NotFound), None) => Ok(Precondition::None),
            (Err(error), _) => Err(error),
            (Ok(target), _) if target.is_directory() => Err(StorageError::Exists),
            (Ok(_), Some(refusal)) => {
                // The same rename has come so far before, and has not deleted its source.
                let is_begun = self.are_one_upload(&source.location, key).await;
                is_begun.then_some(Precondition::Absent).ok_or(refusal)
            }
            (Ok(_), None) => Ok(Precondition::None),
        }
    }

    /// A directory takes the place of nothing but the remains of the same rename, which it ends.
    async fn check_directory_target(
        &self,
        to: Spot<'_>,
        key: &Path,
        target: &Path,
    ) -> Result<Option<Note>, StorageError> {
        match self.look(to.user, to.path).await {
            Err(StorageError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let begun = self.unfinished_rename(key, target).await?;
        begun.map(Some).ok_or(StorageError::Exists)
    }

    /// What is at a key, if anything is.
    pub(crate) async fn meta(&self, key: &Path) -> Result<Option<ObjectMeta>, StorageError> {
        let found = self.meta_and_carries(key).await?;
        Ok(found.map(|(meta, _)| meta))
    }

    async fn meta_and_carries(
        &self,
        key: &Path,
    ) -> Result<Option<(ObjectMeta, Carries)>, StorageError> {
        let head = GetOptions::new().with_head(true);
        let found = self.store.objects().get_opts(key, head).await;
        match found.map_err(StorageError::from) {
            Ok(mut found) => {
                let carries = found.extensions.remove::<Carries>();
                Ok(Some((found.meta, carries.unwrap_or_default())))
            }
            Err(StorageError::NotFound | StorageError::IsDirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn rename_file(
        &self,
        source: &ObjectMeta,
        carries: &Carries,
        to: &Path,
        [taken, given]: [&Precondition; 2],
    ) -> Result<(), StorageError> {
        let (from, traits) = (&source.location, self.store.traits());
        if traits.directories {
            return Ok(self.store.rename(from, to, [taken, given]).await?);
        }
        // A copy is always of the version that was looked at.
        let base = Base::of(source).carrying(carries.clone());
        self.copy_file(base, to, given).await?;
        // What another has written meanwhile stays where it is.
        match self.remove_source(source).await {
            Err(StorageError::Conflict) => Ok(()),
            removed => removed,
        }
    }

    /// Deletes what was copied elsewhere, as it was found. Whoever took it away has it: of several renames of one file,
    /// one succeeds.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if another has written there since, and [`StorageError::TakenAway`] if nothing is there.
    async fn remove_source(&self, source: &ObjectMeta) -> Result<(), StorageError> {
        let (from, traits) = (&source.location, self.store.traits());
        let hold = self.conditions.known(Operation::Delete) == Some(true);
        let is_certain = hold || traits.deletes.are_certain(&source.into());
        let removed = if is_certain || self.meta(from).await?.as_ref() == Some(source) {
            let unchanged = Precondition::Unchanged(Base::of(source).version);
            self.remove_on(source, Terms::new(unchanged)).await?
        } else {
            Removed::Changed
        };
        match removed {
            Removed::Deleted => Ok(()),
            Removed::Unclear { error, .. } => Err(StorageError::Unresolved(error)),
            Removed::Absent => Err(StorageError::TakenAway),
            Removed::Changed => match self.meta(from).await? {
                Some(_) => Err(StorageError::Conflict),
                None => Err(StorageError::TakenAway),
            },
        }
    }

    async fn delete_on(&self, key: &Path, terms: &Terms) -> object_store::Result<()> {
        let (store, operation) = (&self.store, Operation::Delete);
        let delete = |terms: Terms| async move { store.delete(key.as_ref(), &terms).await }.boxed();
        self.conditions
            .make(operation, store.objects(), key, terms, delete)
            .await
    }

    /// Deletes an object as it was found. One that another has written meanwhile stays.
    pub(crate) async fn remove(&self, found: &ObjectMeta) -> Result<Removed, StorageError> {
        let terms = if self.store.traits().late_requests {
            Terms::new(Precondition::Unchanged(Base::of(found).version))
        } else {
            Terms::none()
        };
        self.remove_on(found, terms).await
    }

    async fn remove_on(&self, found: &ObjectMeta, terms: Terms) -> Result<Removed, StorageError> {
        let (key, version) = (&found.location, Base::of(found).version);
        self.writers.forget(key);
        let error = match self.delete_on(key, &terms).await {
            Ok(()) => return Ok(Removed::Deleted),
            Err(error) => error,
        };
        if !terms.attempts.may_have_acted() {
            return match (error.into(), &terms.precondition) {
                (StorageError::NotFound, _) => Ok(Removed::Absent),
                (StorageError::Conflict, Precondition::Unchanged(_)) => Ok(Removed::Changed),
                (error, _) => Err(error),
            };
        }
        match self.meta(key).await {
            Ok(now) if now.as_ref().is_none_or(|now| !is_version(&version, now)) => {
                Ok(Removed::Unclear {
                    is_replaced: now.is_some(),
                    error,
                })
            }
            Ok(_) if !terms.attempts.may_act_later() => Err(error.into()),
            Ok(_) | Err(_) => Err(StorageError::Unresolved(error)),
        }
    }

    async fn rename_directory(
        &self,
        from: &Path,
        to: &Path,
        begun: Option<Note>,
    ) -> Result<(), StorageError> {
        if self.store.traits().directories {
            // What was a directory may be a file by now, and replaces none.
            let names = [&Precondition::None, &Precondition::Absent];
            return Ok(self.store.rename(from, to, names).await?);
        }
        self.move_directory(from, to, begun).await
    }

    /// What a path is, whoever asks.
    async fn look(&self, user: &User, path: &FtpPath) -> Result<Entry, StorageError> {
        if path.is_root() {
            return Ok(Entry::directory(path.name()));
        }
        match self.file(user, path).await {
            Err(StorageError::NotFound | StorageError::IsDirectory | StorageError::Name(_)) => {}
            result => return result,
        }
        let found = self.directory_entry(user, path).await?;
        found.ok_or(StorageError::NotFound)
    }

    async fn directory_exists(&self, user: &User, path: &FtpPath) -> Result<bool, StorageError> {
        Ok(self.directory_entry(user, path).await?.is_some())
    }

    /// What a path is, if it is a directory: if anything lies below, or is kept for it.
    async fn directory_entry(
        &self,
        user: &User,
        path: &FtpPath,
    ) -> Result<Option<Entry>, StorageError> {
        let key = self.keys.key(user, path)?;
        let entry = |modified| Entry {
            modified,
            ..Entry::directory(path.name())
        };
        if let Some(changed) = self.store.directory_changed(&key).await {
            return Ok(Some(entry(Some(changed))));
        }
        let found = self.anything_in(&key).await?;
        Ok(found.map(|page| entry(page.modified())))
    }
}
