//! The part of an upload that is in the making, and the memory that it holds.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use object_store::PutPayload;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

use crate::storage::store::body::{Body, Summing};
use crate::storage::write::budget::{Budget, Claim, FIRST_CHUNK};
use crate::storage::write::chunk::{Chunk, Chunks, LARGEST_CHUNK};
use crate::storage::write::relief::{Revoked, STRIDE, Slowness};

/// A part whose client has been waited for so long, in all, is slow.
const SLOW: Duration = Duration::from_secs(2);

/// Takes bytes until it is as large as it shall be.
#[derive(Debug)]
pub(crate) struct PartInTheMaking {
    /// The beginning of the part, if memory was short.
    spilled: Option<Spilled>,
    chunks: Vec<Bytes>,
    /// What is being read into.
    open: Chunk,
    pool: Chunks,
    /// Bytes in all.
    length: usize,
    size: usize,
    claim: Claim,
    /// The checksum of what it has, as it comes.
    summing: Summing,
    /// A byte that was summed was let go.
    is_recounted: bool,
    /// How long we have waited for the client to send some of it.
    waited: Duration,
    pace: Pace,
}

/// How long the client is waited for.
#[derive(Debug, Default)]
struct Pace {
    /// Since its last [`STRIDE`] bytes.
    behind: Duration,
    /// What it has sent since then.
    bytes: usize,
}

/// What reading has come to.
pub(crate) enum Read {
    /// So many bytes; 0 is the end.
    Bytes(io::Result<usize>),
    /// It is time to say anew whether the part is slow, and can move.
    Again,
    /// Others need the part's memory.
    Revoked(Revoked),
}

/// How a slow part could give its memory up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WayOut {
    pub(crate) can_move: bool,
    /// When that may be different.
    pub(crate) until: Option<Instant>,
}

/// Where a byte was that was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeldBack {
    /// In the open chunk.
    Unread,
    /// Among those taken.
    Taken,
}

/// A full part on its way to the store. It holds its memory until it is dropped.
pub(crate) struct FullPart {
    pub(crate) body: Body,
    pub(crate) claim: Claim,
}

impl PartInTheMaking {
    pub(crate) fn new(budget: &Budget, size: usize) -> Self {
        Self {
            spilled: None,
            chunks: Vec::new(),
            open: budget.chunks().take(0),
            pool: budget.chunks().clone(),
            length: 0,
            size,
            claim: budget.claim(size),
            summing: Summing::default(),
            is_recounted: false,
            waited: Duration::ZERO,
            pace: Pace::default(),
        }
    }

    /// How many bytes it takes yet.
    pub(crate) fn room(&self) -> usize {
        self.size.saturating_sub(self.length)
    }

    /// How many bytes it has.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Whether the store takes it at all.
    pub(crate) fn is_beyond_the_last(&self) -> bool {
        self.size == 0
    }

    /// Opens an empty chunk to read into, as soon as there is memory for it. Memory follows what the
    /// client has sent: small at first, then as large as pays. It never reaches beyond the part. A
    /// store that takes no more parts has one byte read all the same: it tells whether there is more
    /// than it takes.
    ///
    /// Whoever waits here with a slow client's part may be told to give it up instead.
    pub(crate) async fn open(&mut self, way_out: WayOut) -> Option<Revoked> {
        let wanted = self.in_memory().clamp(FIRST_CHUNK, LARGEST_CHUNK);
        let size = wanted.min(self.room()).max(1);
        let slowness = self.slowness(way_out).filter(|_| !self.claim.is_empty());
        let mut revocable = slowness.map(|slowness| self.claim.revocable(slowness));
        let revoked = async {
            match &mut revocable {
                Some(revocable) => revocable.revoked().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.claim.grow(size) => self.open = self.pool.take(size),
            revoked = revoked => return Some(revoked),
        }
        None
    }

    /// The open chunk.
    pub(crate) fn chunk(&mut self) -> &mut BytesMut {
        self.open.buffer()
    }

    /// Reads into the open chunk. Safe to cancel.
    pub(crate) async fn read(
        &mut self,
        input: &mut (impl AsyncRead + Unpin),
        way_out: WayOut,
    ) -> Read {
        let started = Instant::now();
        let slowness = self.slowness(way_out);
        let (claim, waited) = (&self.claim, self.waited);
        let until = way_out.until;
        // Nothing of this is done unless the client is waited for.
        let meanwhile = async {
            match slowness {
                None => {
                    tokio::time::sleep(SLOW.saturating_sub(waited)).await;
                    Read::Again
                }
                Some(slowness) => wait_on_call(claim, slowness, until).await,
            }
        };
        let read = tokio::select! {
            biased;
            read = input.read_buf(self.open.buffer()) => Read::Bytes(read),
            meanwhile = meanwhile => meanwhile,
        };
        self.wait(started.elapsed());
        if let Read::Bytes(Ok(bytes)) = &read {
            self.pace.advance(*bytes);
        }
        read
    }

    /// Closes the open chunk: what was read into it. A chunk that is mostly empty gives its memory back.
    pub(crate) fn close(&mut self) -> Bytes {
        let mut chunk = std::mem::replace(&mut self.open, self.pool.take(0));
        let (length, size) = (chunk.buffer().len(), chunk.size());
        if length > size / 2 {
            return chunk.freeze();
        }
        let bytes = Bytes::copy_from_slice(chunk.buffer());
        drop(chunk);
        self.claim.shrink_by(size - length);
        bytes
    }

    /// Waits until there is memory for so many bytes that were not read into a chunk of ours.
    pub(crate) async fn make_room(&mut self, bytes: usize) {
        self.claim.grow(bytes).await;
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.length += chunk.len();
        self.summing.add(&chunk);
        self.chunks.push(chunk);
    }

    fn wait(&mut self, time: Duration) {
        self.waited += time;
        self.pace.behind += time;
    }

    /// How slow the client is, if its part's memory would serve others better.
    fn slowness(&self, way_out: WayOut) -> Option<Slowness> {
        (self.waited >= SLOW).then_some(Slowness {
            behind: self.pace.behind,
            can_move: way_out.can_move,
        })
    }

    /// The part gives way to others.
    pub(crate) fn gives_way(&mut self) {
        self.claim.gives_way();
    }

    /// It can't.
    pub(crate) fn stays(&mut self) {
        self.claim.stays();
    }

    /// Lets the last byte go, of those in the open chunk or those taken. Which of them; `None` if it has
    /// none.
    pub(crate) fn hold_back(&mut self) -> Option<HeldBack> {
        let open = self.open.buffer();
        if !open.is_empty() {
            open.truncate(open.len() - 1);
            return Some(HeldBack::Unread);
        }
        if let Some(last) = self.chunks.last_mut() {
            last.truncate(last.len() - 1);
            self.chunks.retain(|chunk| !chunk.is_empty());
        } else {
            self.spilled.as_mut()?.hold_back();
        }
        self.length -= 1;
        self.is_recounted = true;
        Some(HeldBack::Taken)
    }

    /// All its bytes, if none is on disk.
    pub(crate) fn chunks_in_memory(&self) -> Option<Vec<Bytes>> {
        self.spilled.is_none().then(|| self.chunks.clone())
    }

    /// Holds no more memory than its bytes need. `false` if it was let have its memory for being
    /// finished soon.
    pub(crate) fn compact(&mut self) -> bool {
        if self.claim.is_finishing() {
            return false;
        }
        if !self.chunks.is_empty() {
            self.chunks = vec![self.chunks.concat().into()];
        }
        self.claim.stays();
        self.claim.shrink_to(self.in_memory());
        true
    }

    /// Moves what it has into a file, and gives the memory back.
    ///
    /// # Errors
    /// When the file can't be made or written. Nothing is lost then.
    pub(crate) async fn spill(&mut self, directory: &Path, on_disk: &IntGauge) -> io::Result<()> {
        if self.chunks.is_empty() {
            self.claim.give_back();
            return Ok(());
        }
        match &mut self.spilled {
            Some(spilled) => spilled.append(self.chunks.clone()).await?,
            none => {
                // A file that fails is not kept: what has been written of it takes room.
                let mut spilled = Spilled::new(directory.to_owned(), on_disk.clone()).await?;
                spilled.append(self.chunks.clone()).await?;
                *none = Some(spilled);
            }
        }
        self.chunks.clear();
        self.claim.give_back();
        Ok(())
    }

    /// Brings back what was moved to a file, as soon as there is memory for it. Safe to cancel.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(crate) async fn fetch(&mut self) -> io::Result<()> {
        let Some(spilled) = &self.spilled else {
            return Ok(());
        };
        self.claim.grow(spilled.length).await;
        let mut chunks = spilled.read().await?;
        chunks.append(&mut self.chunks);
        self.chunks = chunks;
        self.spilled = None;
        Ok(())
    }

    /// The part as it goes up, once it is [fetched](Self::fetch).
    pub(crate) fn finish(mut self) -> FullPart {
        let payload: PutPayload = self.chunks.into_iter().collect();
        let body = if self.is_recounted {
            payload.into()
        } else {
            let crc64 = self.summing.sum();
            Body { payload, crc64 }
        };
        self.claim.goes_up();
        let claim = self.claim;
        FullPart { body, claim }
    }

    /// How many of its bytes are in memory.
    pub(crate) fn in_memory(&self) -> usize {
        let spilled = self.spilled.as_ref().map_or(0, |spilled| spilled.length);
        self.length - spilled
    }
}

impl Pace {
    fn advance(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= STRIDE {
            *self = Self::default();
        }
    }
}

/// Waits for others to need the part's memory.
async fn wait_on_call(claim: &Claim, slowness: Slowness, until: Option<Instant>) -> Read {
    let mut revocable = claim.revocable(slowness);
    let until = async {
        match until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        revoked = revocable.revoked() => Read::Revoked(revoked),
        () = until => Read::Again,
    }
}

/// Finds out at the start what would else be found out when memory is short.
pub(crate) fn try_to_spill(directory: &Path) -> io::Result<()> {
    tempfile::tempfile_in(directory).map(drop)
}

/// Bytes in a file that has no name, so that nothing of it is left when the process is killed.
#[derive(Debug)]
struct Spilled {
    file: Arc<File>,
    length: usize,
    on_disk: IntGauge,
}

impl Spilled {
    async fn new(directory: PathBuf, on_disk: IntGauge) -> io::Result<Self> {
        let file = blocking(|| tempfile::tempfile_in(directory)).await?;
        Ok(Self {
            file: Arc::new(file),
            length: 0,
            on_disk,
        })
    }

    /// Lets the last byte go.
    fn hold_back(&mut self) {
        self.length -= 1;
        self.on_disk.dec();
    }

    /// Adds all chunks. What an error leaves behind them is written over, and never read.
    async fn append(&mut self, chunks: Vec<Bytes>) -> io::Result<()> {
        let added = chunks.iter().map(Bytes::len).sum::<usize>();
        let (file, mut at) = (Arc::clone(&self.file), self.length as u64);
        blocking(move || {
            for chunk in &chunks {
                file.write_all_at(chunk, at)?;
                at += chunk.len() as u64;
            }
            Ok(())
        })
        .await?;
        self.length += added;
        self.on_disk.add(gauge(added));
        Ok(())
    }

    async fn read(&self) -> io::Result<Vec<Bytes>> {
        let (file, length) = (Arc::clone(&self.file), self.length);
        blocking(move || {
            let starts = (0..length).step_by(LARGEST_CHUNK);
            let chunks = starts.map(|start| {
                let mut chunk = vec![0; LARGEST_CHUNK.min(length - start)];
                file.read_exact_at(&mut chunk, start as u64)?;
                Ok(Bytes::from(chunk))
            });
            chunks.collect()
        })
        .await
    }
}

impl Drop for Spilled {
    fn drop(&mut self) {
        self.on_disk.sub(gauge(self.length));
    }
}

fn gauge(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
