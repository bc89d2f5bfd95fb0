//! Tries which conditions the store knows and which checksums it compares, on two objects of the gateway's own.
//!
//! A store that refuses a condition says so. One that passes over it in silence is found out only by a condition that
//! can't hold: it makes the change all the same.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, Result, UpdateVersion};

use crate::config::Verify;
use crate::storage::Storage;
use crate::storage::error::StorageError;
use crate::storage::store::description::Description;
use crate::storage::store::precondition::Precondition;
use crate::storage::store::stored::Comparison;
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::{Base, Start};
use crate::storage::store::{RESERVED, Store};
use crate::storage::write::conditions::{Known, Operation, Tried};

/// What is stored where conditions are tried.
const CONTENT: &[u8] = b"Bucketferry tries which conditions this store knows. It deletes this.";

impl Storage {
    /// Tries what is not known yet, unless `store.conditions` forbids it.
    ///
    /// # Errors
    /// When the store does not answer, or the gateway may not write under its own directory. What is not known is
    /// looked at before each change.
    pub async fn try_store(&self) -> std::result::Result<(), StorageError> {
        let unknown = |operation: &Operation| self.conditions.known(*operation).is_none();
        let knows_all =
            !Operation::ALL.iter().any(unknown) && self.store.comparison() != Comparison::Unknown;
        if knows_all || !self.tries {
            return Ok(());
        }
        let probe = Probe::new(self.store.as_ref(), self.keys.prefix());
        let tried = probe.try_all(self).await;
        probe.clear().await;
        Ok(tried?)
    }

    /// By what the store is held to what it was sent, and what that means to a user.
    #[must_use]
    pub fn comparison(&self) -> (&'static str, &'static str) {
        let read_back = self.upload.verify == Verify::ReadBack;
        match self.store.comparison() {
            _ if read_back => ("reading back", "what was damaged never hears a 226"),
            Comparison::NotNeeded => ("nothing", "nothing lies between the gateway and it"),
            Comparison::Checksum(name) => (name, "the store refuses what was damaged on the way"),
            Comparison::Size => (
                "size",
                "what was damaged on the way is not noticed, unless it is of another size; see upload.verify",
            ),
            Comparison::Unknown => (
                "size",
                "it was not tried whether the store compares checksums; see store.conditions and upload.verify",
            ),
        }
    }

    /// What is known of the store's conditions.
    #[must_use]
    pub fn conditions(&self) -> [Tried; 4] {
        Operation::ALL.map(|operation| Tried {
            operation: operation.label(),
            holds: self.conditions.known(operation),
            promise: operation.promise(),
        })
    }
}

/// Two objects under the gateway's own directory.
struct Probe<'a> {
    store: &'a dyn Store,
    one: Path,
    other: Path,
}

/// Where they lie, under the store's prefix.
pub(crate) fn probes(prefix: &Path) -> Path {
    prefix.clone().join(RESERVED).join("probes")
}

impl<'a> Probe<'a> {
    fn new(store: &'a dyn Store, prefix: &Path) -> Self {
        let name: u128 = rand::random();
        let place = probes(prefix);
        Self {
            store,
            one: place.clone().join(format!("{name:032x}")),
            other: place.join(format!("{name:032x}-copy")),
        }
    }

    async fn try_all(&self, storage: &Storage) -> Result<()> {
        for key in [&self.one, &self.other] {
            self.put(key, Precondition::None).await?;
        }
        // Whatever comes of it, conditions are tried as well.
        let compared = self.store.try_comparison(&self.one).await;
        let mut all = [Known::Holds; 4];
        for (known, operation) in all.iter_mut().zip(Operation::ALL) {
            *known = self.try_one(operation).await?;
        }
        if all[Operation::Put as usize] == Known::Holds && !self.is_new_again().await? {
            for operation in [Operation::Put, Operation::Complete, Operation::Copy] {
                all[operation as usize] = Known::Refused;
            }
        }
        if all[Operation::Copy as usize] == Known::Holds {
            let mut known = self.try_source().await?;
            if known == Known::Refused {
                known = self.try_source().await?;
            }
            all[Operation::Copy as usize] = known;
        }
        if all[Operation::Delete as usize] == Known::Holds && !self.misses_what_is_gone().await? {
            all[Operation::Delete as usize] = Known::HoldsIfThere;
        }
        for (known, operation) in all.into_iter().zip(Operation::ALL) {
            storage.conditions.learn(operation, known);
        }
        compared
    }

    /// By conditions that can't hold: there is an object, and it has no such version.
    async fn try_one(&self, operation: Operation) -> Result<Known> {
        for precondition in [Precondition::Absent, never()] {
            if operation == Operation::Delete && precondition == Precondition::Absent {
                continue;
            }
            let mut known = self.try_on(operation, &precondition).await?;
            if known == Known::Refused {
                // A store that knows no conditions says so again.
                known = self.try_on(operation, &precondition).await?;
            }
            if known != Known::Holds {
                return Ok(known);
            }
        }
        Ok(Known::Holds)
    }

    /// By a version that the source of a copy does not have. Where that is passed over, a rename that meets an upload to
    /// its source copies the newer file, and does not delete it: it has both names (moto 5.2).
    async fn try_source(&self) -> Result<Known> {
        let mut source = Base::of(&self.store.objects().head(&self.one).await?);
        if let Precondition::Unchanged(version) = never() {
            source.version = version;
        }
        match self.store.copy(&source, &self.other, &Terms::none()).await {
            // Google looks for an object of that version.
            Err(Error::NotFound { .. }) => Ok(Known::Holds),
            copied => known_by(copied),
        }
    }

    async fn try_on(&self, operation: Operation, precondition: &Precondition) -> Result<Known> {
        let precondition = precondition.clone();
        known_by(match operation {
            Operation::Put => self.put(&self.one, precondition).await,
            Operation::Complete => self.complete(precondition).await,
            Operation::Copy => self.copy(precondition).await,
            Operation::Delete => self.delete(precondition).await,
        })
    }

    /// Whether a deleted name is new. Where versions are kept, some stores take the mark of the deletion for an object.
    async fn is_new_again(&self) -> Result<bool> {
        let none = Terms::none();
        match self.store.delete(self.other.as_ref(), &none).await {
            // A condition that was passed over has deleted it.
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        match self.put(&self.other, Precondition::Absent).await {
            Ok(()) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether it is told that there was nothing to delete on a condition. Where it is not, each of several that delete or
    /// rename one file hears that it was the one (versitygw 1.8.0).
    async fn misses_what_is_gone(&self) -> Result<bool> {
        match self.store.delete(self.other.as_ref(), &Terms::none()).await {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        match self.delete(never()).await {
            Ok(()) => Ok(false),
            Err(Error::NotFound { .. } | Error::Precondition { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn put(&self, key: &Path, precondition: Precondition) -> Result<()> {
        let terms = Terms::new(precondition);
        let put = self.store.put(
            key,
            Bytes::from_static(CONTENT).into(),
            Description::default(),
            &terms,
        );
        put.await.map(drop)
    }

    async fn complete(&self, precondition: Precondition) -> Result<()> {
        let start = Start {
            key: self.one.clone(),
            description: Description::default(),
            base: None,
        };
        let mut upload = self.store.begin(start).await?;
        let part = upload.put_part(Bytes::from_static(CONTENT).into());
        let completed = match part.await {
            Ok(()) => upload.publish(&Terms::new(precondition), None).await,
            Err(error) => return Err(error),
        };
        if completed.is_err() {
            let _ = upload.abort().await;
        }
        completed.map(drop)
    }

    async fn copy(&self, precondition: Precondition) -> Result<()> {
        let source = Base::of(&self.store.objects().head(&self.one).await?);
        let terms = Terms::new(precondition);
        self.store.copy(&source, &self.other, &terms).await
    }

    async fn delete(&self, precondition: Precondition) -> Result<()> {
        let terms = Terms::new(precondition);
        self.store.delete(self.other.as_ref(), &terms).await
    }

    /// What can't be deleted lies under the gateway's own directory, where nobody sees it.
    async fn clear(&self) {
        for key in [&self.one, &self.other] {
            if let Err(error) = self.store.delete(key.as_ref(), &Terms::none()).await {
                tracing::debug!(%key, %error, "can't remove what conditions were tried on");
            }
        }
    }
}

/// A version that no object has.
fn never() -> Precondition {
    Precondition::Unchanged(UpdateVersion {
        e_tag: Some("\"00000000000000000000000000000000\"".to_owned()),
        version: Some("1".to_owned()),
    })
}

/// What has become of the condition of a change. An answer that speaks of no condition says nothing.
fn known_by(changed: Result<()>) -> Result<Known> {
    match changed {
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Known::Holds),
        Ok(()) => Ok(Known::Ignored),
        Err(Error::NotSupported { .. } | Error::NotImplemented { .. }) => Ok(Known::Refused),
        Err(error) => Err(error),
    }
}
