//! Which lines of the log are written that a stranger can cause at will. `src/rooms.rs` holds that no line of the edge
//! goes past this without a reason.

use std::sync::Arc;

use crate::auth::Origin;
use crate::telemetry::{LineKind, RepeatedLines};

/// Counts lines by origin. A whole /48 of IPv6 is one origin here: else whoever has one could write 65,536 times as
/// much.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<RepeatedLines<Origin>>);

impl Lines {
    /// Whether one more line of this kind is to be written about somebody there.
    pub(super) fn permit(&self, kind: LineKind, from: impl Into<Origin>) -> bool {
        self.0.permits(kind, from.into().widest())
    }

    /// Writes how many lines were left out, each minute and for ever.
    pub async fn summarise(self) {
        self.0.summarise().await;
    }

    /// Writes how many lines were left out until now: the process ends.
    pub fn finish(&self) {
        self.0.finish();
    }
}
