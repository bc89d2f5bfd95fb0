//! Whether the store answers.

use futures::StreamExt;

use crate::storage::store::directories::marker;
use crate::storage::store::raw::Query;
use crate::storage::{Storage, StorageError};

impl Storage {
    /// Asks the store for a page of keys.
    ///
    /// Credentials that may write but not list get a refusal, and a refusal is an answer.
    ///
    /// # Errors
    /// When there is no answer, no bucket, or the credentials are not accepted.
    pub async fn probe(&self) -> Result<(), StorageError> {
        match self.ask().await.map_err(StorageError::from) {
            // A key that can't be shown is a key that was listed.
            Ok(()) | Err(StorageError::StoreDenied(_) | StorageError::Name(_)) => Ok(()),
            Err(StorageError::NotFound) => Err(StorageError::NoBucket),
            Err(error) => Err(error),
        }
    }

    async fn ask(&self) -> object_store::Result<()> {
        let prefix = marker(self.keys.prefix());
        if let Some(raw) = self.raw() {
            let query = Query {
                prefix: &prefix,
                grouped: true,
                token: None,
                limit: 1,
            };
            return raw.list(query).await.map(drop);
        }
        let first = self.store.list(Some(self.keys.prefix())).next().await;
        first.transpose().map(drop)
    }
}
