//! Work that waits for the disk, on threads of its own.

use std::error::Error as StdError;
use std::io;

use object_store::{Error, Result};
use thiserror::Error as ThisError;

/// A file is not the version that a change was meant for.
#[derive(Debug, ThisError)]
#[error("the file was changed meanwhile")]
pub(crate) struct Changed;

/// Does the work and waits for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(failed),
        Err(error) => Err(failed(io::Error::other(error))),
    }
}

/// What the system said, as an error of a store.
fn failed(error: io::Error) -> Error {
    let (path, kind) = ("the file".to_owned(), error.kind());
    let missing = error.kind() == io::ErrorKind::NotFound || leads_out(&error);
    let changed = error
        .get_ref()
        .is_some_and(<dyn StdError + Send + Sync>::is::<Changed>);
    let source = Box::new(error);
    match kind {
        _ if changed => Error::Precondition { path, source },
        _ if missing => Error::NotFound { path, source },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source },
        _ => Error::Generic {
            store: "the folder",
            source,
        },
    }
}

/// Whether a path leads out of the folder by a link, which then leads nowhere. `cap-std` says so by an error of its own.
pub(crate) fn leads_out(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}
