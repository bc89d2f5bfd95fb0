//! Has a task panic when a test asks for it. Builds with debug assertions alone have it, and releases are none.
//!
//! `BUCKETFERRY_PANICS` names a folder. A task panics when a file of its name appears there, and the file is gone then.

use std::future;
use std::path::Path;
use std::time::Duration;

use super::Task;

/// The variable is none of the settings: those have two underscores.
const FOLDER: &str = "BUCKETFERRY_PANICS";

const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Never returns.
#[expect(clippy::panic, reason = "it is what it is for")]
pub(super) async fn when_told(task: Task) {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return future::pending().await;
    };
    let order = Path::new(&folder).join(task.name());
    while std::fs::remove_file(&order).is_err() {
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    panic!("a test wants it so");
}
