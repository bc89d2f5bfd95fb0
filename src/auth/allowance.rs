//! How much one user may ask for: the keys of the users file for it.

use toml::Value;

use super::fault::kind;

/// The limits of one user; where there is none, the gateway's own setting holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// How many sessions the user may have at once.
    pub max_sessions: Option<usize>,
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
