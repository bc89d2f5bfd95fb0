//! What counts as one origin of connections: an IPv4 address, or a network of IPv6.
//!
//! Whoever has an IPv6 address has at least the last 64 bits of it to choose, and often the last 72 or 80. So an IPv6
//! address counts in three networks, at /64, /56 and /48. A wider network may hold many customers, so its limit is
//! a multiple of that for one address, and where origins are compared, what it has weighs less.

mod counts;
pub(super) mod shares;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use counts::OriginCounts;

/// The networks that an IPv6 address counts in.
const LEVELS: [Level; 3] = [
    Level {
        prefix: 64,
        share: 1,
        weight: MAX_WEIGHT,
    },
    Level {
        prefix: 56,
        share: 16,
        weight: 2,
    },
    Level {
        prefix: 48,
        share: 64,
        weight: 1,
    },
];

/// The weight of one thing of one address.
const MAX_WEIGHT: usize = 4;

/// A network that an IPv6 address counts in.
struct Level {
    /// The length of its prefix, in bits.
    prefix: u8,
    /// How many times the limit of one address it has. Many carriers give each customer a /64 out of a shared /56 or
    /// /48: a few customers must not reach the limit of all.
    share: usize,
    /// What one thing weighs, where origins are compared.
    weight: usize,
}

/// Where somebody comes from, as far as limits are concerned.
///
/// ```
/// use std::net::IpAddr;
/// use bucketferry::auth::Origin;
/// let origin = |address: &str| Origin::from(address.parse::<IpAddr>().unwrap());
/// assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
/// assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:1"));
/// assert_eq!(origin("192.0.2.1"), origin("::ffff:192.0.2.1"));
///
/// let levels: Vec<_> = origin("2001:db8:1:203::1").levels().collect();
/// let named: Vec<_> = levels.iter().map(ToString::to_string).collect();
/// assert_eq!(named, ["2001:db8:1:203::/64", "2001:db8:1:200::/56", "2001:db8:1::/48"]);
/// let shares: Vec<_> = levels.iter().map(|origin| origin.share()).collect();
/// assert_eq!(shares, [1, 16, 64]);
/// assert_eq!(origin("192.0.2.1").levels().count(), 1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(Network);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Network {
    V4(Ipv4Addr),
    V6 {
        /// The first 64 bits, of which those behind the prefix are 0.
        bits: u64,
        /// An index of [`LEVELS`].
        level: usize,
    },
}

impl Origin {
    /// This origin and the wider ones that it is part of, from the narrowest on. A limit that is kept by origin has to
    /// hold at each of them.
    pub fn levels(self) -> impl Iterator<Item = Self> {
        let count = match self.0 {
            Network::V4(_) => 1,
            Network::V6 { level, .. } => LEVELS.len() - level,
        };
        (0..count).map(move |steps| self.widened(steps))
    }

    /// Whether it may hold many customers of one carrier: a /48.
    #[must_use]
    pub fn is_widest_network(self) -> bool {
        matches!(self.0, Network::V6 { level, .. } if level == LEVELS.len() - 1)
    }

    /// The widest origin that this one is part of.
    #[must_use]
    pub fn widest(self) -> Self {
        self.widened(LEVELS.len() - 1)
    }

    /// How many times the limit of one address this origin has.
    #[must_use]
    pub fn share(self) -> usize {
        match self.0 {
            Network::V4(_) => 1,
            Network::V6 { level, .. } => LEVELS[level].share,
        }
    }

    /// What one thing of this origin weighs, where origins are compared: a /48 with four weighs as much as an address
    /// with one. It is less than [`Self::share`] says: a limit that is too low locks neighbours out, a weight has them
    /// wait when others want the same.
    #[must_use]
    pub fn weight(self) -> usize {
        match self.0 {
            Network::V4(_) => MAX_WEIGHT,
            Network::V6 { level, .. } => LEVELS[level].weight,
        }
    }

    fn widened(self, steps: usize) -> Self {
        match self.0 {
            Network::V4(_) => self,
            Network::V6 { bits, level } => Self::v6(bits, (level + steps).min(LEVELS.len() - 1)),
        }
    }

    fn v6(bits: u64, level: usize) -> Self {
        let bits = bits & (u64::MAX << (64 - LEVELS[level].prefix));
        Self(Network::V6 { bits, level })
    }
}

/// The narrowest one.
impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(Network::V4(address)),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments().map(u64::from);
                Self::v6(a << 48 | b << 32 | c << 16 | d, 0)
            }
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Network::V4(address) => address.fmt(f),
            Network::V6 { bits, level } => {
                let address = Ipv6Addr::from_bits(u128::from(bits) << 64);
                write!(f, "{address}/{}", LEVELS[level].prefix)
            }
        }
    }
}
