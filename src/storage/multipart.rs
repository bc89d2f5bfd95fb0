//! A multipart upload on its way into being.

use std::time::Duration;

use object_store::MultipartUpload;
use object_store::path::Path;
use tokio::task::JoinHandle;

use crate::session::Abort;

use super::StorageError;

/// How long discarding may take before it is given up.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(30);

/// A multipart upload, if there is one.
///
/// It is begun in a task of its own: if the transfer is given up at that very moment, the store has
/// an upload whose name we must still learn, to discard it.
#[derive(Debug)]
pub(super) enum Multipart {
    None,
    Beginning(JoinHandle<object_store::Result<Box<dyn MultipartUpload>>>),
    Begun(Box<dyn MultipartUpload>),
}

impl Multipart {
    /// The upload, as soon as the store has named it. Safe to cancel.
    pub(super) async fn begun(&mut self) -> Result<&mut dyn MultipartUpload, StorageError> {
        if let Self::Beginning(task) = self {
            let begun = task.await;
            *self = Self::None;
            *self = Self::Begun(begun.map_err(|_| Abort::Internal)??);
        }
        match self {
            Self::Begun(upload) => Ok(upload.as_mut()),
            Self::None | Self::Beginning(_) => Err(Abort::Internal.into()),
        }
    }

    /// Has the store forget it. Whether it has.
    pub(super) async fn forget(mut self, key: &Path) -> bool {
        let abort = async { Ok::<_, StorageError>(self.begun().await?.abort().await?) };
        let forgotten = tokio::time::timeout(DISCARD_TIMEOUT, abort).await;
        match &forgotten {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%key, %error, "can't discard an unfinished upload"),
            Err(_) => tracing::warn!(%key, "discarding an unfinished upload takes too long"),
        }
        matches!(forgotten, Ok(Ok(())))
    }
}
