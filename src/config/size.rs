//! Numbers of bytes, written the way people write them.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use toml::Value;

use super::setting::{Setting, found};

/// A number of bytes.
///
/// Written with a unit (`8 MiB`, `10GB`; binary and decimal units differ) or as a bare number of
/// bytes. `Display` gives the largest unit that divides it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Each unit with its bytes, largest first.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// What a rate may be, in bytes a second: no less than what still moves something regularly.
    pub const RATES: RangeInclusive<Self> = Self(1 << 10)..=Self::gib(1 << 10);

    /// So many units of 1,048,576 bytes.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// So many units of 1,073,741,824 bytes.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        number
            .parse::<u64>()
            .ok()?
            .checked_mul(bytes_in(unit.trim_start())?)
            .map(Self)
    }
}

/// How many bytes a unit has; no unit at all is one byte.
fn bytes_in(unit: &str) -> Option<u64> {
    let unit = if unit.is_empty() { "B" } else { unit };
    UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))
        .map(|(_, bytes)| *bytes)
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, bytes): &&(&str, u64)| self.0 >= *bytes && self.0.is_multiple_of(*bytes);
        let (unit, bytes) = UNITS.iter().find(fits).unwrap_or(&("B", 1));
        write!(f, "{} {unit}", self.0 / bytes)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    /// # Errors
    /// The text, when it is no size.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::from_text(text).ok_or_else(|| text.to_owned())
    }
}

impl Setting for ByteSize {
    fn allowed() -> String {
        "a size such as `8 MiB` or `10 GB`, or a number of bytes".to_owned()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        let size = match value {
            Value::String(text) => Self::from_text(text),
            Value::Integer(bytes) => u64::try_from(*bytes).ok().map(Self),
            _ => None,
        };
        size.ok_or_else(|| found(value))
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_binary_and_decimal_units() {
        for (text, bytes) in [
            ("8 MiB", 8 << 20),
            ("512KiB", 512 << 10),
            ("10 GB", 10_000_000_000),
            ("10gb", 10_000_000_000),
            ("1 TiB", 1 << 40),
            (" 7 B ", 7),
            ("7", 7),
            ("0", 0),
        ] {
            assert_eq!(ByteSize::from_text(text), Some(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "MiB",
            "8 M",
            "8k",
            "1.5 GiB",
            "-1",
            "8 MiB/s",
            "16777216 TiB",
            "٣ MiB",
        ] {
            assert_eq!(ByteSize::from_text(text), None, "{text}");
        }
        assert!(ByteSize::parse(&Value::Integer(-1)).is_err());
        assert!(ByteSize::parse(&Value::Float(1.5)).is_err());
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_divides_them() {
        for text in [
            "0 B", "1 B", "1023 B", "1 KiB", "8 MiB", "10 GB", "5 GiB", "1 TB", "1536 MiB",
        ] {
            assert_eq!(ByteSize::from_text(text).unwrap().to_string(), text);
        }
    }
}
