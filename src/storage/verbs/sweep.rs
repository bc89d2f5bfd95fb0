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
        let uploads = self.store.sweep(self.keys.prefix(), before).await?;
        let grace = self.upload.resume_window.unwrap_or(age);
        Ok(uploads + self.handovers.sweep(grace).await?)
    }
}
