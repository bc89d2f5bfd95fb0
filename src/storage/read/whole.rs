//! A download is compared with the checksum that its object was stored with.
//!
//! Our own objects carry one, as far as it was known when they were begun. Of the others S3 and Google keep one, which is
//! asked for while the bytes are on their way. The last bytes are sent only if the sum is right: a client that hears no
//! reply has too few then, and its data connection is reset.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{Attribute, GetResult, UpdateVersion};
use tokio_util::task::AbortOnDropHandle;

use crate::storage::error::StorageError;
use crate::storage::store::Store;
use crate::storage::store::body::{Algorithm, Summing};
use crate::storage::store::stored::{Difference, Kept};

/// Sums an object up as it is sent.
pub(crate) struct Whole {
    summing: Summing,
    algorithm: Algorithm,
    key: Path,
    size: u64,
    expected: Expected,
}

/// What the sum has to come to.
enum Expected {
    /// What the object carries.
    Carried {
        kept: Kept,
        store: Arc<dyn Store>,
        version: UpdateVersion,
    },
    /// What the store keeps, as soon as it says so.
    Asked(AbortOnDropHandle<object_store::Result<Option<Kept>>>),
}

impl Whole {
    /// For an object that is sent from its first byte on, if there is anything to compare it with.
    pub(crate) fn of(store: &Arc<dyn Store>, object: &GetResult) -> Option<Self> {
        let (meta, attributes) = (&object.meta, &object.attributes);
        if object.range.start != 0 {
            return None;
        }
        let version = UpdateVersion {
            e_tag: meta.e_tag.clone(),
            version: meta.version.clone(),
        };
        let store = Arc::clone(store);
        let (algorithm, expected) = match (Kept::of(attributes, meta.size), store.keeps()) {
            (Some(kept), _) => {
                let algorithm = kept.algorithm;
                let expected = Expected::Carried {
                    kept,
                    store,
                    version,
                };
                (algorithm, expected)
            }
            // Google unpacks what is stored packed.
            (None, Some(_)) if attributes.get(&Attribute::ContentEncoding).is_some() => {
                return None;
            }
            (None, Some(algorithm)) => {
                let key = meta.location.clone();
                let asked = async move { store.kept_checksum(&key, &version).await };
                let asked = AbortOnDropHandle::new(tokio::spawn(asked));
                (algorithm, Expected::Asked(asked))
            }
            (None, None) => return None,
        };
        Some(Self {
            summing: Summing::by(algorithm),
            algorithm,
            key: meta.location.clone(),
            size: meta.size,
            expected,
        })
    }

    /// Takes the next bytes, before they are sent.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if they are the last ones, and the object is not what was stored.
    pub(crate) async fn take(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.summing.add(bytes);
        if self.summing.length() < self.size {
            return Ok(());
        }
        match self.expected().await {
            Some(kept) => self.check(kept),
            None => Ok(()),
        }
    }

    /// What the sum has to be, if anybody knows.
    async fn expected(&mut self) -> Option<Kept> {
        match &mut self.expected {
            Expected::Carried { kept, .. } if kept.value == self.summing.value() => Some(*kept),
            Expected::Carried {
                kept,
                store,
                version,
            } => {
                // Another program may have copied what an object says of itself to other content of the same size.
                if store.keeps() != Some(kept.algorithm) {
                    return Some(*kept);
                }
                let told = store.kept_checksum(&self.key, version).await;
                told.ok().flatten().or(Some(*kept))
            }
            // It may have none, or another version by now.
            Expected::Asked(asked) => asked.await.ok()?.unwrap_or_else(|error| {
                tracing::debug!(key = %self.key, %error, "can't ask for a checksum");
                None
            }),
        }
    }

    fn check(&self, kept: Kept) -> Result<(), StorageError> {
        let read = self.summing.value();
        if kept.value == read {
            return Ok(());
        }
        let difference = Difference {
            what: "read",
            sent: self.algorithm.written(read),
            stored: kept.algorithm.written(kept.value),
        };
        let Difference { sent, stored, .. } = &difference;
        tracing::error!(key = %self.key, read = sent, stored, "what is read is not what was stored");
        Err(StorageError::Corrupt(difference.to_string()))
    }
}
