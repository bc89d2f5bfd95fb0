//! What counts as one address.

use std::net::{IpAddr, Ipv4Addr};

/// Where somebody comes from, as far as limits are concerned.
///
/// ```
/// use std::net::IpAddr;
/// use bucketferry::auth::Origin;
/// let origin = |address: &str| Origin::from(address.parse::<IpAddr>().unwrap());
/// assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
/// assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:1"));
/// assert_eq!(origin("192.0.2.1"), origin("::ffff:192.0.2.1"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin(Network);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Network {
    V4(Ipv4Addr),
    /// The first 64 bits: the rest of an IPv6 address is the client's own choice.
    V6([u16; 4]),
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => Network::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Network::V6([a, b, c, d])
            }
        })
    }
}
