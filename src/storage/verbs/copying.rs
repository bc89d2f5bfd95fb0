//! The copy of one object, for a rename in a bucket: the source may be deleted only if the copy is there.
//!
//! An answer says that it is, if it is one. A lost answer is made up for by looking: a copy has the mark of its source.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use object_store::path::Path;
use object_store::{Error, ObjectMeta};

use crate::storage::Storage;
use crate::storage::error::StorageError;
use crate::storage::store::http::attempts::Attempts;
use crate::storage::store::http::command;
use crate::storage::store::mark::Mark;
use crate::storage::store::precondition::{self, Precondition};
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::Base;
use crate::storage::write::conditions::Operation;
use crate::storage::write::known::Expected;
use crate::storage::write::verdict::{self, Found};

/// For so long a copy is tried again that others keep getting ahead of.
const PATIENCE: Duration = Duration::from_secs(30);

/// A copy under way.
struct Copying<'a> {
    storage: &'a Storage,
    source: Base,
    to: &'a Path,
    attempts: Arc<Attempts>,
}

impl Storage {
    /// Copies an object as it was found. [`Precondition::None`] replaces whatever is there.
    pub(crate) async fn copy_file(
        &self,
        source: &ObjectMeta,
        to: &Path,
        precondition: &Precondition,
    ) -> Result<(), StorageError> {
        let copying = Copying::new(self, source, to);
        if *precondition == Precondition::None && self.store.traits().late_requests {
            copying.replace().await?;
        } else {
            copying.create(precondition).await?;
        }
        copying.verify().await
    }

    /// Copies an object as it was found to a new name. The caller has to look at the copy before the source may go.
    pub(crate) async fn copy_to_new_name(
        &self,
        source: &ObjectMeta,
        to: &Path,
    ) -> Result<(), StorageError> {
        let copying = Copying::new(self, source, to);
        copying.create(&Precondition::Absent).await
    }

    /// Looks at a copy.
    pub(crate) async fn verify_copy(
        &self,
        source: &ObjectMeta,
        to: &Path,
    ) -> Result<(), StorageError> {
        Copying::new(self, source, to).verify().await
    }

    /// Whether two objects are of the same upload: one is a copy of the other.
    pub(crate) async fn are_one_upload(&self, one: &Path, other: &Path) -> bool {
        let mark = async |key| match verdict::look(self.store.objects().as_ref(), key).await {
            Ok(Found::Object { attributes, .. }) => Mark::of(&attributes),
            Ok(Found::Nothing) | Err(_) => None,
        };
        let one = mark(one).await;
        one.is_some() && one == mark(other).await
    }
}

impl<'a> Copying<'a> {
    fn new(storage: &'a Storage, source: &ObjectMeta, to: &'a Path) -> Self {
        Self {
            storage,
            source: Base::of(source),
            to,
            attempts: Arc::default(),
        }
    }

    /// Copies to a name on a precondition that stays as it is.
    async fn create(&self, precondition: &Precondition) -> Result<(), StorageError> {
        match self.copy(precondition).await {
            Ok(()) => Ok(()),
            Err(error @ Error::AlreadyExists { .. }) => {
                // An earlier try, or the same rename before, has got through.
                let (from, to) = (&self.source.key, self.to);
                let is_ours = if self.attempts.may_have_acted() {
                    self.is_there().await?
                } else {
                    self.storage.are_one_upload(from, to).await
                };
                if is_ours {
                    return Ok(());
                }
                self.check_source().await?;
                Err(error.into())
            }
            Err(error @ Error::NotFound { .. }) => {
                self.check_source().await?;
                Err(StorageError::Store(error))
            }
            Err(error) => self.judge(error).await,
        }
    }

    /// Copies in place of whatever is there.
    async fn replace(&self) -> Result<(), StorageError> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let expected = self.target().await?;
            let error = match self.copy(&expected).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let in_time = Instant::now() < give_up && !command::is_given_up();
            match error {
                Error::AlreadyExists { .. } | Error::Precondition { .. } if in_time => {
                    self.check_source().await?;
                    if self.is_there().await? {
                        return Ok(());
                    }
                }
                Error::AlreadyExists { .. } | Error::Precondition { .. }
                    if command::is_given_up() =>
                {
                    return Err(StorageError::GivenUp);
                }
                // Google says so of a source that is another version by now, S3 of a target that is gone.
                error @ Error::NotFound { .. } => {
                    self.check_source().await?;
                    if !in_time || self.target().await? == expected {
                        return self.judge(error).await;
                    }
                }
                error => return self.judge(error).await,
            }
        }
    }

    /// What is at the target at this moment, as a precondition.
    async fn target(&self) -> Result<Precondition, StorageError> {
        let found = verdict::look(self.objects(), self.to).await?;
        Ok(Expected::from(found).precondition)
    }

    async fn copy(&self, precondition: &Precondition) -> object_store::Result<()> {
        let Storage {
            store, conditions, ..
        } = self.storage;
        let terms = Terms {
            precondition: precondition.clone(),
            attempts: Arc::clone(&self.attempts),
        };
        let copy =
            |terms: Terms| async move { store.copy(&self.source, self.to, &terms).await }.boxed();
        conditions
            .make(Operation::Copy, store.objects(), self.to, &terms, copy)
            .await
    }

    /// That the source is still what is copied.
    async fn check_source(&self) -> Result<(), StorageError> {
        match self.storage.meta(&self.source.key).await? {
            // A copy may have been made while it was there.
            None if self.attempts.may_have_acted() => Err(StorageError::TakenAway),
            None => Err(StorageError::NotFound),
            Some(now) if precondition::is_version(&self.source.version, &now) => Ok(()),
            Some(_) => Err(StorageError::Conflict),
        }
    }

    /// What a copy has done that looks like a failure.
    async fn judge(&self, error: Error) -> Result<(), StorageError> {
        if !self.attempts.may_have_acted() {
            return Err(error.into());
        }
        match self.is_there().await {
            Ok(true) => Ok(()),
            Ok(false) if !self.attempts.may_act_later() => Err(error.into()),
            Ok(false) | Err(_) => Err(StorageError::Unresolved(error)),
        }
    }

    /// Whether a copy of the source is at the target.
    async fn is_there(&self) -> Result<bool, StorageError> {
        let source = verdict::look(self.objects(), &self.source.key).await?;
        let target = verdict::look(self.objects(), self.to).await?;
        let (
            Found::Object {
                attributes: a,
                version: v,
                ..
            },
            Found::Object {
                attributes: b,
                version: w,
                ..
            },
        ) = (&source, &target)
        else {
            return Ok(false);
        };
        Ok(match (Mark::of(a), Mark::of(b)) {
            (None, None) => v.e_tag.is_some() && v.e_tag == w.e_tag,
            (a, b) => a == b,
        })
    }

    /// That something as large as the source is at the target.
    async fn verify(&self) -> Result<(), StorageError> {
        match self.storage.meta(self.to).await? {
            Some(copy) if copy.size == self.source.size => Ok(()),
            // Another has written there since.
            Some(_) if !self.is_there().await? => Ok(()),
            found => Err(StorageError::Store(Error::Generic {
                store: "the store",
                source: format!(
                    "the copy of {} to {} has {:?} bytes instead of {}",
                    self.source.key,
                    self.to,
                    found.map(|found| found.size),
                    self.source.size
                )
                .into(),
            })),
        }
    }

    fn objects(&self) -> &dyn object_store::ObjectStore {
        self.storage.store.objects().as_ref()
    }
}
