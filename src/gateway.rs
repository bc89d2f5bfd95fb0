//! Wires the rooms: from a configuration to a gateway that serves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::FutureExt;
use futures::future::{BoxFuture, join, join_all};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::address::AddressBook;
use crate::admin::{Admin, Readiness};
use crate::auth::{Authenticator, LockoutPolicy, ReloadOutcome, Users};
use crate::cluster::Member;
use crate::config::{self, Config, Driver, StoreName};
use crate::edge::{Descriptors, Edge, Lines, Parts, StoreConnections, Tls, raise_open_files};
use crate::ftp::{Ftp, open_gcs};
use crate::memory::{Account, Use};
use crate::session::{Admission, Registry};
use crate::shutdown::Shutdown;
use crate::storage::foreign::ForeignStorage;
use crate::storage::stores::{MOVES, One, Stores, stores_in_one_place};
use crate::storage::{Common, OpenError, Storage, StorageError, StoreFront, idle_connections};
use crate::supervise::{Supervisor, Task, essential};
use crate::telemetry::{Metrics, StoreMetrics, Xferlog, logging};

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
    stores: Arc<Stores>,
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
        let readiness = config.stores.iter().fold(
            Readiness::new(config.admin.ready_needs_store),
            |readiness, (name, _)| readiness.with_store(name.as_str()),
        );
        let readiness = Arc::new(readiness);
        let open_files = raise_open_files();
        let stores = Arc::new(open_stores(config, Arc::clone(&metrics))?);
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
        let ftp = Ftp::new(
            authenticator,
            Arc::clone(&stores) as _,
            logging::slog_bridge(),
        );
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
        if let Some(member) = Member::of(config, &addresses, &metrics, &shutdown) {
            belong(&member, &readiness, &supervisor);
        }
        for store in stores.iter() {
            if let Some(age) = config.upload.sweep_after {
                supervisor.keep(Task::Sweep, sweeping(store, age));
            }
            supervisor.keep(Task::Probe, probing(store, &readiness));
        }
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
            stores,
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
        let leaving = self
            .stores
            .iter()
            .map(|store| store.front.leave_unfinished());
        join_all(leaving).await;
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
pub fn open_stores(config: &Config, metrics: Arc<Metrics>) -> Result<Stores, OpenError> {
    if let Some((outer, inner)) = stores_in_one_place(config) {
        let (outer, inner) = if inner.is_default() {
            (inner, outer)
        } else {
            (outer, inner)
        };
        return Err(OpenError::OnePlace {
            outer: outer.to_string(),
            inner: inner.to_string(),
        });
    }
    let common = Common::new(config, metrics)?;
    let mut stores = Stores::default();
    let default = StoreName::default();
    let named = config.stores.iter();
    let named = named.map(|(name, settings)| (name, settings, common.for_another_store()));
    let all = std::iter::once((&default, &config.store, common.clone())).chain(named);
    for (name, settings, common) in all {
        let opened = open_store(name, settings, &common);
        let (front, metrics) = opened.map_err(|error| {
            if name.is_default() {
                error
            } else {
                OpenError::Named(name.to_string(), Box::new(error))
            }
        })?;
        stores.add(name.clone(), settings, front, metrics);
    }
    Ok(stores)
}

fn open_store(
    name: &StoreName,
    config: &config::Store,
    common: &Common,
) -> Result<(Arc<dyn StoreFront>, Arc<StoreMetrics>), OpenError> {
    let upload = &common.upload;
    config
        .check_carried(upload.storage_class.as_ref(), &upload.tags, upload.verify)
        .map_err(OpenError::Uncarried)?;
    let metrics = common.metrics_of(name);
    let counted = Arc::clone(&metrics);
    let front: Arc<dyn StoreFront> = match config.driver {
        Driver::ObjectStore => Arc::new(Storage::open(config, common, counted)?),
        Driver::UnftpSbeGcs => {
            let back_end = open_gcs(config)?;
            Arc::new(ForeignStorage::open(back_end, config, common, counted)?)
        }
    };
    Ok((front, metrics))
}

/// An upload sends its parts, and may read what it is to add to; a download reads its parts.
fn store_connections(config: &Config) -> StoreConnections {
    let connections = config.upload.concurrency.max(config.download.concurrency) + 1;
    StoreConnections {
        stores: 1 + config.stores.len(),
        moves: MOVES * config.stores.len(),
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

/// Makes a task that asks a store.
fn probing(
    store: &Arc<One>,
    readiness: &Arc<Readiness>,
) -> impl Fn() -> BoxFuture<'static, ()> + Send + use<> {
    let (store, readiness) = (Arc::clone(store), Arc::clone(readiness));
    move || probe(Arc::clone(&store), Arc::clone(&readiness)).boxed()
}

/// Asks a store, in the background and for ever, whether it answers.
async fn probe(store: Arc<One>, readiness: Arc<Readiness>) {
    let (mut tried, name, interval) = (false, store.name.as_str(), store.probe_interval);
    let mut probe = store.probe();
    loop {
        let trouble = probe.ask().await.err().map(|error| error.to_string());
        let healthy = trouble.is_none();
        if readiness.store_answered(name, trouble.clone()) {
            match trouble {
                None => tracing::info!(store = name, "the store answers"),
                Some(trouble) => tracing::warn!(store = name, trouble, "the store does not answer"),
            }
        }
        if healthy && !tried {
            tried = try_store(&store).await;
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
async fn try_store(store: &One) -> bool {
    let name = store.name.as_str();
    match store.front.try_store().await {
        Ok(()) => {
            let (by, means) = store.front.comparison();
            tracing::info!(
                store = name,
                by,
                means,
                "what is stored is compared with what was sent"
            );
            true
        }
        Err(StorageError::StoreDenied(error)) => {
            tracing::warn!(store = name, %error, "not allowed to try which conditions and checksums the store knows, see store.conditions");
            true
        }
        Err(error) => {
            tracing::debug!(store = name, %error, "can't try now what the store knows");
            false
        }
    }
}

/// Makes a task that sweeps.
fn sweeping(store: &Arc<One>, age: Duration) -> impl Fn() -> BoxFuture<'static, ()> + Send + use<> {
    let store = Arc::clone(store);
    move || sweep(Arc::clone(&store), age).boxed()
}

/// Removes what killed processes left behind, now and every hour.
async fn sweep(store: Arc<One>, age: Duration) {
    let (mut is_told, name) = (false, store.name.as_str());
    loop {
        let swept = store.front.sweep(age).await;
        store.metrics.sweep(swept.uploads);
        match swept.error {
            Some(StorageError::StoreDenied(error)) if !is_told => {
                tracing::warn!(store = name, %error, "not allowed to look for unfinished uploads, leaving them be");
                is_told = true;
            }
            Some(error) => {
                tracing::debug!(store = name, %error, "can't look for unfinished uploads now");
            }
            None => {}
        }
        tokio::time::sleep(SWEEP_INTERVAL).await;
    }
}

/// Shares a Service with other gateways. Until it is in the slices, nobody would be sent here: it is not ready, so that
/// the update of a workload waits for it.
fn belong(member: &Arc<Member>, readiness: &Arc<Readiness>, supervisor: &Supervisor) {
    readiness.needs_slices();
    let kept = Arc::clone(member);
    let readiness = Arc::clone(readiness);
    supervisor.keep(Task::Cluster, move || {
        let (member, readiness) = (Arc::clone(&kept), Arc::clone(&readiness));
        let entering = Arc::clone(&kept);
        let entering = async move {
            entering.entered().await;
            readiness.in_slices();
        };
        join(member.keep(), entering).map(drop)
    });
    let withdrawing = Arc::clone(member);
    supervisor.keep(Task::Withdrawal, move || {
        Arc::clone(&withdrawing).withdraw()
    });
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
