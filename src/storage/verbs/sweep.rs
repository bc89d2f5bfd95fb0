//! Removes what a killed process has left in the store.

use std::time::Duration;

use chrono::Utc;

use crate::storage::Storage;
use crate::storage::error::StorageError;

impl Storage {
    /// Removes what uploads that are older than `age` have left under our prefix and no reader sees. How many there
    /// were.
    ///
    /// # Errors
    /// When the store does not let us look, or fails.
    pub async fn sweep(&self, age: Duration) -> Result<usize, StorageError> {
        let before = Utc::now() - age;
        // First, because a bucket's policy may deny looking for the others.
        let kept = match &self.unfinished {
            Some(unfinished) => unfinished.sweep(age).await?,
            None => 0,
        };
        Ok(kept + self.store.sweep(self.keys.prefix(), before).await?)
    }
}
