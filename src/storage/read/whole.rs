//! A download is compared with the checksum that its object was stored with.
//!
//! Our own objects carry one, as far as it was known when they were begun. Of the others S3 and Google keep one, which is
//! asked for while the bytes are on their way. The last bytes are sent only if the sum is right: a client that hears no
//! reply has too few then, and its data connection is reset.
//!
//! What an object carries may be of other content: some programs write a file anew and keep what it says of itself. So it
//! is believed only together with what the store keeps, or with the time when it was written.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{Attribute, GetResult, UpdateVersion};
use tokio_util::task::AbortOnDropHandle;

use crate::storage::error::StorageError;
use crate::storage::store::Store;
use crate::storage::store::body::{Algorithm, Summing};
use crate::storage::store::stored::{Carried, Difference, Kept};

/// How long the store may take to tell a checksum: the last bytes wait for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sums an object up as it is sent.
pub(crate) struct Whole {
    store: Arc<dyn Store>,
    key: Path,
    version: UpdateVersion,
    size: u64,
    modified: DateTime<Utc>,
    summed: u64,
    /// What the object carries, and its sum.
    carried: Option<(Carried, Summing)>,
    /// The sum that the store keeps one of.
    kept: Option<(Algorithm, Summing)>,
    /// What the store keeps, where the object carries nothing.
    asked: Option<Asked>,
}

/// A question to the store that is under way.
type Asked = AbortOnDropHandle<Option<Kept>>;

impl Whole {
    /// For an object that is sent from its first byte on, if there is anything to compare it with.
    pub(crate) fn of(store: &Arc<dyn Store>, object: &GetResult) -> Option<Self> {
        let (meta, attributes) = (&object.meta, &object.attributes);
        // Google unpacks what is stored packed.
        if object.range.start != 0 || attributes.get(&Attribute::ContentEncoding).is_some() {
            return None;
        }
        let carried = Carried::of(attributes, meta.size);
        let keeps = store.keeps();
        // Where it is the same sum as the one that is carried, it need not be computed twice.
        let is_another =
            keeps.is_some() && (carried.is_none() || keeps != Some(Carried::ALGORITHM));
        let mut whole = Self {
            store: Arc::clone(store),
            key: meta.location.clone(),
            version: UpdateVersion {
                e_tag: meta.e_tag.clone(),
                version: meta.version.clone(),
            },
            size: meta.size,
            modified: meta.last_modified,
            summed: 0,
            carried: carried.map(|carried| (carried, Summing::by(Carried::ALGORITHM))),
            kept: keeps
                .filter(|_| is_another)
                .map(|algorithm| (algorithm, Summing::by(algorithm))),
            asked: None,
        };
        match (&whole.carried, keeps) {
            (None, None) => return None,
            (None, Some(_)) => whole.asked = Some(whole.ask()),
            (Some(_), _) => {}
        }
        Some(whole)
    }

    /// Takes the next bytes, before they are sent.
    ///
    /// # Errors
    /// [`StorageError::Rotten`] if they are the last ones, and the object is not what was stored.
    pub(crate) async fn take(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.summed += bytes.len() as u64;
        let carried = self.carried.iter_mut().map(|(_, summing)| summing);
        let kept = self.kept.iter_mut().map(|(_, summing)| summing);
        carried.chain(kept).for_each(|summing| summing.add(bytes));
        if self.summed < self.size {
            return Ok(());
        }
        match &self.carried {
            Some((carried, summing)) if carried.value == summing.value() => Ok(()),
            Some((carried, _)) => self.doubt(*carried).await,
            None => self.compare_with_store().await.map(drop),
        }
    }

    /// What an object carries is not what it is.
    async fn doubt(&mut self, carried: Carried) -> Result<(), StorageError> {
        self.asked = self.store.keeps().map(|_| self.ask());
        if self.compare_with_store().await? || !carried.is_as_old_as(self.modified) {
            let key = &self.key;
            tracing::warn!(%key, "the object carries the checksum of other content");
            return Ok(());
        }
        let read = self.sum(Carried::ALGORITHM).unwrap_or_default();
        Err(self.rotten(Carried::ALGORITHM, read, carried.value))
    }

    /// Whether it is what the store says that it keeps, if that says anything.
    async fn compare_with_store(&mut self) -> Result<bool, StorageError> {
        let told = match self.asked.take() {
            Some(asked) => asked.await.ok().flatten(),
            None => None,
        };
        // It may have none, or another version by now.
        let Some(Kept { algorithm, value }) = told else {
            return Ok(false);
        };
        match self.sum(algorithm) {
            Some(read) if read != value => Err(self.rotten(algorithm, read, value)),
            read => Ok(read.is_some()),
        }
    }

    fn sum(&self, algorithm: Algorithm) -> Option<u64> {
        let kept = self
            .kept
            .iter()
            .map(|(algorithm, summing)| (*algorithm, summing));
        let carried = self
            .carried
            .iter()
            .map(|(_, summing)| (Carried::ALGORITHM, summing));
        let mut sums = kept.chain(carried);
        let (_, summing) = sums.find(|(found, _)| *found == algorithm)?;
        Some(summing.value())
    }

    /// Asks for what the store keeps.
    fn ask(&self) -> Asked {
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        let version = self.version.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let asked = tokio::time::timeout(PATIENCE, store.kept_checksum(&key, &version));
            match asked.await {
                Ok(Ok(kept)) => kept,
                Ok(Err(error)) => {
                    tracing::debug!(%key, %error, "can't ask for a checksum");
                    None
                }
                Err(_) => None,
            }
        }))
    }

    fn rotten(&self, algorithm: Algorithm, read: u64, stored: u64) -> StorageError {
        let difference = Difference {
            what: "read",
            sent: algorithm.written(read),
            stored: algorithm.written(stored),
        };
        let Difference { sent, stored, .. } = &difference;
        tracing::error!(key = %self.key, read = sent, stored, "what is read is not what was stored");
        StorageError::Rotten(difference.to_string())
    }
}
