//! Downloads from a foreign back-end.

use std::pin::pin;

use object_store::path::Path;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::auth::{Permission, User};
use crate::session::{Abort, Job, TransferKind};
use crate::storage::error::{Beyond, StorageError};
use crate::storage::verbs::contract::Output;
use crate::storage::verbs::contract::permit;
use crate::storage::verbs::download::Out;
use crate::storage::verbs::listing::Listed;

use super::{ForeignStorage, Kind, Reader, Trouble};

/// One read of what the back-end gives.
const CHUNK: usize = 64 * 1024;

impl ForeignStorage {
    pub(super) async fn send(
        &self,
        user: &User,
        job: &mut Job,
        output: &mut Output<'_>,
    ) -> Result<(), StorageError> {
        let (content, bytes) = job.unless_aborted(pin!(self.open_file(user, job))).await?;
        job.open(None).await?;
        job.unless_aborted(pin!(self.send_all(job, content, bytes, output)))
            .await
    }

    /// A file from the asked-for offset on, and how many bytes that are; `None` if there are none.
    async fn open_file(
        &self,
        user: &User,
        job: &Job,
    ) -> Result<(Option<Reader>, u64), StorageError> {
        permit(user, Permission::Read)?;
        let TransferKind::Retrieve { offset } = job.kind() else {
            return Err(Abort::Internal.into());
        };
        let size = self.file(user, job.path()).await?.size;
        let Some(bytes) = size.checked_sub(offset) else {
            let asked = offset;
            return Err(StorageError::Restart { asked, size });
        };
        if bytes == 0 {
            return Ok((None, 0));
        }
        let key = self.file_key(user, job.path())?;
        if offset > 0 {
            self.check_offsets(&key, size).await?;
        }
        let content = self
            .ask("get", self.inner.get(key.as_ref(), offset))
            .await?;
        Ok((Some(content), bytes))
    }

    /// Whether a file can be read from an offset on. Some stores send the whole of it all the same, as Google does of what
    /// is packed, and no back-end says so.
    async fn check_offsets(&self, key: &Path, size: u64) -> Result<(), StorageError> {
        let last = self
            .ask("get", self.inner.get(key.as_ref(), size - 1))
            .await?;
        let (mut last, mut found) = (last.take(2), Vec::new());
        match timeout(self.request_timeout, last.read_to_end(&mut found)).await {
            Err(_) => Err(Trouble::silence(self.request_timeout).into()),
            Ok(Err(error)) => Err(broken_off(error).into()),
            Ok(Ok(1)) => Ok(()),
            Ok(Ok(_)) => Err(StorageError::BeyondDriver(Beyond::Offset)),
        }
    }

    async fn send_all(
        &self,
        job: &Job,
        content: Option<Reader>,
        bytes: u64,
        output: &mut Output<'_>,
    ) -> Result<(), StorageError> {
        let mut out = Out::new(job, output, self.download.stall_timeout);
        let mut left = bytes;
        if let Some(mut content) = content {
            let mut chunk = vec![0; CHUNK];
            loop {
                let read = timeout(self.request_timeout, content.read(&mut chunk)).await;
                let read = read.map_err(|_| Trouble::silence(self.request_timeout))?;
                let read = read.map_err(broken_off)?;
                if read == 0 {
                    break;
                }
                left = left
                    .checked_sub(read as u64)
                    .ok_or(StorageError::Replaced)?;
                out.write(&chunk[..read]).await?;
            }
        }
        if left > 0 {
            return Err(StorageError::Replaced);
        }
        Ok(out.finish().await?)
    }
}

fn broken_off(error: std::io::Error) -> Trouble {
    Trouble::new(Kind::Unreachable, error)
}
