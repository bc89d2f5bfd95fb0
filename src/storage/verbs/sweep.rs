//! Removes what a killed process has left in the store.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::storage::Storage;
use crate::storage::store::sweep_directory;
use crate::storage::verbs::conditions::probes;
use crate::storage::write::handovers::Swept;

impl Storage {
    /// Removes what is older than `age` and no reader sees: what uploads have left under our prefix, and what the store
    /// was tried with. What fails keeps nothing else from being removed.
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
        if let Err(error) = self.sweep_probes(before).await {
            swept.failed(error.into());
        }
        swept
    }

    /// A gateway that is killed at its start leaves them.
    async fn sweep_probes(&self, before: DateTime<Utc>) -> object_store::Result<()> {
        let probes = probes(self.keys.prefix());
        let swept = sweep_directory(self.store.as_ref(), &probes, before).await?;
        if swept > 0 {
            tracing::info!(swept, "removed what the store was tried with");
        }
        Ok(())
    }
}
