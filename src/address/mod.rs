//! What a `227` advertises.
//!
//! A passive reply carries an address, and the gateway may not know the one its clients can reach:
//! it stands behind a balancer. This room turns `passive.address` into the address for one client.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use thiserror::Error;

use crate::config::{Passive, PassiveAddress};

/// Why there is no address to advertise.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// A 227 has room for four bytes only.
    #[error("PASV can't name an IPv6 address, use EPSV")]
    NotIpv4,
}

/// Knows which address to advertise.
#[derive(Debug)]
pub struct AddressBook {
    address: PassiveAddress,
}

impl AddressBook {
    /// As the configuration says.
    #[must_use]
    pub fn new(passive: &Passive) -> Self {
        Self {
            address: passive.address,
        }
    }

    /// The address for the 227 of a client whose control connection came to `local`.
    ///
    /// # Errors
    /// When there is no IPv4 address.
    pub fn advertise(&self, local: SocketAddr) -> Result<Ipv4Addr, AddressError> {
        let address = match self.address {
            PassiveAddress::Connection => local.ip(),
            PassiveAddress::Ip(address) => address,
        };
        match address.to_canonical() {
            IpAddr::V4(address) => Ok(address),
            IpAddr::V6(_) => Err(AddressError::NotIpv4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(address: PassiveAddress) -> AddressBook {
        AddressBook { address }
    }

    #[test]
    fn the_connections_own_address_or_a_fixed_one() {
        let local = "192.0.2.1:21".parse().unwrap();
        let own = book(PassiveAddress::Connection);
        assert_eq!(own.advertise(local), Ok(Ipv4Addr::new(192, 0, 2, 1)));
        let fixed = book(PassiveAddress::Ip("203.0.113.9".parse().unwrap()));
        assert_eq!(fixed.advertise(local), Ok(Ipv4Addr::new(203, 0, 113, 9)));
    }

    #[test]
    fn ipv6_has_no_227() {
        let own = book(PassiveAddress::Connection);
        assert_eq!(
            own.advertise("[::1]:21".parse().unwrap()),
            Err(AddressError::NotIpv4)
        );
    }
}
