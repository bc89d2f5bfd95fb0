//! Fair shares of what there is only so much of: whose is taken when none is left, for somebody who holds less.
//!
//! Invariants:
//! - Between users: whoever gets one holds, with it, no more than the one it was taken from holds without it.
//! - Between the origins of one user: one is taken only from an origin with a larger load than that of the asker will
//!   be. Of an IPv6 network, all levels count.
//! - So the loser, if it asks at once, takes nothing back from the asker: nobody takes from each other in turn.
//!
//! Must not: know what is held.

use std::collections::HashMap;

use super::{Origin, OriginCounts};

/// Who holds something, or asks for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding<'a> {
    /// The name of the user.
    pub user: &'a str,
    /// Where it comes from.
    pub origin: Origin,
}

/// Of all that is held, the one to take for `asker`; `None` if nobody holds more than its share. It is of the user who
/// holds most, or of the asker's own user, and there of the origin that holds most. Of several, the least key is taken.
pub fn to_take<'a, K: Ord>(
    held: impl Iterator<Item = (K, Holding<'a>)> + Clone,
    asker: Holding<'a>,
) -> Option<K> {
    let mut by_user = HashMap::new();
    for (_, holding) in held.clone() {
        *by_user.entry(holding.user).or_insert(0_usize) += 1;
    }
    let held_by = |user: &str| by_user.get(user).copied().unwrap_or(0);
    let most = by_user.values().copied().max()?;
    if held_by(asker.user) + 1 < most {
        let of_largest = held.filter(|(_, holding)| held_by(holding.user) == most);
        return of_largest_origin(of_largest, |_| 0);
    }
    let own = held.filter(|(_, holding)| holding.user == asker.user);
    of_largest_origin(own, |counts| counts.load_with_one_more(asker.origin))
}

/// One of the origin with the largest load among these, if that is above a load.
fn of_largest_origin<'a, K: Ord>(
    held: impl Iterator<Item = (K, Holding<'a>)> + Clone,
    above: impl FnOnce(&OriginCounts) -> usize,
) -> Option<K> {
    let mut counts = OriginCounts::default();
    for (_, holding) in held.clone() {
        counts.add(holding.origin);
    }
    let load = |holding: Holding<'_>| counts.load(holding.origin);
    let largest = held.clone().map(|(_, holding)| load(holding)).max();
    let largest = largest.filter(|largest| *largest > above(&counts))?;
    let of_largest = held.filter(|(_, holding)| load(*holding) == largest);
    of_largest.map(|(key, _)| key).min()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const USERS: [&str; 4] = ["anna", "bert", "carl", "dora"];

    const ADDRESSES: [&str; 6] = [
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
        "2001:db8:7:1::1",
        "2001:db8:7:2::1",
        "2001:db8:8::1",
    ];

    fn of(user: &'static str, address: &str) -> Holding<'static> {
        let origin = address.parse::<IpAddr>().unwrap().into();
        Holding { user, origin }
    }

    fn any() -> Holding<'static> {
        let user = USERS[rand::random_range(0..USERS.len())];
        of(user, ADDRESSES[rand::random_range(0..ADDRESSES.len())])
    }

    fn taken(held: &[Holding<'static>], asker: Holding<'static>) -> Option<usize> {
        to_take(held.iter().copied().enumerate(), asker)
    }

    fn held_by(held: &[Holding<'_>], user: &str) -> usize {
        held.iter().filter(|holding| holding.user == user).count()
    }

    #[test]
    fn after_a_taking_the_asker_holds_no_more_than_the_loser() {
        let mut takings = 0;
        for _ in 0..2000 {
            let mut held: Vec<_> = (0..rand::random_range(1..12)).map(|_| any()).collect();
            for _ in 0..20 {
                let asker = any();
                let Some(index) = taken(&held, asker) else {
                    // Somebody leaves, or a place is free.
                    let index = rand::random_range(0..held.len());
                    held[index] = any();
                    continue;
                };
                takings += 1;
                let before = held.clone();
                let loser = std::mem::replace(&mut held[index], asker);
                if loser.user != asker.user {
                    let after = [asker.user, loser.user].map(|user| held_by(&held, user));
                    assert!(after[0] <= after[1], "{asker:?} of {before:?}");
                }
                let back = taken(&held, loser).map(|index| held[index]);
                assert_ne!(back, Some(asker), "{loser:?} lost it of {before:?}");
            }
        }
        assert!(takings > 1000, "{takings}");
    }

    /// However they ask, it comes to an end.
    #[test]
    fn whoever_asks_again_and_again_stops_to_take() {
        for _ in 0..200 {
            let mut held: Vec<_> = (0..12).map(|_| any()).collect();
            let askers: Vec<_> = (0..6).map(|_| any()).collect();
            let mut takings = 0;
            for round in 0..600 {
                let asker = askers[round % askers.len()];
                if let Some(index) = taken(&held, asker) {
                    held[index] = asker;
                    takings += 1;
                }
            }
            assert!(takings < 100, "{takings} of {askers:?}");
        }
    }

    #[test]
    fn a_network_of_one_user_counts_as_one() {
        let fleet = |network| of("fleet", &format!("2001:db8:7:{network:x}00::1"));
        let held: Vec<_> = (0..8).map(fleet).collect();
        assert_eq!(taken(&held, of("fleet", "2001:db8:7::1")), None);
        assert_eq!(taken(&held, of("fleet", "192.0.2.1")), Some(0));
    }

    /// What others hold at an address says nothing about the devices of a user there.
    #[test]
    fn only_what_the_own_user_holds_counts_between_its_origins() {
        let (here, there) = ("192.0.2.1", "192.0.2.2");
        let held = [
            of("fleet", here),
            of("anna", here),
            of("bert", here),
            of("fleet", "192.0.2.3"),
        ];
        assert_eq!(taken(&held, of("fleet", there)), None);
    }
}
