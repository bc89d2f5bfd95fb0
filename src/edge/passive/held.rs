//! Who holds which passive port, and whose is taken back when none is free.
//!
//! Promises:
//! - A port goes from the user who holds most to one who holds fewer, also after it: else two users would take one port
//!   from each other in turn. The same holds between the origins of one user, and of users who hold equally many.
//! - Of the largest holder's ports, the oldest is taken to which its client has not connected. If its clients have
//!   connected to all of them, a port is closed and the connection stays.
//! - Ports of a user who holds fewer than the asker are never taken.
//!
//! Must not: know sockets.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use crate::auth::{Origin, OriginCounts};

/// Who holds a port, or asks for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::edge) struct Holder {
    pub(in crate::edge) user: String,
    pub(in crate::edge) origin: Origin,
}

/// The ports that are held, the oldest first. Each has something with it that closes it.
#[derive(Debug)]
pub(super) struct Held<T> {
    next: u64,
    ports: BTreeMap<u64, Port<T>>,
    by_address: HashMap<SocketAddr, u64>,
    by_user: HashMap<String, usize>,
    by_origin: OriginCounts,
}

#[derive(Debug)]
pub(super) struct Port<T> {
    pub(super) address: SocketAddr,
    pub(super) holder: Holder,
    /// Its client has connected.
    is_claimed: bool,
    pub(super) closing: T,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self {
            next: 0,
            ports: BTreeMap::new(),
            by_address: HashMap::new(),
            by_user: HashMap::new(),
            by_origin: OriginCounts::default(),
        }
    }
}

impl<T> Held<T> {
    /// Whether the port is held.
    pub(super) fn contains(&self, address: SocketAddr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// Notes a port, and gives its number.
    pub(super) fn add(&mut self, address: SocketAddr, holder: Holder, closing: T) -> u64 {
        let number = self.next;
        self.next += 1;
        self.by_address.insert(address, number);
        *self.by_user.entry(holder.user.clone()).or_default() += 1;
        self.by_origin.add(holder.origin);
        let port = Port {
            address,
            holder,
            is_claimed: false,
            closing,
        };
        self.ports.insert(number, port);
        number
    }

    /// Forgets a port. One that was taken back is forgotten already.
    pub(super) fn remove(&mut self, number: u64) -> Option<Port<T>> {
        let port = self.ports.remove(&number)?;
        self.by_address.remove(&port.address);
        self.by_origin.remove(port.holder.origin);
        if let Some(count) = self.by_user.get_mut(&port.holder.user) {
            *count -= 1;
            if *count == 0 {
                self.by_user.remove(&port.holder.user);
            }
        }
        Some(port)
    }

    /// Notes that the client has connected to a port.
    pub(super) fn claim(&mut self, number: u64) {
        if let Some(port) = self.ports.get_mut(&number) {
            port.is_claimed = true;
        }
    }

    /// Takes a port at this address back for `asker`, if somebody holds more than its share.
    pub(super) fn take_back(&mut self, asker: &Holder, at: IpAddr) -> Option<Port<T>> {
        let number = self.of_largest_user(asker, at);
        let number = number.or_else(|| self.of_largest_origin(asker, at))?;
        self.remove(number)
    }

    /// A port of the user who holds most, if that is more than `asker` would then hold.
    fn of_largest_user(&self, asker: &Holder, at: IpAddr) -> Option<u64> {
        let most = self.by_user.values().copied().max()?;
        if self.held_by(&asker.user) + 1 >= most {
            return None;
        }
        self.oldest_of_largest_origin(at, 0, |port| self.held_by(&port.holder.user) == most)
    }

    /// A port of the origin that holds most, if that is more than the origin of `asker` would then hold.
    fn of_largest_origin(&self, asker: &Holder, at: IpAddr) -> Option<u64> {
        let own = self.held_by(&asker.user);
        let load = self.by_origin.load_with_one_more(asker.origin);
        self.oldest_of_largest_origin(at, load, |port| self.held_by(&port.holder.user) >= own)
    }

    /// The oldest port of the origin with the largest load, if that is above `load`.
    fn oldest_of_largest_origin(
        &self,
        at: IpAddr,
        load: usize,
        is_candidate: impl Fn(&Port<T>) -> bool,
    ) -> Option<u64> {
        let candidates = self
            .ports
            .iter()
            .filter(|(_, port)| port.address.ip() == at && is_candidate(port));
        let loads = candidates.map(|(number, port)| {
            let load = self.by_origin.load(port.holder.origin);
            (load, !port.is_claimed, std::cmp::Reverse(*number))
        });
        let (largest, _, number) = loads.max()?;
        (largest > load).then_some(number.0)
    }

    fn held_by(&self, user: &str) -> usize {
        self.by_user.get(user).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn holder(user: &str, address: &str) -> Holder {
        Holder {
            user: user.to_owned(),
            origin: address.parse::<IpAddr>().unwrap().into(),
        }
    }

    /// Ports of these users and addresses, the oldest first. What closes them is their place in this list.
    fn held(holders: &[(&str, &str)]) -> Held<usize> {
        let mut held = Held::default();
        for (index, (user, address)) in holders.iter().enumerate() {
            let port = u16::try_from(index).unwrap() + 1;
            held.add((AT, port).into(), holder(user, address), index);
        }
        held
    }

    fn taken(held: &mut Held<usize>, user: &str, address: &str) -> Option<usize> {
        let port = held.take_back(&holder(user, address), AT)?;
        Some(port.closing)
    }

    #[test]
    fn the_oldest_port_of_the_user_who_holds_most_is_taken() {
        let here = "192.0.2.1";
        let mut held = held(&[
            ("bert", here),
            ("anna", here),
            ("anna", here),
            ("anna", here),
        ]);
        assert_eq!(taken(&mut held, "carl", here), Some(1));
        assert_eq!(taken(&mut held, "carl", here), Some(2));
        assert_eq!(taken(&mut held, "carl", here), None, "each holds one");
    }

    #[test]
    fn nothing_is_taken_that_would_make_the_asker_the_largest() {
        let here = "192.0.2.1";
        let mut held = held(&[("anna", here), ("anna", here), ("bert", here)]);
        assert_eq!(taken(&mut held, "bert", here), None);
        assert_eq!(taken(&mut held, "anna", here), None);
        assert_eq!(taken(&mut held, "carl", here), Some(0));
    }

    #[test]
    fn between_origins_of_one_user_the_largest_gives() {
        let (here, there) = ("192.0.2.1", "192.0.2.2");
        let mut held = held(&[
            ("anna", there),
            ("anna", here),
            ("anna", here),
            ("anna", here),
        ]);
        assert_eq!(taken(&mut held, "anna", "192.0.2.3"), Some(1));
        assert_eq!(taken(&mut held, "anna", here), None);
    }

    #[test]
    fn many_users_from_one_prefix_are_one_origin() {
        let users: Vec<_> = (0..8).map(|user| format!("user{user}")).collect();
        let addresses: Vec<_> = (0..8).map(|net| format!("2001:db8:7:{net}00::1")).collect();
        let holders = users.iter().zip(&addresses);
        let holders: Vec<_> = holders.map(|(user, at)| (&**user, &**at)).collect();
        let mut held = held(&holders);
        assert_eq!(taken(&mut held, "anna", "2001:db8:7::1"), None);
        assert_eq!(taken(&mut held, "anna", "192.0.2.1"), Some(0));
    }

    #[test]
    fn a_user_who_holds_fewer_gives_nothing() {
        let fleet: Vec<_> = (1..=5).map(|host| format!("192.0.2.{host}")).collect();
        let mut holders: Vec<_> = fleet.iter().map(|at| ("fleet", &**at)).collect();
        holders.extend([("anna", "198.51.100.1"); 3]);
        let mut held = held(&holders);
        assert_eq!(taken(&mut held, "fleet", "192.0.2.9"), None);
    }

    #[test]
    fn ports_with_a_connection_go_last_and_those_of_another_address_of_ours_never() {
        let here = "192.0.2.1";
        let mut held = held(&[("anna", here), ("anna", here), ("anna", here)]);
        held.claim(0);
        held.claim(2);
        let elsewhere = "127.0.0.2".parse().unwrap();
        assert!(held.take_back(&holder("bert", here), elsewhere).is_none());
        assert_eq!(taken(&mut held, "bert", here), Some(1));
        assert_eq!(taken(&mut held, "bert", here), Some(0));
    }

    #[test]
    fn what_is_removed_leaves_no_trace() {
        let mut held = held(&[("anna", "2001:db8::1")]);
        assert!(held.contains((AT, 1).into()));
        assert!(held.remove(0).is_some() && held.remove(0).is_none());
        assert!(!held.contains((AT, 1).into()));
        assert!(held.by_user.is_empty() && held.by_origin.is_empty());
    }
}
