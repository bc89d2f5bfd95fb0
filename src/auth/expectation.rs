//! How often uploads of a user are expected: the key `expect_every` of the users file.

use std::{ops::RangeInclusive, time::Duration};

use toml::Value;

use super::{
    fault::{kind, shown},
    permissions::Permission,
    user::User,
};

/// The metrics call those so who have none of their own.
const NAME_OF_OTHERS: &str = "other";

/// Never so short that Prometheus can't see it, nor so long that nobody would be told.
const INTERVALS: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(366 * 24);

/// What an expectation may be, for error messages.
pub(super) const ALLOWED_EXPECTATIONS: &str =
    "a duration such as \"26h\", from \"1m\" to \"366days\"";

/// Reads an expectation, or says what was found instead.
pub(super) fn expect_every(value: &Value) -> Result<Duration, String> {
    let text = value.as_str().ok_or_else(|| kind(value).to_owned())?;
    let every = humantime::parse_duration(text).ok();
    every
        .filter(|every| INTERVALS.contains(every))
        .ok_or_else(|| shown(text))
}

/// Why nothing can be expected of this user: what was found, and what is allowed.
pub(super) fn unfit(user: &User) -> Option<(String, &'static str)> {
    if user.name == NAME_OF_OTHERS {
        let allowed = "`expect_every` for users of other names: in the metrics `other` stands for all without series of their own";
        return Some((format!("set for the user {}", shown(&user.name)), allowed));
    }
    if !user.may_somewhere(Permission::Write) {
        let allowed = "`expect_every` for users with the permission \"write\"";
        return Some(("set for a user who may not upload".to_owned(), allowed));
    }
    None
}
