//! Origins that have logged in before: their next login comes first.
//!
//! Promises:
//! - Bounded: [`MAX_KNOWN`] origins; the one whose last login is longest ago is forgotten.
//! - Of one /48 of IPv6 no more than [`MAX_OF_SITE`] are remembered, so that a user who has one does not make all others
//!   strangers. Beyond that its own oldest is forgotten.

use std::collections::{HashMap, VecDeque};

use crate::auth::{origin::Origin, recent::Recent};

/// How many origins that have logged in are remembered.
const MAX_KNOWN: usize = 10_000;

/// How many of them may be of one /48.
const MAX_OF_SITE: usize = 64;

/// The origins; see the module.
pub(super) struct Known {
    origins: Recent<Origin, ()>,
    /// Those of each widest origin, the one whose last login is longest ago in front.
    sites: HashMap<Origin, VecDeque<Origin>>,
}

impl Default for Known {
    fn default() -> Self {
        Self::new(MAX_KNOWN)
    }
}

impl Known {
    fn new(capacity: usize) -> Self {
        Self {
            origins: Recent::new(capacity),
            sites: HashMap::new(),
        }
    }

    /// Whether there was a login from there.
    pub(super) fn contains(&mut self, origin: Origin) -> bool {
        self.origins.get_mut(&origin).is_some()
    }

    /// Notes a login from there.
    pub(super) fn note(&mut self, origin: Origin) {
        self.forget(origin);
        let site = self.sites.entry(origin.widest()).or_default();
        if site.len() >= MAX_OF_SITE
            && let Some(oldest) = site.pop_front()
        {
            self.origins.remove(&oldest);
        }
        site.push_back(origin);
        if let Some((forgotten, ())) = self.origins.renew(&origin, |()| ()) {
            self.forget(forgotten);
        }
    }

    fn forget(&mut self, origin: Origin) {
        self.origins.remove(&origin);
        let widest = origin.widest();
        if let Some(site) = self.sites.get_mut(&widest) {
            site.retain(|other| *other != origin);
            if site.is_empty() {
                self.sites.remove(&widest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn at(address: &str) -> Origin {
        address.parse::<IpAddr>().unwrap().into()
    }

    fn network(number: usize) -> Origin {
        at(&format!("2001:db8:7:{number:x}::1"))
    }

    #[test]
    fn a_prefix_makes_nobody_else_a_stranger() {
        let mut known = Known::new(100);
        let other = at("192.0.2.1");
        known.note(other);
        for number in 0..1000 {
            known.note(network(number));
            // It comes again, and is the youngest.
            known.note(network(0));
        }
        assert!(known.contains(other) && known.contains(network(0)));
        assert!(known.contains(network(999)) && !known.contains(network(900)));
        assert_eq!(known.sites[&network(0).widest()].len(), MAX_OF_SITE);
    }

    #[test]
    fn whoever_is_forgotten_leaves_no_trace() {
        let mut known = Known::new(10);
        for host in 0..100 {
            known.note(at(&format!("192.0.2.{host}")));
            known.note(network(host % 7));
        }
        assert_eq!(known.sites.values().map(VecDeque::len).sum::<usize>(), 10);
        assert!(known.sites.values().all(|site| !site.is_empty()));
        assert!(known.contains(at("192.0.2.99")) && !known.contains(at("192.0.2.1")));
    }
}
