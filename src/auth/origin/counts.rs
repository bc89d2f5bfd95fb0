//! How many of something each origin has.

use std::collections::HashMap;

use super::Origin;

/// A count for each origin that has any, at all its levels. Bounded by what is counted.
#[derive(Debug, Default)]
pub struct OriginCounts(HashMap<Origin, usize>);

impl OriginCounts {
    /// One more from there.
    pub fn add(&mut self, origin: Origin) {
        for level in origin.levels() {
            *self.0.entry(level).or_default() += 1;
        }
    }

    /// One less from there. One that was not added is passed over.
    pub fn remove(&mut self, origin: Origin) {
        for level in origin.levels() {
            let Some(count) = self.0.get_mut(&level) else {
                continue;
            };
            *count -= 1;
            if *count == 0 {
                self.0.remove(&level);
            }
        }
    }

    /// Whether one more from there would exceed `limit`, which is that of one address.
    #[must_use]
    pub fn is_full(&self, origin: Origin, limit: usize) -> bool {
        let is_full = |level: Origin| self.count(level) >= limit.saturating_mul(level.share());
        origin.levels().any(is_full)
    }

    /// What an origin weighs, to compare it with others: at the level where it weighs most. One address with
    /// one thing weighs as much as a /48 with four.
    #[must_use]
    pub fn load(&self, origin: Origin) -> usize {
        let load = |level: Origin| self.count(level) * level.weight();
        origin.levels().map(load).max().unwrap_or(0)
    }

    /// What [`Self::load`] would be with one more from there.
    #[must_use]
    pub fn load_with_one_more(&self, origin: Origin) -> usize {
        let load = |level: Origin| (self.count(level) + 1) * level.weight();
        origin.levels().map(load).max().unwrap_or(0)
    }

    /// Whether nothing is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn count(&self, level: Origin) -> usize {
        self.0.get(&level).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::MAX_WEIGHT;
    use super::*;

    fn origin(address: &str) -> Origin {
        Origin::from(address.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_wider_network_has_a_higher_limit_and_is_full_at_it() {
        let mut counts = OriginCounts::default();
        // Of each /64, the limit is 3: of the /56 it is 48, of the /48 it is 192.
        let mut admitted = 0;
        for network in 0..0x800 {
            let origin = origin(&format!("2001:db8:1:{network:x}::1"));
            while !counts.is_full(origin, 3) {
                counts.add(origin);
                admitted += 1;
            }
            let due = if network < 0x100 { 48 } else { 192 };
            assert!(admitted <= due, "{admitted} up to network {network:x}");
        }
        assert_eq!(admitted, 192);
        assert!(!counts.is_full(origin("2001:db8:2::1"), 3));
        assert!(!counts.is_full(origin("192.0.2.1"), 3));
    }

    #[test]
    fn what_is_removed_leaves_no_trace() {
        let mut counts = OriginCounts::default();
        for address in ["2001:db8::1", "192.0.2.1"] {
            counts.add(origin(address));
            assert_eq!(counts.load(origin(address)), MAX_WEIGHT);
            counts.remove(origin(address));
            counts.remove(origin(address));
        }
        assert!(counts.is_empty());
    }

    #[test]
    fn the_load_is_that_of_the_level_that_is_used_most() {
        let mut counts = OriginCounts::default();
        for network in 0..8 {
            counts.add(origin(&format!("2001:db8:1:{network:x}00::1")));
        }
        // Eight of the /48, of which four weigh as much as one address, and one of each /64.
        assert_eq!(counts.load(origin("2001:db8:1::1")), 2 * MAX_WEIGHT);
        assert_eq!(counts.load(origin("2001:db8:1:ff00::1")), 2 * MAX_WEIGHT);
        assert_eq!(counts.load(origin("2001:db8:2::1")), 0);
        assert_eq!(
            counts.load_with_one_more(origin("2001:db8:2::1")),
            MAX_WEIGHT
        );
    }
}
