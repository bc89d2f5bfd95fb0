//! What the sentence does not cover, because no gateway could promise it: the whole list.

use std::time::Duration;

use crate::support::{Gateway, Store, eventually};

use super::case::{Case, Fault, Step, Trouble};

/// More than `upload.sweep_after` is by default.
const LONGER_THAN_ANY_UPLOAD: Duration = Duration::from_hours(49);

/// A store may take a `PutObject`, keep silent until everyone has given up, and publish the object after all:
/// nothing takes such a request back. The reply is 451, the outcome `unresolved`, the log says that the object may
/// come; if it comes it is whole. A multipart upload has no such case: once it is discarded it can't be completed.
pub(super) fn may_come_late(case: &Case) -> bool {
    case.trouble == Trouble::Store(Step::Put, Fault::Silent)
}

/// Why multipart uploads are left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The gateway was killed.
    ByKill,
    /// The store has begun an upload and its name was lost on the way: nobody knows what to abort.
    Nameless,
    /// The store refuses to abort.
    Refused,
}

/// The runs that may leave multipart uploads open: which no reader sees, but somebody pays for.
pub(super) fn leaves_uploads(case: &Case) -> Option<Left> {
    match case.trouble {
        Trouble::GatewayKilled => Some(Left::ByKill),
        Trouble::Store(
            Step::Create,
            Fault::LostOnce | Fault::Lost | Fault::Broken | Fault::Silent,
        ) => Some(Left::Nameless),
        Trouble::Store(Step::Abort, Fault::Always(_)) => Some(Left::Refused),
        _ => None,
    }
}

impl Left {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::ByKill => "(upload left open: gateway killed)",
            Self::Nameless => "(upload left open: its name was lost)",
            Self::Refused => "(upload left open: the store refused to abort it)",
        }
    }
}

/// Has the gateway's own sweep take away what a run has left open, and gives their number.
pub(super) async fn sweep(store: &Store, why: Left) -> usize {
    let server = store.server();
    let left = server.open_uploads().len();
    match why {
        Left::ByKill => assert!(left <= 1, "{left} uploads of one transfer"),
        Left::Nameless => {}
        Left::Refused => assert_eq!(left, 1, "uploads that the store would not abort"),
    }
    if left > 0 {
        server.age(LONGER_THAN_ANY_UPLOAD);
        // A gateway sweeps when it starts.
        let sweeper = Gateway::on(store.clone());
        eventually("what was left is swept away", || {
            server.open_uploads().is_empty()
        })
        .await;
        sweeper.stop().await;
    }
    left
}
