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
    /// A permit for each KiB of one store's share, where there are several.
    share: Arc<Semaphore>,
    used: IntGauge,
}

/// What one page holds. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct PageMemory {
    room: OwnedSemaphorePermit,
    share: OwnedSemaphorePermit,
    held: Held,
}

impl ListingMemory {
    /// `used` shows what is held.
    pub(crate) fn new(memory: ByteSize, used: IntGauge) -> Self {
        let kib = usize::try_from(memory.0 / 1024).unwrap_or(usize::MAX);
        let kib = kib.clamp(PAGE_KIB, Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(kib)),
            share: Arc::new(Semaphore::new(kib)),
            used,
        }
    }

    /// The same for one of several stores: it has half of the memory at most, so that one that does not answer leaves
    /// the others the rest.
    pub(crate) fn of_one_of_several(&self) -> Self {
        let half = self.free.available_permits() / 2;
        Self {
            share: Arc::new(Semaphore::new(half.max(PAGE_KIB))),
            ..self.clone()
        }
    }

    /// Room for the largest page.
    ///
    /// # Errors
    /// [`StorageError::ListingMemoryShort`] if other listings hold it for too long.
    pub(crate) async fn page(&self) -> Result<PageMemory, StorageError> {
        #[allow(clippy::cast_possible_truncation, reason = "it is 4096")]
        let page = PAGE_KIB as u32;
        let both = async {
            let share = Arc::clone(&self.share).acquire_many_owned(page).await;
            (share, Arc::clone(&self.free).acquire_many_owned(page).await)
        };
        match timeout(WAIT, both).await {
            Ok((Ok(share), Ok(room))) => Ok(PageMemory {
                room,
                share,
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
        for permits in [&mut self.room, &mut self.share] {
            drop(permits.split(held.saturating_sub(kept)));
        }
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

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_silent_leaves_the_others_their_part() {
        let used = IntGauge::new("used", "for the test").unwrap();
        let memory = ListingMemory::new(ByteSize::mib(16), used);
        let (silent, other) = (memory.of_one_of_several(), memory.of_one_of_several());
        let _held = (silent.page().await.unwrap(), silent.page().await.unwrap());
        assert!(silent.page().await.is_err());
        let _pages = (other.page().await.unwrap(), other.page().await.unwrap());
    }
}
