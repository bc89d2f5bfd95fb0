//! The memory that all listings share, whether their clients read them or not.
//!
//! Promises:
//! - A page is asked for only when there is room for the largest one. Once it is there, it holds what it takes.
//! - Whoever waits for a page holds none, and waits [`WAIT`] at most.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config::ByteSize;
use crate::storage::error::StorageError;
use crate::telemetry::Held;

/// What a page of long names takes while it is read: the store's answer, its keys, and the entries. In KiB.
const PAGE_KIB: usize = 4 * 1024;

/// The longest that a listing waits for others.
const WAIT: Duration = Duration::from_secs(10);

/// The memory; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct ListingMemory {
    /// A permit for each KiB.
    free: Arc<Semaphore>,
    used: IntGauge,
}

/// What one page holds. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct PageMemory {
    room: OwnedSemaphorePermit,
    held: Held,
}

impl ListingMemory {
    /// `used` shows what is held.
    pub(crate) fn new(memory: ByteSize, used: IntGauge) -> Self {
        let kib = usize::try_from(memory.0 / 1024).unwrap_or(usize::MAX);
        let kib = kib.clamp(PAGE_KIB, Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(kib)),
            used,
        }
    }

    /// Room for the largest page.
    ///
    /// # Errors
    /// [`StorageError::ListingMemoryShort`] if other listings hold it for too long.
    pub(crate) async fn page(&self) -> Result<PageMemory, StorageError> {
        #[allow(clippy::cast_possible_truncation, reason = "it is 4096")]
        let room = Arc::clone(&self.free).acquire_many_owned(PAGE_KIB as u32);
        match timeout(WAIT, room).await {
            Ok(Ok(room)) => Ok(PageMemory {
                room,
                held: Held::bytes(&self.used, PAGE_KIB as u64 * 1024),
            }),
            _ => Err(StorageError::ListingMemoryShort),
        }
    }
}

impl PageMemory {
    /// Gives back all but what so many bytes take.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let (held, kept) = (self.room.num_permits(), bytes.div_ceil(1024));
        drop(self.room.split(held.saturating_sub(kept)));
        self.held.shrink_to(kept as u64 * 1024);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pages_hold_what_they_take_and_others_wait() {
        let used = IntGauge::new("used", "for the test").unwrap();
        let memory = ListingMemory::new(ByteSize::mib(5), used.clone());
        let mut first = memory.page().await.unwrap();
        assert!(matches!(
            memory.page().await,
            Err(StorageError::ListingMemoryShort)
        ));
        first.shrink_to(1024 * 1024);
        let second = memory.page().await.unwrap();
        first.shrink_to(4 * 1024 * 1024);
        assert_eq!(memory.free.available_permits(), 0, "it never grows again");
        assert_eq!(used.get(), 5 << 20);
        drop((first, second));
        assert_eq!(memory.free.available_permits(), 5 * 1024);
        assert_eq!(used.get(), 0);
    }
}
