//! Where parts go when memory is short.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::time::Instant;

use crate::storage::write::part::{PartInTheMaking, WayOut};

/// With fewer bytes, a part is not moved to disk.
pub(crate) const WORTH_SPILLING: usize = 16 * 1024;

/// After it did not work, `upload.spill_dir` is left alone for so long.
const SPILL_REST: Duration = Duration::from_secs(10);

/// Where parts go when memory is short, if anywhere; clones share what they learn.
#[derive(Debug, Clone)]
pub(crate) struct Spill {
    directory: Option<PathBuf>,
    on_disk: IntGauge,
    /// When it did not work the last time, if it has not worked since; the log has said so.
    failed: Arc<Mutex<Option<Instant>>>,
}

impl Spill {
    /// To this directory, if to any; `on_disk` counts the bytes that are there.
    pub(crate) fn to(directory: Option<PathBuf>, on_disk: IntGauge) -> Self {
        Self {
            directory,
            on_disk,
            failed: Arc::default(),
        }
    }

    /// How a part with so many bytes in memory could give way, that goes up as it is or not.
    pub(crate) fn way_out(&self, in_memory: usize, goes_up: bool) -> WayOut {
        let rests_until = self.rests_until();
        let spills = self.directory.is_some() && rests_until.is_none();
        WayOut {
            can_move: goes_up || spills && in_memory >= WORTH_SPILLING,
            until: rests_until,
        }
    }

    /// Moves the part to disk. Whether it could.
    pub(crate) async fn take(&self, part: &mut PartInTheMaking) -> bool {
        let Some(directory) = &self.directory else {
            return false;
        };
        if self.rests_until().is_some() {
            return false;
        }
        match part.spill(directory, &self.on_disk).await {
            Ok(()) => self.works(),
            Err(error) => self.fails(&error),
        }
    }

    fn works(&self) -> bool {
        *self.failed() = None;
        true
    }

    /// It may work again as soon as there is room, so it is tried again.
    fn fails(&self, error: &std::io::Error) -> bool {
        let before = self.failed().replace(Instant::now());
        if before.is_none()
            && let Some(directory) = &self.directory
        {
            let directory = directory.display();
            tracing::warn!(%directory, %error, "can't use upload.spill_dir, it will be tried again");
        }
        false
    }

    /// Until when it is not tried again.
    fn rests_until(&self) -> Option<Instant> {
        let until = (*self.failed())? + SPILL_REST;
        (until > Instant::now()).then_some(until)
    }

    fn failed(&self) -> MutexGuard<'_, Option<Instant>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
