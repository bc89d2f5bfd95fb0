//! The users file, as an operator may have written it.

use crate::config::ByteSize;

use super::table::UserTable;

/// Reads a users file.
///
/// # Panics
/// When a promise is broken.
pub fn users(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match UserTable::parse(text) {
        Ok(table) => table.users().for_each(|user| {
            assert!((1..=128).contains(&user.name.chars().count()));
            assert!(!user.name.contains(char::is_control));
            assert!(
                user.places()
                    .iter()
                    .all(|(path, place)| is_normal(path) && is_normal(&place.prefix)),
                "{:?}",
                user.home
            );
            let rates = [user.allowance.upload_rate, user.allowance.download_rate];
            let allowed = |rate: &ByteSize| ByteSize::RATES.contains(rate);
            assert!(rates.iter().flatten().all(allowed));
            assert_ne!(user.allowance.max_sessions, Some(0));
            let expected = user.expect_every.map(|every| every.as_secs());
            assert!(expected.is_none_or(|every| (60..=366 * 86_400).contains(&every)));
        }),
        Err(errors) => {
            assert!(!errors.faults().is_empty());
            for fault in errors.faults() {
                let line = fault.to_string();
                assert!(!line.contains(char::is_control), "{line:?}");
                let found = line
                    .rsplit_once("; allowed: ")
                    .map_or("", |(found, _)| found);
                assert!(!found.is_empty() && !shows_a_secret(found), "{line}");
            }
        }
    }
}

/// Whether a home is a path as the session has it: absolute, and with no way up.
fn is_normal(home: &str) -> bool {
    let Some(inside) = home.strip_prefix('/') else {
        return false;
    };
    let mut segments = inside.split('/');
    let plain = inside.is_empty() || segments.all(|segment| !matches!(segment, "" | "." | ".."));
    plain && !home.contains(char::is_control)
}

/// Whether anything follows the `$` that a hash begins with.
fn shows_a_secret(line: &str) -> bool {
    let mut after = line.split('$').skip(1);
    after.any(|rest| !rest.starts_with(['"', '…', '`']))
}
