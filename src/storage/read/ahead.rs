//! Reading one version of an object in order, ahead of the client where that pays.
//!
//! One stream from a store is as fast as the store lets one stream be, and far away that is slow. So
//! the parts that come next are read at the same time, each into memory that was claimed for it. How
//! many is learnt from who waits for whom: a client slower than the store has nothing read ahead. Where
//! there is no memory left, one stream goes on, as fast as it may: downloads never wait for memory.
//!
//! Each part is asked for on the condition that the object is still the first part's, and its answer
//! is held against that, because not every store knows conditions. So what is sent is one version, or
//! breaks off.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt};
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use crate::config;

use crate::storage::error::StorageError;

/// Parts that one stream brings where nothing is read ahead, so that requests don't count.
const STRIDE: u64 = 8;

/// How long looking may take what became of an object whose stream broke.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// What all downloads share; clones share it too.
#[derive(Debug, Clone)]
pub(crate) struct ReadAhead {
    parts: Arc<Semaphore>,
    part_size: u64,
    /// Parts of one download that are read ahead at once.
    most: usize,
    used: IntGauge,
}

impl ReadAhead {
    /// Room for as many parts as the memory has. `used` shows what is held.
    pub(crate) fn new(config: &config::Download, used: IntGauge) -> Self {
        let part_size = config.part_size.0;
        let parts = usize::try_from(config.memory.0 / part_size).unwrap_or(usize::MAX);
        Self {
            parts: Arc::new(Semaphore::new(parts.min(Semaphore::MAX_PERMITS))),
            part_size,
            most: config.concurrency - 1,
            used,
        }
    }

    /// The part that begins at `offset`, wherever the object ends.
    pub(crate) fn part_at(&self, offset: u64) -> Range<u64> {
        offset..offset.saturating_add(self.part_size)
    }

    fn room(&self) -> Option<Room> {
        let permit = Arc::clone(&self.parts).try_acquire_owned().ok()?;
        let bytes = i64::try_from(self.part_size).unwrap_or(i64::MAX);
        self.used.add(bytes);
        Some(Room {
            used: self.used.clone(),
            bytes,
            _permit: permit,
        })
    }
}

/// Memory for one part.
#[derive(Debug)]
struct Room {
    used: IntGauge,
    bytes: i64,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.used.sub(self.bytes);
    }
}

/// One version of an object, as it is asked for.
#[derive(Debug, Clone)]
struct Version {
    store: Arc<dyn ObjectStore>,
    key: Path,
    /// `None` where the store names no versions: then there is one stream and no part.
    e_tag: Option<String>,
    size: u64,
}

/// The bytes of an object from one place to its end.
pub(crate) struct Reader<'a> {
    shared: &'a ReadAhead,
    version: Version,
    /// Where the first part begins that is not asked for yet.
    next: u64,
    current: Part,
    /// The parts after it that are being read.
    ahead: VecDeque<Part>,
    /// How many there should be.
    wanted: usize,
    waits: Waits,
}

/// A stretch of the object on its way.
struct Part {
    source: Source,
    end: u64,
    left: u64,
    /// Some of it has come.
    moved: bool,
}

enum Source {
    /// As fast as the client takes it.
    Direct(BoxStream<'static, object_store::Result<Bytes>>),
    /// Into memory. Dropping it stops the read.
    Ahead {
        chunks: mpsc::UnboundedReceiver<Result<Bytes, StorageError>>,
        _read: AbortOnDropHandle<()>,
        _room: Room,
    },
}

/// Who has waited for whom, the latest parts counting most: parts that are read together come
/// together, so one of them tells little.
struct Waits {
    for_store: Duration,
    for_client: Duration,
    handed_over: Option<Instant>,
}

impl<'a> Reader<'a> {
    /// Goes on after `first`, the answer to the first request.
    pub(crate) fn new(
        shared: &'a ReadAhead,
        store: Arc<dyn ObjectStore>,
        first: GetResult,
    ) -> Self {
        let version = Version {
            store,
            key: first.meta.location.clone(),
            e_tag: first.meta.e_tag.clone(),
            size: first.meta.size,
        };
        Self {
            shared,
            version,
            next: first.range.end,
            current: Part::direct(first),
            ahead: VecDeque::new(),
            wanted: shared.most.min(1),
            waits: Waits::new(),
        }
    }

    /// The next bytes; `None` at the object's end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        self.waits.taken();
        self.read_ahead();
        loop {
            let asked = Instant::now();
            let chunk = self.current.next().await;
            self.waits.for_store += asked.elapsed();
            match chunk {
                Ok(Some(chunk)) => {
                    self.waits.handed_over = Some(Instant::now());
                    return Ok(Some(chunk));
                }
                Ok(None) if self.is_last() => return Ok(None),
                Ok(None) => self.advance().await?,
                Err(error) => self.take_up(error).await?,
            }
        }
    }

    /// Goes on where a stream broke, if it had brought anything. The store's library does so as well,
    /// but counts its patience from the beginning of a stream, which lasts as long as its client likes.
    async fn take_up(&mut self, error: StorageError) -> Result<(), StorageError> {
        let error = self.version.blame(error).await;
        let passing = matches!(
            error,
            StorageError::Store(_) | StorageError::StoreUnreachable(_)
        );
        let same = self.version.e_tag.as_deref().is_some_and(is_strong);
        if !passing || !same || !self.current.moved {
            return Err(error);
        }
        tracing::debug!(key = %self.version.key, %error, "a download broke, going on");
        let (left, end) = (self.current.left, self.current.end);
        match self.version.open(end - left..end).await {
            Ok(object) => self.current = Part::direct(object),
            Err(error) => return Err(self.version.blame(error).await),
        }
        Ok(())
    }

    fn is_last(&self) -> bool {
        self.ahead.is_empty() && self.next >= self.version.size
    }

    async fn advance(&mut self) -> Result<(), StorageError> {
        self.adapt();
        if let Some(part) = self.ahead.pop_front() {
            self.current = part;
        } else {
            let end = self.next + STRIDE * self.shared.part_size;
            let range = self.next..end.min(self.version.size);
            self.next = range.end;
            let asked = Instant::now();
            let opened = self.version.open(range).await;
            self.waits.for_store += asked.elapsed();
            match opened {
                Ok(object) => self.current = Part::direct(object),
                Err(error) => return Err(self.version.blame(error).await),
            }
        }
        self.read_ahead();
        Ok(())
    }

    /// A client that waits gets more read ahead; one that is waited for, less.
    fn adapt(&mut self) {
        self.wanted = if self.waits.for_store > self.waits.for_client {
            (self.wanted * 2).clamp(1, self.shared.most.max(1))
        } else {
            self.wanted.saturating_sub(1)
        };
        self.wanted = self.wanted.min(self.shared.most);
        self.waits.fade();
    }

    fn read_ahead(&mut self) {
        while self.ahead.len() < self.wanted && self.next < self.version.size {
            let Some(room) = self.shared.room() else {
                return;
            };
            let end = self.shared.part_at(self.next).end;
            let range = self.next..end.min(self.version.size);
            self.next = range.end;
            self.ahead.push_back(self.version.read(range, room));
        }
    }
}

impl Version {
    /// A stretch of this version.
    async fn open(&self, range: Range<u64>) -> Result<GetResult, StorageError> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: self.e_tag.clone(),
            ..GetOptions::default()
        };
        let object = self.store.get_opts(&self.key, options).await?;
        let same = object.meta.e_tag == self.e_tag && object.meta.size == self.size;
        if same && object.range == range {
            Ok(object)
        } else {
            Err(StorageError::Replaced)
        }
    }

    /// The same in the background, into memory.
    fn read(&self, range: Range<u64>, room: Room) -> Part {
        let (sender, chunks) = mpsc::unbounded_channel();
        let (version, end, left) = (self.clone(), range.end, range.end - range.start);
        let read = tokio::spawn(async move {
            if let Err(error) = version.read_into(range, &sender).await {
                // Nobody listens when the download is over.
                let _ = sender.send(Err(error));
            }
        });
        let source = Source::Ahead {
            chunks,
            _read: AbortOnDropHandle::new(read),
            _room: room,
        };
        Part {
            source,
            end,
            left,
            moved: false,
        }
    }

    async fn read_into(
        &self,
        range: Range<u64>,
        sender: &mpsc::UnboundedSender<Result<Bytes, StorageError>>,
    ) -> Result<(), StorageError> {
        let mut bytes = self.open(range).await?.into_stream();
        while let Some(chunk) = bytes.next().await {
            let _ = sender.send(Ok(chunk?));
        }
        Ok(())
    }

    /// What a failure comes from. A stream that breaks is taken up again by the store's library, which
    /// gives the first error back if it then finds another object.
    async fn blame(&self, error: StorageError) -> StorageError {
        match error {
            StorageError::Conflict | StorageError::NotFound => return StorageError::Replaced,
            StorageError::Store(_) | StorageError::StoreUnreachable(_) => {}
            error => return error,
        }
        match tokio::time::timeout(HEAD_TIMEOUT, self.store.head(&self.key)).await {
            Ok(Ok(meta)) if meta.e_tag != self.e_tag => StorageError::Replaced,
            Ok(Err(Error::NotFound { .. })) => StorageError::Replaced,
            Ok(_) | Err(_) => error,
        }
    }
}

impl Part {
    fn direct(object: GetResult) -> Self {
        Self {
            end: object.range.end,
            left: object.range.end - object.range.start,
            moved: false,
            source: Source::Direct(object.into_stream()),
        }
    }

    /// The next bytes of it. Never fewer than were asked for, and never more.
    async fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        if self.left == 0 {
            return Ok(None);
        }
        let chunk = match &mut self.source {
            Source::Direct(bytes) => bytes.next().await.transpose()?,
            Source::Ahead { chunks, .. } => chunks.recv().await.transpose()?,
        };
        let mut chunk = chunk.ok_or_else(cut_short)?;
        chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= chunk.len() as u64;
        self.moved |= !chunk.is_empty();
        Ok(Some(chunk))
    }
}

/// Whether another version can't have the same tag. Weak ones fulfil no condition.
pub(crate) fn is_strong(e_tag: &str) -> bool {
    !e_tag.is_empty() && !e_tag.starts_with("W/")
}

fn cut_short() -> StorageError {
    StorageError::Store(Error::Generic {
        store: "store",
        source: "fewer bytes came than were asked for".into(),
    })
}

impl Waits {
    fn new() -> Self {
        Self {
            for_store: Duration::ZERO,
            for_client: Duration::ZERO,
            handed_over: None,
        }
    }

    fn fade(&mut self) {
        self.for_store /= 2;
        self.for_client /= 2;
    }

    /// The client has taken what it was given.
    fn taken(&mut self) {
        if let Some(since) = self.handed_over.take() {
            self.for_client += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    /// Else a store that sends nothing but empty frames would be asked again and again.
    #[tokio::test]
    async fn an_empty_frame_is_no_progress() {
        let frames = ["", "a"].map(|frame| Ok(Bytes::from(frame)));
        let mut part = Part {
            source: Source::Direct(stream::iter(frames).boxed()),
            end: 2,
            left: 2,
            moved: false,
        };
        assert!(part.next().await.unwrap().unwrap().is_empty());
        assert!(!part.moved);
        assert_eq!(part.next().await.unwrap().unwrap(), "a");
        assert!(part.moved);
    }
}
