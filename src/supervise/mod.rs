//! Long-lived tasks: those that serve the whole gateway, not one client. None of them dies silently.
//!
//! Promises:
//! - A task that panics is logged as ERROR. It begins again after a pause, and a metric counts that; or, if nothing
//!   could take its place ([`essential`]), the process drains and ends with a failure.
//! - Pauses grow from a second to a minute, so a task that panics every time costs next to nothing.
//!
//! Must not: know what the tasks do. `src/rooms.rs` holds that no long-lived task is spawned elsewhere.

#[cfg(debug_assertions)]
mod panics;

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::telemetry::Metrics;

/// The pause after the first panic; each that follows doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause. A task that has run for longer has recovered: its next pause is the first again.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The long-lived tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Looks up the addresses for a 227.
    Address,
    /// Answers probes and Prometheus.
    Admin,
    /// Writes the `EndpointSlice`s of the gateway.
    Cluster,
    /// Tells readiness of the drain.
    Drain,
    /// Accepts control connections.
    Listener,
    /// Writes how many lines of the log were left out.
    LogSummaries,
    /// Asks the store whether it answers.
    Probe,
    /// Waits for signals.
    Signals,
    /// Removes what killed processes have left.
    Sweep,
    /// Looks at the TLS files.
    Tls,
    /// Gives back chunks of memory that nobody needs.
    UploadChunks,
    /// Has slow uploads give way while others wait for memory.
    UploadMemory,
    /// Looks at the users file.
    Users,
    /// Has the balancer send nobody any more, before the drain.
    Withdrawal,
}

impl Task {
    /// Its name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Admin => "admin",
            Self::Cluster => "cluster",
            Self::Drain => "drain",
            Self::Listener => "listener",
            Self::LogSummaries => "log_summaries",
            Self::Probe => "probe",
            Self::Signals => "signals",
            Self::Sweep => "sweep",
            Self::Tls => "tls",
            Self::UploadChunks => "upload_chunks",
            Self::UploadMemory => "upload_memory",
            Self::Users => "users",
            Self::Withdrawal => "withdrawal",
        }
    }
}

/// Keeps tasks running; clones do the same.
#[derive(Debug, Clone)]
pub struct Supervisor {
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Supervisor {
    /// One that never stops its tasks.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self::until(CancellationToken::new(), metrics)
    }

    /// One that stops its tasks when `stop` fires.
    #[must_use]
    pub fn until(stop: CancellationToken, metrics: &Arc<Metrics>) -> Self {
        let metrics = Arc::clone(metrics);
        Self { metrics, stop }
    }

    /// Fires when its tasks stop.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Runs what `begin` makes in a task of this runtime, until it returns; after a panic, it is begun again.
    pub fn keep<F, R>(&self, task: Task, begin: F)
    where
        F: FnMut() -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(self.clone().run(task, begin));
    }

    /// The same on a thread and a runtime of its own.
    ///
    /// # Errors
    /// When the system has no thread left, or no descriptor for the runtime.
    pub fn keep_on_thread<F, R>(
        &self,
        task: Task,
        begin: F,
    ) -> io::Result<std::thread::JoinHandle<()>>
    where
        F: FnMut() -> R + Send + 'static,
        R: Future<Output = ()> + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let kept = self.clone();
        std::thread::Builder::new()
            .name(task.name().to_owned())
            .spawn(move || runtime.block_on(kept.run(task, begin)))
    }

    async fn run<F, R>(self, task: Task, begin: F)
    where
        F: FnMut() -> R,
        R: Future<Output = ()>,
    {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.run_for_ever(task, begin))
            .await;
    }

    async fn run_for_ever<F, R>(&self, task: Task, mut begin: F)
    where
        F: FnMut() -> R,
        R: Future<Output = ()>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let run = async { unless_told_to_panic(task, begin()).await };
            let Err(panic) = AssertUnwindSafe(run).catch_unwind().await else {
                return;
            };
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            let (task, reason) = (task.name(), reason(panic.as_ref()));
            tracing::error!(task, reason, ?pause, "a task panicked, it begins again");
            sleep(pause).await;
            self.metrics.task_restarts.with_label_values(&[task]).inc();
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Runs a task that nothing can take the place of. `on_panic` has to end the process.
pub fn essential(
    task: Task,
    run: impl Future<Output = ()> + Send + 'static,
    on_panic: impl FnOnce(Task) + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(panic) = AssertUnwindSafe(run).catch_unwind().await {
            let reason = reason(panic.as_ref());
            tracing::error!(
                task = task.name(),
                reason,
                "a task panicked, shutting down: nothing can take its place"
            );
            on_panic(task);
        }
    })
}

/// Does blocking work for a task; a panic in it is one of the task. `None` when the runtime ends.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => None,
        },
    }
}

/// In builds for tests, a test can have the task panic.
#[cfg(debug_assertions)]
pub(crate) async fn unless_told_to_panic(task: Task, run: impl Future<Output = ()>) {
    tokio::select! {
        () = panics::when_told(task) => {}
        () = run => {}
    }
}

/// Nobody can have a task of a release panic.
#[cfg(not(debug_assertions))]
pub(crate) async fn unless_told_to_panic(_: Task, run: impl Future<Output = ()>) {
    run.await;
}

/// What a panic has said.
fn reason(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it did not say why")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::mpsc;

    use super::*;

    fn metrics() -> Arc<Metrics> {
        Arc::new(Metrics::new().unwrap())
    }

    fn restarts(metrics: &Metrics, task: Task) -> u64 {
        metrics
            .task_restarts
            .with_label_values(&[task.name()])
            .get()
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_begins_again_after_pauses_that_grow() {
        let metrics = metrics();
        let (began, mut beginnings) = mpsc::unbounded_channel();
        Supervisor::new(&metrics).keep(Task::Probe, move || {
            let began = began.clone();
            async move {
                began.send(Instant::now()).unwrap();
                panic!("again");
            }
        });
        let mut pauses = Vec::new();
        let mut before = beginnings.recv().await.unwrap();
        for _ in 0..9 {
            let now = beginnings.recv().await.unwrap();
            pauses.push((now - before).as_secs());
            before = now;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(restarts(&metrics, Task::Probe), 9);
        assert_eq!(restarts(&metrics, Task::Sweep), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_has_run_for_long_has_recovered() {
        let (began, mut beginnings) = mpsc::unbounded_channel();
        Supervisor::new(&metrics()).keep(Task::Probe, move || {
            let began = began.clone();
            async move {
                began.send(Instant::now()).unwrap();
                sleep(Duration::from_secs(61)).await;
                panic!("after a while");
            }
        });
        let mut before = beginnings.recv().await.unwrap();
        for _ in 0..5 {
            let now = beginnings.recv().await.unwrap();
            assert_eq!((now - before).as_secs(), 62);
            before = now;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_returns_or_is_stopped_does_not_begin_again() {
        let (metrics, stop) = (metrics(), CancellationToken::new());
        let begun = Arc::new(AtomicUsize::new(0));
        let supervisor = Supervisor::until(stop.clone(), &metrics);
        let count = Arc::clone(&begun);
        supervisor
            .clone()
            .run(Task::Probe, move || {
                count.fetch_add(1, Ordering::Relaxed);
                async {}
            })
            .await;
        assert_eq!(begun.load(Ordering::Relaxed), 1);
        stop.cancel();
        supervisor.run(Task::Probe, std::future::pending).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_begins_a_task_may_panic_too() {
        let metrics = metrics();
        let mut tries = 0;
        let begin = move || {
            tries += 1;
            assert!(tries > 3, "not yet");
            async {}
        };
        Supervisor::new(&metrics).run(Task::Users, begin).await;
        assert_eq!(restarts(&metrics, Task::Users), 3);
    }

    #[tokio::test]
    async fn the_death_of_an_essential_task_is_told() {
        let (tell, mut told) = mpsc::unbounded_channel();
        let run = async { panic!("at once") };
        let ended = essential(Task::Listener, run, move |task| tell.send(task).unwrap());
        ended.await.unwrap();
        assert_eq!(told.recv().await, Some(Task::Listener));
        // One that ends in order is no death.
        let ended = essential(Task::Listener, async {}, |_| panic!("it did not die"));
        ended.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_in_blocking_work_is_one_of_its_task() {
        assert_eq!(blocking(|| 7).await, Some(7));
        let task = tokio::spawn(blocking(|| -> u32 { panic!("in a thread of its own") }));
        let panic = task.await.unwrap_err().into_panic();
        assert_eq!(reason(panic.as_ref()), "in a thread of its own");
    }
}
