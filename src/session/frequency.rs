//! How often connections come from one address.
//!
//! Promises:
//! - Of one address, so many connections are let in at once, and then so many every second.
//! - An IPv6 address counts in three networks (see [`Origin`]), of which a wider one may have a multiple of them.
//! - Bounded: at most [`MAX_ORIGINS`] networks are remembered, in less than 20 MiB. An address is worth
//!   remembering for a second after its last connection, and is forgotten after it. So to have itself
//!   forgotten sooner, an attacker needs as many addresses and a connection from each within that
//!   second, which is more than a gateway can accept; and then it is the other addresses, not the one
//!   that is limited, which get in.
//!
//! Must not: read a clock; the time is passed in.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::auth::Origin;

/// How many networks are remembered: three levels of 65,536 IPv6 addresses.
const MAX_ORIGINS: usize = 3 * 65_536;

/// What an address that has rested may ask for at once is what it may ask for in this time.
const BURST: Duration = Duration::from_secs(1);

/// Addresses looked at for each connection, to see whether they can be forgotten: more than the three levels that one
/// connection can add, so that there are never many that could be.
const LOOKS: usize = 6;

/// The connections of the last second; see the module.
#[derive(Debug)]
pub(super) struct Frequency {
    /// The time that one connection takes up.
    interval: Duration,
    capacity: usize,
    /// Until when an address has taken its time up. A time that is over means nothing.
    taken_until: HashMap<Origin, Instant>,
    /// The same addresses; who is looked at next is in front.
    next: VecDeque<Origin>,
}

impl Frequency {
    /// So many connections a second; 0 is any number.
    pub(super) fn new(per_second: u32) -> Option<Self> {
        Self::with_capacity(per_second, MAX_ORIGINS)
    }

    fn with_capacity(per_second: u32, capacity: usize) -> Option<Self> {
        let interval = BURST.checked_div(per_second)?;
        Some(Self {
            interval,
            capacity,
            taken_until: HashMap::new(),
            next: VecDeque::new(),
        })
    }

    /// Whether one more connection may come from there at `now`. One that may not takes no time up.
    pub(super) fn admits(&mut self, origin: Origin, now: Instant) -> bool {
        self.forget_rested(now);
        let too_often = |level: Origin| self.with_one_more(level, now) > now + BURST;
        if origin.levels().any(too_often) {
            return false;
        }
        for level in origin.levels() {
            let taken_until = self.with_one_more(level, now);
            if self.taken_until.insert(level, taken_until).is_none() {
                self.next.push_back(level);
                self.keep_to_capacity();
            }
        }
        true
    }

    /// Until when one more connection would take the time up.
    fn with_one_more(&self, level: Origin, now: Instant) -> Instant {
        let taken_until = self.taken_until.get(&level);
        let share = u32::try_from(level.share()).unwrap_or(u32::MAX);
        taken_until.map_or(now, |until| (*until).max(now)) + self.interval / share
    }

    fn forget_rested(&mut self, now: Instant) {
        for _ in 0..LOOKS {
            let Some(origin) = self.next.pop_front() else {
                return;
            };
            if self.taken_until.get(&origin).is_some_and(|it| *it > now) {
                self.next.push_back(origin);
            } else {
                self.taken_until.remove(&origin);
            }
        }
    }

    fn keep_to_capacity(&mut self) {
        if self.next.len() > self.capacity
            && let Some(origin) = self.next.pop_front()
        {
            self.taken_until.remove(&origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn origin(number: u32) -> Origin {
        IpAddr::V4(Ipv4Addr::from_bits(number)).into()
    }

    fn admitted(frequency: &mut Frequency, times: usize, now: Instant) -> usize {
        (0..times)
            .filter(|_| frequency.admits(origin(1), now))
            .count()
    }

    #[test]
    fn so_many_at_once_and_then_so_many_a_second() {
        let mut frequency = Frequency::new(5).unwrap();
        let start = Instant::now();
        assert_eq!(admitted(&mut frequency, 20, start), 5);
        let half = start + Duration::from_millis(500);
        assert_eq!(admitted(&mut frequency, 20, half), 2);
        // A client that keeps on connecting gets in no less often for it, and no more.
        let mut later = 0;
        for step in 51..=150 {
            let now = start + Duration::from_millis(10) * step;
            later += admitted(&mut frequency, 20, now);
        }
        assert_eq!(later, 5);
    }

    #[test]
    fn a_wider_network_may_come_more_often_and_not_as_often_as_it_likes() {
        let mut frequency = Frequency::new(5).unwrap();
        let start = Instant::now();
        let mut from_networks = |networks: std::ops::Range<u16>| {
            let address = |network: u16| IpAddr::from([0x2001, 0xdb8, 7, network, 0, 0, 0, 1]);
            let all = networks.flat_map(|network| [address(network); 5]);
            all.filter(|address| frequency.admits((*address).into(), start))
                .count()
        };
        assert_eq!(from_networks(0..0x100), 16 * 5, "of a /56");
        assert_eq!(from_networks(0x100..0xffff), 48 * 5, "of a /48, the rest");
    }

    #[test]
    fn none_is_any_number() {
        assert!(Frequency::new(0).is_none());
    }

    #[test]
    fn one_a_second_is_one_a_second() {
        let mut frequency = Frequency::new(1).unwrap();
        let start = Instant::now();
        assert_eq!(admitted(&mut frequency, 2, start), 1);
        let almost = start + Duration::from_millis(999);
        assert_eq!(admitted(&mut frequency, 2, almost), 0);
        let then = start + Duration::from_secs(1);
        assert_eq!(admitted(&mut frequency, 2, then), 1);
    }

    #[test]
    fn addresses_that_rest_are_forgotten_and_busy_ones_are_not() {
        let mut frequency = Frequency::new(5).unwrap();
        let start = Instant::now();
        let mut busy = 0;
        for step in 0..10_000_u32 {
            // A thousand new addresses a second, and one that never stops.
            let now = start + Duration::from_millis(1) * step;
            assert!(frequency.admits(origin(100 + step), now));
            busy += usize::from(frequency.admits(origin(1), now));
        }
        assert_eq!(busy, 5 + 49, "at once, and then five a second");
        assert!(frequency.next.len() < 2000, "{}", frequency.next.len());
        assert_eq!(frequency.next.len(), frequency.taken_until.len());
    }

    #[test]
    fn there_is_a_bound_however_many_come_at_once() {
        let mut frequency = Frequency::with_capacity(5, 100).unwrap();
        let start = Instant::now();
        for number in 0..100_000 {
            frequency.admits(origin(number), start);
        }
        assert_eq!(frequency.next.len(), 100);
        assert_eq!(frequency.taken_until.len(), 100);
    }
}
