//! How much one user may ask for: the keys of the users file for it.

use toml::Value;

use crate::config::ByteSize;

use super::fault::{kind, shown};

/// The limits of one user; where there is none, the gateway's own setting holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// How many sessions the user may have at once.
    pub max_sessions: Option<usize>,
    /// Bytes a second that all uploads of the user may bring together.
    pub upload_rate: Option<ByteSize>,
    /// Bytes a second that all downloads of the user may take together.
    pub download_rate: Option<ByteSize>,
}

/// What a number of sessions may be, for error messages.
pub(super) const ALLOWED_SESSIONS: &str = "a whole number from 1 to 1000000";

/// Reads a number of sessions, or says what was found instead.
pub(super) fn sessions(value: &Value) -> Result<usize, String> {
    let number = value.as_integer().ok_or_else(|| kind(value).to_owned())?;
    usize::try_from(number)
        .ok()
        .filter(|sessions| (1..=1_000_000).contains(sessions))
        .ok_or_else(|| number.to_string())
}

/// What a rate may be, for error messages.
pub(super) const ALLOWED_RATES: &str = "the bytes a second as a size, from \"1 KiB\" to \"1 TiB\"";

/// Reads a rate, or says what was found instead.
pub(super) fn rate(value: &Value) -> Result<ByteSize, String> {
    let text = value.as_str().ok_or_else(|| kind(value).to_owned())?;
    let rate = text.parse::<ByteSize>().ok();
    rate.filter(|rate| ByteSize::RATES.contains(rate))
        .ok_or_else(|| shown(text))
}
