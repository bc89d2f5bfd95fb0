//! Waits between tries.

use std::time::Duration;

/// The wait after the first failure; each that follows doubles it.
const FIRST: Duration = Duration::from_secs(1);

/// Waits that grow with each failure.
#[derive(Debug)]
pub(crate) struct Retry {
    next: Duration,
    most: Duration,
}

impl Retry {
    /// From a second on.
    pub(crate) fn up_to(most: Duration) -> Self {
        Self {
            next: FIRST.min(most),
            most,
        }
    }

    /// Something went well: the next wait is short again.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST.min(self.most);
    }

    pub(crate) async fn wait(&mut self) {
        let now = self.next;
        self.next = (now * 2).min(self.most);
        tokio::time::sleep(now).await;
    }
}
