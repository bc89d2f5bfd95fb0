//! The copy of one object, for a rename in a bucket: the source may be deleted only if the copy is there.
//!
//! An answer says that it is, if it is one. A lost answer is made up for by looking: a copy has the mark of its source.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use object_store::path::Path;
use object_store::{Error, ObjectMeta};

use crate::storage::Storage;
use crate::storage::error::StorageError;
use crate::storage::store::http::attempts::Attempts;
use crate::storage::store::http::command;
use crate::storage::store::mark::{Lineage, Mark};
use crate::storage::store::precondition::{self, Precondition};
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::Base;
use crate::storage::write::conditions::Operation;
use crate::storage::write::known::Expected;
use crate::storage::write::verdict::{self, CLOCK_SKEW, Found};

/// For so long a copy is tried again that others keep getting ahead of.
const PATIENCE: Duration = Duration::from_secs(30);

/// A copy under way.
struct Copying<'a> {
    storage: &'a Storage,
    source: Base,
    to: &'a Path,
    attempts: Arc<Attempts>,
    began: DateTime<Utc>,
}

/// Whether a copy has been at its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Was {
    /// It is, or was and has been replaced since.
    There,
    /// It never was.
    Never,
    /// It may have been.
    Unclear,
}

impl Storage {
    /// Copies an object as it was found. [`Precondition::None`] replaces whatever is there.
    pub(crate) async fn copy_file(
        &self,
        source: Base,
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
        source: Base,
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
        Copying::new(self, Base::of(source), to).verify().await
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
    fn new(storage: &'a Storage, source: Base, to: &'a Path) -> Self {
        Self {
            storage,
            source,
            to,
            attempts: Arc::default(),
            began: Utc::now(),
        }
    }

    /// Copies to a name on a precondition that stays as it is.
    async fn create(&self, precondition: &Precondition) -> Result<(), StorageError> {
        let before = Expected {
            precondition: precondition.clone(),
            lineage: Lineage::default(),
        };
        match self.copy(precondition).await {
            Ok(()) => Ok(()),
            Err(error @ Error::AlreadyExists { .. }) => {
                // An earlier try, or the same rename before, has got through.
                let (from, to) = (&self.source.key, self.to);
                let was = if self.attempts.may_have_acted() {
                    self.was_there(&before).await?
                } else if self.storage.are_one_upload(from, to).await {
                    Was::There
                } else {
                    Was::Never
                };
                match was {
                    Was::There => return Ok(()),
                    Was::Unclear => return Err(StorageError::Unresolved(error)),
                    Was::Never => {}
                }
                self.check_source().await?;
                Err(error.into())
            }
            Err(error @ Error::NotFound { .. }) => {
                self.check_source().await?;
                Err(StorageError::Store(error))
            }
            Err(error) => self.judge(error, &before).await,
        }
    }

    /// Copies in place of whatever is there.
    async fn replace(&self) -> Result<(), StorageError> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let before = self.target().await?;
            let error = match self.copy(&before.precondition).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // Google says so of a source that is another version by now, S3 of a target that is gone.
            let is_missing = matches!(error, Error::NotFound { .. });
            let is_condition = matches!(
                error,
                Error::AlreadyExists { .. } | Error::Precondition { .. }
            );
            if is_condition && command::is_given_up() {
                return Err(StorageError::GivenUp);
            }
            let may_try_again = Instant::now() < give_up && !command::is_given_up();
            if !(is_condition || is_missing) || (is_condition && !may_try_again) {
                return self.judge(error, &before).await;
            }
            self.check_source().await?;
            match self.was_there(&before).await? {
                Was::There => return Ok(()),
                Was::Unclear => return Err(StorageError::Unresolved(error)),
                Was::Never
                    if is_missing && !(may_try_again && self.has_changed(&before).await?) =>
                {
                    return self.judge(error, &before).await;
                }
                Was::Never => {}
            }
        }
    }

    /// What is at the target at this moment.
    async fn target(&self) -> Result<Expected, StorageError> {
        Ok(verdict::look(self.objects(), self.to).await?.into())
    }

    async fn has_changed(&self, before: &Expected) -> Result<bool, StorageError> {
        Ok(self.target().await?.precondition != before.precondition)
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
    async fn judge(&self, error: Error, before: &Expected) -> Result<(), StorageError> {
        if !self.attempts.may_have_acted() {
            return Err(error.into());
        }
        match self.was_there(before).await {
            Ok(Was::There) => Ok(()),
            Ok(Was::Never) if !self.attempts.may_act_later() => Err(error.into()),
            Ok(Was::Never | Was::Unclear) | Err(_) => Err(StorageError::Unresolved(error)),
        }
    }

    /// Whether a try has got through: one more would undo what others have done at the target since. What is at the
    /// target tells, and what was there before.
    async fn was_there(&self, before: &Expected) -> Result<Was, StorageError> {
        let (source, target) = self.both().await?;
        if is_copy(&source, &target) {
            return Ok(Was::There);
        }
        if !self.attempts.may_have_acted() {
            return Ok(Was::Never);
        }
        let Found::Object {
            attributes,
            version,
            modified,
        } = target
        else {
            // It may have been there, and have been taken away.
            return Ok(Was::Unclear);
        };
        let is_older = modified < self.began - CLOCK_SKEW;
        if is_older || before.precondition == Precondition::Unchanged(version) {
            return Ok(Was::Never);
        }
        let mark = match &source {
            Found::Object { attributes, .. } => Mark::of(attributes),
            Found::Nothing => None,
        };
        let Some(mark) = mark.filter(|mark| !before.lineage.has(mark)) else {
            return Ok(Was::Unclear);
        };
        Ok(if mark.is_on_or_before(&attributes) {
            Was::There
        } else if Lineage::after(&attributes).goes_on_from(&before.lineage) {
            Was::Never
        } else {
            Was::Unclear
        })
    }

    /// Whether a copy of the source is at the target.
    async fn is_there(&self) -> Result<bool, StorageError> {
        let (source, target) = self.both().await?;
        Ok(is_copy(&source, &target))
    }

    /// What is at the source, and at the target.
    async fn both(&self) -> Result<(Found, Found), StorageError> {
        let source = verdict::look(self.objects(), &self.source.key).await?;
        Ok((source, verdict::look(self.objects(), self.to).await?))
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

fn is_copy(source: &Found, target: &Found) -> bool {
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
    ) = (source, target)
    else {
        return false;
    };
    match (Mark::of(a), Mark::of(b)) {
        (None, None) => v.e_tag.is_some() && v.e_tag == w.e_tag,
        (a, b) => a == b,
    }
}
