//! Whether the store answers.

use futures::StreamExt;
use thiserror::Error;

use super::{Storage, StorageError};

/// Why a store is not ready.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The bucket or its prefix's parent does not exist.
    #[error("the bucket does not exist")]
    NoBucket,
    /// Anything else.
    #[error(transparent)]
    Storage(StorageError),
}

impl Storage {
    /// Asks the store for one key.
    ///
    /// Credentials that may write but not list get a refusal, and a refusal is an answer.
    ///
    /// # Errors
    /// When there is no answer, no bucket, or the credentials are not accepted.
    pub async fn probe(&self) -> Result<(), ProbeError> {
        let first = self.store.list(Some(self.keys.prefix())).next().await;
        match first.transpose().map_err(StorageError::from) {
            // A key that can't be shown is a key that was listed.
            Ok(_) | Err(StorageError::StoreDenied(_) | StorageError::Name(_)) => Ok(()),
            Err(StorageError::NotFound) => Err(ProbeError::NoBucket),
            Err(error) => Err(ProbeError::Storage(error)),
        }
    }
}
