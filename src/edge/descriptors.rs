//! File descriptors: sessions are made of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A session that transfers: its control and data connections, the pair to the session behind, that
/// session's own data listener and pair, and a connection to the store. One that waits has three.
const PER_SESSION: usize = 8;

/// Listeners, logs, the runtime's own.
const RESERVE: usize = 64;

/// Raises the limit on open files as far as the system lets us, and returns how many sessions fit,
/// at most `wanted`.
#[must_use]
pub fn sessions_that_fit(wanted: usize) -> usize {
    let limit = raise();
    let fit = limit.saturating_sub(RESERVE) / PER_SESSION;
    if fit < wanted {
        tracing::warn!(
            open_files = limit,
            max_sessions = fit,
            "limits.max_sessions = {wanted} needs {} open files; raise the limit (ulimit -n, \
             LimitNOFILE) or lower the setting. Until then there are fewer sessions",
            wanted * PER_SESSION + RESERVE,
        );
    }
    fit.clamp(1, wanted)
}

/// The limit after raising it; no limit is a very large one.
fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        // Where it can't be raised, what there is has to do.
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "can't raise the limit on open files");
        }
    }
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_and_sessions_are_held_against_it() {
        assert_eq!(sessions_that_fit(1), 1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert!(sessions_that_fit(usize::MAX / 8) < usize::MAX / 8);
    }
}
