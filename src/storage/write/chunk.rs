//! Chunks: the memory that uploads are read into, used again and again.
//!
//! An upload takes memory and gives it back many times a second. Given back to the allocator, much of
//! it would go on to the kernel, and come back page by page, each to be cleared: a third of an upload's
//! processor time. So large chunks that are done wait here for the next upload.
//!
//! Promises: chunks in use and chunks that wait are never more than uploads may use in all, as long as
//! what is in use is not; what has not been used for a while goes back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::supervise::{Supervisor, Task};

/// Reads take up to this much: large enough that system calls don't count. Only chunks of this size
/// wait for another use; smaller ones are few.
pub(crate) const LARGEST_CHUNK: usize = 256 * 1024;

/// What has waited this long without being used is given back.
const REST: Duration = Duration::from_secs(5);

/// Where chunks come from and return to; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Chunks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Bytes that chunks may take, in use or not.
    total: usize,
    supervisor: Supervisor,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of all chunks in use.
    in_use: usize,
    waiting: Vec<BytesMut>,
    /// The fewest that waited at any time since the last look: so many were not needed.
    fewest: usize,
    /// Somebody looks after those that wait.
    tended: bool,
}

/// Memory to read into.
#[derive(Debug)]
pub(crate) struct Chunk {
    bytes: BytesMut,
    size: usize,
    home: Weak<Shared>,
}

impl Chunks {
    /// Chunks of at most `total` bytes together.
    pub(crate) fn new(total: usize, supervisor: Supervisor) -> Self {
        Self(Arc::new(Shared {
            total,
            supervisor,
            state: Mutex::default(),
        }))
    }

    /// An empty chunk with room for `size` bytes.
    pub(crate) fn take(&self, size: usize) -> Chunk {
        let used_before = self.0.state().take(size, self.0.total);
        Chunk {
            bytes: used_before.unwrap_or_else(|| BytesMut::with_capacity(size)),
            size,
            home: Arc::downgrade(&self.0),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a chunk back, and has those that wait tended.
    fn take_back(self: &Arc<Self>, bytes: BytesMut, size: usize) {
        let begins = self.state().take_back(bytes, size, self.total);
        if begins {
            if tokio::runtime::Handle::try_current().is_err() {
                // Nobody would ever give it back.
                return self.state().forget();
            }
            let chunks = Arc::downgrade(self);
            self.supervisor
                .keep(Task::UploadChunks, move || tend(Weak::clone(&chunks)));
        }
    }
}

impl State {
    fn take(&mut self, size: usize, total: usize) -> Option<BytesMut> {
        self.in_use += size;
        let used_before = match size {
            LARGEST_CHUNK => self.waiting.pop(),
            _ => None,
        };
        while self.in_use + self.waiting.len() * LARGEST_CHUNK > total
            && self.waiting.pop().is_some()
        {}
        self.fewest = self.fewest.min(self.waiting.len());
        used_before
    }

    /// Whether somebody has to begin to tend what waits.
    fn take_back(&mut self, mut bytes: BytesMut, size: usize, total: usize) -> bool {
        self.in_use -= size;
        let waiting = (self.waiting.len() + 1) * LARGEST_CHUNK;
        if size != LARGEST_CHUNK || self.in_use + waiting > total {
            return false;
        }
        bytes.clear();
        self.waiting.push(bytes);
        !std::mem::replace(&mut self.tended, true)
    }

    /// Gives back what nobody has needed since the last time. Whether anything still waits.
    fn tend(&mut self) -> bool {
        let needed = self.waiting.len() - self.fewest;
        self.waiting.truncate(needed);
        self.waiting.shrink_to(2 * needed);
        self.fewest = needed;
        self.tended = needed > 0;
        self.tended
    }

    fn forget(&mut self) {
        self.waiting = Vec::new();
        self.tended = false;
    }
}

/// Looks after what waits, until nothing does.
async fn tend(chunks: Weak<Shared>) {
    loop {
        tokio::time::sleep(REST).await;
        let Some(chunks) = chunks.upgrade() else {
            return;
        };
        if !chunks.state().tend() {
            return;
        }
    }
}

impl Chunk {
    /// To read into; it takes no more than the chunk's size.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// How many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The bytes that were read. The memory returns when the last of them is gone.
    pub(crate) fn freeze(self) -> Bytes {
        if self.bytes.is_empty() {
            return Bytes::new();
        }
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.take_back(std::mem::take(&mut self.bytes), self.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::Metrics;

    use super::*;

    /// Room for so many chunks.
    fn chunks(count: usize) -> Chunks {
        let metrics = Arc::new(Metrics::new().unwrap());
        Chunks::new(count * LARGEST_CHUNK, Supervisor::new(&metrics))
    }

    fn waiting(chunks: &Chunks) -> usize {
        chunks.0.state().waiting.len()
    }

    fn filled(chunks: &Chunks, size: usize) -> Bytes {
        let mut chunk = chunks.take(size);
        chunk.buffer().extend_from_slice(b"something");
        chunk.freeze()
    }

    #[tokio::test]
    async fn a_large_chunk_is_used_again() {
        let chunks = chunks(4);
        let bytes = filled(&chunks, LARGEST_CHUNK);
        let (address, copy) = (bytes.as_ptr(), bytes.clone());
        drop(bytes);
        assert_eq!(waiting(&chunks), 0, "somebody still has a copy");
        assert_eq!(copy, "something");
        drop(copy);
        assert_eq!(waiting(&chunks), 1);
        let mut again = chunks.take(LARGEST_CHUNK);
        assert!(again.buffer().is_empty());
        assert_eq!(again.buffer().as_ptr(), address);
        assert_eq!(again.buffer().capacity(), LARGEST_CHUNK);
    }

    #[tokio::test]
    async fn what_is_in_use_and_what_waits_stay_within_the_limit() {
        let chunks = chunks(4);
        let all: Vec<_> = (0..4).map(|_| chunks.take(LARGEST_CHUNK)).collect();
        drop(all);
        assert_eq!(waiting(&chunks), 4);
        let small: Vec<_> = (0..8).map(|_| chunks.take(LARGEST_CHUNK / 4)).collect();
        assert_eq!(waiting(&chunks), 2);
        drop(small);
        assert_eq!(chunks.0.state().in_use, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_needed_goes_back() {
        let chunks = chunks(8);
        let all: Vec<_> = (0..4).map(|_| chunks.take(LARGEST_CHUNK)).collect();
        drop(all);
        // One goes on being used, the other three are not.
        for _ in 0..4 {
            drop(chunks.take(LARGEST_CHUNK));
            tokio::time::sleep(REST).await;
        }
        assert_eq!(waiting(&chunks), 1);
        tokio::time::sleep(3 * REST).await;
        assert_eq!(waiting(&chunks), 0);
        assert!(!chunks.0.state().tended);
    }

    #[test]
    fn without_anybody_to_tend_it_nothing_waits() {
        let chunks = chunks(4);
        drop(filled(&chunks, LARGEST_CHUNK));
        assert_eq!(waiting(&chunks), 0);
    }
}
