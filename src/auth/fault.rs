//! What is wrong with the users: faults, and how found values are shown in them.
//!
//! Promises: a fault names the user, the key, what was found and what is allowed; [`shown`] never
//! shows a password hash, also not one that was put in the wrong place.
//! Must not: know what the users file looks like.

use std::fmt;

use thiserror::Error;
use toml::Value;

/// One thing that is wrong with the users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFault {
    /// Which user: by quoted name, or by number (from 1) if the name is not to be had. `None`: it
    /// is about the whole file.
    pub user: Option<String>,
    /// Which key, if it is about one.
    pub key: Option<String>,
    /// What was found there.
    pub found: String,
    /// What may stand there.
    pub allowed: String,
}

impl fmt::Display for UserFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "user {user}: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "`{key}` is ")?;
        }
        write!(f, "{}; allowed: {}", self.found, self.allowed)
    }
}

/// All that is wrong with the users: one line each.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", one_line_each(.faults))]
pub struct UsersFileErrors {
    faults: Vec<UserFault>,
}

impl UsersFileErrors {
    /// The faults, in the order in which they were found. There is at least one.
    pub fn faults(&self) -> &[UserFault] {
        &self.faults
    }
}

impl From<UserFault> for UsersFileErrors {
    fn from(fault: UserFault) -> Self {
        Self {
            faults: vec![fault],
        }
    }
}

fn one_line_each(faults: &[UserFault]) -> String {
    faults
        .iter()
        .map(UserFault::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Faults while they are being collected.
#[derive(Default)]
pub(super) struct Faults {
    faults: Vec<UserFault>,
}

impl Faults {
    /// Notes a fault of a key of `user`, or of the whole file.
    pub(super) fn note(&mut self, user: Option<&str>, key: &str, found: &str, allowed: &str) {
        self.faults.push(UserFault {
            user: user.map(str::to_owned),
            key: Some(without_secrets(key)),
            found: found.to_owned(),
            allowed: allowed.to_owned(),
        });
    }

    /// `value`, if there were no faults.
    pub(super) fn into_result<T>(self, value: T) -> Result<T, UsersFileErrors> {
        if self.faults.is_empty() {
            Ok(value)
        } else {
            Err(UsersFileErrors {
                faults: self.faults,
            })
        }
    }
}

/// A found text, quoted, as it may be shown.
pub(super) fn shown(text: &str) -> String {
    format!("\"{}\"", without_secrets(text))
}

/// `text` without control characters, cut off where a hash could begin or when it gets long.
pub(super) fn without_secrets(text: &str) -> String {
    const LONGEST: usize = 40;
    let before_hash = text.split_inclusive('$').next().unwrap_or_default();
    let kept: String = before_hash.chars().take(LONGEST).collect();
    let more = if kept.len() < text.len() { "…" } else { "" };
    format!("{}{more}", kept.escape_debug())
}

/// What kind of value stands where another is wanted.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_texts_are_quoted_escaped_and_cut() {
        assert_eq!(shown("größe"), "\"größe\"");
        assert_eq!(shown("a\nb\"c"), r#""a\nb\"c""#);
        assert_eq!(shown(&"a".repeat(41)), format!("\"{}…\"", "a".repeat(40)));
        assert_eq!(shown(""), "\"\"");
    }

    #[test]
    fn hashes_in_the_wrong_place_are_not_shown() {
        assert_eq!(shown("$2b$05$abc"), "\"$…\"");
        assert_eq!(shown("anna:$argon2id$v=19$abc"), "\"anna:$…\"");
        assert_eq!(shown("pc$"), "\"pc$\"");
    }
}
