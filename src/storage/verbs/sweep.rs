//! Removes what a killed process has left in the store.

use std::time::Duration;

use chrono::Utc;

use crate::storage::Storage;
use crate::storage::write::handovers::Swept;

impl Storage {
    /// Removes what uploads that are older than `age` have left under our prefix and no reader sees. What fails keeps
    /// nothing else from being removed.
    pub async fn sweep(&self, age: Duration) -> Swept {
        let before = Utc::now() - age;
        let mut swept = match &self.unfinished {
            Some(unfinished) => unfinished.sweep(age).await,
            None => Swept::default(),
        };
        match self.store.sweep(self.keys.prefix(), before).await {
            Ok(others) => swept.uploads += others,
            Err(error) => swept.failed(error.into()),
        }
        swept
    }
}
