//! Who gives memory up when others wait for it.
//!
//! A part whose client is slow is listed here while it waits, be it for its client or for more memory.
//! Whoever is told to give way is taken off the list, and lists itself again if it still holds memory.

use std::collections::BTreeMap;

use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use crate::storage::write::budget::shares::StoreIndex;

/// An upload is ended for others only if its client takes longer than this for [`STRIDE`] bytes.
const CRAWLING: Duration = Duration::from_secs(1);

/// How slow a client is, is told by how long it takes for so many bytes.
pub(crate) const STRIDE: usize = 64 * 1024;

/// What a slow part says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slowness {
    /// How long its client has been waited for since its last [`STRIDE`] bytes.
    pub(crate) behind: Duration,
    /// Whether it can give its memory up without being ended.
    pub(crate) can_move: bool,
}

/// What a slow part is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Revoked {
    /// It gives its memory up if it can.
    Gently,
    /// It gives its memory up, or ends.
    ForGood,
}

/// The parts whose clients are slow, by their ages.
#[derive(Debug, Default)]
pub(super) struct SlowParts(BTreeMap<u64, SlowPart>);

#[derive(Debug)]
struct SlowPart {
    store: StoreIndex,
    /// When its client's last [`STRIDE`] bytes were there.
    since: Instant,
    held: usize,
    can_move: bool,
    revoke: oneshot::Sender<Revoked>,
}

impl SlowParts {
    pub(super) fn enter(
        &mut self,
        store: StoreIndex,
        age: u64,
        held: usize,
        slowness: Slowness,
    ) -> oneshot::Receiver<Revoked> {
        let (revoke, revoked) = oneshot::channel();
        let now = Instant::now();
        let part = SlowPart {
            store,
            since: now.checked_sub(slowness.behind).unwrap_or(now),
            held,
            can_move: slowness.can_move,
            revoke,
        };
        self.0.insert(age, part);
        revoked
    }

    pub(super) fn leave(&mut self, age: u64) {
        self.0.remove(&age);
    }

    /// Bytes that they hold together, those of one store or all.
    pub(super) fn held(&self, of: Option<StoreIndex>) -> usize {
        let parts = self.0.values().filter(|part| part.is_of(of));
        parts.map(|part| part.held).sum()
    }

    /// Has the slowest give way that can, as many as it takes to make up `wanted` bytes. Whether any does.
    /// One with no more than `least` is not worth it.
    pub(super) fn move_slowest(
        &mut self,
        wanted: usize,
        least: usize,
        of: Option<StoreIndex>,
    ) -> bool {
        let mut freed = 0;
        while freed < wanted {
            let slowest = self.slowest(|part| part.is_of(of) && part.can_move && part.held > least);
            let Some(held) = slowest.and_then(|age| self.revoke(age, Revoked::Gently)) else {
                break;
            };
            freed += held;
        }
        freed > 0
    }

    /// Ends the slowest, unless no client is so slow; those with more than `least` bytes first. Whether
    /// one was told.
    pub(super) fn end_slowest(&mut self, least: usize, of: Option<StoreIndex>) -> bool {
        let now = Instant::now();
        let crawls = |part: &SlowPart| part.is_of(of) && now.duration_since(part.since) >= CRAWLING;
        let slowest = self
            .slowest(|part| crawls(part) && part.held > least)
            .or_else(|| self.slowest(|part| crawls(part) && part.held > 0));
        slowest.is_some_and(|age| self.revoke(age, Revoked::ForGood).is_some())
    }

    fn slowest(&self, which: impl Fn(&SlowPart) -> bool) -> Option<u64> {
        let parts = self.0.iter().filter(|(_, part)| which(part));
        parts
            .min_by_key(|(_, part)| part.since)
            .map(|(age, _)| *age)
    }

    /// What it held.
    fn revoke(&mut self, age: u64, how: Revoked) -> Option<usize> {
        let part = self.0.remove(&age)?;
        // If it is just going on without us, it will be listed again when it waits again.
        let _ = part.revoke.send(how);
        Some(part.held)
    }
}

impl SlowPart {
    /// Whether it is of this store, if one is meant.
    fn is_of(&self, store: Option<StoreIndex>) -> bool {
        store.is_none_or(|store| self.store == store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::write::budget::shares::Shares;

    const LEAST: usize = 16;

    fn slowness(behind: u64, can_move: bool) -> Slowness {
        let behind = Duration::from_secs(behind);
        Slowness { behind, can_move }
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_give_way_until_there_is_enough() {
        let mut parts = SlowParts::default();
        tokio::time::advance(Duration::from_mins(1)).await;
        let mut told: Vec<_> = (0..4)
            .map(|age| parts.enter(Shares::FIRST, age, 100, slowness(10 + age, age != 3)))
            .collect();
        assert!(parts.move_slowest(150, LEAST, None));
        let told: Vec<_> = told.iter_mut().map(|told| told.try_recv().ok()).collect();
        let gently = Some(Revoked::Gently);
        assert_eq!(told, [None, gently, gently, None]);
        assert_eq!(parts.held(None), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn who_holds_next_to_nothing_is_ended_last() {
        let mut parts = SlowParts::default();
        tokio::time::advance(Duration::from_mins(1)).await;
        let mut small = parts.enter(Shares::FIRST, 1, LEAST, slowness(30, false));
        let mut large = parts.enter(Shares::FIRST, 2, 100, slowness(5, false));
        let _quick = parts.enter(Shares::FIRST, 3, 100, slowness(0, false));
        assert!(!parts.move_slowest(1, LEAST, None));
        assert!(parts.end_slowest(LEAST, None));
        assert_eq!(large.try_recv(), Ok(Revoked::ForGood));
        assert!(parts.end_slowest(LEAST, None));
        assert_eq!(small.try_recv(), Ok(Revoked::ForGood));
        assert!(!parts.end_slowest(LEAST, None), "it is not that slow");
    }
}
