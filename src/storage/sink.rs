//! Where the bytes of an upload go: into parts, up to the store, and in the end into sight.
//!
//! Up to [`Sink::publish`] nothing that a reader could see has changed.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{
    Attributes, GetResult, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    UpdateVersion,
};
use tokio::task::JoinSet;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::config::ByteSize;
use crate::session::{Abort, FtpPath};

use super::budget::{Budget, Claim};
use super::multipart::Multipart;
use super::parts::PartSizes;
use super::verdict::{self, Mark, Verdict};
use super::{Storage, StorageError};

/// The first read of a file takes this much memory; most files on old devices fit.
const FIRST_CHUNK: usize = 16 * 1024;

/// Later reads take up to this much: large enough that system calls don't count.
const LARGEST_CHUNK: usize = 256 * 1024;

/// How long the client's reply waits for discarding.
const DISCARD_PATIENCE: Duration = Duration::from_secs(2);

/// Where an upload goes and what has to hold when it is published.
pub(super) struct Plan {
    pub(super) key: Path,
    pub(super) unique: Option<FtpPath>,
    pub(super) base: Option<GetResult>,
    pub(super) condition: Condition,
    pub(super) max_size: Option<ByteSize>,
}

/// What has to hold at the key for the object to be published.
#[derive(Debug, Clone)]
pub(super) enum Condition {
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
pub(super) struct Sink {
    store: Arc<dyn ObjectStore>,
    plan: Plan,
    attributes: Attributes,
    /// By which the object is known again; `None` on stores whose answers are not lost.
    mark: Option<Mark>,
    budget: Budget,
    sizes: PartSizes,
    concurrency: usize,
    /// Bytes taken in all.
    size: u64,
    /// Parts sent up so far.
    parts: usize,
    part: PartInTheMaking,
    multipart: Multipart,
    parts_in_flight: JoinSet<object_store::Result<()>>,
    /// Holds the gateway's end up.
    running: Option<TaskTrackerToken>,
}

impl Sink {
    pub(super) fn new(
        storage: &Storage,
        plan: Plan,
        attributes: Attributes,
        running: Option<TaskTrackerToken>,
    ) -> Self {
        let mark = storage.metadata.is_some().then(Mark::new);
        let mut attributes = attributes;
        if let Some(mark) = &mark {
            mark.put_on(&mut attributes);
        }
        let sizes = storage.sizes;
        Self {
            store: Arc::clone(&storage.store),
            plan,
            attributes,
            mark,
            part: PartInTheMaking::new(&storage.budget, sizes.size(0).unwrap_or(usize::MAX)),
            budget: storage.budget.clone(),
            sizes,
            concurrency: storage.upload.concurrency,
            size: 0,
            parts: 0,
            multipart: Multipart::None,
            parts_in_flight: JoinSet::new(),
            running,
        }
    }

    /// An empty chunk to read into, as soon as there is memory for it. Memory follows what the
    /// client has sent: small at first, then as large as pays.
    pub(super) async fn chunk(&mut self) -> BytesMut {
        let size = self.part.next_chunk();
        self.part.claim.grow(size).await;
        BytesMut::with_capacity(size)
    }

    /// Writes again what an append is to be added to.
    pub(super) async fn write_base(&mut self) -> Result<(), StorageError> {
        let Some(base) = self.plan.base.take() else {
            return Ok(());
        };
        let mut stream = base.into_stream();
        while let Some(bytes) = stream.next().await {
            let mut bytes = bytes?;
            while !bytes.is_empty() {
                let chunk = bytes.split_to(self.part.room().clamp(1, bytes.len()));
                self.part.claim.grow(chunk.len()).await;
                self.write(chunk).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn write(&mut self, chunk: Bytes) -> Result<(), StorageError> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.size += chunk.len() as u64;
        let limit = self
            .plan
            .max_size
            .into_iter()
            .chain(self.sizes.largest_object())
            .min();
        if let Some(limit) = limit.filter(|limit| self.size > limit.0) {
            return Err(StorageError::TooLarge(limit));
        }
        self.part.push(chunk);
        if self.part.room() == 0 {
            self.send_part().await?;
        }
        Ok(())
    }

    /// Sends the part up in the background, once there is room for it.
    async fn send_part(&mut self) -> Result<(), StorageError> {
        while self.parts_in_flight.len() >= self.concurrency {
            self.finish_one_part().await?;
        }
        let (payload, claim) = self.take_part();
        if matches!(self.multipart, Multipart::None) {
            let (store, key) = (Arc::clone(&self.store), self.plan.key.clone());
            let options = self.attributes.clone().into();
            let create = async move { store.put_multipart_opts(&key, options).await };
            self.multipart = Multipart::Beginning(tokio::spawn(create));
        }
        let part = self.multipart.begun().await?.put_part(payload);
        self.parts_in_flight.spawn(async move {
            let sent = part.await;
            drop(claim);
            sent
        });
        Ok(())
    }

    async fn finish_one_part(&mut self) -> Result<(), StorageError> {
        match self.parts_in_flight.join_next().await {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(error.into()),
            Some(Err(_)) => Err(Abort::Internal.into()),
        }
    }

    /// The part as it goes up, with the memory it holds; the next one begins.
    fn take_part(&mut self) -> (PutPayload, Claim) {
        self.parts += 1;
        // A store that takes no more parts is told so only if there is more to store.
        let next = self.sizes.size(self.parts).unwrap_or(0);
        let part = PartInTheMaking::new(&self.budget, next);
        let PartInTheMaking { chunks, claim, .. } = std::mem::replace(&mut self.part, part);
        (chunks.into_iter().collect(), claim)
    }

    /// Makes the object visible. On failure everything is discarded.
    pub(super) async fn publish(mut self) -> Result<(), StorageError> {
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
        // Held until the store has it.
        let (payload, _claim) = self.take_part();
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
        options.attributes = self.attributes.clone();
        self.store
            .put_opts(&self.plan.key, payload, options)
            .await?;
        Ok(())
    }

    /// What a put has done.
    async fn judge_put(&mut self, result: object_store::Result<()>) -> Result<(), StorageError> {
        let Err(error) = result else { return Ok(()) };
        let verdict = self.verdict(&error, false).await;
        self.conclude(verdict, error, StorageError::from)
    }

    async fn complete(&mut self) -> Result<(), StorageError> {
        if !self.part.chunks.is_empty() {
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

    /// What a completion has done that looks like a failure.
    async fn judge_complete(&mut self, error: object_store::Error) -> Result<(), StorageError> {
        if self.verdict(&error, false).await == Verdict::Published {
            self.multipart = Multipart::None;
            return Ok(());
        }
        let discarded = self.discard().await;
        let verdict = self.verdict(&error, discarded).await;
        self.conclude(verdict, error, failed_completion)
    }

    async fn verdict(&mut self, error: &object_store::Error, discarded: bool) -> Verdict {
        let (store, key) = (self.store.as_ref(), &self.plan.key);
        verdict::judge(store, key, self.mark.as_ref(), error, discarded).await
    }

    fn conclude(
        &mut self,
        verdict: Verdict,
        error: object_store::Error,
        failure: fn(object_store::Error) -> StorageError,
    ) -> Result<(), StorageError> {
        match verdict {
            Verdict::Published => Ok(()),
            Verdict::NotPublished => Err(failure(error)),
            Verdict::Unlikely => {
                let key = &self.plan.key;
                tracing::warn!(%key, %error, "if an earlier try got through, the object may have been published");
                Err(failure(error))
            }
            Verdict::Unknown => Err(StorageError::Unresolved(error)),
        }
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
    pub(super) async fn discard(&mut self) -> bool {
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

/// The part in the making.
struct PartInTheMaking {
    chunks: Vec<Bytes>,
    length: usize,
    size: usize,
    claim: Claim,
}

impl PartInTheMaking {
    fn new(budget: &Budget, size: usize) -> Self {
        Self {
            chunks: Vec::new(),
            length: 0,
            size,
            claim: budget.claim(size),
        }
    }

    /// How many bytes it takes yet.
    fn room(&self) -> usize {
        self.size.saturating_sub(self.length)
    }

    /// The size of the next chunk, which never reaches beyond the part. A store that takes no more
    /// parts has one byte read all the same: it tells whether there is more than it takes.
    fn next_chunk(&self) -> usize {
        let wanted = self.length.clamp(FIRST_CHUNK, LARGEST_CHUNK);
        wanted.min(self.room()).max(1)
    }

    fn push(&mut self, chunk: Bytes) {
        self.length += chunk.len();
        self.chunks.push(chunk);
    }
}

/// A completion that finds nothing has not found its upload: the bucket has taken parts before.
fn failed_completion(error: object_store::Error) -> StorageError {
    match error {
        error @ object_store::Error::NotFound { .. } => StorageError::Store(error),
        error => error.into(),
    }
}

/// A write that finds nothing has found no bucket.
pub(super) fn without_bucket(error: StorageError) -> StorageError {
    match error {
        StorageError::NotFound => StorageError::NoBucket,
        error => error,
    }
}
