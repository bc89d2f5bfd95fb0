//! A gateway of a history: in this process, or a process of its own that may be killed and comes back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bucketferry::auth::UserTable;
use rustix::process::Signal;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::failing::Shared;
use crate::lane::Lane;
use crate::plan::Settings;
use crate::support::ftp::Client;
use crate::support::process::{Process, bucketferry, send, to_serve, try_get};
use crate::support::{Gateway, PATIENCE, Store, borrowed, eventually};

/// bcrypt at its least cost, of `secret`: there are many logins.
const USERS: &str = r#"
[[user]]
name = "ferry"
# Renames are to happen where overwriting is denied as well.
permissions = ["list", "read", "write", "delete", "rename", "mkdir", "release"]
password_hash = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"
"#;

/// Gauges that are zero when no client is there.
const GAUGES: [&str; 7] = [
    "bucketferry_sessions",
    r#"bucketferry_memory_bytes{use="uploads"}"#,
    r#"bucketferry_memory_bytes{use="downloads"}"#,
    r#"bucketferry_memory_bytes{use="listings"}"#,
    r#"bucketferry_memory_bytes{use="sessions"}"#,
    r#"bucketferry_memory_bytes{use="sockets"}"#,
    "bucketferry_passive_ports_in_use",
];

/// Descriptors that a process may have more of than at its start: connections to the store that are kept for later.
const KEPT_DESCRIPTORS: usize = 24;

/// A gateway that clients find again after its death.
pub(crate) struct Served {
    life: Arc<Mutex<Life>>,
    running: Running,
}

enum Running {
    Here(Box<Gateway>),
    Process(JoinHandle<()>),
}

/// The time from one start to the end.
#[derive(Default)]
struct Life {
    number: usize,
    /// None while it is down.
    up: Option<Up>,
    /// Clients that are connected to it.
    connected: usize,
    /// Its next end is wanted.
    is_closing: bool,
}

#[derive(Clone, Copy)]
struct Up {
    address: SocketAddr,
    /// Where its clients come from, and no others: the data port of a gateway that is dead may be another's by now.
    clients: IpAddr,
    process: Option<Vitals>,
}

/// What is known of a process that runs.
#[derive(Clone, Copy)]
struct Vitals {
    pid: u32,
    admin: SocketAddr,
    descriptors: usize,
}

/// A client of one life of a gateway's.
pub(crate) struct Connected {
    pub(crate) client: Client,
    pub(crate) gateway: usize,
    pub(crate) life: usize,
}

impl Served {
    /// Starts one on a store.
    pub(crate) async fn start(
        lane: Lane,
        store: &Store,
        settings: Settings,
        failing: Option<&Shared>,
    ) -> Self {
        if !lane.has_processes() {
            let served = Self::here(gateway(store, settings));
            served.has_tried_its_store().await;
            return served;
        }
        let recipe = Recipe {
            store: store.clone(),
            settings,
            environment: failing.map(Shared::environment).unwrap_or_default(),
        };
        let process = recipe.start().await;
        let life = Arc::new(Mutex::new(Life::default()));
        lock(&life).rises(&process);
        let kept = tokio::spawn(keep(recipe, process, Arc::clone(&life)));
        Self {
            life,
            running: Running::Process(kept),
        }
    }

    fn here(gateway: Gateway) -> Self {
        let up = Up {
            address: gateway.address(),
            clients: new_address(),
            process: None,
        };
        let life = Life {
            up: Some(up),
            ..Life::default()
        };
        Self {
            life: Arc::new(Mutex::new(life)),
            running: Running::Here(Box::new(gateway)),
        }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        lock(&self.life)
    }

    fn up(&self) -> (usize, Option<Up>) {
        let life = self.life();
        (life.number, life.up)
    }

    /// How many times it has died.
    pub(crate) fn lives(&self) -> usize {
        self.life().number
    }

    /// A client that has logged in, and the life that it belongs to. Waits while the gateway is down.
    pub(crate) async fn client(&self) -> (Client, usize) {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if let (life, Some(up)) = self.up()
                && let Some(client) =
                    Client::try_connect_as(up.clients, up.address, "ferry", "secret").await
                && self.counts(life)
            {
                return (client, life);
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("the gateway does not come back");
    }

    /// Counts a client, unless that life is over.
    fn counts(&self, number: usize) -> bool {
        let mut life = self.life();
        let is_same = life.number == number;
        life.connected += usize::from(is_same);
        is_same
    }

    pub(crate) fn hung_up(&self, number: usize) {
        let mut life = self.life();
        if life.number == number {
            life.connected -= 1;
        }
    }

    /// SIGKILL. It is started again at once.
    pub(crate) fn kill(&self) {
        if let Some(Vitals { pid, .. }) = self.up().1.and_then(|up| up.process) {
            // Before the signal: a client whose connection ends has to know that this life is over.
            self.life().ends();
            send(Signal::KILL, pid);
        }
    }

    /// Waits until no session is left whose client is gone.
    pub(crate) async fn settle(&self) {
        let connected = || self.life().connected;
        self.wait_for("bucketferry_sessions", connected).await;
    }

    /// Waits until a gauge shows no more than this.
    async fn wait_for(&self, series: &str, most: impl Fn() -> usize) {
        let give_up = Instant::now() + PATIENCE;
        while self.gauge(series).await.is_none_or(|shown| shown > most()) {
            assert!(Instant::now() < give_up, "{series} stays above {}", most());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until it is known which conditions the store looks at: what goes wrong then is no part of a history.
    async fn has_tried_its_store(&self) {
        let known = r#"bucketferry_store_conditional_writes{operation="delete",store="default"}"#;
        let give_up = Instant::now() + PATIENCE;
        while self.gauge(known).await.is_none() {
            assert!(Instant::now() < give_up, "the store was not tried");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// What a gauge shows; nothing while the gateway is down.
    async fn gauge(&self, series: &str) -> Option<usize> {
        let text = match (&self.running, self.up().1) {
            (Running::Here(gateway), _) => gateway.inner.metrics().render().ok(),
            (Running::Process(_), Some(Up { process, .. })) => try_get(process?.admin, "/metrics")
                .await
                .ok()
                .map(|(_, text)| text),
            (Running::Process(_), None) => None,
        };
        text?
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Ends it. Nothing is left in it of clients that are gone.
    pub(crate) async fn close(self) {
        for gauge in GAUGES {
            self.wait_for(gauge, || 0).await;
        }
        let up = self.up().1.and_then(|up| up.process);
        match self.running {
            Running::Here(gateway) => gateway.stop().await,
            Running::Process(kept) => {
                let up = up.expect("a process that is up");
                let most = up.descriptors + KEPT_DESCRIPTORS;
                eventually("no descriptors are left", || descriptors(up.pid) <= most).await;
                lock(&self.life).is_closing = true;
                send(Signal::TERM, up.pid);
                kept.await.expect("an end in order");
            }
        }
    }
}

impl Life {
    fn ends(&mut self) {
        if self.up.take().is_some() {
            self.number += 1;
            self.connected = 0;
        }
    }

    fn rises(&mut self, process: &Process) {
        let pid = process.pid();
        let vitals = Vitals {
            pid,
            admin: process.admin,
            descriptors: descriptors(pid),
        };
        self.up = Some(Up {
            address: process.address,
            clients: new_address(),
            process: Some(vitals),
        });
    }
}

/// An address of this machine that no other life has.
fn new_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = u32::from(Ipv4Addr::new(127, 16, 0, 1));
    let next = first + NEXT.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::from(next).into()
}

fn lock(life: &Mutex<Life>) -> MutexGuard<'_, Life> {
    life.lock().expect("its life")
}

/// How many descriptors a process has open.
fn descriptors(pid: u32) -> usize {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
    open.map_or(0, Iterator::count)
}

/// Starts the process again whenever it dies, until it is told to end.
async fn keep(recipe: Recipe, mut process: Process, life: Arc<Mutex<Life>>) {
    loop {
        let status = process.over().await;
        if lock(&life).is_closing {
            assert!(status.success(), "it ends in order: {status}");
            return;
        }
        lock(&life).ends();
        process = recipe.start().await;
        lock(&life).rises(&process);
    }
}

/// How a process is started, time and again.
struct Recipe {
    store: Store,
    settings: Settings,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Recipe {
    /// Starts it, again if it does not get that far: what has failed then fails once.
    async fn start(&self) -> Process {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match Process::try_started_with(self.command(), Stdio::null()).await {
                Ok(process) => return process,
                Err(said) => assert!(Instant::now() < give_up, "it does not start: {said}"),
            }
        }
    }

    fn command(&self) -> Command {
        let settings = settings_of(self.settings);
        let mut command = bucketferry();
        command.envs(self.environment.iter().cloned());
        to_serve(command, &self.store, &borrowed(&settings))
    }
}

/// One in this process.
pub(crate) fn gateway(store: &Store, settings: Settings) -> Gateway {
    let users = UserTable::parse(USERS).expect("users");
    let settings = settings_of(settings);
    Gateway::start(store.clone(), users.into(), &borrowed(&settings))
}

fn settings_of(settings: Settings) -> Vec<(String, String)> {
    let ms = |ms: u64| format!("{ms}ms");
    let overwrite = if settings.deny { "deny" } else { "allow" };
    let settings = [
        ("store.retry_timeout", ms(settings.retry_timeout)),
        ("store.request_timeout", ms(settings.request_timeout)),
        // Requests are counted.
        ("store.probe_interval", "1h".to_owned()),
        ("upload.overwrite", overwrite.to_owned()),
        ("upload.part_size", "5MiB".to_owned()),
        ("upload.settle", "0s".to_owned()),
    ];
    let settings = settings.into_iter();
    settings
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}
