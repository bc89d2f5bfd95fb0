//! Wires the rooms: from a configuration to a gateway that serves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::address::AddressBook;
use crate::admin::{Admin, Readiness};
use crate::auth::{Authenticator, LockoutPolicy, ReloadOutcome, Users};
use crate::config::{Config, Driver};
use crate::edge::{Descriptors, Edge, Lines, Parts, StoreConnections, Tls, raise_open_files};
use crate::ftp::{Ftp, open_gcs};
use crate::memory::{Account, Use};
use crate::session::{Admission, Registry};
use crate::shutdown::Shutdown;
use crate::storage::foreign::ForeignStorage;
use crate::storage::{OpenError, Storage, StorageError, Verbs, idle_connections};
use crate::supervise::{Supervisor, Task, essential};
use crate::telemetry::{Metrics, Xferlog, logging};

/// How soon a store that does not answer is asked again.
const RETRY_PROBE: Duration = Duration::from_secs(1);

/// How often unfinished uploads are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_hours(1);

/// A gateway that serves clients.
#[derive(Debug)]
pub struct Gateway {
    addresses: Vec<SocketAddr>,
    admin: Admin,
    serving: JoinHandle<()>,
    registry: Registry,
    shutdown: Shutdown,
    grace: Duration,
    background: CancellationToken,
    storage: Arc<dyn Verbs>,
    metrics: Arc<Metrics>,
    lines: Lines,
}

/// Runs a gateway until `shutdown` ends it. Returns whether every transfer could finish.
///
/// # Errors
/// When it can't start: a store that can't be opened, an address that can't be listened on; or as
/// [`Gateway::finished`] says.
pub async fn run(config: &Config, users: Users, shutdown: Shutdown) -> anyhow::Result<bool> {
    let gateway = Gateway::start(config, users, shutdown)?;
    gateway.finished().await
}

impl Gateway {
    /// Opens the store and the listeners, and begins to serve.
    ///
    /// # Errors
    /// When the store can't be opened, or an address can't be listened on.
    pub fn start(config: &Config, users: Users, shutdown: Shutdown) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new()?);
        let readiness = Arc::new(Readiness::new(config.admin.ready_needs_store));
        let open_files = raise_open_files();
        let storage = open_storage(config, Arc::clone(&metrics))?;
        let wanted = config.limits.max_sessions;
        let descriptors = Descriptors::new(open_files, wanted, store_connections(config));
        let registry = Registry::new(Admission {
            max_sessions: descriptors.max_sessions(),
            max_sessions_per_ip: config.limits.max_sessions_per_ip,
            max_sessions_per_user: config.limits.max_sessions_per_user,
            connections_per_second_per_ip: config.limits.connections_per_second_per_ip,
        });
        let tls = Tls::load(config)?;
        let authenticator =
            Authenticator::new(users.clone(), lockout(config), config.limits.hashing_memory)
                .for_sessions(config.limits.max_sessions);
        metrics.show_memory(&Account::of(config));
        authenticator.show_hashing_memory(metrics.memory_of(Use::Hashing));
        let lines = Lines::default();
        let ftp = Ftp::new(authenticator, Arc::clone(&storage), logging::slog_bridge());
        let address = AddressBook::new(&config.passive, &metrics);
        let watching_address = address.watch();
        let parts = Parts {
            ftp,
            address,
            tls: tls.clone(),
            descriptors,
            registry: registry.clone(),
            metrics: Arc::clone(&metrics),
            lines: lines.clone(),
            xferlog: open_xferlog(config)?,
            shutdown: shutdown.clone(),
        };
        let edge = Edge::new(config, parts).bind()?;
        let admin = Admin::start(
            config.admin.listen,
            Arc::clone(&metrics),
            Arc::clone(&readiness),
        )?;
        readiness.listening();

        let addresses = edge.addresses();
        let background = CancellationToken::new();
        let supervisor = Supervisor::until(background.clone(), &metrics);
        supervisor.keep(Task::Address, watching_address);
        if let Some(age) = config.upload.sweep_after {
            supervisor.keep(Task::Sweep, sweeping(&storage, age, &metrics));
        }
        let asked = config.store.probe_interval;
        supervisor.keep(Task::Probe, probing(&storage, &readiness, &metrics, asked));
        let summarised = lines.clone();
        supervisor.keep(Task::LogSummaries, move || summarised.clone().summarise());
        let draining = shutdown.clone();
        supervisor.keep(Task::Drain, move || {
            note_drain(draining.clone(), Arc::clone(&readiness))
        });
        watch_users(users, config, &metrics, &supervisor);
        if let Some(tls) = tls {
            let (interval, metrics) = (config.tls.reload_interval, Arc::clone(&metrics));
            let stop = supervisor.stop().clone();
            supervisor.keep(Task::Tls, move || {
                tls.clone()
                    .watch(interval, Arc::clone(&metrics), stop.clone())
            });
        }
        tracing::info!(
            listen = ?addresses,
            admin = %admin.address(),
            store = %config.store.url,
            version = env!("CARGO_PKG_VERSION"),
            "serving"
        );
        Ok(Self {
            addresses,
            admin,
            serving: {
                let failing = shutdown.clone();
                essential(Task::Listener, edge.serve(), move |task| failing.fail(task))
            },
            registry,
            shutdown,
            grace: config.shutdown.grace,
            background,
            storage,
            metrics,
            lines,
        })
    }

    /// Where clients can connect.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the operator can look.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The gateway's metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Waits for the shutdown, and then for running transfers. Returns whether all could finish.
    ///
    /// # Errors
    /// When the shutdown began because a task has died that nothing can take the place of; after the drain too.
    pub async fn finished(self) -> anyhow::Result<bool> {
        // How it ended is known to the shutdown.
        let _ = self.serving.await;
        let in_peace = self.shutdown.drain(self.registry.tasks(), self.grace).await;
        self.background.cancel();
        self.storage.leave_unfinished().await;
        self.admin.stop();
        self.lines.finish();
        tracing::info!(in_peace, "ended");
        match self.shutdown.failed() {
            Some(task) => bail!(
                "the gateway ended because its task {:?} panicked, see the log",
                task.name()
            ),
            None => Ok(in_peace),
        }
    }
}

/// What users store in, as the configuration says.
///
/// # Errors
/// When an option is unknown or contradicts another, or a local folder can't be created.
pub fn open_storage(config: &Config, metrics: Arc<Metrics>) -> Result<Arc<dyn Verbs>, OpenError> {
    Ok(match config.store.driver {
        Driver::ObjectStore => Arc::new(Storage::open(config, metrics)?),
        Driver::UnftpSbeGcs => {
            let back_end = open_gcs(&config.store)?;
            Arc::new(ForeignStorage::open(back_end, config, metrics)?)
        }
    })
}

/// An upload sends its parts, and may read what it is to add to; a download reads its parts.
fn store_connections(config: &Config) -> StoreConnections {
    let connections = config.upload.concurrency.max(config.download.concurrency) + 1;
    StoreConnections {
        // What an upload has on disk is in a file.
        per_transfer: connections + usize::from(config.upload.spill_dir.is_some()),
        kept_files: Storage::kept_files(&config.upload),
        idle: idle_connections,
    }
}

fn lockout(config: &Config) -> LockoutPolicy {
    LockoutPolicy {
        failures: config.limits.login_failures,
        failures_per_address: config.limits.login_failures_per_address,
        lockout: config.limits.lockout,
    }
}

fn open_xferlog(config: &Config) -> anyhow::Result<Option<Xferlog>> {
    let Some(path) = &config.log.xferlog else {
        return Ok(None);
    };
    let log = Xferlog::open(path)
        .with_context(|| format!("log.xferlog: can't open {}", path.display()))?;
    Ok(Some(log))
}

/// Makes a task that asks the store.
fn probing(
    storage: &Arc<dyn Verbs>,
    readiness: &Arc<Readiness>,
    metrics: &Arc<Metrics>,
    interval: Duration,
) -> impl Fn() -> BoxFuture<'static, ()> + Send + use<> {
    let (storage, readiness, metrics) = (
        Arc::clone(storage),
        Arc::clone(readiness),
        Arc::clone(metrics),
    );
    move || {
        let (storage, readiness) = (Arc::clone(&storage), Arc::clone(&readiness));
        probe(storage, readiness, Arc::clone(&metrics), interval).boxed()
    }
}

/// Asks the store, in the background and for ever, whether it answers.
async fn probe(
    storage: Arc<dyn Verbs>,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    interval: Duration,
) {
    let mut tried = false;
    loop {
        let trouble = storage.probe().await.err().map(|error| error.to_string());
        let healthy = trouble.is_none();
        metrics.store_up.set(healthy.into());
        if readiness.store_answered(trouble.clone()) {
            match trouble {
                None => tracing::info!("the store answers"),
                Some(trouble) => tracing::warn!(trouble, "the store does not answer"),
            }
        }
        if healthy && !tried {
            tried = try_store(storage.as_ref()).await;
        }
        tokio::time::sleep(if healthy {
            interval
        } else {
            RETRY_PROBE.min(interval)
        })
        .await;
    }
}

/// Whether it need not be tried again what the store knows: it is known, or the gateway may not.
async fn try_store(storage: &dyn Verbs) -> bool {
    match storage.try_store().await {
        Ok(()) => {
            let (by, means) = storage.comparison();
            tracing::info!(by, means, "what is stored is compared with what was sent");
            true
        }
        Err(StorageError::StoreDenied(error)) => {
            tracing::warn!(%error, "not allowed to try which conditions and checksums the store knows, see store.conditions");
            true
        }
        Err(error) => {
            tracing::debug!(%error, "can't try now what the store knows");
            false
        }
    }
}

/// Makes a task that sweeps.
fn sweeping(
    storage: &Arc<dyn Verbs>,
    age: Duration,
    metrics: &Arc<Metrics>,
) -> impl Fn() -> BoxFuture<'static, ()> + Send + use<> {
    let (storage, metrics) = (Arc::clone(storage), Arc::clone(metrics));
    move || sweep(Arc::clone(&storage), age, Arc::clone(&metrics)).boxed()
}

/// Removes what killed processes left behind, now and every hour.
async fn sweep(storage: Arc<dyn Verbs>, age: Duration, metrics: Arc<Metrics>) {
    let mut is_told = false;
    loop {
        let swept = storage.sweep(age).await;
        metrics.uploads_swept.inc_by(swept.uploads as u64);
        match swept.error {
            Some(StorageError::StoreDenied(error)) if !is_told => {
                tracing::warn!(%error, "not allowed to look for unfinished uploads, leaving them be");
                is_told = true;
            }
            Some(error) => tracing::debug!(%error, "can't look for unfinished uploads now"),
            None => {}
        }
        tokio::time::sleep(SWEEP_INTERVAL).await;
    }
}

async fn note_drain(shutdown: Shutdown, readiness: Arc<Readiness>) {
    shutdown.draining().cancelled().await;
    readiness.draining();
    if shutdown.failed().is_some() {
        readiness.failed();
    }
}

fn watch_users(users: Users, config: &Config, metrics: &Arc<Metrics>, supervisor: &Supervisor) {
    show_users(&users, metrics);
    let Some(path) = config.users.file.clone() else {
        return;
    };
    let most = config.admin.max_user_series;
    metrics.senders.follow(users.current().senders(), most);
    let reloaded = {
        let (users, metrics) = (users.clone(), Arc::clone(metrics));
        move |outcome: ReloadOutcome| {
            let label = match outcome {
                ReloadOutcome::Reloaded { .. } => "reloaded",
                ReloadOutcome::Failed => "failed",
            };
            metrics.users_reloads.with_label_values(&[label]).inc();
            show_users(&users, &metrics);
            let table = users.current();
            metrics.senders.follow(table.senders(), most);
            if let Some(warning) = table.unwatched(most) {
                tracing::warn!("{warning}");
            }
        }
    };
    let interval = config.users.reload_interval;
    let stop = supervisor.stop().clone();
    supervisor.keep(Task::Users, move || {
        let (users, path) = (users.clone(), path.clone());
        users.watch(path, interval, stop.clone(), reloaded.clone())
    });
}

fn show_users(users: &Users, metrics: &Metrics) {
    let count = i64::try_from(users.current().len()).unwrap_or(i64::MAX);
    metrics.users.set(count);
}
