//! The ports on which clients open their passive data connections.

use std::fmt;
use std::ops::RangeInclusive;

use toml::Value;

use crate::config::setting::{Setting, found, text};

/// The lowest port that needs no privilege.
const LOWEST_PORT: u16 = 1024;

/// Passive ports that a gateway may have behind a Service of several: an `EndpointSlice` has room for 100.
pub(in crate::config) const MOST_SHARED: usize = 99;

/// Gateways that can share the ports.
const MOST_SHARES: u16 = 1000;

/// The ports that passive data connections may use: a range with at least one port in it, or
/// [`PortRange::ANY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Whichever port the system has free. Its one port is 0, which is what to bind to.
    pub const ANY: Self = Self { first: 0, last: 0 };

    /// The default: a part of the range from which Kubernetes takes node ports.
    pub(in crate::config) const NODE_PORTS: Self = Self {
        first: 30_000,
        last: 30_039,
    };

    /// A range, unless it is empty or has ports below 1024.
    #[must_use]
    pub fn new(ports: RangeInclusive<u16>) -> Option<Self> {
        let (first, last) = ports.into_inner();
        (LOWEST_PORT <= first && first <= last).then_some(Self { first, last })
    }

    /// Whether the system picks the port.
    #[must_use]
    pub fn is_any(self) -> bool {
        self == Self::ANY
    }

    /// The lowest port.
    #[must_use]
    pub fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    #[must_use]
    pub fn last(self) -> u16 {
        self.last
    }

    /// How many ports there are: at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// Whether the port is one of them.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        self.iter().contains(&port)
    }

    /// Each port, lowest first.
    #[must_use]
    pub fn iter(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// The ports of a share. All shares together are all ports, no port is in two, and their sizes differ by one at
    /// most. Nothing, if there are more shares than ports.
    #[must_use]
    pub fn part(self, share: PortShare) -> Option<Self> {
        let (len, count) = (self.len(), usize::from(share.count));
        let before = |index: u16| u16::try_from(len * usize::from(index) / count).ok();
        let (start, end) = (before(share.index)?, before(share.index + 1)?);
        (start < end && !self.is_any()).then(|| Self {
            first: self.first + start,
            last: self.first + (end - 1),
        })
    }

    fn from_text(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self::ANY);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Self::new(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl Setting for PortRange {
    fn allowed() -> String {
        format!(
            "ports from {LOWEST_PORT} to 65535, such as `30000-30039` or `30000`, or `0` for any"
        )
    }

    fn parse(value: &Value) -> Result<Self, String> {
        let range = match value {
            Value::String(text) => Self::from_text(text.trim()),
            Value::Integer(port) => Self::from_text(&port.to_string()),
            _ => None,
        };
        range.ok_or_else(|| found(value))
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

/// Which part of the passive ports is a gateway's own, when several share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortShare {
    /// From 0, and less than `count`.
    index: u16,
    count: u16,
}

impl PortShare {
    /// Into how many shares the ports are cut.
    #[must_use]
    pub fn count(self) -> u16 {
        self.count
    }

    fn from_text(text: &str) -> Option<Self> {
        let (index, count) = text.split_once('/')?;
        let (index, count) = (index.trim().parse().ok()?, count.trim().parse().ok()?);
        (index < count && count <= MOST_SHARES).then_some(Self { index, count })
    }
}

impl fmt::Display for PortShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl Setting for PortShare {
    fn allowed() -> String {
        format!(
            "INDEX/COUNT, such as `0/3`: an index from 0 and below the count, which is at most {MOST_SHARES}"
        )
    }

    fn parse(value: &Value) -> Result<Self, String> {
        Self::from_text(text(value)?.trim()).ok_or_else(|| found(value))
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all_ports_and_no_port_is_in_two() {
        for (len, count) in [(1, 1), (20, 3), (30, 3), (7, 7), (297, 3), (1000, 999)] {
            let range = PortRange::new(30_000..=30_000 + len - 1).unwrap();
            let shares = (0..count).map(|index| range.part(PortShare { index, count }).unwrap());
            let shares: Vec<_> = shares.collect();
            let ports: Vec<_> = shares.iter().flat_map(|share| share.iter()).collect();
            assert_eq!(ports, range.iter().collect::<Vec<_>>());
            let sizes = shares.iter().map(|share| share.len());
            let (least, most) = (sizes.clone().min().unwrap(), sizes.max().unwrap());
            assert!(most - least <= 1, "{least} to {most}");
        }
        let widest = PortRange::new(1024..=u16::MAX).unwrap();
        let last = widest
            .part(PortShare {
                index: 999,
                count: 1000,
            })
            .unwrap();
        assert_eq!(last.last(), u16::MAX);
    }

    #[test]
    fn there_is_no_part_of_too_few_ports_or_of_any() {
        let share = PortShare { index: 1, count: 3 };
        assert_eq!(
            PortRange::new(30_000..=30_001)
                .unwrap()
                .part(PortShare { index: 0, count: 3 }),
            None
        );
        assert_eq!(PortRange::ANY.part(share), None);
    }

    #[test]
    fn a_share_is_an_index_below_a_count() {
        let parse = |text: &str| PortShare::parse(&Value::String(text.to_owned()));
        assert_eq!(parse("2/3"), Ok(PortShare { index: 2, count: 3 }));
        assert_eq!(
            parse(" 0 / 1 ").unwrap().show(),
            Value::String("0/1".to_owned())
        );
        for text in [
            "", "1", "/3", "1/", "3/3", "0/0", "-1/3", "0/1001", "0/99999", "a/b", "1/2/3",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_are_read_from_both_ends_or_one_port() {
        let range = PortRange::from_text("30000 - 30039").unwrap();
        assert_eq!(
            (range.first(), range.last(), range.len()),
            (30_000, 30_039, 40)
        );
        assert!(range.contains(30_039) && !range.contains(30_040));
        assert_eq!(range.iter().len(), 40);
        assert_eq!(range.iter().next_back(), Some(30_039));
        assert_eq!(
            PortRange::parse(&Value::Integer(2121)),
            Ok(PortRange::new(2121..=2121).unwrap())
        );
    }

    #[test]
    fn the_widest_range_can_be_counted() {
        let range = PortRange::new(1024..=u16::MAX).unwrap();
        assert_eq!(range.len(), range.iter().count());
    }

    #[test]
    fn zero_is_any_port() {
        let any = PortRange::parse(&Value::Integer(0)).unwrap();
        assert!(any.is_any());
        assert_eq!(any.iter().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "",
            "-",
            "1023-2000",
            "2000-1999",
            "30000-70000",
            "a-b",
            "0-0",
            "30000-30039-1",
        ] {
            assert_eq!(PortRange::from_text(text), None, "{text}");
        }
    }
}
