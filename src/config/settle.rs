//! How long an upload waits for a sign that its client has died.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Value;

use super::rule::Rule;
use super::setting::{Setting, found};

/// The wait between the orderly end of an upload's data connection and its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// As long as the evidence of each upload asks for.
    Auto,
    /// Always this long.
    For(Duration),
}

impl Setting for Settle {
    fn allowed() -> String {
        format!("`auto`, or {}", Duration::allowed())
    }

    fn parse(value: &Value) -> Result<Self, String> {
        match value.as_str() {
            Some("auto") => Ok(Self::Auto),
            // "expected number at 0" would be no help for a misspelt word.
            Some(text) if !text.contains(|c: char| c.is_ascii_digit()) => Err(found(value)),
            _ => Duration::parse(value).map(Self::For),
        }
    }

    fn show(&self) -> Value {
        match self {
            Self::Auto => Value::String("auto".to_owned()),
            Self::For(duration) => duration.show(),
        }
    }
}

/// `auto` is always taken.
impl Rule<Settle> for RangeInclusive<Duration> {
    fn allowed(&self) -> String {
        format!("`auto`, or {}", Rule::<Duration>::allowed(self))
    }

    fn admits(&self, value: &Settle) -> bool {
        match value {
            Settle::Auto => true,
            Settle::For(duration) => self.contains(duration),
        }
    }
}
