//! Failures and running attempts, counted by one kind of key.
//!
//! Promises:
//! - Failures that count and attempts that run, taken together, never exceed the limit.
//! - `limit` failures within `window` lock the key until `window` after the last of them; a key may have a multiple of
//!   that limit.
//! - Bounded: the failures of at most `capacity` keys are remembered. When there are more, the key
//!   whose last failure is longest ago is forgotten, locked or not: whoever wants a key forgotten
//!   must fail with `capacity` others first, and each of those failures costs a password hash.
//! - Bounded failures: a key has at most as many as its limit, and all keys together have [`FAILURES_PER_KEY`] times
//!   `capacity`; beyond that, keys are forgotten in the same order. A failure takes 16 bytes, and up to twice that in
//!   a vector that grows.
//!
//! Must not: read a clock; the time is passed in.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::Instant,
};

use super::recent::Recent;

/// How many failures are remembered of a key, on average.
const FAILURES_PER_KEY: usize = 4;

/// The counts; see the module.
pub(super) struct Tally<K> {
    limit: usize,
    window: Duration,
    failures: Recent<K, Vec<Instant>>,
    /// How many failures there are, of all keys.
    remembered: usize,
    max_remembered: usize,
    running: HashMap<K, Running>,
}

/// The attempts of one key that have begun and not ended.
#[derive(Default)]
struct Running {
    attempts: usize,
    one_ended: Arc<Notify>,
}

/// How many times the limit a key has.
pub(super) trait Share {
    /// At least 1.
    fn share(&self) -> usize;
}

/// Whether one more attempt may begin.
pub(super) enum Admission {
    /// It may.
    Open,
    /// Not before one of those that run has ended; ask again then.
    Full(OwnedNotified),
    /// Not before the lock ends.
    Locked,
}

impl<K: Clone + Eq + Hash + Share> Tally<K> {
    /// `limit` failures within `window` lock a key; a limit of 0 locks nothing.
    pub(super) fn new(limit: usize, window: Duration, capacity: usize) -> Self {
        Self {
            limit,
            window,
            failures: Recent::new(capacity),
            remembered: 0,
            max_remembered: capacity.saturating_mul(FAILURES_PER_KEY),
            running: HashMap::new(),
        }
    }

    /// Whether an attempt of `key` may begin at `now`.
    pub(super) fn admission(&mut self, key: &K, now: Instant) -> Admission {
        if self.limit == 0 {
            return Admission::Open;
        }
        let limit = self.limit_of(key);
        let failed = self.failures_that_count(key, now);
        if failed >= limit {
            return Admission::Locked;
        }
        match self.running.get(key) {
            Some(running) if failed + running.attempts >= limit => {
                Admission::Full(Arc::clone(&running.one_ended).notified_owned())
            }
            _ => Admission::Open,
        }
    }

    /// Notes that an attempt has begun. Each must be ended.
    pub(super) fn begin(&mut self, key: &K) {
        self.running.entry(key.clone()).or_default().attempts += 1;
    }

    /// Notes that an attempt has ended, and wakes those who wait for that.
    pub(super) fn end(&mut self, key: &K) {
        let Some(running) = self.running.get_mut(key) else {
            return;
        };
        running.attempts -= 1;
        running.one_ended.notify_waiters();
        if running.attempts == 0 {
            self.running.remove(key);
        }
    }

    /// Counts a failure.
    pub(super) fn fail(&mut self, key: &K, now: Instant) {
        if self.limit == 0 {
            return;
        }
        self.failures_that_count(key, now);
        self.remembered += 1;
        let forgotten = self.failures.renew(key, |failures| failures.push(now));
        self.remembered -= forgotten.map_or(0, |(_, failures)| failures.len());
        while self.remembered > self.max_remembered {
            let Some((_, forgotten)) = self.failures.forget_oldest() else {
                return;
            };
            self.remembered -= forgotten.len();
        }
    }

    /// Forgets the failures of `key`.
    pub(super) fn forgive(&mut self, key: &K) {
        let forgiven = self.failures.remove(key);
        self.remembered -= forgiven.map_or(0, |failures| failures.len());
    }

    fn limit_of(&self, key: &K) -> usize {
        let limit = self.limit.saturating_mul(key.share());
        // More than are remembered would never lock it.
        limit.min(self.max_remembered)
    }

    /// Drops the failures that no longer count and says how many are left.
    fn failures_that_count(&mut self, key: &K, now: Instant) -> usize {
        let limit = self.limit_of(key);
        let Some(failures) = self.failures.get_mut(key) else {
            return 0;
        };
        let is_recent = |failure: &Instant| now.duration_since(*failure) < self.window;
        // A lock lasts from the last failure, so until it ends the first ones must not drop out.
        let before = failures.len();
        let is_locked = before >= limit && failures.last().is_some_and(is_recent);
        if !is_locked {
            failures.retain(is_recent);
        }
        let left = failures.len();
        self.remembered -= before - left;
        if left == 0 {
            self.failures.remove(key);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    impl Share for u32 {
        fn share(&self) -> usize {
            1
        }
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn is_locked(tally: &mut Tally<u32>, key: u32, now: Instant) -> bool {
        matches!(tally.admission(&key, now), Admission::Locked)
    }

    #[test]
    fn a_lock_lasts_from_the_last_failure() {
        let (mut tally, start) = (Tally::new(2, WINDOW, 10), Instant::now());
        tally.fail(&1, start);
        assert!(!is_locked(&mut tally, 1, start));
        tally.fail(&1, after(start, 50));
        assert!(is_locked(&mut tally, 1, after(start, 50)));
        assert!(
            is_locked(&mut tally, 1, after(start, 109)),
            "though the first is older than the window"
        );
        assert!(!is_locked(&mut tally, 1, after(start, 110)));
        assert!(
            !is_locked(&mut tally, 2, after(start, 50)),
            "others are not concerned"
        );
    }

    #[test]
    fn after_a_lock_the_count_starts_anew() {
        let (mut tally, start) = (Tally::new(2, WINDOW, 10), Instant::now());
        tally.fail(&1, start);
        tally.fail(&1, start);
        tally.fail(&1, after(start, 60));
        assert!(!is_locked(&mut tally, 1, after(start, 60)));
    }

    #[test]
    fn failures_further_apart_than_the_window_never_lock() {
        let (mut tally, start) = (Tally::new(3, WINDOW, 10), Instant::now());
        for failure in 0..20 {
            tally.fail(&1, after(start, failure * 31));
            assert!(!is_locked(&mut tally, 1, after(start, failure * 31)));
        }
    }

    #[test]
    fn running_attempts_take_places_and_give_them_back() {
        let (mut tally, now) = (Tally::new(2, WINDOW, 10), Instant::now());
        tally.fail(&1, now);
        tally.begin(&1);
        assert!(matches!(tally.admission(&1, now), Admission::Full(_)));
        tally.end(&1);
        assert!(matches!(tally.admission(&1, now), Admission::Open));
        assert!(tally.running.is_empty());
    }

    #[tokio::test]
    async fn those_who_wait_hear_of_an_end() {
        let (mut tally, now) = (Tally::new(1, WINDOW, 10), Instant::now());
        tally.begin(&1);
        let Admission::Full(one_ended) = tally.admission(&1, now) else {
            panic!("it is full")
        };
        tally.end(&1);
        one_ended.await;
    }

    #[test]
    fn forgiveness_and_a_limit_of_zero() {
        let (mut tally, now) = (Tally::new(1, WINDOW, 10), Instant::now());
        tally.fail(&1, now);
        tally.forgive(&1);
        assert!(!is_locked(&mut tally, 1, now));
        let mut off = Tally::new(0, WINDOW, 10);
        off.fail(&1, now);
        off.begin(&1);
        assert!(matches!(off.admission(&1, now), Admission::Open));
    }

    #[test]
    fn all_failures_together_are_bounded() {
        let (mut tally, start) = (Tally::new(100, WINDOW, 10), Instant::now());
        for number in 0..2000_u32 {
            let now = after(start, u64::from(number) / 10);
            tally.fail(&(number % 7), now);
            if number % 50 == 0 {
                tally.forgive(&(number % 7));
            }
            let all = (0..7).filter_map(|key| tally.failures.get_mut(&key).map(|all| all.len()));
            assert_eq!(tally.remembered, all.sum::<usize>());
            assert!(tally.remembered <= 10 * FAILURES_PER_KEY);
        }
        (10..40).for_each(|other| tally.fail(&other, after(start, 200)));
        assert_eq!(tally.remembered, 10, "one of each key");
    }

    #[test]
    fn a_flood_pushes_out_a_lock_only_when_it_is_as_large_as_the_table() {
        let (mut tally, now) = (Tally::new(1, WINDOW, 10), Instant::now());
        tally.fail(&0, now);
        (1..10).for_each(|other| tally.fail(&other, now));
        assert!(is_locked(&mut tally, 0, now));
        tally.fail(&10, now);
        assert!(!is_locked(&mut tally, 0, now));
    }
}
