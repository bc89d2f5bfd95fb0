//! Work that waits for the disk, on threads of its own.

use std::io;

use object_store::{Error, Result};

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
pub(crate) fn failed(error: io::Error) -> Error {
    let (path, kind) = ("the file".to_owned(), error.kind());
    let source = Box::new(error);
    match kind {
        io::ErrorKind::NotFound => Error::NotFound { path, source },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source },
        _ => Error::Generic {
            store: "LocalFileSystem",
            source,
        },
    }
}
