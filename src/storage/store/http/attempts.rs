//! What the tries of one change may have done, whatever the last of them was answered.
//!
//! A request that gets no answer, or a 500, may have been carried out. The try after it is then refused because of what
//! the first one did: 412 for a condition that held, 403 because a token has expired meanwhile. So a refusal says
//! something about the whole change only if it was the answer to the first try.

use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use object_store::client::{HttpError, HttpErrorKind};

use crate::storage::store::causes::find;

/// The tries of one change.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    may_have_acted: AtomicBool,
    may_act_later: AtomicBool,
}

impl Attempts {
    /// A try was sent, and no answer came.
    pub(crate) fn unanswered(&self) {
        self.may_have_acted.store(true, Ordering::Relaxed);
        self.may_act_later.store(true, Ordering::Relaxed);
    }

    /// A try was answered by a failure of the store's.
    pub(crate) fn failed_with(&self, status: StatusCode) {
        match status {
            // A proxy has given up on a store that may be at it still.
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => self.unanswered(),
            // The store or a proxy was too busy, or has no room, or does not know how: nothing was done.
            StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::INSUFFICIENT_STORAGE
            | StatusCode::NOT_IMPLEMENTED => {}
            status if status.is_server_error() => {
                self.may_have_acted.store(true, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// Tries of a library, which tells of the last one only, have ended so.
    pub(crate) fn unseen(&self, error: &object_store::Error) {
        self.may_have_acted.store(true, Ordering::Relaxed);
        if find::<HttpError>(error).is_some_and(|error| error.kind() != HttpErrorKind::Connect) {
            self.unanswered();
        }
    }

    /// Whether a try may have been carried out, although the change seems to have failed.
    pub(crate) fn may_have_acted(&self) -> bool {
        self.may_have_acted.load(Ordering::Relaxed)
    }

    /// Whether the store may carry out a try later than now.
    pub(crate) fn may_act_later(&self) -> bool {
        self.may_act_later.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_try_may_have_done_depends_on_how_it_ended() {
        let after = |status: u16| {
            let attempts = Attempts::default();
            attempts.failed_with(StatusCode::from_u16(status).unwrap());
            (attempts.may_have_acted(), attempts.may_act_later())
        };
        assert_eq!(after(429), (false, false));
        for status in [501, 503, 507] {
            assert_eq!(after(status), (false, false), "{status}");
        }
        assert_eq!(after(500), (true, false));
        assert_eq!(after(504), (true, true));
        let silent = Attempts::default();
        silent.unanswered();
        assert!(silent.may_have_acted() && silent.may_act_later());
    }
}
