//! Downloads: from one object to the client's socket.
//!
//! The object is opened before the client is told that it will come, so a missing one is a plain
//! refusal. What is sent is one version of the object; see [`ahead`](crate::storage::read::ahead).

use std::io::SeekFrom;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use object_store::client::HttpError;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt,
};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWrite, AsyncWriteExt};

use crate::auth::{Permission, User};
use crate::session::{Abort, Job, TransferKind};

use crate::storage::Storage;
use crate::storage::error::StorageError;
use crate::storage::read::ahead::{Reader, is_strong};
use crate::storage::read::whole::Whole;
use crate::storage::store::causes::find;
use crate::storage::verbs::contract::permit;

/// One read of a local file.
const FILE_CHUNK: usize = 256 * 1024;

impl Storage {
    pub(crate) async fn send(
        &self,
        user: &User,
        job: &mut Job,
        output: &mut (impl AsyncWrite + Send + Unpin + ?Sized),
    ) -> Result<(), StorageError> {
        let object = job
            .unless_aborted(pin!(self.open_object(user, job)))
            .await?;
        job.open(None).await?;
        job.unless_aborted(pin!(self.send_all(job, object, output)))
            .await
    }

    /// The object from the asked-for offset on; `None` when nothing lies behind it. Its first part is
    /// asked for alone: the answer tells the size and the version, and brings the first bytes.
    async fn open_object(&self, user: &User, job: &Job) -> Result<Option<GetResult>, StorageError> {
        permit(user, Permission::Read)?;
        let TransferKind::Retrieve { offset } = job.kind() else {
            return Err(Abort::Internal.into());
        };
        let key = self.file_key(user, job.path())?;
        let range = if self.store.traits().parallel_reads {
            GetRange::Bounded(self.read_ahead.part_at(offset))
        } else {
            GetRange::Offset(offset)
        };
        match self.get_range(&key, range).await {
            Ok(object) if is_whole(&object) || is_tagged(&object) => Ok(Some(object)),
            // No later part could be told from one of another version: it has to be one stream.
            Ok(_) => Ok(Some(self.get_range(&key, GetRange::Offset(offset)).await?)),
            Err(error) if is_about_the_range(&error) => self.open_end(&key, offset, error).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn get_range(&self, key: &Path, range: GetRange) -> object_store::Result<GetResult> {
        let options = GetOptions {
            range: Some(range),
            ..GetOptions::default()
        };
        self.store.objects().get_opts(key, options).await
    }

    /// What is there, where a store has refused the range or has not taken notice of it.
    async fn open_end(
        &self,
        key: &Path,
        offset: u64,
        error: object_store::Error,
    ) -> Result<Option<GetResult>, StorageError> {
        let size = self.store.objects().head(key).await?.size;
        match offset {
            _ if offset == size => Ok(None),
            asked if asked > size => Err(StorageError::Restart { asked, size }),
            0 => Ok(Some(self.store.objects().get(key).await?)),
            _ => Err(error.into()),
        }
    }

    async fn send_all(
        &self,
        job: &Job,
        object: Option<GetResult>,
        output: &mut (impl AsyncWrite + Send + Unpin + ?Sized),
    ) -> Result<(), StorageError> {
        let mut out = Out::new(job, output, self.download.stall_timeout);
        if let Some(object) = object {
            let range = object.range.clone();
            if let GetResultPayload::File(file, _) = object.payload {
                out.send_file(File::from_std(file), range.start, range.end)
                    .await?;
            } else {
                let mut whole = Whole::of(&self.store, &object);
                let mut reader = Reader::new(
                    &self.read_ahead,
                    Arc::clone(self.store.objects()) as _,
                    object,
                );
                while let Some(chunk) = reader.next().await? {
                    if let Some(whole) = &mut whole {
                        whole.take(&chunk).await?;
                    }
                    out.write(&chunk).await?;
                }
            }
        }
        Ok(out.finish().await?)
    }
}

/// The client's end of what is sent to it.
pub(crate) struct Out<'a, W: ?Sized> {
    job: &'a Job,
    output: &'a mut W,
    stall_timeout: Duration,
}

impl<'a, W: AsyncWrite + Unpin + ?Sized> Out<'a, W> {
    /// The client's end of this job, which takes no longer than this to read something.
    pub(crate) fn new(job: &'a Job, output: &'a mut W, stall_timeout: Duration) -> Self {
        Self {
            job,
            output,
            stall_timeout,
        }
    }

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
    pub(crate) async fn write(&mut self, mut chunk: &[u8]) -> Result<(), Abort> {
        while !chunk.is_empty() {
            let write = self.output.write(chunk);
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

    pub(crate) async fn finish(self) -> Result<(), Abort> {
        match tokio::time::timeout(self.stall_timeout, self.output.shutdown()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Abort::DataLost),
            Err(_) => Err(Abort::Stalled),
        }
    }
}

/// Whether it is all that there is from the offset on.
fn is_whole(object: &GetResult) -> bool {
    object.range.end == object.meta.size
}

fn is_tagged(object: &GetResult) -> bool {
    object.meta.e_tag.as_deref().is_some_and(is_strong)
}

/// Whether a store that answers may have disliked the range: 416, or an answer without one.
fn is_about_the_range(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::Generic { .. }) && find::<HttpError>(error).is_none()
}
