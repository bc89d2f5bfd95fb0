//! The ports on which clients open their passive data connections.

use std::fmt;
use std::ops::RangeInclusive;

use toml::Value;

use super::setting::{Setting, found};

/// The lowest port that needs no privilege.
const LOWEST_PORT: u16 = 1024;

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
    pub(super) const NODE_PORTS: Self = Self {
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

#[cfg(test)]
mod tests {
    use super::*;

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
