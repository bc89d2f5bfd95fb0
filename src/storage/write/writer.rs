//! Where the bytes of an upload go: into parts, up to the store, and in the end into sight.
//!
//! Up to [`ObjectWriter::publish`] nothing that a reader could see has changed.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, UpdateVersion};
use prometheus::IntGauge;
use tokio::io::AsyncRead;
use tokio::task::JoinSet;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::config::{self, ByteSize, Verify};
use crate::session::{Abort, FtpPath};

use crate::storage::error::StorageError;
use crate::storage::store::body::Crc64;
use crate::storage::store::description::Description;
use crate::storage::store::mark::{Lineage, Mark};
use crate::storage::store::precondition::Precondition;
use crate::storage::store::upload::{Base, Start};
use crate::storage::store::{Keeping, MIN_PART, Store};
use crate::storage::write::appending::OnlyAppend;
use crate::storage::write::budget::Budget;
use crate::storage::write::conditions::Conditions;
use crate::storage::write::handover::Progress;
use crate::storage::write::known::Known;
use crate::storage::write::multipart::Multipart;
use crate::storage::write::part::{FullPart, HeldBack, PartInTheMaking, Read};
use crate::storage::write::part_sizes::PartSizes;
use crate::storage::write::relief::Revoked;
use crate::storage::write::spill::{Spill, WORTH_SPILLING};
use crate::storage::write::telling::Telling;

/// Where an upload goes and what has to hold when it is published.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) key: Path,
    pub(crate) unique: Option<FtpPath>,
    /// What the client's bytes come after.
    pub(crate) base: Option<Base>,
    /// Keeps other appends away.
    pub(crate) only: Option<OnlyAppend>,
    /// What has to hold for the object to be published.
    pub(crate) precondition: Precondition,
    /// The marks of what it is built on.
    pub(crate) lineage: Lineage,
    /// What the base carries, and the new object as well.
    pub(crate) said: Option<Description>,
    pub(crate) max_size: Option<ByteSize>,
}

impl Plan {
    /// Whether what it has taken is the beginning of a new object, and of no other.
    pub(crate) fn can_be_resumed(&self) -> bool {
        self.base.is_none() && self.unique.is_none()
    }
}

/// Takes bytes, sends full parts up, and publishes or discards them all.
#[derive(Debug)]
pub(crate) struct ObjectWriter {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) plan: Plan,
    pub(crate) description: Description,
    /// By which the object is known again; `None` on stores whose answers are not lost.
    pub(crate) mark: Option<Mark>,
    pub(crate) known: Arc<Known>,
    pub(crate) conditions: Arc<Conditions>,
    budget: Budget,
    spill: Spill,
    sizes: PartSizes,
    concurrency: usize,
    /// Bytes taken in all.
    size: u64,
    /// Of them, those that were in the bucket before.
    base_size: u64,
    /// How many the client was told of, when it came back.
    told: Option<u64>,
    /// Bytes that the store was given, or had.
    sent: u64,
    /// So many bytes are in the store as the beginning, and stay there.
    pub(crate) kept: u64,
    /// The checksum of all that was sent after them.
    pub(crate) sum: Crc64,
    pub(crate) verify: Verify,
    /// Parts sent up so far.
    parts: usize,
    pub(crate) part: PartInTheMaking,
    pub(crate) multipart: Multipart,
    pub(crate) parts_in_flight: JoinSet<object_store::Result<()>>,
    /// What lets other gateways go on with it, if they may.
    pub(crate) telling: Option<Telling>,
    /// The version that was published, once the store has said which.
    pub(crate) published: Option<UpdateVersion>,
    /// The object that carries its mark may be of another session that had this upload.
    pub(crate) is_shared: bool,
    /// Holds the gateway's end up.
    pub(crate) running: Option<TaskTrackerToken>,
}

/// Where the client's bytes are read into, and how others may get that memory.
pub(crate) struct Intake<'a> {
    part: &'a mut PartInTheMaking,
    spill: &'a Spill,
    sizes: &'a PartSizes,
    parts: usize,
}

impl Intake<'_> {
    pub(crate) fn is_full(&mut self) -> bool {
        let chunk = self.part.chunk();
        chunk.len() >= chunk.capacity()
    }

    /// Reads into the open chunk. Safe to cancel.
    pub(crate) async fn read(&mut self, input: &mut (impl AsyncRead + Unpin)) -> Read {
        let unwritten = self.part.chunk().len();
        let length = self.part.length() + unwritten;
        let short = self.sizes.may_be_short(self.parts, length);
        let way_out = self.spill.way_out(self.part.in_memory() + unwritten, short);
        self.part.read(input, way_out).await
    }
}

/// What all uploads to one store share.
#[derive(Debug)]
pub(crate) struct Writers {
    store: Arc<dyn Store>,
    sizes: PartSizes,
    concurrency: usize,
    budget: Budget,
    spill: Spill,
    verify: Verify,
    known: Arc<Known>,
    conditions: Arc<Conditions>,
}

impl Writers {
    /// Uploads as the configuration says; `on_disk` counts the bytes that are moved there.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        upload: &config::Upload,
        sizes: PartSizes,
        budget: Budget,
        on_disk: IntGauge,
        conditions: Arc<Conditions>,
    ) -> Self {
        Self {
            store,
            sizes,
            concurrency: upload.concurrency,
            spill: Spill::to(upload.spill_dir.clone(), on_disk),
            budget,
            verify: upload.verify,
            known: Arc::default(),
            conditions,
        }
    }

    /// The largest file that can be uploaded, if the store has a limit.
    pub(crate) fn largest_object(&self) -> Option<ByteSize> {
        self.sizes.largest_object()
    }

    /// Forgets what was written at a key: it is deleted, or renamed away.
    pub(crate) fn forget(&self, key: &Path) {
        self.known.forget(key);
    }

    /// Begins an upload; nothing is asked of the store yet.
    pub(crate) fn begin(
        &self,
        plan: Plan,
        mut description: Description,
        running: Option<TaskTrackerToken>,
    ) -> ObjectWriter {
        let mark = self.store.traits().metadata.map(|_| Mark::new());
        if let Some(mark) = &mark {
            mark.put_on(&mut description.attributes);
        }
        let sizes = self.sizes;
        ObjectWriter {
            store: Arc::clone(&self.store),
            plan,
            description,
            mark,
            known: Arc::clone(&self.known),
            conditions: Arc::clone(&self.conditions),
            part: PartInTheMaking::new(&self.budget, sizes.size(0).unwrap_or(0)),
            budget: self.budget.clone(),
            spill: self.spill.clone(),
            sizes,
            concurrency: self.concurrency,
            size: 0,
            base_size: 0,
            told: None,
            sent: 0,
            kept: 0,
            sum: Crc64::empty(),
            verify: self.verify,
            parts: 0,
            multipart: Multipart::None,
            parts_in_flight: JoinSet::new(),
            telling: None,
            published: None,
            is_shared: false,
            running,
        }
    }
}

impl ObjectWriter {
    /// Opens a chunk to read into, as soon as there is memory for it.
    pub(crate) async fn open_chunk(&mut self) -> Result<(), StorageError> {
        while let Some(revoked) = self.try_to_open().await {
            self.make_way(revoked).await?;
        }
        Ok(())
    }

    async fn try_to_open(&mut self) -> Option<Revoked> {
        let short = self.may_go_up_short();
        let way_out = self.spill.way_out(self.part.in_memory(), short);
        self.part.open(way_out).await
    }

    fn may_go_up_short(&self) -> bool {
        self.sizes.may_be_short(self.parts, self.part.length())
    }

    /// Takes what was read into the open chunk.
    pub(crate) async fn close_chunk(&mut self) -> Result<(), StorageError> {
        let chunk = self.part.close();
        self.write(chunk).await
    }

    /// Where the client's bytes are read into.
    pub(crate) fn intake(&mut self) -> Intake<'_> {
        Intake {
            part: &mut self.part,
            spill: &self.spill,
            sizes: &self.sizes,
            parts: self.parts,
        }
    }

    /// Gives the part's memory up for others: it moves to disk, or else goes up as it is.
    ///
    /// # Errors
    /// If it can do neither and has to.
    pub(crate) async fn make_way(&mut self, revoked: Revoked) -> Result<(), StorageError> {
        self.part.gives_way();
        let pays = self.part.in_memory() >= WORTH_SPILLING || revoked == Revoked::ForGood;
        if pays && self.spill.take(&mut self.part).await {
            return Ok(());
        }
        if self.may_go_up_short() && self.is_held().await? {
            return self.send_part().await;
        }
        self.part.stays();
        match revoked {
            Revoked::Gently => Ok(()),
            Revoked::ForGood => Err(StorageError::MemoryShort),
        }
    }

    /// Lets what the client's bytes are to be added to become the beginning of the object.
    pub(crate) async fn take_base(&mut self) -> Result<(), StorageError> {
        let Some(base) = self.plan.base.clone() else {
            return Ok(());
        };
        self.take(base).await.map_err(|error| match error {
            // It was there a moment ago.
            StorageError::NotFound => StorageError::Conflict,
            error => error,
        })
    }

    async fn take(&mut self, base: Base) -> Result<(), StorageError> {
        let kept = match self.keeping(&base) {
            Keeping::Never => false,
            Keeping::Surely(parts) => {
                self.begin_with(&base, parts);
                true
            }
            Keeping::Perhaps(parts) => self.try_to_keep(&base, parts).await?,
        };
        if !kept {
            self.rewrite(&base).await?;
        }
        self.base_size = base.size;
        Ok(())
    }

    /// Whether the store keeps the base where it is, which only it can tell.
    async fn try_to_keep(&mut self, base: &Base, parts: usize) -> Result<bool, StorageError> {
        self.begin_with(base, parts);
        match self.multipart.begun().await {
            Ok(_) => Ok(true),
            Err(StorageError::Unsupported(_)) => {
                (self.size, self.sent, self.parts, self.kept) = (0, 0, 0, 0);
                self.part = self.next_part();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The store takes only so many parts, those of the base among them.
    fn begin_with(&mut self, base: &Base, parts: usize) {
        self.begin(Some(base.clone()));
        (self.size, self.sent, self.parts) = (base.size, base.size, parts);
        self.kept = base.size;
        self.part = self.next_part();
    }

    fn next_part(&self) -> PartInTheMaking {
        // A store that takes no more parts is told so only if there is more to store.
        let size = self.sizes.size(self.parts).unwrap_or(0);
        PartInTheMaking::new(&self.budget, size)
    }

    /// Whether the base stays in the store, or else goes through the gateway.
    fn keeping(&self, base: &Base) -> Keeping {
        if self.sizes.are_uniform() {
            return Keeping::Never;
        }
        self.store.keeping(base)
    }

    async fn rewrite(&mut self, base: &Base) -> Result<(), StorageError> {
        let mut options = GetOptions::new().with_if_match(base.version.e_tag.clone());
        if !base.is_whole {
            options = options.with_range(Some(0..base.size));
        }
        let object = self.store.objects().get_opts(&base.key, options).await?;
        let mut stream = object.into_stream();
        while let Some(bytes) = stream.next().await {
            self.write_all(bytes?).await?;
        }
        Ok(())
    }

    /// Takes bytes that no client has sent, as soon as there is memory for them.
    pub(crate) async fn write_all(&mut self, mut bytes: Bytes) -> Result<(), StorageError> {
        while !bytes.is_empty() {
            let chunk = bytes.split_to(self.part.room().clamp(1, bytes.len()));
            self.part.make_room(chunk.len()).await;
            self.write(chunk).await?;
        }
        Ok(())
    }

    pub(crate) async fn write(&mut self, chunk: Bytes) -> Result<(), StorageError> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.size += chunk.len() as u64;
        if let Some(limit) = self.exceeded() {
            return Err(StorageError::TooLarge(limit));
        }
        self.part.push(chunk);
        if self.part.room() == 0 {
            self.send_part().await?;
        }
        Ok(())
    }

    /// The limit that the object is beyond.
    fn exceeded(&self) -> Option<ByteSize> {
        let most = self.sizes.largest_object();
        if self.part.is_beyond_the_last() {
            // The byte beyond is among those taken. Short parts have made it less than it could be.
            return most.map(|_| ByteSize(self.size.saturating_sub(1)));
        }
        let limits = self.plan.max_size.into_iter().chain(most);
        limits.min().filter(|limit| self.size > limit.0)
    }

    /// Whether nothing was taken or read.
    pub(crate) fn is_empty(&mut self) -> bool {
        self.size == 0 && self.part.chunk().is_empty()
    }

    /// That every byte that was taken was sent, or is in the part in the making.
    pub(crate) fn check_sent(&self) -> Result<(), StorageError> {
        if self.sent + self.part.length() as u64 == self.size {
            return Ok(());
        }
        let (key, taken, sent) = (&self.plan.key, self.size, self.sent);
        tracing::error!(%key, taken, sent, "a defect: bytes of an upload are missing, it is discarded");
        Err(Abort::Internal.into())
    }

    /// The checksum of all that was taken, unless some of it was in the store before.
    pub(crate) fn whole(&self) -> Option<Crc64> {
        (self.kept == 0).then_some(self.sum)
    }

    /// Bytes taken in all.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that the object has, before the client sends any: what is appended to, or what was kept.
    pub(crate) fn size_before(&self) -> u64 {
        self.plan.base.as_ref().map_or(self.size, |base| base.size)
    }

    /// Brings what was taken into safety, while its client is away: up to the store, or into at most
    /// `memory` bytes, or to disk. What does not fit is let go, from the end. So is the last byte: the
    /// client may believe that it has sent all, and has to send something for us to publish. Whether
    /// there is anything to keep.
    pub(crate) async fn park(&mut self, memory: usize) -> Result<bool, StorageError> {
        // A client that was told so much, and has sent nothing more, knows that there is more to send.
        let is_known = self.part.chunk().is_empty() && self.told == Some(self.size);
        if !is_known {
            match self.part.hold_back() {
                // The store has it, and gives no byte back.
                None => return Ok(false),
                Some(HeldBack::Taken) => self.size -= 1,
                Some(HeldBack::Unread) => {}
            }
        }
        self.close_chunk().await?;
        if !self.is_held().await? {
            return Ok(false);
        }
        if self.part.length() >= MIN_PART && !self.sizes.are_uniform() {
            self.send_part().await?;
        }
        while !self.parts_in_flight.is_empty() {
            self.finish_one_part().await?;
        }
        let fits = self.part.in_memory() <= memory && self.part.compact();
        if !fits && !self.spill.take(&mut self.part).await {
            self.size -= self.part.length() as u64;
            self.part = self.next_part();
        }
        self.check_sent()?;
        self.is_known();
        Ok(self.size > 0)
    }

    /// The parts that the store was given.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            parts: self.parts,
            sum: self.sum,
        }
    }

    /// Goes on after parts that another session has sent.
    pub(crate) fn go_on_after(&mut self, Progress { parts, sum }: Progress) {
        (self.parts, self.sum) = (parts, sum);
        (self.sent, self.size) = (sum.length(), sum.length());
        self.part = self.next_part();
    }

    /// The client was told how much there is.
    pub(crate) fn is_known(&mut self) {
        self.told = Some(self.size);
    }

    /// Goes on with what was parked, for a client that has come back.
    pub(crate) fn go_on(&mut self, plan: Plan, running: Option<TaskTrackerToken>) {
        if let Some(telling) = &mut self.telling {
            telling.goes_on();
        }
        self.plan = plan;
        self.running = running;
    }

    /// Whether the client has brought nothing that an object would have to be changed for.
    pub(crate) fn adds_nothing(&self) -> bool {
        let is_whole = |base: &Base| base.is_whole;
        self.plan.base.as_ref().is_some_and(is_whole) && self.size == self.base_size
    }

    /// Sends the part up in the background, once there is room for it.
    pub(crate) async fn send_part(&mut self) -> Result<(), StorageError> {
        while self.parts_in_flight.len() >= self.concurrency {
            self.finish_one_part().await?;
        }
        if matches!(self.multipart, Multipart::None) {
            self.begin(None);
        }
        // Whoever gives up while it begins has the part still.
        self.multipart.begun().await?;
        self.part.fetch().await.map_err(StorageError::Local)?;
        let FullPart { body, claim } = self.take_part();
        self.sent += body.length() as u64;
        let part = self.multipart.begun().await?.put_part(body);
        self.parts_in_flight.spawn(async move {
            let sent = part.await;
            drop(claim);
            sent
        });
        let progress = self.progress();
        if let Some(telling) = &mut self.telling {
            telling.sent(progress);
        }
        Ok(())
    }

    /// Sends the last part up and waits until all parts are there, if there are several. An object of one part
    /// is there as soon as it is sent, so that one waits for its commit.
    pub(crate) async fn send_rest(&mut self) -> Result<(), StorageError> {
        if matches!(self.multipart, Multipart::None) {
            return Ok(());
        }
        if self.part.length() > 0 {
            self.send_part().await?;
        }
        while !self.parts_in_flight.is_empty() {
            self.finish_one_part().await?;
        }
        Ok(())
    }

    fn begin(&mut self, base: Option<Base>) {
        let (store, start) = (Arc::clone(&self.store), self.start(base));
        let begin = async move { store.begin(start).await };
        self.multipart = Multipart::Beginning(tokio::spawn(begin));
    }

    /// How the store is told to begin it, or to go on with it.
    pub(crate) fn start(&self, base: Option<Base>) -> Start {
        let mut description = self.description.clone();
        if self.mark.is_some() {
            self.lineage().put_on(&mut description.attributes);
        }
        Start {
            key: self.plan.key.clone(),
            description,
            base,
        }
    }

    /// The marks of what it takes the place of, as far as they are known without asking.
    fn lineage(&self) -> Lineage {
        if self.replaces() {
            self.known.at(&self.plan.key).lineage
        } else {
            self.plan.lineage.clone()
        }
    }

    /// Whether it takes the place of whatever is there, on a store where that has to be named.
    pub(crate) fn replaces(&self) -> bool {
        self.plan.precondition == Precondition::None && self.store.traits().late_requests
    }

    pub(crate) async fn finish_one_part(&mut self) -> Result<(), StorageError> {
        match self.parts_in_flight.join_next().await {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(error.into()),
            Some(Err(_)) => Err(Abort::Internal.into()),
        }
    }

    /// The part as it goes up, with the memory it holds, once it is fetched; the next one begins.
    pub(crate) fn take_part(&mut self) -> FullPart {
        self.parts += 1;
        let next = self.next_part();
        let full = std::mem::replace(&mut self.part, next).finish();
        self.sum = self.sum.then(full.body.crc64);
        full
    }
}
