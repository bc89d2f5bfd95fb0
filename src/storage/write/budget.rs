//! The memory that all uploads share.
//!
//! Each part in the making holds a [`Claim`], which grows chunk by chunk before the bytes are read:
//! when the budget is used up, clients are not read from, and nothing else happens to them.
//!
//! Parts have a least size, so memory can be full of parts of which none is full: a deadlock, if
//! all were equal. Therefore a quarter of the budget is kept for finishing. Whoever waits with the
//! oldest part gets a right to finish it, while the quarter has room for the whole of it: from then
//! on it is let grow to its full size, is sent up, and frees what it held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;
use tokio::sync::oneshot;

use crate::storage::write::chunk::Chunks;

/// The budget; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    chunks: Chunks,
    used: IntGauge,
}

#[derive(Debug)]
struct State {
    /// Bytes that anyone may have.
    free: usize,
    /// Bytes kept for finishing that nobody has a right to.
    kept: usize,
    /// The next part's age, and the next waiter's name.
    next: u64,
    /// Who waits, the oldest part first.
    waiting: BTreeMap<(u64, u64), Waiter>,
}

#[derive(Debug)]
struct Waiter {
    need: Need,
    grant: oneshot::Sender<Grant>,
}

/// What a part asks for, and what it may come to.
#[derive(Debug, Clone, Copy)]
struct Need {
    bytes: usize,
    part_size: usize,
}

/// What a waiter gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grant {
    Bytes,
    RightToFinish,
}

/// What one part holds. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Claim {
    budget: Budget,
    age: u64,
    /// Bytes from what anyone may have.
    held: usize,
    /// Bytes in all.
    bytes: usize,
    /// What the part may come to.
    part_size: usize,
    finishing: bool,
}

impl Budget {
    /// A budget of `total` bytes, for parts of at most a quarter of it. `used` shows what is held.
    pub(crate) fn new(total: usize, used: IntGauge) -> Self {
        let for_finishing = total / 4;
        let state = State {
            free: total - for_finishing,
            kept: for_finishing,
            next: 0,
            waiting: BTreeMap::new(),
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            chunks: Chunks::new(total),
            used,
        }))
    }

    /// A claim for a new part of at most `part_size`, which holds nothing yet.
    pub(crate) fn claim(&self, part_size: usize) -> Claim {
        Claim {
            budget: self.clone(),
            age: self.state().name(),
            held: 0,
            bytes: 0,
            part_size,
            finishing: false,
        }
    }

    /// Whether anyone waits for memory.
    pub(crate) fn is_short(&self) -> bool {
        !self.state().waiting.is_empty()
    }

    /// Where the memory itself comes from, once it is claimed.
    pub(crate) fn chunks(&self) -> &Chunks {
        &self.0.chunks
    }

    /// What there is at once, or else a place among those who wait.
    fn ask(&self, age: u64, need: Need) -> Result<Grant, Waiting> {
        let mut state = self.state();
        let first = state.waiting.first_key_value();
        if first.is_none_or(|((oldest, _), _)| age < *oldest)
            && let Some(grant) = state.take(need)
        {
            return Ok(grant);
        }
        let (grant, granted) = oneshot::channel();
        let place = (age, state.name());
        state.waiting.insert(place, Waiter { need, grant });
        Err(Waiting {
            budget: self.clone(),
            place,
            need,
            granted,
        })
    }

    fn give_back(&self, claim: &Claim) {
        let mut state = self.state();
        state.free += claim.held;
        if claim.finishing {
            state.kept += claim.part_size;
        }
        state.serve();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn name(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn take(&mut self, need: Need) -> Option<Grant> {
        if self.free >= need.bytes {
            self.free -= need.bytes;
            Some(Grant::Bytes)
        } else if self.kept >= need.part_size {
            self.kept -= need.part_size;
            Some(Grant::RightToFinish)
        } else {
            None
        }
    }

    fn put(&mut self, grant: Grant, need: Need) {
        match grant {
            Grant::Bytes => self.free += need.bytes,
            Grant::RightToFinish => self.kept += need.part_size,
        }
    }

    /// Gives what there is to those who wait, the oldest part first.
    fn serve(&mut self) {
        while let Some(first) = self.waiting.first_entry() {
            let need = first.get().need;
            let place = *first.key();
            let Some(grant) = self.take(need) else {
                return;
            };
            let waiter = self.waiting.remove(&place);
            let taken = waiter.is_some_and(|waiter| waiter.grant.send(grant).is_ok());
            if !taken {
                self.put(grant, need);
            }
        }
    }
}

impl Claim {
    /// Claims `bytes` more, as soon as there are so many. Nothing is claimed if this is dropped.
    pub(crate) async fn grow(&mut self, bytes: usize) {
        if !self.finishing {
            let need = Need {
                bytes,
                part_size: self.part_size,
            };
            let grant = match self.budget.ask(self.age, need) {
                Ok(grant) => grant,
                Err(waiting) => waiting.granted().await,
            };
            match grant {
                Grant::Bytes => self.held += bytes,
                Grant::RightToFinish => self.finishing = true,
            }
        }
        self.bytes += bytes;
        self.budget.0.used.add(gauge(bytes));
    }

    /// Whether it has a right to finish.
    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing
    }

    /// Gives back what it holds beyond `bytes`, if it has no right to finish.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        if self.finishing || bytes >= self.held {
            return;
        }
        let left = self.held - bytes;
        self.budget.0.used.sub(gauge(left));
        (self.held, self.bytes) = (bytes, bytes);
        let mut state = self.budget.state();
        state.free += left;
        state.serve();
    }

    /// Gives back all that it holds. The part stays as old as it is.
    pub(crate) fn give_back(&mut self) {
        self.budget.0.used.sub(gauge(self.bytes));
        self.budget.give_back(self);
        (self.held, self.bytes, self.finishing) = (0, 0, false);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn gauge(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A place among those who wait. Leaving it gives back what was granted meanwhile.
struct Waiting {
    budget: Budget,
    place: (u64, u64),
    need: Need,
    granted: oneshot::Receiver<Grant>,
}

impl Waiting {
    async fn granted(mut self) -> Grant {
        match (&mut self.granted).await {
            Ok(grant) => grant,
            // The sender lives in the budget, and the budget in this place.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.waiting.remove(&self.place);
        // A grant that has been received is not here any more.
        if let Ok(grant) = self.granted.try_recv() {
            state.put(grant, self.need);
        }
        state.serve();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const MIB: usize = 1024 * 1024;

    /// 3 MiB for anyone, and one right to finish a part of 1 MiB.
    fn budget() -> Budget {
        Budget::new(4 * MIB, IntGauge::new("used", "used").unwrap())
    }

    fn grows(claim: &mut Claim, bytes: usize) -> bool {
        claim.grow(bytes).now_or_never().is_some()
    }

    #[test]
    fn what_is_used_up_is_waited_for() {
        let budget = budget();
        let mut claims: Vec<_> = (0..5).map(|_| budget.claim(MIB)).collect();
        for claim in &mut claims[..3] {
            assert!(grows(claim, MIB));
        }
        assert!(grows(&mut claims[3], MIB), "the right to finish");
        assert!(!grows(&mut claims[4], 1));
        assert_eq!(budget.0.used.get(), gauge(4 * MIB));
        drop(claims.remove(0));
        assert!(grows(&mut claims[3], 1));
    }

    #[tokio::test]
    async fn the_oldest_part_is_served_first() {
        let budget = budget();
        let mut full = budget.claim(MIB);
        full.grow(3 * MIB).await;
        let mut finishing = budget.claim(MIB);
        finishing.grow(1).await;
        let (mut old, mut young) = (budget.claim(MIB), budget.claim(MIB));
        let young = tokio::spawn(async move {
            young.grow(2 * MIB).await;
            young
        });
        tokio::task::yield_now().await;
        let old = tokio::spawn(async move {
            old.grow(2 * MIB).await;
            old
        });
        tokio::task::yield_now().await;
        drop(full);
        let old = old.await.unwrap();
        tokio::task::yield_now().await;
        assert!(!young.is_finished());
        drop(old);
        young.await.unwrap();
    }

    /// Memory full of half parts: one after the other gets the right to finish.
    #[tokio::test]
    async fn half_parts_cannot_block_each_other() {
        let budget = budget();
        let parts = (0..100).map(|_| {
            let mut claim = budget.claim(MIB);
            tokio::spawn(async move {
                for _ in 0..16 {
                    claim.grow(MIB / 16).await;
                    tokio::task::yield_now().await;
                }
            })
        });
        let all = futures::future::join_all(parts.collect::<Vec<_>>());
        let ended = tokio::time::timeout(std::time::Duration::from_secs(10), all).await;
        assert!(ended.is_ok(), "a deadlock");
        assert_eq!(budget.0.used.get(), 0);
        let state = budget.state();
        assert_eq!(
            (state.free, state.kept, state.waiting.len()),
            (3 * MIB, MIB, 0)
        );
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing_behind() {
        let budget = budget();
        let mut full = budget.claim(MIB);
        full.grow(3 * MIB).await;
        let mut finishing = budget.claim(MIB);
        finishing.grow(1).await;
        let mut claim = budget.claim(MIB);
        let waiting = tokio::spawn(async move { claim.grow(MIB).await });
        tokio::task::yield_now().await;
        waiting.abort();
        assert!(waiting.await.is_err());
        drop((full, finishing));
        let state = budget.state();
        assert_eq!(
            (state.free, state.kept, state.waiting.len()),
            (3 * MIB, MIB, 0)
        );
    }
}
