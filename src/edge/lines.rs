//! Which lines of the log are written that a stranger can cause at will. `src/rooms.rs` holds that no line of the edge
//! goes past this without a reason.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::auth::Origin;
use crate::telemetry::{LineKind, RepeatedLines};

/// Users of one origin whose lines are counted apart. Several may have one number, and a client may make names up as it
/// likes: there are no more lines for that.
const USERS: u64 = 16;

/// Counts lines by origin. A whole /48 of IPv6 is one origin here: else whoever has one could write 65,536 times as
/// much.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    lines: RepeatedLines<Subject>,
    /// Nobody can foresee which names have one number.
    numbers: RandomState,
}

/// Whom a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Subject {
    origin: Origin,
    /// The number of the user's name, for kinds that are counted by user.
    user: Option<u64>,
}

impl Lines {
    /// Whether one more line of this kind is to be written about somebody there.
    pub(super) fn permit(&self, kind: LineKind, from: impl Into<Origin>) -> bool {
        self.permits(kind, from.into(), None)
    }

    /// The same of a user there. Lines about one user do not hide those about another, but for one in 16.
    pub(super) fn permit_user(&self, kind: LineKind, from: impl Into<Origin>, user: &str) -> bool {
        let number = self.0.numbers.hash_one(user) % USERS;
        self.permits(kind, from.into(), Some(number))
    }

    fn permits(&self, kind: LineKind, from: Origin, user: Option<u64>) -> bool {
        let origin = from.widest();
        self.0.lines.permits(kind, Subject { origin, user })
    }

    /// Writes how many lines were left out, each minute and for ever.
    pub async fn summarise(self) {
        self.0.lines.summarise().await;
    }

    /// Writes how many lines were left out until now: the process ends.
    pub fn finish(&self) {
        self.0.lines.finish();
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.origin.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const KIND: LineKind = LineKind::LoginRefused;

    fn written(lines: &Lines, names: impl Iterator<Item = String>) -> usize {
        let here = IpAddr::from([192, 0, 2, 1]);
        names
            .filter(|name| lines.permit_user(KIND, here, name))
            .count()
    }

    #[tokio::test(start_paused = true)]
    async fn users_of_one_origin_are_counted_apart_and_no_more_than_sixteen_of_them() {
        let lines = Lines::default();
        let one = std::iter::repeat_n("x".to_owned(), 100);
        assert_eq!(written(&lines, one), 5);
        let many = (0..10_000).map(|number| format!("user{number}"));
        assert_eq!(written(&lines, many), 5 * 15);
    }
}
