//! What a `227` advertises.
//!
//! A passive reply carries an address, and the gateway may not know the one its clients can reach:
//! it stands behind a balancer. This room turns `passive.address` and `passive.overrides` into the
//! address for one client.
//!
//! Promises:
//! - Asking for an address never waits: names are looked up in the background.
//! - What was known once is kept until there is something better: a name server that is away changes
//!   nothing for clients.
//! - A client is told the same address as before for as long as that one holds.

mod dns;
mod known;
mod service;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use ipnet::IpNet;
use thiserror::Error;

use crate::config::{Passive, PassiveAddress};
use crate::telemetry::Metrics;

use dns::{Names, SystemResolver, keep_up_to_date};
use known::Known;

/// Why there is no address to advertise. The text may be shown to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AddressError {
    /// A 227 has room for four bytes only.
    #[error("PASV can't name an IPv6 address, use EPSV")]
    NotIpv4,
    /// No name server has answered yet.
    #[error("The address for PASV is not known yet, use EPSV")]
    Unknown,
}

/// Knows which address to advertise.
pub struct AddressBook {
    /// For everybody whom no override is for.
    default: Source,
    /// The smallest networks first.
    overrides: Vec<(IpNet, Source)>,
    refresh_interval: Duration,
}

/// Where an address comes from.
#[derive(Clone)]
enum Source {
    /// The control connection.
    Connection,
    /// The configuration.
    Fixed(Ipv4Addr),
    /// Somebody who is asked in the background.
    Watched(Arc<Known>),
}

impl AddressBook {
    /// As the configuration says. Names are not known before [`watch`](Self::watch) runs.
    #[must_use]
    pub fn new(passive: &Passive, metrics: &Arc<Metrics>) -> Self {
        let mut sources = BTreeMap::new();
        let mut source = |address: &PassiveAddress| {
            let source = sources.entry(address.clone());
            let source = source.or_insert_with(|| Source::of(address, metrics));
            source.clone()
        };
        let default = source(&passive.address);
        let overrides = passive.overrides.iter();
        let mut overrides: Vec<_> = overrides
            .map(|(network, address)| (*network, source(address)))
            .collect();
        overrides.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        Self {
            default,
            overrides,
            refresh_interval: passive.refresh_interval,
        }
    }

    /// Makes tasks that keep what is known up to date; without an end.
    pub fn watch(&self) -> impl Fn() -> BoxFuture<'static, ()> + Send + use<> {
        let mut watched: Vec<_> = self.sources().filter_map(Source::watched).collect();
        watched.sort_by_key(Arc::as_ptr);
        watched.dedup_by_key(|known| Arc::as_ptr(known));
        let interval = self.refresh_interval;
        move || {
            let each = watched.clone().into_iter();
            let each = each.map(move |known| keep(known, interval));
            join_all(each).map(drop).boxed()
        }
    }

    /// The address for the 227 of the client at `peer`, whose control connection came to `local`. That
    /// this is one by IPv6 is no reason against a given address: a balancer may have made it of one by IPv4.
    ///
    /// # Errors
    /// When there is no IPv4 address, or not yet.
    pub fn advertise(&self, peer: IpAddr, local: SocketAddr) -> Result<Ipv4Addr, AddressError> {
        let own = local.ip().to_canonical();
        match (self.source_for(peer), own) {
            (Source::Connection, IpAddr::V4(own)) => Ok(own),
            (Source::Connection, IpAddr::V6(_)) => Err(AddressError::NotIpv4),
            (Source::Fixed(address), _) => Ok(*address),
            (Source::Watched(known), own) => known.address(own).ok_or(AddressError::Unknown),
        }
    }

    fn source_for(&self, peer: IpAddr) -> &Source {
        let peer = peer.to_canonical();
        let mut overrides = self.overrides.iter();
        let found = overrides.find(|(network, _)| network.contains(&peer));
        found.map_or(&self.default, |(_, source)| source)
    }

    fn sources(&self) -> impl Iterator<Item = &Source> {
        let overrides = self.overrides.iter().map(|(_, source)| source);
        std::iter::once(&self.default).chain(overrides)
    }
}

impl fmt::Debug for AddressBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressBook").finish_non_exhaustive()
    }
}

impl Source {
    fn of(address: &PassiveAddress, metrics: &Arc<Metrics>) -> Self {
        match address {
            PassiveAddress::Connection => Self::given(Self::Connection, address, metrics),
            PassiveAddress::Ip(ip) => Self::given(Self::Fixed(*ip), address, metrics),
            PassiveAddress::Dns(_) | PassiveAddress::Service(_) => {
                Self::Watched(Arc::new(Known::nothing(address, metrics)))
            }
        }
    }

    /// One that is always known.
    fn given(self, address: &PassiveAddress, metrics: &Metrics) -> Self {
        let source = address.to_string();
        for gauges in [
            &metrics.passive_address_known,
            &metrics.passive_address_current,
        ] {
            gauges.with_label_values(&[&source]).set(1);
        }
        self
    }

    fn watched(&self) -> Option<Arc<Known>> {
        match self {
            Self::Watched(known) => Some(Arc::clone(known)),
            Self::Connection | Self::Fixed(_) => None,
        }
    }
}

/// Keeps one source up to date; without an end.
async fn keep(known: Arc<Known>, interval: Duration) {
    match known.source().clone() {
        PassiveAddress::Connection | PassiveAddress::Ip(_) => {}
        PassiveAddress::Dns(name) => {
            keep_up_to_date(known, Names::one(&name), SystemResolver, interval).await;
        }
        PassiveAddress::Service(service) => {
            service::follow(known, service, SystemResolver, interval).await;
        }
    }
}

/// Asks for everything once, for `bucketferry check`: what each stands for, or why that is not known.
pub async fn try_names(passive: &Passive) -> Vec<Result<String, String>> {
    let overrides = passive.overrides.iter().map(|(_, address)| address);
    let mut sources: Vec<_> = std::iter::once(&passive.address).chain(overrides).collect();
    sources.sort();
    sources.dedup();
    let mut answers = Vec::new();
    for source in sources {
        let found = match source {
            PassiveAddress::Connection | PassiveAddress::Ip(_) => continue,
            PassiveAddress::Dns(name) => Ok(Names::one(name)),
            PassiveAddress::Service(service) => service::look(service).await,
        };
        let found = match found {
            Ok(names) => names.addresses(&SystemResolver).await,
            Err(trouble) => Err(io::Error::other(trouble)),
        };
        answers.push(match found {
            Ok(addresses) => Ok(format!("{source} is {}.", known::listed(&addresses))),
            Err(error) => Err(format!("passive.address: {source}: {error}")),
        });
    }
    answers
}

#[cfg(test)]
mod tests {
    use crate::config::AddressOverrides;

    use super::*;

    const HOME: &str = "192.0.2.1:21";

    fn book(address: PassiveAddress, overrides: &[(&str, PassiveAddress)]) -> AddressBook {
        let overrides = overrides
            .iter()
            .map(|(network, address)| (network.parse().unwrap(), address.clone()));
        let passive = Passive {
            address,
            overrides: overrides.collect::<AddressOverrides>(),
            ..Passive::default()
        };
        AddressBook::new(&passive, &Arc::new(Metrics::new().unwrap()))
    }

    fn told(book: &AddressBook, peer: &str, local: &str) -> Result<String, AddressError> {
        let address = book.advertise(peer.parse().unwrap(), local.parse().unwrap());
        address.map(|address| address.to_string())
    }

    fn fixed(address: &str) -> PassiveAddress {
        PassiveAddress::Ip(address.parse().unwrap())
    }

    #[test]
    fn the_connections_own_address_or_a_fixed_one() {
        let own = book(PassiveAddress::Connection, &[]);
        assert_eq!(told(&own, "198.51.100.1", HOME).unwrap(), "192.0.2.1");
        let fixed = book(fixed("203.0.113.9"), &[]);
        assert_eq!(told(&fixed, "198.51.100.1", HOME).unwrap(), "203.0.113.9");
    }

    #[test]
    fn ipv6_has_no_227() {
        let own = book(PassiveAddress::Connection, &[]);
        assert_eq!(told(&own, "::1", "[::1]:21"), Err(AddressError::NotIpv4));
    }

    #[test]
    fn the_smallest_network_that_holds_the_client_decides() {
        let book = book(
            fixed("203.0.113.1"),
            &[
                ("10.0.0.0/8", fixed("203.0.113.8")),
                ("10.1.0.0/16", PassiveAddress::Connection),
                ("10.1.2.3/32", fixed("203.0.113.32")),
                ("2001:db8::/32", fixed("203.0.113.6")),
            ],
        );
        for (peer, address) in [
            ("198.51.100.1", "203.0.113.1"),
            ("10.2.0.1", "203.0.113.8"),
            ("10.1.2.4", "192.0.2.1"),
            ("10.1.2.3", "203.0.113.32"),
            ("::ffff:10.1.2.3", "203.0.113.32"),
            ("2001:db8::5", "203.0.113.6"),
        ] {
            assert_eq!(told(&book, peer, HOME).as_deref(), Ok(address), "{peer}");
        }
    }

    #[test]
    fn a_name_is_unknown_until_it_was_looked_up() {
        let name = || PassiveAddress::Dns("ftp.example.com".to_owned());
        let book = book(
            name(),
            &[("10.0.0.0/8", name()), ("10.0.0.0/16", fixed("192.0.2.9"))],
        );
        assert_eq!(told(&book, "10.3.0.1", HOME), Err(AddressError::Unknown));
        assert_eq!(told(&book, "10.0.0.1", HOME).as_deref(), Ok("192.0.2.9"));
        let watched: Vec<_> = book.sources().filter_map(Source::watched).collect();
        assert_eq!(watched.len(), 2);
        assert!(
            Arc::ptr_eq(&watched[0], &watched[1]),
            "one look serves both"
        );
        watched[0].learn(vec!["203.0.113.7".parse().unwrap()]);
        assert_eq!(told(&book, "10.3.0.1", HOME).as_deref(), Ok("203.0.113.7"));
    }
}
