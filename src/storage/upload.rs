//! Uploads: from the client's socket into one object, whole or not at all.
//!
//! ```text
//! prepare ─► open ─► pump (parts go up while bytes come in) ─► commit barrier ─► publish
//!                     └── anything goes wrong, anywhere ──► discard ◄──┘
//! ```
//!
//! Up to `publish` nothing that a reader could see has changed. `publish` is reached only through
//! [`Job::commit`], which the guard grants. Where the store's answer to it is lost, the store is asked
//! again ([`verdict`](super::verdict)).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{
    GetResult, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    UpdateVersion,
};
use tokio::io::AsyncReadExt;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::auth::{Permission, User};
use crate::config::{ByteSize, Overwrite};
use crate::session::{Abort, DataStream, FtpPath, Job, StoreMode, TransferKind};

use super::verdict::{self, Mark, Verdict};
use super::{Storage, StorageError, permit};

/// The first read of a file takes this much memory; most files on old devices fit.
const FIRST_CHUNK: usize = 16 * 1024;

/// Later reads take up to this much: large enough that system calls don't count.
const LARGEST_CHUNK: usize = 256 * 1024;

/// How long discarding may take before it is given up.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the client's reply waits for it.
const DISCARD_PATIENCE: Duration = Duration::from_secs(2);

impl Storage {
    pub(super) async fn receive(&self, user: &User, job: &mut Job) -> Result<(), StorageError> {
        let plan = job.unless_aborted(self.prepare(user, job)).await?;
        let unique = plan.unique.clone();
        let mut sink = Sink::new(self, plan, job.running());
        let received = self.pump(job, unique, &mut sink).await;
        match received {
            Ok(()) => sink.publish().await,
            Err(error) => {
                sink.discard().await;
                Err(without_bucket(error))
            }
        }
    }

    /// Everything that can be refused before the client sends a byte.
    async fn prepare(&self, user: &User, job: &Job) -> Result<Plan, StorageError> {
        permit(user, Permission::Write)?;
        let TransferKind::Store(mode) = job.kind() else {
            return Err(Abort::Internal.into());
        };
        let unique = (mode == StoreMode::Unique).then(|| fresh_name(job.path()));
        let path = unique.as_ref().unwrap_or(job.path());
        let key = self.file_key(user, path)?;
        let (base, condition) = match mode {
            StoreMode::Replace => (None, self.check_replace(user, &key).await?),
            StoreMode::Unique => (None, Condition::Absent),
            StoreMode::Append => self.base(user, &key, None).await?,
            StoreMode::RestartAt(offset) => self.base(user, &key, Some(offset)).await?,
        };
        Ok(Plan {
            key,
            unique,
            base,
            condition,
            max_size: user.max_size.or(self.upload.max_size),
        })
    }

    /// Whether a plain `STOR` may go to this key, and on what condition it is published.
    async fn check_replace(&self, user: &User, key: &Path) -> Result<Condition, StorageError> {
        match self.overwrite(user) {
            Overwrite::Allow => Ok(Condition::None),
            Overwrite::Deny => match self.store.head(key).await {
                Ok(_) => Err(StorageError::Exists),
                Err(object_store::Error::NotFound { .. }) => Ok(Condition::Absent),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// What is already there, to be written again before the client's bytes. What may not be
    /// replaced may not be added to either: it was delivered once.
    async fn base(
        &self,
        user: &User,
        key: &Path,
        offset: Option<u64>,
    ) -> Result<(Option<GetResult>, Condition), StorageError> {
        match self.store.get(key).await {
            Ok(_) if self.overwrite(user) == Overwrite::Deny => Err(StorageError::Exists),
            Ok(object) => {
                let size = object.meta.size;
                if let Some(asked) = offset.filter(|offset| *offset != size) {
                    return Err(StorageError::Restart { asked, size });
                }
                let condition = Condition::Unchanged(UpdateVersion {
                    e_tag: object.meta.e_tag.clone(),
                    version: object.meta.version.clone(),
                });
                Ok((Some(object), condition))
            }
            Err(object_store::Error::NotFound { .. }) => match offset {
                None | Some(0) => Ok((None, Condition::StillAbsent)),
                Some(asked) => Err(StorageError::Restart { asked, size: 0 }),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Moves everything into the sink and asks for the commit.
    async fn pump(
        &self,
        job: &mut Job,
        unique: Option<FtpPath>,
        sink: &mut Sink,
    ) -> Result<(), StorageError> {
        let mut stream = job.open(unique).await?;
        job.unless_aborted(self.read_all(job, &mut stream, sink))
            .await?;
        drop(stream);
        self.settle().await;
        Ok(job.commit().await?)
    }

    /// Waits a moment for a control connection that dies with its data connection. The runtime's
    /// shortest sleep is a millisecond, which would be most of a small upload.
    async fn settle(&self) {
        if !self.upload.settle.is_zero() {
            tokio::time::sleep(self.upload.settle).await;
        }
    }

    async fn read_all(
        &self,
        job: &Job,
        stream: &mut DataStream,
        sink: &mut Sink,
    ) -> Result<(), StorageError> {
        sink.write_base().await?;
        loop {
            let mut chunk = BytesMut::with_capacity(sink.chunk_size());
            let more = self.fill(job, stream, &mut chunk).await?;
            sink.write(chunk.freeze()).await?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Reads until the chunk is full or the client has ended its data connection, which is `false`.
    async fn fill(
        &self,
        job: &Job,
        stream: &mut DataStream,
        chunk: &mut BytesMut,
    ) -> Result<bool, Abort> {
        while chunk.len() < chunk.capacity() {
            let read = tokio::time::timeout(self.upload.stall_timeout, stream.read_buf(chunk));
            match read.await {
                Ok(Ok(0)) => return Ok(false),
                Ok(Ok(bytes)) => job.count(bytes),
                Ok(Err(_)) => return Err(Abort::DataLost),
                Err(_) => return Err(Abort::Stalled),
            }
        }
        Ok(true)
    }
}

/// Where an upload goes and what has to hold when it is published.
struct Plan {
    key: Path,
    unique: Option<FtpPath>,
    base: Option<GetResult>,
    condition: Condition,
    max_size: Option<ByteSize>,
}

/// What has to hold at the key for the object to be published.
#[derive(Debug, Clone)]
enum Condition {
    /// Nothing: whatever is there is replaced.
    None,
    /// There is no object, and if one comes meanwhile, its name is taken.
    Absent,
    /// There is no object yet, and if one comes meanwhile, trying again will add to it.
    StillAbsent,
    /// The object is still the one that was read.
    Unchanged(UpdateVersion),
}

/// Takes bytes, sends full parts up, and publishes or discards them all.
struct Sink {
    store: Arc<dyn ObjectStore>,
    plan: Plan,
    /// By which the object is known again; `None` on stores whose answers are not lost.
    mark: Option<Mark>,
    part_size: usize,
    concurrency: usize,
    /// Bytes taken in all.
    size: u64,
    /// The part in the making.
    part: Vec<Bytes>,
    part_len: usize,
    multipart: Multipart,
    parts_in_flight: JoinSet<object_store::Result<()>>,
    /// Holds the gateway's end up.
    running: Option<TaskTrackerToken>,
}

impl Sink {
    fn new(storage: &Storage, plan: Plan, running: Option<TaskTrackerToken>) -> Self {
        Self {
            store: Arc::clone(&storage.store),
            plan,
            mark: storage.marks.then(Mark::new),
            part_size: usize::try_from(storage.upload.part_size.0).unwrap_or(usize::MAX),
            concurrency: storage.upload.concurrency,
            size: 0,
            part: Vec::new(),
            part_len: 0,
            multipart: Multipart::None,
            parts_in_flight: JoinSet::new(),
            running,
        }
    }

    /// Memory follows what the client has sent: small at first, then as large as pays. A chunk
    /// never reaches beyond its part.
    fn chunk_size(&self) -> usize {
        let wanted = self.part_len.clamp(FIRST_CHUNK, LARGEST_CHUNK);
        wanted.min(self.part_size - self.part_len)
    }

    /// Writes again what an append is to be added to.
    async fn write_base(&mut self) -> Result<(), StorageError> {
        let Some(base) = self.plan.base.take() else {
            return Ok(());
        };
        let mut stream = base.into_stream();
        while let Some(bytes) = stream.next().await {
            let mut bytes = bytes?;
            while !bytes.is_empty() {
                let room = self.part_size - self.part_len;
                let chunk = bytes.split_to(room.min(bytes.len()));
                self.write(chunk).await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self, chunk: Bytes) -> Result<(), StorageError> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.size += chunk.len() as u64;
        if let Some(limit) = self.plan.max_size.filter(|limit| self.size > limit.0) {
            return Err(StorageError::TooLarge(limit));
        }
        self.part_len += chunk.len();
        self.part.push(chunk);
        if self.part_len >= self.part_size {
            self.send_part().await?;
        }
        Ok(())
    }

    /// Sends the part up in the background, once there is room for it.
    async fn send_part(&mut self) -> Result<(), StorageError> {
        while self.parts_in_flight.len() >= self.concurrency {
            self.finish_one_part().await?;
        }
        let payload = self.take_part();
        if matches!(self.multipart, Multipart::None) {
            let (store, key) = (Arc::clone(&self.store), self.plan.key.clone());
            let options = Mark::attributes(self.mark.as_ref()).into();
            let create = async move { store.put_multipart_opts(&key, options).await };
            self.multipart = Multipart::Beginning(tokio::spawn(create));
        }
        let part = self.multipart.begun().await?.put_part(payload);
        self.parts_in_flight.spawn(part);
        Ok(())
    }

    async fn finish_one_part(&mut self) -> Result<(), StorageError> {
        match self.parts_in_flight.join_next().await {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(error.into()),
            Some(Err(_)) => Err(Abort::Internal.into()),
        }
    }

    fn take_part(&mut self) -> PutPayload {
        self.part_len = 0;
        std::mem::take(&mut self.part).into_iter().collect()
    }

    /// Makes the object visible. On failure everything is discarded.
    async fn publish(mut self) -> Result<(), StorageError> {
        let result = match self.multipart {
            Multipart::None => self.put().await,
            _ => self.complete().await,
        };
        if result.is_err() {
            self.discard().await;
        }
        result.map_err(|error| match (error, &self.plan.condition) {
            (StorageError::Exists, Condition::StillAbsent) => StorageError::Conflict,
            (error, _) => without_bucket(error),
        })
    }

    /// Smaller than a part: one request.
    async fn put(&mut self) -> Result<(), StorageError> {
        let payload = self.take_part();
        let mode = match &self.plan.condition {
            Condition::None => PutMode::Overwrite,
            Condition::Absent | Condition::StillAbsent => PutMode::Create,
            Condition::Unchanged(version) => PutMode::Update(version.clone()),
        };
        match self.put_as(payload.clone(), mode).await {
            // Not every store has conditions: look, then write.
            Err(
                object_store::Error::NotImplemented { .. }
                | object_store::Error::NotSupported { .. },
            ) => {
                self.check_condition().await?;
                let result = self.put_as(payload, PutMode::Overwrite).await;
                self.judge_put(result).await
            }
            result => self.judge_put(result).await,
        }
    }

    async fn put_as(&mut self, payload: PutPayload, mode: PutMode) -> object_store::Result<()> {
        let mut options = PutOptions::from(mode);
        options.attributes = Mark::attributes(self.mark.as_ref());
        self.store
            .put_opts(&self.plan.key, payload, options)
            .await?;
        Ok(())
    }

    /// What a put has done.
    async fn judge_put(&mut self, result: object_store::Result<()>) -> Result<(), StorageError> {
        let Err(error) = result else { return Ok(()) };
        let silent = verdict::is_silence(&error);
        match self.verdict(&error).await {
            Verdict::Published => Ok(()),
            Verdict::NotThere if !silent => Err(error.into()),
            Verdict::NotThere | Verdict::Unknown => Err(StorageError::Unresolved(error)),
        }
    }

    async fn complete(&mut self) -> Result<(), StorageError> {
        if self.part_len > 0 {
            self.send_part().await?;
        }
        while !self.parts_in_flight.is_empty() {
            self.finish_one_part().await?;
        }
        self.check_condition().await?;
        match self.multipart.begun().await?.complete().await {
            Ok(_) => {
                self.multipart = Multipart::None;
                Ok(())
            }
            Err(error) => self.judge_complete(error).await,
        }
    }

    /// What a completion has done that looks like a failure. Once the store has forgotten the upload
    /// at our word, it is too late to complete it, however slow the store may be.
    async fn judge_complete(&mut self, error: object_store::Error) -> Result<(), StorageError> {
        if self.verdict(&error).await == Verdict::Published {
            self.multipart = Multipart::None;
            return Ok(());
        }
        let certain = self.discard().await || !verdict::is_silence(&error);
        match self.verdict(&error).await {
            Verdict::Published => Ok(()),
            Verdict::NotThere if certain => Err(gone_upload(error)),
            Verdict::NotThere | Verdict::Unknown => Err(StorageError::Unresolved(error)),
        }
    }

    /// Whether this upload's object is there, after a failure that may not be one.
    async fn verdict(&mut self, error: &object_store::Error) -> Verdict {
        let Some(mark) = self.mark.as_ref().filter(|_| !verdict::is_refusal(error)) else {
            return Verdict::NotThere;
        };
        let verdict = verdict::look(self.store.as_ref(), &self.plan.key, mark).await;
        tracing::debug!(key = %self.plan.key, %error, ?verdict, "looked whether an upload was published");
        verdict
    }

    /// Looks whether the condition holds, where the store can't be told to.
    async fn check_condition(&mut self) -> Result<(), StorageError> {
        if matches!(self.plan.condition, Condition::None) {
            return Ok(());
        }
        let found = match self.store.head(&self.plan.key).await {
            Ok(meta) => Some(meta),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        match (&self.plan.condition, found) {
            (Condition::None, _) | (Condition::Absent | Condition::StillAbsent, None) => Ok(()),
            (Condition::Absent | Condition::StillAbsent, Some(_)) => Err(StorageError::Exists),
            (Condition::Unchanged(read), Some(meta)) if read.e_tag == meta.e_tag => Ok(()),
            (Condition::Unchanged(_), _) => Err(StorageError::Conflict),
        }
    }

    /// Takes back what has gone up; what can't be taken back no reader sees. The client does not
    /// wait for a store that is slow to forget, but the gateway's end does.
    ///
    /// Whether the store has said that it has forgotten it.
    async fn discard(&mut self) -> bool {
        self.parts_in_flight.shutdown().await;
        let multipart = std::mem::replace(&mut self.multipart, Multipart::None);
        if matches!(multipart, Multipart::None) {
            return true;
        }
        let (key, running) = (self.plan.key.clone(), self.running.clone());
        let forgetting = tokio::spawn(async move {
            let forgotten = multipart.forget(&key).await;
            drop(running);
            forgotten
        });
        // Whether it is done by then or not, and however it ends, is in the log.
        let forgotten = tokio::time::timeout(DISCARD_PATIENCE, forgetting).await;
        matches!(forgotten, Ok(Ok(true)))
    }
}

/// A multipart upload on its way into being.
///
/// It is begun in a task of its own: if the transfer is given up at that very moment, the store has
/// an upload whose name we must still learn, to discard it.
enum Multipart {
    None,
    Beginning(JoinHandle<object_store::Result<Box<dyn MultipartUpload>>>),
    Begun(Box<dyn MultipartUpload>),
}

impl Multipart {
    /// The upload, as soon as the store has named it. Safe to cancel.
    async fn begun(&mut self) -> Result<&mut dyn MultipartUpload, StorageError> {
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
    async fn forget(mut self, key: &Path) -> bool {
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

/// A completion that finds nothing has not found its upload; the bucket has taken parts before.
fn gone_upload(error: object_store::Error) -> StorageError {
    match error {
        error @ object_store::Error::NotFound { .. } => StorageError::Store(error),
        error => error.into(),
    }
}

/// A write that finds nothing has found no bucket.
fn without_bucket(error: StorageError) -> StorageError {
    match error {
        StorageError::NotFound => StorageError::NoBucket,
        error => error,
    }
}

/// A name that no object has: the one asked for, and 64 random bits.
fn fresh_name(path: &FtpPath) -> FtpPath {
    let suffix: u64 = rand::random();
    let name = if path.is_root() {
        format!("ftp-{suffix:016x}")
    } else {
        format!("{}.{suffix:016x}", path.name())
    };
    // Too long a name is left as it is; its conditional create then fails, if it exists.
    path.parent()
        .resolve(&name)
        .unwrap_or_else(|_| path.clone())
}
