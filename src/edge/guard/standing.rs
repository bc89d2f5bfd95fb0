//! The wait for the end of a login.

use std::future;

use crate::auth::{Lapse, Standing};

/// Waits until a login holds no more; for ever, where there is none. Safe to cancel.
pub(super) async fn lapsed(standing: Option<&Standing>) -> Lapse {
    match standing {
        Some(standing) => standing.lapsed().await,
        None => future::pending().await,
    }
}
