//! Where slow hashing runs: on the blocking pool, as many at a time as there are cores and as fit into
//! `limits.hashing_memory`.
//!
//! Promises:
//! - First come, first served.
//! - The memory that hashes work in is used again, and is never more than the setting. Only when the users file
//!   changes while a hash waits for the processor, that hash may need more.
//! - The slot belongs to the work, not to the caller: a caller that goes away neither keeps a slot
//!   nor frees one that is still in use.
//! - Work that panics is an error of its caller, and its slot is free again.
//!
//! Must not: know what the work is.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use prometheus::IntGauge;
use thiserror::Error;
use tokio::{sync::Semaphore, task};

use super::password::{HashError, HashMemory};
use crate::config::ByteSize;

/// Why the passwords could not be compared. Says nothing about the password.
#[derive(Debug, Error)]
pub enum HashingFailed {
    /// The hash function panicked.
    #[error("hashing panicked")]
    Panicked,
    /// The runtime is shutting down.
    #[error("hashing was stopped by the shutdown")]
    Stopped,
    /// The hash function failed.
    #[error("hashing failed")]
    Failed(#[from] HashError),
}

/// The slots for slow work.
pub(super) struct HashingSlots {
    /// A permit for each KiB.
    slots: Arc<Semaphore>,
    /// All of them.
    kib: u32,
    cores: u32,
    memory: Arc<MemoryPool>,
    begun: AtomicU64,
}

impl HashingSlots {
    /// As many slots as fit into `memory`, at most one per core.
    pub(super) fn within(memory: ByteSize) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self::new(memory, u32::try_from(cores).unwrap_or(u32::MAX))
    }

    fn new(memory: ByteSize, cores: u32) -> Self {
        let kib = u32::try_from(memory.0 / 1024).unwrap_or(u32::MAX).max(1);
        Self {
            slots: Arc::new(Semaphore::new(kib as usize)),
            kib,
            cores,
            memory: Arc::default(),
            begun: AtomicU64::new(0),
        }
    }

    /// Has a gauge show the bytes of all memory, in use or kept to be used again.
    pub(super) fn show_memory(&self, gauge: IntGauge) {
        // Whoever was first stays.
        let _ = self.memory.1.set(gauge);
    }

    /// How many pieces of work have begun since the start.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// The permits of one slot, if the dearest hash needs so much memory: its KiB, and no less than the share of one
    /// core.
    fn permits(&self, largest_kib: u32) -> u32 {
        largest_kib.max(self.kib / self.cores).clamp(1, self.kib)
    }

    /// Waits for a slot, then runs `work` on the blocking pool, with memory of `largest_kib`: what the dearest of
    /// all hashes needs, so that all memory is of one size.
    ///
    /// Dropped while it waits for a slot, `work` is dropped without having run; dropped later,
    /// `work` runs to its end.
    ///
    /// # Errors
    /// [`HashingFailed::Panicked`] and [`HashingFailed::Stopped`]; [`HashingFailed::Failed`] if the system has no
    /// memory.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        largest_kib: u32,
        work: impl FnOnce(&mut HashMemory) -> T + Send + 'static,
    ) -> Result<T, HashingFailed> {
        let slots = Arc::clone(&self.slots);
        let slot = slots
            .acquire_many_owned(self.permits(largest_kib))
            .await
            .map_err(|_| HashingFailed::Stopped)?;
        self.begun.fetch_add(1, Ordering::Relaxed);
        let pool = Arc::clone(&self.memory);
        let job = task::spawn_blocking(move || {
            let _held_to_the_end = slot;
            let mut memory = pool.take(largest_kib as usize)?;
            let done = work(&mut memory);
            pool.give_back(memory);
            Ok(done)
        });
        job.await.unwrap_or_else(|error| {
            Err(if error.is_panic() {
                HashingFailed::Panicked
            } else {
                HashingFailed::Stopped
            })
        })
    }
}

/// Memory that no hash works in at the moment. All of it is of one size.
#[derive(Default)]
struct MemoryPool(Mutex<Free>, OnceLock<IntGauge>);

#[derive(Default)]
struct Free {
    kib: usize,
    memory: Vec<HashMemory>,
}

impl MemoryPool {
    /// Memory of this size. That of any other size is freed: the users have changed.
    fn take(&self, kib: usize) -> Result<HashMemory, HashError> {
        let found = {
            let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if free.kib != kib {
                *free = Free::default();
                free.kib = kib;
            }
            free.memory.pop()
        };
        let new = || match self.1.get() {
            Some(gauge) => HashMemory::shown_by(gauge.clone()),
            None => HashMemory::new(),
        };
        let mut memory = found.unwrap_or_else(new);
        memory.reserve(kib)?;
        Ok(memory)
    }

    fn give_back(&self, memory: HashMemory) {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if free.kib == memory.kib() {
            free.memory.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use tokio::time;

    use super::*;

    /// What [`one`] has.
    const KIB: usize = 1024;

    fn one() -> HashingSlots {
        HashingSlots::new(ByteSize::mib(1), 1)
    }

    #[test]
    fn slots_are_bounded_by_memory_as_well_as_by_cores() {
        let slots = |mib, cores, largest| {
            let slots = HashingSlots::new(ByteSize::mib(mib), cores);
            slots.kib / slots.permits(largest)
        };
        assert_eq!(slots(64, 2, 19 * 1024), 2);
        assert_eq!(slots(64, 16, 19 * 1024), 3);
        assert_eq!(slots(64, 16, 64 * 1024), 1);
        assert_eq!(slots(64, 16, 0), 16, "of bcrypt");
        assert_eq!(slots(64, 16, 1 << 20), 1, "no less than one");
    }

    /// The sizes of the memory that nobody uses, in KiB.
    fn free(slots: &HashingSlots) -> Vec<usize> {
        let free = slots.memory.0.lock().unwrap();
        free.memory.iter().map(HashMemory::kib).collect()
    }

    #[tokio::test]
    async fn memory_is_used_again_until_another_size_is_needed() {
        let slots = HashingSlots::new(ByteSize::mib(4), 4);
        let shown = IntGauge::new("shown", "for the test").unwrap();
        slots.show_memory(shown.clone());
        for _ in 0..3 {
            slots.run(512, |_| ()).await.unwrap();
        }
        assert_eq!(free(&slots), [512]);
        assert_eq!(shown.get(), 512 << 10);
        slots.run(1024, |_| ()).await.unwrap();
        assert_eq!(free(&slots), [1024]);
        // Two at once, of which the second sees another size.
        let (finish, finished) = mpsc::channel::<()>();
        let mut first = Box::pin(slots.run(1024, move |_| finished.recv()));
        assert!(
            time::timeout(Duration::from_millis(50), &mut first)
                .await
                .is_err()
        );
        slots.run(256, |_| ()).await.unwrap();
        assert_eq!(shown.get(), (1024 + 256) << 10);
        finish.send(()).unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(free(&slots), [256]);
        assert_eq!(shown.get(), 256 << 10);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_frees_the_slot() {
        let slots = one();
        let failed = slots.run(0, |_| panic!("on purpose")).await;
        assert!(matches!(failed, Err::<(), _>(HashingFailed::Panicked)));
        assert_eq!(slots.run(0, |_| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn work_keeps_its_slot_when_its_caller_goes_away() {
        let slots = Arc::new(one());
        let (finish, finished) = mpsc::channel::<()>();
        let caller = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.run(0, move |_| finished.recv()).await }
        });
        until(|| slots.begun() == 1).await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        assert_eq!(slots.slots.available_permits(), 0, "the work still runs");
        finish.send(()).unwrap();
        until(|| slots.slots.available_permits() == KIB).await;
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_in_the_queue_leaves_nothing_behind() {
        let slots = one();
        let (finish, finished) = mpsc::channel::<()>();
        let mut first = Box::pin(slots.run(0, move |_| finished.recv()));
        assert!(time::timeout(Duration::ZERO, &mut first).await.is_err());
        assert!(
            time::timeout(Duration::ZERO, slots.run(0, |_| ()))
                .await
                .is_err()
        );
        finish.send(()).unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(slots.begun(), 1, "the second never ran");
        assert_eq!(slots.slots.available_permits(), KIB);
    }

    async fn until(condition: impl Fn() -> bool) {
        let reached = async {
            while !condition() {
                time::sleep(Duration::from_millis(1)).await;
            }
        };
        time::timeout(Duration::from_secs(10), reached)
            .await
            .expect("it comes true");
    }
}
