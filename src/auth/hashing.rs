//! Where slow hashing runs: on the blocking pool, as many at a time as there are cores.
//!
//! Promises:
//! - First come, first served.
//! - The slot belongs to the work, not to the caller: a caller that goes away neither keeps a slot
//!   nor frees one that is still in use.
//! - Work that panics is an error of its caller, and its slot is free again.
//!
//! Must not: know what the work is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use thiserror::Error;
use tokio::{sync::Semaphore, task};

use super::password::HashError;

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
    slots: Arc<Semaphore>,
    begun: AtomicU64,
}

impl HashingSlots {
    /// One slot per core.
    pub(super) fn one_per_core() -> Self {
        Self::new(thread::available_parallelism().map_or(1, usize::from))
    }

    fn new(slots: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            begun: AtomicU64::new(0),
        }
    }

    /// How many pieces of work have begun since the start.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Waits for a slot, then runs `work` on the blocking pool.
    ///
    /// Dropped while it waits for a slot, `work` is dropped without having run; dropped later,
    /// `work` runs to its end.
    ///
    /// # Errors
    /// [`HashingFailed::Panicked`] and [`HashingFailed::Stopped`].
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HashingFailed> {
        let slots = Arc::clone(&self.slots);
        let slot = slots
            .acquire_owned()
            .await
            .map_err(|_| HashingFailed::Stopped)?;
        self.begun.fetch_add(1, Ordering::Relaxed);
        let job = task::spawn_blocking(move || {
            let _held_to_the_end = slot;
            work()
        });
        job.await.map_err(|error| {
            if error.is_panic() {
                HashingFailed::Panicked
            } else {
                HashingFailed::Stopped
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use tokio::time;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_frees_the_slot() {
        let slots = HashingSlots::new(1);
        let failed = slots.run(|| panic!("on purpose")).await;
        assert!(matches!(failed, Err::<(), _>(HashingFailed::Panicked)));
        assert_eq!(slots.run(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn work_keeps_its_slot_when_its_caller_goes_away() {
        let slots = Arc::new(HashingSlots::new(1));
        let (finish, finished) = mpsc::channel::<()>();
        let caller = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.run(move || finished.recv()).await }
        });
        until(|| slots.begun() == 1).await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        assert_eq!(slots.slots.available_permits(), 0, "the work still runs");
        finish.send(()).unwrap();
        until(|| slots.slots.available_permits() == 1).await;
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_in_the_queue_leaves_nothing_behind() {
        let slots = HashingSlots::new(1);
        let (finish, finished) = mpsc::channel::<()>();
        let mut first = Box::pin(slots.run(move || finished.recv()));
        assert!(time::timeout(Duration::ZERO, &mut first).await.is_err());
        assert!(
            time::timeout(Duration::ZERO, slots.run(|| ()))
                .await
                .is_err()
        );
        finish.send(()).unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(slots.begun(), 1, "the second never ran");
        assert_eq!(slots.slots.available_permits(), 1);
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
