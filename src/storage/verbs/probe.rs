//! Whether the store answers.

use object_store::ObjectStoreExt;

use crate::storage::Storage;
use crate::storage::error::StorageError;
use crate::storage::verbs::conditions::probes;

impl Storage {
    /// Asks for an object that is not there. Whether there was an answer is counted.
    pub(crate) async fn ping(&self) {
        let key = probes(self.keys.prefix()).join("none");
        let _ = self.store.objects().head(&key).await;
    }

    /// Asks the store for a page of keys.
    ///
    /// Credentials that may write but not list get a refusal, and a refusal is an answer.
    ///
    /// # Errors
    /// When there is no answer, no bucket, or the credentials are not accepted.
    pub async fn probe(&self) -> Result<(), StorageError> {
        match self
            .store
            .probe(self.keys.prefix())
            .await
            .map_err(StorageError::from)
        {
            // A key that can't be shown is a key that was listed.
            Ok(()) | Err(StorageError::StoreDenied(_) | StorageError::Name(_)) => Ok(()),
            Err(StorageError::NotFound) => Err(StorageError::NoBucket),
            Err(error) => Err(error),
        }
    }
}
