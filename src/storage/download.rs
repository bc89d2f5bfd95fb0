//! Downloads: from one object to the client's socket.
//!
//! The object is opened before the client is told that it will come, so a missing one is a plain
//! refusal. What is sent is one version of the object: a range is asked for with its `ETag`.

use std::io::SeekFrom;
use std::time::Duration;

use futures::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectStoreExt};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::auth::{Permission, User};
use crate::session::{Abort, DataStream, Job, TransferKind};

use super::{Storage, StorageError, permit};

/// One read of a local file.
const FILE_CHUNK: usize = 256 * 1024;

impl Storage {
    pub(super) async fn send(&self, user: &User, job: &mut Job) -> Result<(), StorageError> {
        let object = job.unless_aborted(self.open_object(user, job)).await?;
        let mut stream = job.open(None).await?;
        job.unless_aborted(self.send_all(job, object, &mut stream))
            .await
    }

    /// The object from the asked-for offset on; `None` when nothing lies behind it.
    async fn open_object(&self, user: &User, job: &Job) -> Result<Option<GetResult>, StorageError> {
        permit(user, Permission::Read)?;
        let TransferKind::Retrieve { offset } = job.kind() else {
            return Err(Abort::Internal.into());
        };
        let key = self.file_key(user, job.path())?;
        if offset == 0 {
            return Ok(Some(self.store.get(&key).await?));
        }
        self.open_range(&key, offset).await
    }

    async fn open_range(&self, key: &Path, offset: u64) -> Result<Option<GetResult>, StorageError> {
        let meta = self.store.head(key).await?;
        if offset > meta.size {
            let size = meta.size;
            return Err(StorageError::Restart {
                asked: offset,
                size,
            });
        }
        if offset == meta.size {
            return Ok(None);
        }
        let options = GetOptions {
            range: Some(GetRange::Offset(offset)),
            if_match: meta.e_tag,
            ..GetOptions::default()
        };
        Ok(Some(self.store.get_opts(key, options).await?))
    }

    /// The client's end of a transfer.
    pub(super) fn out<'a>(&self, job: &'a Job, stream: &'a mut DataStream) -> Out<'a> {
        Out {
            job,
            stream,
            stall_timeout: self.download.stall_timeout,
        }
    }

    async fn send_all(
        &self,
        job: &Job,
        object: Option<GetResult>,
        stream: &mut DataStream,
    ) -> Result<(), StorageError> {
        let mut out = self.out(job, stream);
        if let Some(object) = object {
            let range = object.range.clone();
            match object.payload {
                GetResultPayload::File(file, _) => {
                    out.send_file(File::from_std(file), range.start, range.end)
                        .await?;
                }
                GetResultPayload::Stream(mut bytes) => {
                    while let Some(chunk) = bytes.next().await {
                        out.write(&chunk?).await?;
                    }
                }
            }
        }
        Ok(out.finish().await?)
    }
}

/// The client's end of what is sent to it.
pub(super) struct Out<'a> {
    job: &'a Job,
    stream: &'a mut DataStream,
    stall_timeout: Duration,
}

impl Out<'_> {
    async fn send_file(
        &mut self,
        mut file: File,
        start: u64,
        end: u64,
    ) -> Result<(), StorageError> {
        file.set_max_buf_size(FILE_CHUNK);
        file.seek(SeekFrom::Start(start)).await?;
        let mut rest = file.take(end - start);
        let mut buffer = vec![0; FILE_CHUNK];
        loop {
            let read = rest.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            self.write(&buffer[..read]).await?;
        }
    }

    /// Writes piece by piece, so that a slow client is not taken for one that has stalled.
    pub(super) async fn write(&mut self, mut chunk: &[u8]) -> Result<(), Abort> {
        while !chunk.is_empty() {
            let write = self.stream.write(chunk);
            match tokio::time::timeout(self.stall_timeout, write).await {
                Ok(Ok(0) | Err(_)) => return Err(Abort::DataLost),
                Ok(Ok(written)) => {
                    self.job.count(written);
                    chunk = &chunk[written..];
                }
                Err(_) => return Err(Abort::Stalled),
            }
        }
        Ok(())
    }

    pub(super) async fn finish(self) -> Result<(), Abort> {
        match tokio::time::timeout(self.stall_timeout, self.stream.shutdown()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Abort::DataLost),
            Err(_) => Err(Abort::Stalled),
        }
    }
}
