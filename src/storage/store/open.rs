//! From `store.url` to an open store.

use std::sync::Arc;

use crate::config;
use crate::telemetry::StoreMetrics;

use crate::storage::store::memory::Memory;
use crate::storage::store::options::OpenError;
use crate::storage::store::{Store, azure, gcs, local, s3};

/// Opens the store that the configuration names, by the scheme of its URL.
pub(crate) fn open(
    config: &config::Store,
    verify: config::Verify,
    metrics: &Arc<StoreMetrics>,
) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match config.url.as_url().scheme() {
        "s3" => Arc::new(s3::open::open(config, verify, metrics)?),
        "gs" => Arc::new(gcs::open::open(config, metrics)?),
        "az" => Arc::new(azure::open::open(config, metrics)?),
        "memory" => Arc::new(Memory::open(metrics)),
        _ => Arc::new(local::open::open(config, metrics)?),
    })
}
