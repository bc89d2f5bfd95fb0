//! Opens a folder.

use std::sync::Arc;

use crate::config;
use crate::storage::store::local::Local;
use crate::storage::store::local::root::Root;
use crate::storage::store::options::OpenError;
use crate::telemetry::StoreMetrics;

/// Opens a folder.
pub(crate) fn open(
    config: &config::Store,
    metrics: &Arc<StoreMetrics>,
) -> Result<Local, OpenError> {
    let url = config.url.as_url();
    let path = url
        .to_file_path()
        .map_err(|()| OpenError::Url(format!("{url} is not a path on this machine")))?;
    let root = Root::open(path.clone(), config.create);
    let root = root.map_err(|source| OpenError::Folder { path, source })?;
    Ok(Local::new(root, metrics))
}
