//! Sessions that have not logged in, and which of them gives way when all places are taken.
//!
//! Promises:
//! - It is the oldest one of the origin that has most of them. A new session takes no place from an origin that would
//!   then have fewer than its own.
//! - The choice takes no longer the more sessions there are: a flood makes many.
//!
//! An origin is as wide as it can be here, a whole /48 of IPv6. Must not: know sessions.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio_util::sync::CancellationToken;

use crate::auth::Origin;

/// The share of a /48, and so what one session of an IPv4 address counts as.
const WIDEST_SHARE: usize = 4;

/// The sessions, by origin; see the module.
#[derive(Debug, Default)]
pub(super) struct BeforeLogin {
    next: u64,
    sites: HashMap<Origin, Site>,
    /// The sites by their rank: the one that gives way is the last.
    ranks: BTreeSet<(Rank, u64)>,
    /// The site of the oldest session in it.
    by_oldest: HashMap<u64, Origin>,
}

/// Sessions of one origin, the oldest first, and what tells each that it has to go.
#[derive(Debug, Default)]
struct Site(BTreeMap<u64, (Origin, CancellationToken)>);

/// How much of its share a site has; of equals, the one whose oldest session is older.
type Rank = (usize, Reverse<u64>);

/// A session in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(u64);

impl BeforeLogin {
    /// One more.
    pub(super) fn add(&mut self, origin: Origin, gives_way: CancellationToken) -> Number {
        let number = self.next;
        self.next += 1;
        self.change(origin, |site| {
            site.0.insert(number, (origin, gives_way));
        });
        Number(number)
    }

    /// One less: it has logged in, or ended.
    pub(super) fn remove(&mut self, origin: Origin, number: Number) {
        self.change(origin, |site| {
            site.0.remove(&number.0);
        });
    }

    /// Tells one to go, for a new session from `asker`. Gives where it was from; `None` if nobody gives way.
    pub(super) fn give_way(&mut self, asker: Origin) -> Option<Origin> {
        let ((largest, _), oldest) = *self.ranks.last()?;
        let own = self.sites.get(&asker.widest()).map_or(0, Site::len);
        if load(asker.widest(), own + 1) > largest {
            return None;
        }
        let site = *self.by_oldest.get(&oldest)?;
        let mut first = None;
        self.change(site, |site| first = site.0.pop_first());
        let (_, (origin, gives_way)) = first?;
        gives_way.cancel();
        Some(origin)
    }

    fn change(&mut self, origin: Origin, change: impl FnOnce(&mut Site)) {
        let origin = origin.widest();
        let site = self.sites.entry(origin).or_default();
        if let Some((rank, oldest)) = site.rank(origin) {
            self.ranks.remove(&(rank, oldest));
            self.by_oldest.remove(&oldest);
        }
        change(site);
        match site.rank(origin) {
            Some((rank, oldest)) => {
                self.ranks.insert((rank, oldest));
                self.by_oldest.insert(oldest, origin);
            }
            None => drop(self.sites.remove(&origin)),
        }
    }
}

impl Site {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn rank(&self, origin: Origin) -> Option<(Rank, u64)> {
        let oldest = *self.0.keys().next()?;
        Some(((load(origin, self.len()), Reverse(oldest)), oldest))
    }
}

/// How much of its share so many sessions are.
fn load(widest: Origin, sessions: usize) -> usize {
    sessions * WIDEST_SHARE / widest.share()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn at(address: &str) -> Origin {
        address.parse::<IpAddr>().unwrap().into()
    }

    /// Sessions from these addresses, and which of them have been told to go.
    fn sessions(addresses: &[&str]) -> (BeforeLogin, Vec<CancellationToken>) {
        let mut all = BeforeLogin::default();
        let tokens: Vec<_> = addresses.iter().map(|_| CancellationToken::new()).collect();
        for (address, token) in addresses.iter().zip(&tokens) {
            all.add(at(address), token.clone());
        }
        (all, tokens)
    }

    fn told_to_go(tokens: &[CancellationToken]) -> Vec<usize> {
        let all = tokens.iter().enumerate();
        all.filter(|(_, token)| token.is_cancelled())
            .map(|(index, _)| index)
            .collect()
    }

    #[test]
    fn the_oldest_of_the_largest_origin_gives_way() {
        let addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.2"];
        let (mut all, tokens) = sessions(&addresses);
        assert_eq!(all.give_way(at("192.0.2.3")), Some(at("192.0.2.2")));
        assert_eq!(told_to_go(&tokens), [1]);
        assert_eq!(all.give_way(at("192.0.2.2")), None, "it would be its own");
        all.give_way(at("192.0.2.3")).unwrap();
        // One of each: the oldest of all.
        all.give_way(at("192.0.2.3")).unwrap();
        assert_eq!(told_to_go(&tokens), [0, 1, 2]);
    }

    #[test]
    fn a_prefix_is_one_origin_and_has_the_share_of_four_addresses() {
        let prefix: Vec<_> = (0..6)
            .map(|net| format!("2001:db8:7:{net:x}00::1"))
            .collect();
        let mut addresses: Vec<&str> = vec!["192.0.2.1"];
        addresses.extend(prefix.iter().map(String::as_str));
        let (mut all, tokens) = sessions(&addresses);
        for _ in 0..2 {
            all.give_way(at("192.0.2.3")).unwrap();
        }
        assert_eq!(told_to_go(&tokens), [1, 2]);
        assert_eq!(all.give_way(at("2001:db8:7:ff::1")), None);
    }

    #[test]
    fn whoever_is_gone_leaves_no_trace() {
        let mut all = BeforeLogin::default();
        let number = all.add(at("192.0.2.1"), CancellationToken::new());
        all.remove(at("192.0.2.1"), number);
        all.remove(at("192.0.2.1"), number);
        assert_eq!(all.give_way(at("192.0.2.2")), None);
        assert!(all.sites.is_empty() && all.ranks.is_empty() && all.by_oldest.is_empty());
    }
}
