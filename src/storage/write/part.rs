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

use crate::storage::store::body::{Body, Summing};
use crate::storage::write::budget::{Budget, Claim};
use crate::storage::write::chunk::{Chunk, Chunks, LARGEST_CHUNK};

/// The first read of a file takes this much memory; most files on old devices fit.
const FIRST_CHUNK: usize = 16 * 1024;

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
    /// It could not be moved to a file, and is not tried again.
    stays: bool,
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
            stays: false,
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
    pub(crate) async fn open(&mut self) {
        let wanted = self.in_memory().clamp(FIRST_CHUNK, LARGEST_CHUNK);
        let size = wanted.min(self.room()).max(1);
        self.claim.grow(size).await;
        self.open = self.pool.take(size);
    }

    /// The open chunk.
    pub(crate) fn chunk(&mut self) -> &mut BytesMut {
        self.open.buffer()
    }

    /// Closes the open chunk: what was read into it.
    pub(crate) fn close(&mut self) -> Bytes {
        std::mem::replace(&mut self.open, self.pool.take(0)).freeze()
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

    /// Counts time in which the client could have sent something.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.waited += time;
    }

    /// Whether its memory would serve others better.
    pub(crate) fn is_slow(&self) -> bool {
        self.waited >= SLOW && !self.stays
    }

    /// It is not to be moved to a file any more.
    pub(crate) fn stay(&mut self) {
        self.stays = true;
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

    /// Holds no more memory than its bytes need. `false` if it was let have its memory for being
    /// finished soon.
    pub(crate) fn compact(&mut self) -> bool {
        if self.claim.is_finishing() {
            return false;
        }
        if !self.chunks.is_empty() {
            self.chunks = vec![self.chunks.concat().into()];
        }
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
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            none => none.insert(Spilled::new(directory.to_owned(), on_disk.clone()).await?),
        };
        spilled.append(self.chunks.clone()).await?;
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
    pub(crate) fn finish(self) -> FullPart {
        let payload: PutPayload = self.chunks.into_iter().collect();
        let body = if self.is_recounted {
            payload.into()
        } else {
            let crc64 = self.summing.sum();
            Body { payload, crc64 }
        };
        let claim = self.claim;
        FullPart { body, claim }
    }

    /// How many of its bytes are in memory.
    pub(crate) fn in_memory(&self) -> usize {
        let spilled = self.spilled.as_ref().map_or(0, |spilled| spilled.length);
        self.length - spilled
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
