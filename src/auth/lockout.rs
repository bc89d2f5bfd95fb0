//! Too many failed logins: who has to wait.
//!
//! Failures are counted twice: by user name and address together, so that nobody can lock a user
//! out from elsewhere; and by address alone, so that nobody can try one password on many names.
//!
//! What counts as one address is an [`Origin`]: an IPv6 address counts in three networks, of which a wider one is locked
//! at a multiple of the failures. No name is locked for a whole /48, which is often shared by a carrier's customers: else
//! a few of them could lock out the others' user, again and again.
//!
//! Promises:
//! - An attempt takes its place in both counts before its password is looked at, so guesses that
//!   run in parallel can't outnumber the limit. When all places are taken by attempts still
//!   running, the next one waits for one of them; it is not refused, for they may all be right.
//! - An attempt that ends without a verdict (its caller left the queue, hashing failed) gives its
//!   places back.
//! - Bounded memory: names are kept as keyed hashes, and of each count at most [`MAX_KEYS`] keys with four failures on
//!   average, together about 20 MiB; see `tally` for which one is forgotten and what that costs an attacker.
//!
//! Must not: know passwords.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::futures::OwnedNotified, time::Instant};

use super::origin::Origin;
use super::tally::{Admission, Share, Tally};

/// How many keys of each count are remembered: three levels of 10,000 IPv6 addresses.
const MAX_KEYS: usize = 30_000;

/// When logins are refused after failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockoutPolicy {
    /// So many failures with one name from one address lock that pair; 0 for never.
    pub failures: u32,
    /// So many failures from one address, whatever the names, lock that address; 0 for never.
    /// A success does not clear this count, or one known password would allow endless guesses.
    pub failures_per_address: u32,
    /// How long a lock lasts after the last failure, and within what time failures add up.
    /// Zero switches both locks off.
    pub lockout: Duration,
}

/// The counts of a gateway; see the module.
pub(super) struct Lockout {
    names: RandomState,
    counts: Mutex<Counts>,
}

struct Counts {
    pairs: Tally<Pair>,
    clients: Tally<Origin>,
}

/// A user name, as a keyed hash, and where it was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Pair {
    name: u64,
    client: Origin,
}

impl Pair {
    /// The same name at each level of the origin at which names are locked.
    fn levels(self) -> impl Iterator<Item = Self> {
        let name = self.name;
        let levels = self.client.levels();
        levels
            .filter(|client| !client.is_widest_network())
            .map(move |client| Self { name, client })
    }
}

impl Share for Pair {
    fn share(&self) -> usize {
        self.client.share()
    }
}

impl Share for Origin {
    fn share(&self) -> usize {
        (*self).share()
    }
}

/// The name or the address must wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LockedOut;

/// An attempt to log in that holds its places in the counts until it has a verdict or is dropped.
pub(super) struct Attempt {
    lockout: Arc<Lockout>,
    pair: Pair,
    verdict: Verdict,
}

enum Verdict {
    None,
    Failed,
    Succeeded,
}

impl Lockout {
    /// Counts by `policy`.
    pub(super) fn new(policy: LockoutPolicy) -> Self {
        let window = policy.lockout;
        let limit = |failures: u32| {
            if window.is_zero() {
                0
            } else {
                usize::try_from(failures).unwrap_or(usize::MAX)
            }
        };
        let counts = Counts {
            pairs: Tally::new(limit(policy.failures), window, MAX_KEYS),
            clients: Tally::new(limit(policy.failures_per_address), window, MAX_KEYS),
        };
        Self {
            names: RandomState::new(),
            counts: Mutex::new(counts),
        }
    }

    /// Begins an attempt to log in as `name` from `peer`, once there is a place for it.
    ///
    /// # Errors
    /// [`LockedOut`] if the name from there, or the address, is locked.
    pub(super) async fn begin(
        self: &Arc<Self>,
        name: &str,
        peer: IpAddr,
    ) -> Result<Attempt, LockedOut> {
        let pair = Pair {
            name: self.names.hash_one(name),
            client: peer.into(),
        };
        while let Some(one_ended) = self.try_begin(pair)? {
            one_ended.await;
        }
        Ok(Attempt {
            lockout: Arc::clone(self),
            pair,
            verdict: Verdict::None,
        })
    }

    /// Takes the places if it can; says what to wait for if it can't yet.
    fn try_begin(&self, pair: Pair) -> Result<Option<OwnedNotified>, LockedOut> {
        let now = Instant::now();
        let mut counts = self.counts();
        let mut full = None;
        let Counts { pairs, clients } = &mut *counts;
        let by_pair = pair.levels().map(|pair| pairs.admission(&pair, now));
        let levels = pair.client.levels();
        let by_client = levels.map(|client| clients.admission(&client, now));
        for admission in by_pair.chain(by_client) {
            match admission {
                Admission::Locked => return Err(LockedOut),
                Admission::Full(one_ended) => full = Some(one_ended),
                Admission::Open => {}
            }
        }
        if full.is_none() {
            pair.levels().for_each(|pair| pairs.begin(&pair));
            let levels = pair.client.levels();
            levels.for_each(|client| clients.begin(&client));
        }
        Ok(full)
    }

    fn end(&self, pair: Pair, verdict: &Verdict) {
        let now = Instant::now();
        let mut counts = self.counts();
        for pair in pair.levels() {
            match verdict {
                Verdict::None => {}
                Verdict::Failed => counts.pairs.fail(&pair, now),
                Verdict::Succeeded => counts.pairs.forgive(&pair),
            }
            counts.pairs.end(&pair);
        }
        for client in pair.client.levels() {
            if matches!(verdict, Verdict::Failed) {
                counts.clients.fail(&client, now);
            }
            counts.clients.end(&client);
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    /// The password was wrong, or the name unknown.
    pub(super) fn failed(mut self) {
        self.verdict = Verdict::Failed;
    }

    /// The password was right.
    pub(super) fn succeeded(mut self) {
        self.verdict = Verdict::Succeeded;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.lockout.end(self.pair, &self.verdict);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time;

    use super::*;

    const LOCK: Duration = Duration::from_mins(1);

    fn lockout(failures: u32, failures_per_address: u32) -> Arc<Lockout> {
        let policy = LockoutPolicy {
            failures,
            failures_per_address,
            lockout: LOCK,
        };
        Arc::new(Lockout::new(policy))
    }

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    async fn fail(lockout: &Arc<Lockout>, name: &str, address: &str) {
        lockout.begin(name, at(address)).await.unwrap().failed();
    }

    async fn is_locked(lockout: &Arc<Lockout>, name: &str, address: &str) -> bool {
        lockout.begin(name, at(address)).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pair_is_locked_and_nobody_else() {
        let lockout = lockout(2, 0);
        fail(&lockout, "anna", "192.0.2.1").await;
        assert!(!is_locked(&lockout, "anna", "192.0.2.1").await);
        fail(&lockout, "anna", "192.0.2.1").await;
        assert!(is_locked(&lockout, "anna", "192.0.2.1").await);
        assert!(!is_locked(&lockout, "anna", "192.0.2.2").await);
        assert!(!is_locked(&lockout, "bert", "192.0.2.1").await);
        time::advance(LOCK).await;
        assert!(!is_locked(&lockout, "anna", "192.0.2.1").await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_locked_whatever_the_names() {
        let lockout = lockout(0, 2);
        fail(&lockout, "anna", "192.0.2.1").await;
        fail(&lockout, "bert", "192.0.2.1").await;
        assert!(is_locked(&lockout, "carl", "192.0.2.1").await);
        assert!(!is_locked(&lockout, "carl", "192.0.2.2").await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_does_not_prolong_a_lock() {
        let lockout = lockout(1, 1);
        fail(&lockout, "anna", "192.0.2.1").await;
        time::advance(LOCK / 2).await;
        assert!(is_locked(&lockout, "anna", "192.0.2.1").await);
        time::advance(LOCK / 2).await;
        assert!(!is_locked(&lockout, "anna", "192.0.2.1").await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_clears_the_pair_and_not_the_address() {
        let lockout = lockout(2, 3);
        fail(&lockout, "anna", "192.0.2.1").await;
        lockout
            .begin("anna", at("192.0.2.1"))
            .await
            .unwrap()
            .succeeded();
        fail(&lockout, "anna", "192.0.2.1").await;
        assert!(!is_locked(&lockout, "anna", "192.0.2.1").await);
        fail(&lockout, "bert", "192.0.2.1").await;
        assert!(is_locked(&lockout, "carl", "192.0.2.1").await);
    }

    #[tokio::test(start_paused = true)]
    async fn ipv6_counts_by_64_bits_and_mapped_addresses_are_ipv4() {
        let lockout = lockout(0, 1);
        fail(&lockout, "anna", "2001:db8:0:1::1").await;
        assert!(is_locked(&lockout, "anna", "2001:db8:0:1:ffff::2").await);
        assert!(!is_locked(&lockout, "anna", "2001:db8:0:2::1").await);
        fail(&lockout, "anna", "::ffff:192.0.2.1").await;
        assert!(is_locked(&lockout, "anna", "192.0.2.1").await);
        assert!(!is_locked(&lockout, "anna", "::ffff:192.0.2.2").await);
    }

    /// How many wrong passwords are looked at, of three tries each from these networks of a /48.
    async fn looked_at(lockout: &Arc<Lockout>, networks: std::ops::Range<u32>, names: u32) -> u32 {
        let (mut failures, mut tries) = (0, 0);
        for network in networks.step_by(0x8) {
            for _ in 0..3 {
                tries += 1;
                let (name, address) = (tries % names, format!("2001:db8:7:{network:x}::1"));
                let attempt = lockout.begin(&format!("name{name}"), at(&address)).await;
                if let Ok(attempt) = attempt {
                    attempt.failed();
                    failures += 1;
                }
            }
        }
        failures
    }

    /// A user of 65,536 networks at /64 has a multiple of the tries of one address, and no more.
    #[tokio::test(start_paused = true)]
    async fn a_whole_ipv6_prefix_is_locked_at_a_multiple_of_the_limit() {
        for (by_pair, networks, names, due) in [
            (3, 0..0x100, 1, 16 * 3),
            (0, 0..0x100, 7, 16 * 3),
            (0, 0..0x1_0000, 7, 64 * 3),
        ] {
            let by_client = if by_pair == 0 { 3 } else { 0 };
            let lockout = lockout(by_pair, by_client);
            assert_eq!(looked_at(&lockout, networks, names).await, due);
            assert!(!is_locked(&lockout, "name0", "2001:db8:8::1").await);
            time::advance(LOCK).await;
            assert!(!is_locked(&lockout, "name0", "2001:db8:7::1").await);
        }
    }

    /// At the default limits: four customers of a carrier can't lock out their neighbours.
    #[tokio::test(start_paused = true)]
    async fn a_few_networks_do_not_lock_their_neighbours() {
        for names in [1, 7] {
            let lockout = lockout(5, 50);
            for network in ["100", "101", "200", "201"] {
                for number in 0..50 {
                    let name = format!("name{}", number % names);
                    let address = at(&format!("2001:db8:7:{network}::1"));
                    if let Ok(attempt) = lockout.begin(&name, address).await {
                        attempt.failed();
                    }
                }
            }
            for neighbour in ["2001:db8:7:102::1", "2001:db8:7:300::1"] {
                assert!(
                    !is_locked(&lockout, "name0", neighbour).await,
                    "{neighbour}"
                );
            }
        }
        // Nor do very many of them the user of another /56.
        let lockout = lockout(1, 0);
        looked_at(&lockout, 0..0xff00, 1).await;
        assert!(!is_locked(&lockout, "name0", "2001:db8:7:ff00::1").await);
    }

    /// Attempts that run count at each level as well.
    #[tokio::test(start_paused = true)]
    async fn attempts_of_a_prefix_that_run_at_once_can_t_outnumber_its_limit() {
        let lockout = lockout(0, 2);
        let mut running = Vec::new();
        for network in 0..128 {
            let address = at(&format!("2001:db8:7:{network:x}00::1"));
            running.push(lockout.begin("anna", address).await.unwrap());
        }
        let mut next = Box::pin(lockout.begin("anna", at("2001:db8:7:ff00::1")));
        assert!(time::timeout(LOCK, &mut next).await.is_err(), "no place");
        drop(running.pop());
        next.await.expect("one has given its place back").failed();
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_without_a_verdict_does_not_count() {
        let lockout = lockout(1, 1);
        drop(lockout.begin("anna", at("192.0.2.1")).await.unwrap());
        assert!(!is_locked(&lockout, "anna", "192.0.2.1").await);
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_than_the_limit_waits_until_one_has_ended() {
        for by_address in [0, 2] {
            let lockout = lockout(2 - by_address, by_address);
            let first = lockout.begin("anna", at("192.0.2.1")).await.unwrap();
            let second = lockout.begin("anna", at("192.0.2.1")).await.unwrap();
            let mut third = Box::pin(lockout.begin("anna", at("192.0.2.1")));
            assert!(
                time::timeout(LOCK, &mut third).await.is_err(),
                "no place yet"
            );
            first.succeeded();
            third.await.expect("the first gave its place back").failed();
            second.failed();
            assert!(is_locked(&lockout, "anna", "192.0.2.1").await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn zero_switches_off() {
        let policy = LockoutPolicy {
            failures: 1,
            failures_per_address: 1,
            lockout: Duration::ZERO,
        };
        for lockout in [lockout(0, 0), Arc::new(Lockout::new(policy))] {
            let running = lockout.begin("anna", at("192.0.2.1")).await.unwrap();
            for _ in 0..100 {
                fail(&lockout, "anna", "192.0.2.1").await;
            }
            running.failed();
            assert!(!is_locked(&lockout, "anna", "192.0.2.1").await);
        }
    }
}
