//! A multipart upload on its way into being.

use std::time::Duration;

use object_store::path::Path;
use tokio::task::JoinHandle;

use crate::session::Abort;

use crate::storage::error::StorageError;
use crate::storage::store::upload::Upload;

/// How long discarding is waited for.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(30);

/// A multipart upload, if there is one.
///
/// It is begun in a task of its own: if the transfer is given up at that very moment, the store has
/// an upload whose name we must still learn, to discard it.
#[derive(Debug)]
pub(crate) enum Multipart {
    None,
    Beginning(JoinHandle<object_store::Result<Box<dyn Upload>>>),
    Begun(Box<dyn Upload>),
}

impl Multipart {
    /// The upload, as soon as the store has named it. Safe to cancel.
    pub(crate) async fn begun(&mut self) -> Result<&mut dyn Upload, StorageError> {
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

    /// Has the store forget it, in a task of its own: what takes too long is not waited for, but done.
    /// Whether it has.
    pub(crate) async fn forget(mut self, key: &Path) -> bool {
        if matches!(self, Self::None) {
            return true;
        }
        let named = key.clone();
        let forgetting = tokio::spawn(async move {
            let abort = async { Ok::<_, StorageError>(self.begun().await?.abort().await?) };
            abort
                .await
                .inspect_err(|error| tracing::warn!(key = %named, %error, "can't discard an unfinished upload"))
                .is_ok()
        });
        if let Ok(forgotten) = tokio::time::timeout(DISCARD_TIMEOUT, forgetting).await {
            return forgotten.unwrap_or(false);
        }
        tracing::warn!(%key, "discarding an unfinished upload takes long, and goes on");
        false
    }
}
