//! Opens a folder.

use std::io;
use std::path::Path as FsPath;
use std::sync::Arc;

use object_store::local::LocalFileSystem;

use crate::config;
use crate::storage::store::local::Local;
use crate::storage::store::options::OpenError;
use crate::telemetry::Metrics;

/// Opens a folder; one that is missing is created.
pub(crate) fn open(config: &config::Store, metrics: &Arc<Metrics>) -> Result<Local, OpenError> {
    let url = config.url.as_url();
    let root = url
        .to_file_path()
        .map_err(|()| OpenError::Url(format!("{url} is not a path on this machine")))?;
    let folder_error = |source| OpenError::Folder {
        path: root.clone(),
        source,
    };
    std::fs::create_dir_all(&root).map_err(folder_error)?;
    writable(&root).map_err(folder_error)?;
    let folder = LocalFileSystem::new_with_prefix(&root)
        .map_err(OpenError::Options)?
        .with_fsync(true);
    Ok(Local::new(folder, metrics))
}

/// A folder that can't be written is better found at the start than by the first upload.
fn writable(root: &FsPath) -> io::Result<()> {
    rustix::fs::access(
        root,
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
    )?;
    Ok(())
}
