//! The memory that all uploads share.
//!
//! Each part in the making holds a [`Claim`], which grows chunk by chunk before the bytes are read:
//! when the budget is used up, clients are not read from. It has three shares:
//!
//! - **A reserve for first chunks.** Nothing else may have it, so a small file never waits for large
//!   ones. A part that grows beyond its first chunk gives its place there back.
//! - **A quarter for finishing.** Parts have a least size, so memory can be full of parts of which none
//!   is full: a deadlock, if all were equal. Whoever waits with the oldest part gets a right to finish
//!   it, while the quarter has room for the whole of it: from then on it is let grow to its full size,
//!   is sent up, and frees what it held.
//! - **The rest**, which anyone may have, the oldest part first.
//!
//! Nobody keeps memory from others by being slow. While anyone waits, it is looked ten times a second
//! which parts have slow clients, rights to finish or not ([`relief`](super::relief)): the slowest of
//! those that can move do so at once, and if none can, the slowest upload is ended after a while.

pub(in crate::storage::write) mod shares;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::oneshot;

use crate::storage::write::chunk::Chunks;
use crate::storage::write::relief::{Revoked, SlowParts, Slowness};
use crate::supervise::{Supervisor, Task};

use shares::{Left, Next, Share, Shares, StoreIndex, Turn};

/// The first read of a file takes this much memory; most files on old devices fit.
pub(crate) const FIRST_CHUNK: usize = 16 * 1024;

/// The first chunks' share of the budget, and the most that it is: so many sessions are rare.
const RESERVE_SHARE: usize = 8;
const LARGEST_RESERVE: usize = 4096 * FIRST_CHUNK;

/// How often it is looked who is slow, while anyone waits.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// In so many looks memory was short before an upload is ended for it, and then before the next.
const LOOKS_BEFORE_AN_END: u32 = 10;
const LOOKS_BETWEEN_ENDS: u32 = 3;

/// The budget, for one store; clones share it, and so do those for other stores.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Shared>, StoreIndex);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    chunks: Chunks,
    used: IntGauge,
    supervisor: Supervisor,
}

#[derive(Debug)]
struct State {
    /// Bytes in all.
    total: usize,
    /// Bytes that anyone may have.
    free: usize,
    /// Bytes kept for first chunks.
    reserve: usize,
    /// Bytes kept for finishing that nobody has a right to.
    kept: usize,
    /// Bytes on their way to the store: they come back without anyone's doing.
    in_flight: usize,
    /// Bytes of slow parts that are giving way.
    coming: usize,
    /// The next part's age, and the next waiter's name.
    next: u64,
    /// Who waits, the oldest part first; those with a first chunk before all others.
    waiting: BTreeMap<Place, Waiter>,
    slow: SlowParts,
    /// What each store has.
    shares: Shares,
    /// In so many looks somebody waited, less those in which nobody did.
    short: u32,
    /// Somebody looks.
    tended: bool,
}

/// Where somebody waits: first chunks come before others, then the part's age counts, then the waiter's name.
type Place = (Kind, u64, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    FirstChunk,
    More,
}

#[derive(Debug)]
struct Waiter {
    need: Need,
    grant: oneshot::Sender<Grant>,
}

/// What a part asks for, and what it may come to.
#[derive(Debug, Clone, Copy)]
struct Need {
    store: StoreIndex,
    kind: Kind,
    bytes: usize,
    part_size: usize,
}

/// What a waiter gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grant {
    FromReserve,
    Bytes,
    RightToFinish,
}

/// What one part holds. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Claim {
    budget: Budget,
    age: u64,
    /// Bytes from the reserve.
    reserved: usize,
    /// Bytes from what anyone may have.
    held: usize,
    /// Bytes in all.
    bytes: usize,
    /// What the part may come to.
    part_size: usize,
    finishing: bool,
    /// Bytes that are counted as on their way to the store.
    in_flight: usize,
    /// Bytes that are counted as coming back soon.
    coming: usize,
}

impl Budget {
    /// A budget of `total` bytes, for parts of at most a quarter of it. `used` shows what is held.
    pub(crate) fn new(total: usize, used: IntGauge, supervisor: Supervisor) -> Self {
        let kept = total / 4;
        let reserve = (total / RESERVE_SHARE).min(LARGEST_RESERVE);
        let state = State {
            total,
            free: total - kept - reserve,
            reserve,
            kept,
            in_flight: 0,
            coming: 0,
            next: 0,
            waiting: BTreeMap::new(),
            slow: SlowParts::default(),
            shares: Shares::new(total),
            short: 0,
            tended: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            chunks: Chunks::new(total, supervisor.clone()),
            used,
            supervisor,
        };
        Self(Arc::new(shared), Shares::FIRST)
    }

    /// The same budget for another store, which leaves the others their part.
    pub(crate) fn for_another_store(&self) -> Self {
        let store = self.state().shares.add();
        Self(Arc::clone(&self.0), store)
    }

    /// A claim for a new part of at most `part_size`, which holds nothing yet.
    pub(crate) fn claim(&self, part_size: usize) -> Claim {
        Claim {
            budget: self.clone(),
            age: self.state().name(),
            reserved: 0,
            held: 0,
            bytes: 0,
            part_size,
            finishing: false,
            in_flight: 0,
            coming: 0,
        }
    }

    /// Where the memory itself comes from, once it is claimed.
    pub(crate) fn chunks(&self) -> &Chunks {
        &self.0.chunks
    }

    /// What there is at once, or else a place among those who wait.
    fn ask(&self, age: u64, need: Need) -> Result<Grant, Waiting> {
        let mut state = self.state();
        let place = (need.kind, age, state.name());
        let next = state.next(place, need);
        if let Some(grant) = state.take(need, next) {
            return Ok(grant);
        }
        let (grant, granted) = oneshot::channel();
        state.waiting.insert(place, Waiter { need, grant });
        self.tend(&mut state);
        Err(Waiting {
            budget: self.clone(),
            place,
            need,
            granted,
        })
    }

    /// Has somebody look who is slow, as long as anyone waits.
    fn tend(&self, state: &mut State) {
        if state.tended {
            return;
        }
        if tokio::runtime::Handle::try_current().is_ok() {
            state.tended = true;
            let budget = Arc::downgrade(&self.0);
            self.0
                .supervisor
                .keep(Task::UploadMemory, move || tend(Weak::clone(&budget)));
        }
    }

    fn give_back(&self, claim: &Claim) {
        let mut state = self.state();
        state.free += claim.held;
        state.reserve += claim.reserved;
        if claim.finishing {
            state.kept += claim.part_size;
        }
        state.in_flight -= claim.in_flight;
        state.coming -= claim.coming;
        state
            .shares
            .take(self.1, Share::plain(claim.held + claim.reserved));
        state.shares.take(self.1, Share::in_flight(claim.in_flight));
        if claim.finishing {
            state.shares.take(self.1, Share::right(claim.part_size));
        }
        state.serve();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks who is slow, until nobody has waited for a while.
async fn tend(budget: Weak<Shared>) {
    loop {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let Some(budget) = budget.upgrade() else {
            return;
        };
        if !Budget(budget, Shares::FIRST).state().look() {
            return;
        }
    }
}

impl State {
    fn name(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn take(&mut self, need: Need, next: Next) -> Option<Grant> {
        let is_first = need.kind == Kind::FirstChunk;
        let grant = if next == Next::Nothing {
            return None;
        } else if is_first && self.reserve >= need.bytes {
            self.reserve -= need.bytes;
            Grant::FromReserve
        } else if next != Next::RightToFinish && self.free >= need.bytes {
            self.free -= need.bytes;
            Grant::Bytes
        } else if !is_first && next != Next::Bytes && self.kept >= need.part_size {
            self.kept -= need.part_size;
            Grant::RightToFinish
        } else {
            return None;
        };
        self.shares.give(need.store, need.share(grant));
        Some(grant)
    }

    fn put(&mut self, grant: Grant, need: Need) {
        match grant {
            Grant::FromReserve => self.reserve += need.bytes,
            Grant::Bytes => self.free += need.bytes,
            Grant::RightToFinish => self.kept += need.part_size,
        }
        self.shares.take(need.store, need.share(grant));
    }

    /// Gives what there is to those who wait: first chunks, then the oldest part first.
    fn serve(&mut self) {
        self.serve_kind(Kind::FirstChunk);
        self.serve_kind(Kind::More);
    }

    fn serve_kind(&mut self, kind: Kind) {
        while let Some((place, need, next)) = self.first(kind) {
            let Some(grant) = self.take(need, next) else {
                return;
            };
            let waiter = self.waiting.remove(&place);
            let taken = waiter.is_some_and(|waiter| waiter.grant.send(grant).is_ok());
            if !taken {
                self.put(grant, need);
            }
        }
    }

    /// The first of a kind that may have something, and what.
    fn first(&self, kind: Kind) -> Option<(Place, Need, Next)> {
        let mut turn = self.shares.turn(self.left());
        let mut waiters = self.all_of(kind).map(|(place, need)| {
            let next = self.may_have(need, &mut turn);
            (place, need, next)
        });
        waiters.find(|(_, _, next)| *next != Next::Nothing)
    }

    /// What one that asked at this place might have.
    fn next(&self, place: Place, need: Need) -> Next {
        let (kind, _, _) = place;
        let mut turn = self.shares.turn(self.left());
        let mut before = self.all_of(kind).take_while(|(other, _)| *other < place);
        if before.any(|(_, other)| self.may_have(other, &mut turn) != Next::Nothing) {
            return Next::Nothing;
        }
        self.may_have(need, &mut turn)
    }

    fn left(&self) -> Left {
        Left {
            free: self.free,
            kept: self.kept,
        }
    }

    /// What the next one that waits may have. With one store, it is whatever there is.
    fn may_have(&self, need: Need, turn: &mut Turn<'_>) -> Next {
        match need.kind {
            _ if !self.shares.are_limited() => Next::Any,
            Kind::More => turn.next(need.store, need.bytes, need.part_size),
            // Beyond its share, a store has what is left in the reserve.
            Kind::FirstChunk => {
                let is_beyond = self.shares.is_beyond(need.store, need.bytes);
                if is_beyond && self.reserve < need.bytes {
                    Next::Nothing
                } else {
                    Next::Any
                }
            }
        }
    }

    fn all_of(&self, kind: Kind) -> impl Iterator<Item = (Place, Need)> {
        let places = (kind, 0, 0)..=(kind, u64::MAX, u64::MAX);
        let waiters = self.waiting.range(places);
        waiters.map(|(place, waiter)| (*place, waiter.need))
    }

    /// Has slow parts give way to those who wait. Whether to look again.
    fn look(&mut self) -> bool {
        if self.waiting.is_empty() {
            self.short = self.short.saturating_sub(1);
            self.tended = self.short > 0;
            return self.tended;
        }
        self.short = (self.short + 1).min(LOOKS_BEFORE_AN_END);
        for line in self.lines() {
            let wanted = line.wanted.saturating_sub(self.coming);
            let moved = self.slow.move_slowest(wanted, FIRST_CHUNK, line.of);
            let has_waited = self.short == LOOKS_BEFORE_AN_END;
            if !moved
                && self.coming == 0
                && has_waited
                && self.is_held_up(&line)
                && self.slow.end_slowest(FIRST_CHUNK, line.of)
            {
                self.short -= LOOKS_BETWEEN_ENDS;
            }
        }
        true
    }

    /// Those who wait, by whom they wait for: those whose store has its share wait for that store, the others for all.
    fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::<Line>::new();
        for waiter in self.waiting.values() {
            let need = waiter.need;
            let is_beyond = self.shares.is_beyond(need.store, need.bytes);
            let of = is_beyond.then_some(need.store);
            match lines.iter_mut().find(|line| line.of == of) {
                Some(line) => line.wanted = line.wanted.saturating_add(need.wants()),
                None => lines.push(Line {
                    of,
                    first: need.bytes,
                    wanted: need.wants(),
                }),
            }
        }
        lines
    }

    /// Whether it is slow clients that memory is short for, and not a slow store: what the first in the
    /// line needs is not on its way there, or they hold more than half of what there is for the line.
    fn is_held_up(&self, line: &Line) -> bool {
        let (in_flight, all) = match line.of {
            Some(store) => (self.shares.in_flight(store), self.shares.limit()),
            None => (self.in_flight, self.total),
        };
        in_flight < line.first || self.slow.held(line.of) > all / 2
    }
}

/// Some of those who wait.
#[derive(Debug)]
struct Line {
    /// Whose memory they wait for; `None` is everybody's.
    of: Option<StoreIndex>,
    /// What the first of them needs.
    first: usize,
    /// What they could make use of, all together.
    wanted: usize,
}

impl Need {
    /// What is taken by a grant.
    fn share(self, grant: Grant) -> Share {
        match grant {
            Grant::FromReserve | Grant::Bytes => Share::plain(self.bytes),
            Grant::RightToFinish => Share::right(self.part_size),
        }
    }

    fn wants(self) -> usize {
        match self.kind {
            Kind::FirstChunk => self.bytes,
            Kind::More => self.part_size.max(self.bytes),
        }
    }
}

impl Claim {
    /// Claims `bytes` more, as soon as there are so many. Nothing is claimed if this is dropped.
    pub(crate) async fn grow(&mut self, bytes: usize) {
        if !self.finishing {
            let need = self.need(bytes);
            let grant = match self.budget.ask(self.age, need) {
                Ok(grant) => grant,
                Err(waiting) => waiting.granted().await,
            };
            self.take(grant, need.bytes);
        }
        self.bytes += bytes;
        self.budget.0.used.add(gauge(bytes));
    }

    /// What is asked for `bytes` more: what is in the reserve moves out of it.
    fn need(&self, bytes: usize) -> Need {
        let is_first = self.bytes == 0 && bytes <= FIRST_CHUNK;
        Need {
            store: self.budget.1,
            kind: if is_first {
                Kind::FirstChunk
            } else {
                Kind::More
            },
            bytes: bytes + self.reserved,
            part_size: self.part_size,
        }
    }

    fn take(&mut self, grant: Grant, bytes: usize) {
        let mut state = self.budget.state();
        match grant {
            Grant::FromReserve => {
                self.reserved += bytes;
                return;
            }
            Grant::Bytes => self.held += bytes,
            // The right has room for all of the part.
            Grant::RightToFinish => {
                self.finishing = true;
                state.shares.take(self.budget.1, Share::plain(self.held));
                state.free += std::mem::take(&mut self.held);
            }
        }
        state
            .shares
            .take(self.budget.1, Share::plain(self.reserved));
        state.reserve += std::mem::take(&mut self.reserved);
        state.serve();
    }

    /// Bytes that it was granted, whatever of them it holds.
    fn granted(&self) -> usize {
        let right = if self.finishing { self.part_size } else { 0 };
        self.held + self.reserved + right
    }

    /// Whether it has a right to finish.
    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing
    }

    /// Whether it holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Lists the part among those that are slow, until this is dropped.
    pub(crate) fn revocable(&self, slowness: Slowness) -> Revocable {
        let held = self.granted();
        let mut state = self.budget.state();
        Revocable {
            budget: self.budget.clone(),
            age: self.age,
            revoked: state.slow.enter(self.budget.1, self.age, held, slowness),
        }
    }

    /// Counts what it holds as coming back soon: the part gives way.
    pub(crate) fn gives_way(&mut self) {
        let mut state = self.budget.state();
        state.coming = state.coming - self.coming + self.bytes;
        self.coming = self.bytes;
    }

    /// It could not give way.
    pub(crate) fn stays(&mut self) {
        self.budget.state().coming -= std::mem::take(&mut self.coming);
    }

    /// Counts what it holds as on its way to the store.
    pub(crate) fn goes_up(&mut self) {
        let mut state = self.budget.state();
        state.in_flight = state.in_flight - self.in_flight + self.bytes;
        let store = self.budget.1;
        state.shares.take(store, Share::in_flight(self.in_flight));
        state.shares.give(store, Share::in_flight(self.bytes));
        self.in_flight = self.bytes;
    }

    /// Gives so many bytes back, if it has no right to finish.
    pub(crate) fn shrink_by(&mut self, bytes: usize) {
        self.shrink_to((self.held + self.reserved).saturating_sub(bytes));
    }

    /// Gives back what it holds beyond `bytes`, if it has no right to finish.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let held = self.held + self.reserved;
        if self.finishing || bytes >= held {
            return;
        }
        let reserved = self.reserved.min(bytes);
        let mut state = self.budget.state();
        self.budget.0.used.sub(gauge(self.bytes - bytes));
        state.reserve += self.reserved - reserved;
        state.free += self.held - (bytes - reserved);
        state.shares.take(self.budget.1, Share::plain(held - bytes));
        (self.reserved, self.held, self.bytes) = (reserved, bytes - reserved, bytes);
        state.serve();
    }

    /// Gives back all that it holds. The part stays as old as it is.
    pub(crate) fn give_back(&mut self) {
        self.budget.0.used.sub(gauge(self.bytes));
        self.budget.give_back(self);
        (self.reserved, self.held, self.bytes) = (0, 0, 0);
        (self.in_flight, self.coming, self.finishing) = (0, 0, false);
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

/// A place among the slow parts.
#[derive(Debug)]
pub(crate) struct Revocable {
    budget: Budget,
    age: u64,
    revoked: oneshot::Receiver<Revoked>,
}

impl Revocable {
    /// As soon as others need the part's memory.
    pub(crate) async fn revoked(&mut self) -> Revoked {
        match (&mut self.revoked).await {
            Ok(how) => how,
            // The sender lives in the budget, until it has sent or this is dropped.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Revocable {
    fn drop(&mut self) {
        self.budget.state().slow.leave(self.age);
    }
}

/// A place among those who wait. Leaving it gives back what was granted meanwhile.
struct Waiting {
    budget: Budget,
    place: Place,
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
    use futures::future::join_all;

    use crate::telemetry::Metrics;

    use super::*;

    const MIB: usize = 1024 * 1024;

    /// 2.5 MiB for anyone, 32 first chunks, and one right to finish a part of 1 MiB.
    fn budget() -> Budget {
        let metrics = Arc::new(Metrics::new().unwrap());
        let used = metrics.memory_of(crate::memory::Use::Uploads);
        Budget::new(4 * MIB, used, Supervisor::new(&metrics))
    }

    fn grows(claim: &mut Claim, bytes: usize) -> bool {
        claim.grow(bytes).now_or_never().is_some()
    }

    /// Claims for all that anyone may have, and for finishing.
    fn all_but_the_reserve(budget: &Budget) -> [Claim; 2] {
        let mut claims = [budget.claim(MIB), budget.claim(MIB)];
        assert!(grows(&mut claims[0], 5 * MIB / 2));
        assert!(grows(&mut claims[1], MIB));
        claims
    }

    fn assert_all_is_back(budget: &Budget) {
        assert_eq!(budget.0.used.get(), 0);
        let state = budget.state();
        assert_eq!(
            (state.free, state.reserve, state.kept),
            (5 * MIB / 2, MIB / 2, MIB)
        );
        assert_eq!(
            (state.in_flight, state.coming, state.slow.held(None)),
            (0, 0, 0)
        );
        assert!(state.waiting.is_empty());
        assert!(state.shares.are_empty());
    }

    fn slow(can_move: bool) -> Slowness {
        let behind = Duration::from_secs(3);
        Slowness { behind, can_move }
    }

    #[test]
    fn what_is_used_up_is_waited_for() {
        let budget = budget();
        let mut claims: Vec<_> = (0..7).map(|_| budget.claim(MIB)).collect();
        for claim in &mut claims[..5] {
            assert!(grows(claim, MIB / 2));
        }
        assert!(grows(&mut claims[5], MIB), "the right to finish");
        assert!(!grows(&mut claims[6], FIRST_CHUNK + 1));
        assert_eq!(budget.0.used.get(), gauge(7 * MIB / 2));
        drop(claims.remove(0));
        assert!(grows(&mut claims[5], FIRST_CHUNK + 1));
        drop(claims);
        assert_all_is_back(&budget);
    }

    #[test]
    fn first_chunks_have_a_reserve() {
        let budget = budget();
        let full = all_but_the_reserve(&budget);
        let mut small: Vec<_> = (0..33).map(|_| budget.claim(MIB)).collect();
        for claim in &mut small[..32] {
            assert!(grows(claim, FIRST_CHUNK));
        }
        assert!(!grows(&mut small[0], 1), "it is for first chunks alone");
        assert!(!grows(&mut small[32], FIRST_CHUNK), "the reserve is empty");
        drop(full);
        assert!(grows(&mut small[32], FIRST_CHUNK), "there is other memory");
        assert!(grows(&mut small[0], 1));
        assert_eq!(budget.state().reserve, FIRST_CHUNK, "it is large now");
        drop(small);
        assert_all_is_back(&budget);
    }

    /// Whoever waits with a large part is not in a small file's way.
    #[tokio::test]
    async fn first_chunks_are_served_first() {
        let budget = budget();
        let full = all_but_the_reserve(&budget);
        let mut large = budget.claim(MIB);
        let mut small = budget.claim(MIB);
        let mut large = Box::pin(large.grow(MIB));
        assert!((&mut large).now_or_never().is_none());
        assert!(grows(&mut small, FIRST_CHUNK));
        drop((full, large, small));
        assert_all_is_back(&budget);
    }

    #[tokio::test]
    async fn the_oldest_part_is_served_first() {
        let budget = budget();
        let full = all_but_the_reserve(&budget);
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
        let [full, finishing] = full;
        drop(full);
        let old = old.await.unwrap();
        tokio::task::yield_now().await;
        assert!(!young.is_finished());
        drop(old);
        drop(young.await.unwrap());
        drop(finishing);
        assert_all_is_back(&budget);
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
        let all = join_all(parts.collect::<Vec<_>>());
        let ended = tokio::time::timeout(Duration::from_secs(10), all).await;
        assert!(ended.is_ok(), "a deadlock");
        assert_all_is_back(&budget);
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_nothing_behind() {
        let budget = budget();
        let full = all_but_the_reserve(&budget);
        let mut claim = budget.claim(MIB);
        let waiting = tokio::spawn(async move { claim.grow(MIB).await });
        tokio::task::yield_now().await;
        waiting.abort();
        assert!(waiting.await.is_err());
        drop(full);
        assert_all_is_back(&budget);
    }

    #[test]
    fn what_shrinks_gives_back_what_it_had_from_where_it_had_it() {
        let budget = budget();
        let mut claim = budget.claim(MIB);
        assert!(grows(&mut claim, FIRST_CHUNK));
        claim.shrink_by(FIRST_CHUNK - 5);
        assert_eq!(budget.state().reserve, MIB / 2 - 5);
        assert!(grows(&mut claim, FIRST_CHUNK));
        assert_eq!(budget.state().reserve, MIB / 2);
        claim.shrink_to(7);
        assert_eq!(budget.0.used.get(), 7);
        drop(claim);
        assert_all_is_back(&budget);
    }

    /// A right to finish makes no difference.
    #[tokio::test(start_paused = true)]
    async fn a_slow_part_that_can_move_is_told_soon() {
        let budget = budget();
        let [full, mut finishing] = all_but_the_reserve(&budget);
        let mut revocable = finishing.revocable(slow(true));
        let mut claim = budget.claim(MIB);
        let waiting = tokio::spawn(async move { claim.grow(MIB).await });
        let started = tokio::time::Instant::now();
        assert_eq!(revocable.revoked().await, Revoked::Gently);
        assert!(started.elapsed() <= 2 * BETWEEN_LOOKS);
        finishing.gives_way();
        finishing.give_back();
        waiting.await.unwrap();
        drop((full, finishing, revocable));
        assert_all_is_back(&budget);
    }

    #[tokio::test(start_paused = true)]
    async fn who_can_not_move_is_ended_when_others_have_waited_for_long() {
        let budget = budget();
        let [full, finishing] = all_but_the_reserve(&budget);
        let mut revocable = full.revocable(slow(false));
        let mut claim = budget.claim(MIB);
        let waiting = tokio::spawn(async move { claim.grow(MIB).await });
        let started = tokio::time::Instant::now();
        assert_eq!(revocable.revoked().await, Revoked::ForGood);
        assert!(started.elapsed() >= LOOKS_BEFORE_AN_END * BETWEEN_LOOKS);
        drop(full);
        waiting.await.unwrap();
        drop((finishing, revocable));
        assert_all_is_back(&budget);
    }

    /// A store that is slow is no client's fault.
    #[tokio::test(start_paused = true)]
    async fn nobody_is_ended_for_a_slow_store() {
        let budget = budget();
        let [mut full, finishing] = all_but_the_reserve(&budget);
        full.goes_up();
        let mut revocable = finishing.revocable(slow(false));
        let mut claim = budget.claim(MIB);
        let waiting = tokio::spawn(async move { claim.grow(MIB).await });
        let long = Duration::from_mins(1);
        assert!(
            tokio::time::timeout(long, revocable.revoked())
                .await
                .is_err()
        );
        drop(full);
        waiting.await.unwrap();
        drop((finishing, revocable));
        assert_all_is_back(&budget);
    }

    /// One that is giving way already is waited for.
    #[tokio::test(start_paused = true)]
    async fn no_more_are_told_than_it_takes() {
        let budget = budget();
        let mut claims: Vec<_> = (0..3).map(|_| budget.claim(MIB)).collect();
        for claim in &mut claims {
            assert!(grows(claim, MIB));
        }
        let waits = join_all((0..2).map(|_| {
            let mut claim = budget.claim(MIB);
            async move { claim.grow(MIB / 2 + 1).await }
        }));
        let waits = tokio::spawn(waits);
        let mut lists: Vec<_> = claims.iter().map(|c| c.revocable(slow(true))).collect();
        tokio::time::sleep(2 * BETWEEN_LOOKS).await;
        let told = |list: &mut Revocable| list.revoked().now_or_never().is_some();
        let told: Vec<_> = lists.iter_mut().map(told).collect();
        assert_eq!(told.iter().filter(|told| **told).count(), 2);
        let mut given_way = claims.iter_mut().zip(&told).filter(|(_, told)| **told);
        given_way.by_ref().for_each(|(claim, _)| claim.gives_way());
        tokio::time::sleep(10 * BETWEEN_LOOKS).await;
        assert!(
            budget.state().slow.held(None) > 0,
            "what is coming is enough"
        );
        drop((lists, claims));
        waits.await.unwrap();
        assert_all_is_back(&budget);
    }

    /// A store that never answers has its share of the memory, however many send to it.
    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_silent_leaves_the_others_their_part() {
        let budget = budget();
        let silent = budget.for_another_store();
        let stuck = (0..40).map(|_| {
            let mut claim = silent.claim(MIB / 4);
            tokio::spawn(async move {
                for _ in 0..4 {
                    claim.grow(MIB / 16).await;
                    tokio::task::yield_now().await;
                }
                claim.goes_up();
                std::future::pending::<()>().await;
            })
        });
        let stuck: Vec<_> = stuck.collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Its share, and rights beyond it.
        let most = 3 * MIB / 2 + MIB / 2 + MIB / 4;
        let held = usize::try_from(budget.0.used.get()).unwrap();
        assert!(held <= most, "{held} of {most}");
        for _ in 0..100 {
            let mut claim = budget.claim(MIB);
            assert!(grows(&mut claim, MIB), "the other store has to wait");
        }
        for task in stuck {
            task.abort();
            let _ = task.await;
        }
        assert_all_is_back(&budget);
    }

    /// Parts of one store that are half full do not wait for each other either.
    #[tokio::test]
    async fn half_parts_of_one_store_of_two_can_not_block_each_other() {
        let budget = budget();
        let store = budget.for_another_store();
        let parts = (0..100).map(|_| {
            let mut claim = store.claim(MIB);
            tokio::spawn(async move {
                for _ in 0..16 {
                    claim.grow(MIB / 16).await;
                    tokio::task::yield_now().await;
                }
                claim.goes_up();
                tokio::task::yield_now().await;
            })
        });
        let all = join_all(parts.collect::<Vec<_>>());
        let ended = tokio::time::timeout(Duration::from_secs(10), all).await;
        assert!(ended.is_ok(), "a deadlock");
        assert_all_is_back(&budget);
    }

    /// Many parts, whose clients send, pause, go away or never come back; those that are told give way in
    /// one way or the other.
    #[tokio::test(start_paused = true)]
    async fn whatever_uploads_do_all_of_them_end_and_nothing_leaks() {
        for seed in 0..20 {
            let budget = budget();
            // On one store, and on two.
            let other = if seed % 2 == 0 {
                budget.clone()
            } else {
                budget.for_another_store()
            };
            let uploads = (0..60).map(|index| {
                let store = if index % 3 == 0 { &budget } else { &other };
                let upload = upload(store.clone(), Dice(seed * 1000 + index));
                tokio::time::timeout(Duration::from_secs(300 + index), upload)
            });
            let ended = join_all(uploads).await;
            let quick = ended.iter().step_by(2);
            assert!(
                quick.clone().all(Result::is_ok),
                "a quick one is held up, seed {seed}"
            );
            drop(ended);
            assert_all_is_back(&budget);
            tokio::time::sleep(2 * LOOKS_BEFORE_AN_END * BETWEEN_LOOKS).await;
            assert!(!budget.state().tended, "somebody still looks");
        }
    }

    /// Every second upload is quick: its client is never waited for. The others stop somewhere.
    async fn upload(budget: Budget, mut dice: Dice) {
        let is_quick = dice.0.is_multiple_of(2);
        let can_move = dice.0.is_multiple_of(3);
        let mut claim = budget.claim(MIB);
        let stops_at = if is_quick { 16 } else { dice.roll(16) };
        for step in 0..16 {
            if step == stops_at {
                let mut revocable = claim.revocable(slow(can_move));
                let _ = revocable.revoked().await;
                claim.gives_way();
                tokio::time::sleep(Duration::from_millis(dice.roll(300))).await;
                // It goes up or ends.
                return;
            }
            claim.grow(MIB / 16).await;
            if !is_quick && dice.roll(20) == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(dice.roll(20))).await;
        }
        claim.goes_up();
        tokio::time::sleep(Duration::from_millis(dice.roll(500))).await;
    }

    /// The same numbers every time.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % sides
        }
    }
}
