//! From a signal to the end of the process.
//!
//! SIGTERM or SIGINT: a gateway that shares a Service first has nodes send nobody any more (`cluster.withdrawal`); then, or at
//! once, the gateway drains: it takes no new session, ends idle ones, and lets running
//! transfers finish, for [`grace`](crate::config::Shutdown::grace) at most; then it aborts what is
//! left. A second signal ends the process at once. A task that nothing can take the place of, and that panics, begins
//! the drain too; then the process ends with a failure. SIGHUP is ignored: admins send it to have files
//! read again, which the gateway does by itself.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::supervise::{Task, essential, unless_told_to_panic};

/// What aborted transfers may take to discard what they had sent.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Exit code of a process that a second signal ended: 128 + SIGTERM, as shells have it.
const KILLED: i32 = 143;

/// Tells every room when to stop; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    told: CancellationToken,
    withdraws_first: Arc<AtomicBool>,
    draining: CancellationToken,
    aborting: CancellationToken,
    failed: Arc<OnceLock<Task>>,
}

impl Shutdown {
    /// A shutdown that nobody has asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fires when the process is told to end.
    #[must_use]
    pub fn told(&self) -> &CancellationToken {
        &self.told
    }

    /// From now on, who is told to end first has the balancer send nobody any more; then comes
    /// [`withdrawn`](Self::withdrawn).
    pub fn withdraw_first(&self) {
        self.withdraws_first.store(true, Ordering::Relaxed);
    }

    /// Begins the drain: nobody comes any more.
    pub fn withdrawn(&self) {
        self.draining.cancel();
    }

    /// Fires when no new work is to be taken.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Fires when the work that is left is to be given up.
    #[must_use]
    pub fn aborting(&self) -> &CancellationToken {
        &self.aborting
    }

    /// Tells the process to end. Begins the drain, unless somebody [withdraws first](Self::withdraw_first).
    pub fn begin(&self) {
        self.told.cancel();
        if !self.withdraws_first.load(Ordering::Relaxed) {
            self.draining.cancel();
        }
    }

    /// Begins the drain because a task has died; the process then ends with a failure.
    pub fn fail(&self, task: Task) {
        // The first that has died is the cause.
        let _ = self.failed.set(task);
        self.told.cancel();
        self.draining.cancel();
    }

    /// The task whose death began the drain, if one did.
    #[must_use]
    pub fn failed(&self) -> Option<Task> {
        self.failed.get().copied()
    }

    /// Waits for `tasks` to end, within `grace`; aborts what is left then. Returns whether all
    /// ended by themselves.
    pub async fn drain(&self, tasks: &TaskTracker, grace: Duration) -> bool {
        tasks.close();
        if tokio::time::timeout(grace, tasks.wait()).await.is_ok() {
            return true;
        }
        tracing::warn!(left = tasks.len(), "grace is over, aborting what is left");
        self.aborting.cancel();
        if tokio::time::timeout(ABORT_TIMEOUT, tasks.wait())
            .await
            .is_err()
        {
            tracing::error!(left = tasks.len(), "some work could not be aborted in time");
        }
        false
    }
}

/// Tells the process to end at the first SIGTERM or SIGINT, and ends it at the second.
///
/// # Errors
/// When the system does not let us handle signals.
pub fn on_signals(shutdown: Shutdown) -> io::Result<()> {
    let ending = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let hangup = signal(SignalKind::hangup())?;
    let failing = shutdown.clone();
    let obeying = unless_told_to_panic(Task::Signals, obey(ending, hangup, shutdown));
    // Without it, nothing but SIGKILL would end the process.
    essential(Task::Signals, obeying, move |task| failing.fail(task));
    Ok(())
}

async fn obey(mut ending: (Signal, Signal), mut hangup: Signal, shutdown: Shutdown) {
    let mut is_second = false;
    loop {
        let signal = tokio::select! {
            signal = next(&mut ending) => signal,
            _ = hangup.recv() => {
                tracing::info!(
                    "SIGHUP: the users file is read again whenever it changes, nothing to do"
                );
                continue;
            }
        };
        if is_second {
            tracing::warn!(signal, "second signal, ending at once");
            std::process::exit(KILLED);
        }
        tracing::info!(
            signal,
            "told to end; a second signal ends the process at once"
        );
        shutdown.begin();
        is_second = true;
    }
}

async fn next((terminate, interrupt): &mut (Signal, Signal)) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
