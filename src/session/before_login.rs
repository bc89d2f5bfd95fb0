//! Sessions that have not logged in, and which of them gives way when all places are taken.
//!
//! Promises:
//! - It is the oldest one of the origin that has most of them, if that origin has more than the new session's origin would
//!   then have. If it has as many, its oldest session gives way only after [`PATIENCE`]: else a flood from many addresses
//!   would push out every client before its password has come.
//! - A session whose password is being checked never gives way: the oldest one is also the next to be hashed. Of one /48
//!   or address, only a part of all places is exempt in this way.
//! - One session weighs the same wherever it is from. More of them weigh by [`Origin::weight`], at the level of the origin
//!   where they weigh most.
//! - The choice takes no longer the more sessions there are: a flood makes many.
//!
//! Must not: know sessions, or read a clock.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::auth::Origin;

/// How long a session may be silent before it gives way to an origin that has as many: a few round trips and a TLS
/// handshake on a slow line. Silent floods from any number of addresses have their places no longer than this.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// One in so many of all places is exempt for passwords of one address or /48.
const EXEMPT_SHARE: usize = 4;

/// The sessions, by origin; see the module.
#[derive(Debug)]
pub(super) struct BeforeLogin {
    next: u64,
    sessions: HashMap<u64, Candidate>,
    /// The numbers of the sessions of an origin, at each of its levels.
    origins: HashMap<Origin, BTreeSet<u64>>,
    /// The origins, heaviest last; of equals, the one whose oldest session is older.
    ranks: BTreeSet<(usize, Reverse<u64>, Origin)>,
    /// How many passwords are being checked of a whole /48 or an address.
    exempt: HashMap<Origin, usize>,
    max_exempt: usize,
}

#[derive(Debug)]
struct Candidate {
    origin: Origin,
    since: Instant,
    gives_way: CancellationToken,
}

/// A session in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(u64);

impl BeforeLogin {
    /// Nobody, of `places`.
    pub(super) fn new(places: usize) -> Self {
        Self {
            next: 0,
            sessions: HashMap::new(),
            origins: HashMap::new(),
            ranks: BTreeSet::new(),
            exempt: HashMap::new(),
            max_exempt: (places / EXEMPT_SHARE).max(1),
        }
    }

    /// One more, at this time.
    pub(super) fn add(
        &mut self,
        origin: Origin,
        gives_way: CancellationToken,
        since: Instant,
    ) -> Number {
        let number = self.next;
        self.next += 1;
        let candidate = Candidate {
            origin,
            since,
            gives_way,
        };
        self.sessions.insert(number, candidate);
        self.change(origin, |numbers| {
            numbers.insert(number);
        });
        Number(number)
    }

    /// One less: it has logged in, or ended. One that has given way is passed over.
    pub(super) fn remove(&mut self, Number(number): Number) {
        self.take(number);
    }

    /// Takes a session out for as long as its password is checked. `false` if its origin has too many of those, and it
    /// stays.
    pub(super) fn exempt(&mut self, origin: Origin, number: Number) -> bool {
        let exempt = self.exempt.entry(origin.widest()).or_default();
        if *exempt >= self.max_exempt {
            return false;
        }
        *exempt += 1;
        self.remove(number);
        true
    }

    /// The password of one that was taken out has been checked.
    pub(super) fn end_exemption(&mut self, origin: Origin) {
        let origin = origin.widest();
        if let Some(exempt) = self.exempt.get_mut(&origin) {
            *exempt -= 1;
            if *exempt == 0 {
                self.exempt.remove(&origin);
            }
        }
    }

    /// Tells one to go, for a new session from `asker`. Gives where it was from; `None` if nobody gives way.
    pub(super) fn give_way(&mut self, asker: Origin, now: Instant) -> Option<Origin> {
        let (largest, Reverse(oldest), _) = *self.ranks.last()?;
        let asked = self.weight_with_one_more(asker);
        let since = self.sessions.get(&oldest)?.since;
        let is_late = now.duration_since(since) >= PATIENCE;
        if asked > largest || (asked == largest && !is_late) {
            return None;
        }
        let gone = self.take(oldest)?;
        gone.gives_way.cancel();
        Some(gone.origin)
    }

    /// What an origin would weigh, at the level where it weighs most.
    fn weight_with_one_more(&self, origin: Origin) -> usize {
        let sessions = |level: &Origin| self.origins.get(level).map_or(0, BTreeSet::len);
        let weight = |level: Origin| (sessions(&level) + 1) * level.weight();
        origin.levels().map(weight).max().unwrap_or(0)
    }

    fn take(&mut self, number: u64) -> Option<Candidate> {
        let candidate = self.sessions.remove(&number)?;
        self.change(candidate.origin, |numbers| {
            numbers.remove(&number);
        });
        Some(candidate)
    }

    /// Changes the numbers of an origin at each of its levels, and its ranks.
    fn change(&mut self, origin: Origin, change: impl Fn(&mut BTreeSet<u64>)) {
        for level in origin.levels() {
            let numbers = self.origins.entry(level).or_default();
            if let Some(rank) = rank(level, numbers) {
                self.ranks.remove(&rank);
            }
            change(numbers);
            match rank(level, numbers) {
                Some(rank) => {
                    self.ranks.insert(rank);
                }
                None => {
                    self.origins.remove(&level);
                }
            }
        }
    }
}

fn rank(level: Origin, numbers: &BTreeSet<u64>) -> Option<(usize, Reverse<u64>, Origin)> {
    let oldest = *numbers.first()?;
    Some((numbers.len() * level.weight(), Reverse(oldest), level))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn at(address: &str) -> Origin {
        address.parse::<IpAddr>().unwrap().into()
    }

    /// Sessions from these addresses, and which of them have been told to go.
    struct Sessions {
        all: BeforeLogin,
        numbers: Vec<Number>,
        tokens: Vec<CancellationToken>,
        start: Instant,
    }

    impl Sessions {
        fn from(addresses: &[&str]) -> Self {
            let mut sessions = Self {
                all: BeforeLogin::new(40),
                numbers: Vec::new(),
                tokens: Vec::new(),
                start: Instant::now(),
            };
            for address in addresses {
                let token = CancellationToken::new();
                let number = sessions.all.add(at(address), token.clone(), sessions.start);
                sessions.numbers.push(number);
                sessions.tokens.push(token);
            }
            sessions
        }

        fn give_way(&mut self, asker: &str) -> Option<Origin> {
            self.all.give_way(at(asker), self.start)
        }

        fn told_to_go(&self) -> Vec<usize> {
            let all = self.tokens.iter().enumerate();
            all.filter(|(_, token)| token.is_cancelled())
                .map(|(index, _)| index)
                .collect()
        }
    }

    #[test]
    fn the_oldest_of_the_largest_origin_gives_way() {
        let mut sessions = Sessions::from(&["192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.2"]);
        assert_eq!(sessions.give_way("192.0.2.3"), Some(at("192.0.2.2")));
        assert_eq!(sessions.told_to_go(), [1]);
        assert_eq!(sessions.give_way("192.0.2.2"), None, "it would be its own");
        assert_eq!(
            sessions.give_way("192.0.2.1"),
            None,
            "it would have as many"
        );
        sessions.give_way("192.0.2.3").unwrap();
        assert_eq!(sessions.told_to_go(), [1, 2]);
    }

    #[test]
    fn of_equals_only_those_give_way_that_have_been_silent_for_long() {
        let mut sessions = Sessions::from(&["192.0.2.1", "2001:db8::1"]);
        for asker in ["192.0.2.3", "2001:db8:1::1"] {
            assert_eq!(sessions.give_way(asker), None);
        }
        let late = sessions.start + PATIENCE;
        let early = late.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(sessions.all.give_way(at("192.0.2.3"), early), None);
        assert_eq!(
            sessions.all.give_way(at("192.0.2.1"), late),
            None,
            "its own"
        );
        for _ in 0..2 {
            sessions.all.give_way(at("192.0.2.3"), late).unwrap();
        }
        assert_eq!(sessions.told_to_go(), [0, 1]);
    }

    /// Neither does one IPv4 address go before one of IPv6, nor is a whole /48 as heavy as a single network in it.
    #[test]
    fn one_session_weighs_the_same_from_anywhere() {
        let mut sessions = Sessions::from(&["192.0.2.1", "2001:db8:1::1", "2001:db8:2::1"]);
        for asker in ["192.0.2.3", "2001:db8:3::1", "2001:db8:1:ff00::1"] {
            assert_eq!(sessions.give_way(asker), None, "{asker}");
        }
        let mut sessions = Sessions::from(&["192.0.2.1", "192.0.2.1", "2001:db8::1"]);
        assert_eq!(sessions.give_way("192.0.2.3"), Some(at("192.0.2.1")));
        let mut sessions = Sessions::from(&["192.0.2.1", "2001:db8::1", "2001:db8::1"]);
        assert_eq!(sessions.give_way("192.0.2.3"), Some(at("2001:db8::1")));
    }

    #[test]
    fn a_prefix_has_the_share_of_four_addresses_and_a_network_in_it_that_of_one() {
        let prefix: Vec<_> = (0..6)
            .map(|net| format!("2001:db8:7:{net:x}00::1"))
            .collect();
        let mut addresses: Vec<&str> = vec!["192.0.2.1"];
        addresses.extend(prefix.iter().map(String::as_str));
        let mut sessions = Sessions::from(&addresses);
        for _ in 0..2 {
            sessions.give_way("192.0.2.3").unwrap();
        }
        assert_eq!(sessions.told_to_go(), [1, 2]);
        assert_eq!(sessions.give_way("192.0.2.3"), None);
        assert_eq!(sessions.give_way("2001:db8:7:ff::1"), None);
        // A neighbour in the /48 takes the place of a network that has many.
        let mut sessions = Sessions::from(&["2001:db8:7::1"; 5]);
        assert!(sessions.give_way("2001:db8:7:ff00::1").is_some());
    }

    #[test]
    fn a_session_whose_password_is_checked_does_not_give_way() {
        let mut sessions = Sessions::from(&["192.0.2.1"; 12]);
        let here = at("192.0.2.1");
        for number in &sessions.numbers[..10] {
            assert!(sessions.all.exempt(here, *number));
        }
        // A quarter of all places, and no more.
        assert!(!sessions.all.exempt(here, sessions.numbers[10]));
        sessions.give_way("192.0.2.3").unwrap();
        assert_eq!(sessions.told_to_go(), [10]);
        sessions.all.end_exemption(here);
        assert!(sessions.all.exempt(here, sessions.numbers[11]));
        assert_eq!(sessions.give_way("192.0.2.3"), None);
    }

    #[test]
    fn whoever_is_gone_leaves_no_trace() {
        for address in ["192.0.2.1", "2001:db8::1"] {
            let mut sessions = Sessions::from(&[address, address]);
            assert!(sessions.all.exempt(at(address), sessions.numbers[0]));
            sessions.all.end_exemption(at(address));
            for _ in 0..2 {
                sessions.all.remove(sessions.numbers[1]);
            }
            assert_eq!(sessions.give_way("192.0.2.2"), None);
            let all = sessions.all;
            assert!(all.sessions.is_empty() && all.exempt.is_empty());
            assert!(all.origins.is_empty() && all.ranks.is_empty());
        }
    }
}
