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
#[cfg(test)]
mod tests;

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

/// Waiters that wait for the same memory.
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
