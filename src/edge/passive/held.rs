//! Who holds which passive port, and whose is taken back when none is free.
//!
//! Promises:
//! - A port goes from the user who holds most to one who holds, with it, no more than that user then does: else two
//!   users would take one port from each other in turn. The same holds between the origins of one user. See
//!   [`to_take`]; ports at each address of ours are shared for themselves.
//! - Of the largest holder's ports, the oldest is taken to which its client has not connected. If its clients have
//!   connected to all of them, a port is closed and the connection stays.
//!
//! Must not: know sockets.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use crate::auth::{Holding, Origin, to_take};

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
        Some(port)
    }

    /// Notes that the client has connected to a port.
    pub(super) fn claim(&mut self, number: u64) {
        if let Some(port) = self.ports.get_mut(&number) {
            port.is_claimed = true;
        }
    }

    /// Takes a port at this address back for `asker`, if somebody holds more than its share of them.
    pub(super) fn take_back(&mut self, asker: &Holder, at: IpAddr) -> Option<Port<T>> {
        let ports = self.ports.iter();
        let there = ports.filter(|(_, port)| port.address.ip() == at);
        let there = there.map(|(number, port)| ((port.is_claimed, *number), port.holder.holding()));
        let (_, number) = to_take(there, asker.holding())?;
        self.remove(number)
    }
}

impl Holder {
    fn holding(&self) -> Holding<'_> {
        Holding {
            user: &self.user,
            origin: self.origin,
        }
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

    /// Else it would hold more than the one who then has none.
    #[test]
    fn of_users_who_hold_equally_many_nobody_loses_one() {
        let users: Vec<_> = (0..8).map(|user| format!("user{user}")).collect();
        let holders: Vec<_> = users.iter().map(|user| (&**user, "192.0.2.1")).collect();
        let mut held = held(&holders);
        assert_eq!(taken(&mut held, "anna", "192.0.2.2"), None);
        assert_eq!(taken(&mut held, "user0", "192.0.2.2"), None);
    }

    #[test]
    fn a_user_without_ports_at_an_address_is_not_the_largest_there() {
        let here = "192.0.2.1";
        let mut held = held(&[("anna", here), ("anna", here)]);
        for port in 1..=3 {
            let elsewhere = SocketAddr::from(([127, 0, 0, 2], port));
            held.add(elsewhere, holder("bert", here), 100);
        }
        assert_eq!(taken(&mut held, "carl", here), Some(0));
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
        assert!(held.ports.is_empty() && held.by_address.is_empty());
    }
}
