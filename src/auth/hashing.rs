//! Where slow hashing runs: on the blocking pool, as many at a time as there are cores and as fit into
//! `limits.hashing_memory`.
//!
//! Promises:
//! - Origins take turns, and those that have logged in before come first ([`queue`]). The queue has a place for each
//!   session, and no more.
//! - The memory that hashes work in is used again, and is never more than the setting. Only when the users file
//!   changes while a hash waits for the processor, that hash may need more.
//! - The slot belongs to the work, not to the caller: a caller that goes away neither keeps a slot
//!   nor frees one that is still in use.
//! - Work that panics is an error of its caller, and its slot is free again.
//!
//! Must not: know what the work is.

mod known;
mod queue;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use prometheus::IntGauge;
use thiserror::Error;
use tokio::{sync::oneshot, task};

use super::{
    origin::Origin,
    password::{HashError, HashMemory},
};
use crate::config::ByteSize;
use known::Known;
use queue::{Crowded, MAX_WAITING, Place, Queue};

/// Why the passwords could not be compared. Says nothing about the password.
#[derive(Debug, Error)]
pub enum HashingFailed {
    /// The hash function panicked.
    #[error("hashing panicked")]
    Panicked,
    /// The runtime is shutting down.
    #[error("hashing was stopped by the shutdown")]
    Stopped,
    /// Too many wait, and no other origin has more of them.
    #[error("too many logins wait")]
    Crowded,
    /// The hash function failed.
    #[error("hashing failed")]
    Failed(#[from] HashError),
}

impl From<Crowded> for HashingFailed {
    fn from(Crowded: Crowded) -> Self {
        Self::Crowded
    }
}

/// The slots for slow work.
pub(super) struct HashingSlots {
    waiting: Arc<Mutex<Waiting>>,
    /// All permits: one for each KiB.
    kib: u32,
    cores: u32,
    memory: Arc<MemoryPool>,
    begun: AtomicU64,
}

/// Who waits, and for what.
struct Waiting {
    queue: Queue<oneshot::Sender<Slot>>,
    /// Permits that nobody has.
    free: u32,
    /// The permits of one slot, as of the last caller.
    per_slot: u32,
    known: Known,
}

impl HashingSlots {
    /// As many slots as fit into `memory`, at most one per core.
    pub(super) fn within(memory: ByteSize) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self::new(memory, u32::try_from(cores).unwrap_or(u32::MAX))
    }

    fn new(memory: ByteSize, cores: u32) -> Self {
        let kib = u32::try_from(memory.0 / 1024).unwrap_or(u32::MAX).max(1);
        let waiting = Waiting {
            queue: Queue::new(MAX_WAITING),
            free: kib,
            per_slot: kib,
            known: Known::default(),
        };
        Self {
            waiting: Arc::new(Mutex::new(waiting)),
            kib,
            cores,
            memory: Arc::default(),
            begun: AtomicU64::new(0),
        }
    }

    /// Has a place in the queue for each of `sessions`.
    pub(super) fn for_sessions(self, sessions: usize) -> Self {
        lock(&self.waiting).queue.grow_to(sessions);
        self
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

    /// Notes that a login from there was right: the next one comes first.
    pub(super) fn note_login(&self, origin: Origin) {
        lock(&self.waiting).known.note(origin);
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
    /// [`HashingFailed::Panicked`] and [`HashingFailed::Stopped`]; [`HashingFailed::Crowded`] if too many wait;
    /// [`HashingFailed::Failed`] if the system has no memory.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        origin: Origin,
        largest_kib: u32,
        work: impl FnOnce(&mut HashMemory) -> T + Send + 'static,
    ) -> Result<T, HashingFailed> {
        let slot = self.slot(origin, largest_kib).await?;
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

    async fn slot(&self, origin: Origin, largest_kib: u32) -> Result<Slot, Crowded> {
        let (turn, its_turn) = oneshot::channel();
        let _in_the_queue = {
            let mut waiting = lock(&self.waiting);
            waiting.per_slot = self.permits(largest_kib);
            let is_known = waiting.known.contains(origin);
            let place = waiting.queue.push(origin, is_known, turn)?;
            waiting.hand_out(&self.waiting);
            InTheQueue {
                waiting: Arc::clone(&self.waiting),
                place,
            }
        };
        // Whoever was pushed out of the queue has no turn any more.
        its_turn.await.map_err(|_| Crowded)
    }
}

impl Waiting {
    /// Gives slots to those whose turn it is, as long as there are any.
    fn hand_out(&mut self, all: &Arc<Mutex<Self>>) {
        while self.free >= self.per_slot {
            let Some(turn) = self.queue.pop() else {
                return;
            };
            let slot = Slot {
                waiting: Arc::clone(all),
                permits: self.per_slot,
            };
            self.free -= slot.permits;
            if let Err(mut unwanted) = turn.send(slot) {
                // Its caller has just gone. Its drop would lock again.
                self.free += std::mem::take(&mut unwanted.permits);
            }
        }
    }
}

/// The right to work. Dropping it lets the next one have it.
#[derive(Debug)]
struct Slot {
    waiting: Arc<Mutex<Waiting>>,
    permits: u32,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.permits > 0 {
            let mut waiting = lock(&self.waiting);
            waiting.free += self.permits;
            waiting.hand_out(&self.waiting);
        }
    }
}

/// A place in the queue; dropping it leaves.
struct InTheQueue {
    waiting: Arc<Mutex<Waiting>>,
    place: Place,
}

impl Drop for InTheQueue {
    fn drop(&mut self) {
        lock(&self.waiting).queue.leave(self.place);
    }
}

/// Nothing under this lock can panic half-way.
fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting")
            .field("waiting", &self.queue.len())
            .field("free", &self.free)
            .finish_non_exhaustive()
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

    fn here() -> Origin {
        std::net::IpAddr::from(std::net::Ipv4Addr::LOCALHOST).into()
    }

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
            slots.run(here(), 512, |_| ()).await.unwrap();
        }
        assert_eq!(free(&slots), [512]);
        assert_eq!(shown.get(), 512 << 10);
        slots.run(here(), 1024, |_| ()).await.unwrap();
        assert_eq!(free(&slots), [1024]);
        // Two at once, of which the second sees another size.
        let (finish, finished) = mpsc::channel::<()>();
        let mut first = Box::pin(slots.run(here(), 1024, move |_| finished.recv()));
        assert!(
            time::timeout(Duration::from_millis(50), &mut first)
                .await
                .is_err()
        );
        slots.run(here(), 256, |_| ()).await.unwrap();
        assert_eq!(shown.get(), (1024 + 256) << 10);
        finish.send(()).unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(free(&slots), [256]);
        assert_eq!(shown.get(), 256 << 10);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_frees_the_slot() {
        let slots = one();
        let failed = slots.run(here(), 0, |_| panic!("on purpose")).await;
        assert!(matches!(failed, Err::<(), _>(HashingFailed::Panicked)));
        assert_eq!(slots.run(here(), 0, |_| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn work_keeps_its_slot_when_its_caller_goes_away() {
        let slots = Arc::new(one());
        let (finish, finished) = mpsc::channel::<()>();
        let caller = tokio::spawn({
            let slots = Arc::clone(&slots);
            async move { slots.run(here(), 0, move |_| finished.recv()).await }
        });
        until(|| slots.begun() == 1).await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        assert_eq!(lock(&slots.waiting).free as usize, 0, "the work still runs");
        finish.send(()).unwrap();
        until(|| lock(&slots.waiting).free as usize == KIB).await;
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_in_the_queue_leaves_nothing_behind() {
        let slots = one();
        let (finish, finished) = mpsc::channel::<()>();
        let mut first = Box::pin(slots.run(here(), 0, move |_| finished.recv()));
        assert!(time::timeout(Duration::ZERO, &mut first).await.is_err());
        assert!(
            time::timeout(Duration::ZERO, slots.run(here(), 0, |_| ()))
                .await
                .is_err()
        );
        finish.send(()).unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(slots.begun(), 1, "the second never ran");
        assert_eq!(lock(&slots.waiting).free as usize, KIB);
    }

    /// Of two who wait, the one who came later has logged in before.
    #[tokio::test]
    async fn origins_that_have_logged_in_come_first() {
        let slots = Arc::new(one());
        let known: Origin = std::net::IpAddr::from([192, 0, 2, 1]).into();
        slots.note_login(known);
        let (finish, finished) = mpsc::channel::<()>();
        let mut first = Box::pin(slots.run(here(), 0, move |_| finished.recv()));
        assert!(time::timeout(Duration::ZERO, &mut first).await.is_err());
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |who: &'static str| {
            let order = Arc::clone(&order);
            move |_: &mut HashMemory| order.lock().unwrap().push(who)
        };
        let (stranger, known) = (
            slots.run(here(), 0, note("stranger")),
            slots.run(known, 0, note("known")),
        );
        let both = async { tokio::join!(stranger, known) };
        let finish = async {
            until(|| lock(&slots.waiting).queue.len() == 2).await;
            finish.send(()).unwrap();
        };
        let (first, (stranger, known), ()) = tokio::join!(first, both, finish);
        assert!(first.is_ok() && stranger.is_ok() && known.is_ok());
        assert_eq!(*order.lock().unwrap(), ["known", "stranger"]);
    }

    #[tokio::test]
    async fn beyond_the_bound_nobody_waits_and_each_session_has_a_place() {
        let slots = one().for_sessions(1).for_sessions(MAX_WAITING + 100);
        let (finish, finished) = mpsc::channel::<()>();
        let mut first = Box::pin(slots.run(here(), 0, move |_| finished.recv()));
        assert!(time::timeout(Duration::ZERO, &mut first).await.is_err());
        let mut waiting: Vec<_> = (0..MAX_WAITING + 100)
            .map(|_| Box::pin(slots.run(here(), 0, |_| ())))
            .collect();
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        let refused = slots.run(here(), 0, |_| ()).await;
        assert!(matches!(refused, Err(HashingFailed::Crowded)));
        // Those who leave make room, and take nothing with them.
        drop(waiting);
        finish.send(()).unwrap();
        first.await.unwrap().unwrap();
        slots.run(here(), 0, |_| ()).await.unwrap();
        assert_eq!(lock(&slots.waiting).free as usize, KIB);
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
