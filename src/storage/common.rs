//! What all stores of a gateway share: the settings of transfers, and the memory for them.

use std::sync::Arc;

use crate::config::{self, StoreName};
use crate::memory::Use;
use crate::storage::read::ahead::ReadAhead;
use crate::storage::store::options::OpenError;
use crate::storage::verbs::listing_memory::ListingMemory;
use crate::storage::write::budget::Budget;
use crate::storage::write::part;
use crate::supervise::Supervisor;
use crate::telemetry::{Metrics, StoreMetrics};

/// This part of the upload memory may hold the ends of uploads whose clients were lost.
const KEPT_UPLOADS_SHARE: usize = 8;

/// What all stores share; clones share it too.
#[derive(Debug, Clone)]
pub struct Common {
    pub(crate) upload: config::Upload,
    pub(crate) download: config::Download,
    pub(crate) budget: Budget,
    pub(crate) read_ahead: ReadAhead,
    pub(crate) listing_memory: ListingMemory,
    /// How many stores there are.
    pub(crate) stores: usize,
    metrics: Arc<Metrics>,
}

impl Common {
    /// What the stores of this configuration share.
    ///
    /// # Errors
    /// When kept uploads would be swept, or nothing can be spilled where it should be.
    pub fn new(config: &config::Config, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        if let (Some(window), Some(sweep)) =
            (config.upload.resume_window, config.upload.sweep_after)
            && window >= sweep
        {
            return Err(OpenError::ResumeWindow { window, sweep });
        }
        if let Some(path) = &config.upload.spill_dir {
            part::try_to_spill(path).map_err(|source| OpenError::SpillDir {
                path: path.clone(),
                source,
            })?;
        }
        let memory = usize::try_from(config.upload.memory.0).unwrap_or(usize::MAX);
        let used = |of| metrics.memory_of(of);
        let listings = ListingMemory::new(config.limits.listing_memory, used(Use::Listings));
        let (stores, listing_memory) = match config.stores.len() {
            0 => (1, listings),
            more => (1 + more, listings.of_one_of_several()),
        };
        Ok(Self {
            budget: Budget::new(memory, used(Use::Uploads), Supervisor::new(&metrics)),
            read_ahead: ReadAhead::new(&config.download, used(Use::Downloads)),
            listing_memory,
            upload: config.upload.clone(),
            download: config.download.clone(),
            stores,
            metrics,
        })
    }

    /// The metrics of one of the stores.
    #[must_use]
    pub fn metrics_of(&self, name: &StoreName) -> Arc<StoreMetrics> {
        Arc::new(StoreMetrics::new(name.as_str(), Arc::clone(&self.metrics)))
    }

    /// The same for another store: nothing of its share is the others'.
    #[must_use]
    pub fn for_another_store(&self) -> Self {
        Self {
            budget: self.budget.for_another_store(),
            listing_memory: self.listing_memory.of_one_of_several(),
            ..self.clone()
        }
    }

    /// The memory of all uploads, in bytes.
    pub(crate) fn upload_memory(&self) -> usize {
        usize::try_from(self.upload.memory.0).unwrap_or(usize::MAX)
    }

    /// The part of it that one store may keep for clients that were lost.
    pub(crate) fn kept_memory(&self) -> usize {
        self.upload_memory() / KEPT_UPLOADS_SHARE / self.stores
    }
}
