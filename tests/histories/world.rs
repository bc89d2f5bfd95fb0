//! A store, the gateways on it, and their clients; and a history that runs on them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bucketferry::auth::UserTable;
use doubles::Fault;
use tokio::time::sleep;

use crate::adversary::Kind;
use crate::check::atoms::names;
use crate::client::{Device, look};
use crate::content::{Chunk, Content};
use crate::history::{Asked, Doubt, History, Record, Time};
use crate::plan::{Plan, Settings, Verb};
use crate::support::ftp::Client;
use crate::support::{Gateway, PATIENCE, Store, eventually};

/// bcrypt at its least cost, of `secret`: there are many logins.
const USERS: &str = r#"
[[user]]
name = "ferry"
password_hash = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"
"#;

/// What the store is asked for that changes an object, or is on the way to do so.
const CHANGES: [&str; 6] = [
    "PutObject",
    "CopyObject",
    "DeleteObject ",
    "UploadPart",
    "CompleteMultipartUpload",
    "Compose",
];

/// Looks past the gateways are told as this one's.
const DIRECT: usize = 9;

/// A store with its gateways. Histories run on it one after the other, each in a directory of its own.
pub(crate) struct World {
    kind: Kind,
    pub(crate) settings: Settings,
    store: Store,
    gateways: Vec<Gateway>,
    idle: Mutex<Vec<(usize, Client)>>,
    /// How many clients are connected to each gateway.
    connected: [AtomicUsize; 2],
}

/// A history that is being made.
pub(crate) struct Run {
    began: Instant,
    directory: String,
    chunks: Vec<Chunk>,
    records: Mutex<Vec<Record>>,
    faults: Mutex<Vec<String>>,
}

impl World {
    pub(crate) fn open(kind: Kind, settings: Settings) -> Arc<Self> {
        let store = match kind {
            Kind::S3 => Store::s3(),
            Kind::Google => Store::google(),
            Kind::Azure => Store::azure(),
            Kind::Local => Store::folder(),
        };
        let gateways = if settings.alone { 1 } else { 2 };
        let gateways = (0..gateways).map(|_| gateway(&store, settings)).collect();
        Arc::new(Self {
            kind,
            settings,
            store,
            gateways,
            idle: Mutex::default(),
            connected: Default::default(),
        })
    }

    /// A client of a gateway's that has logged in.
    pub(crate) async fn client(&self, gateway: usize) -> Client {
        let idle = {
            let mut idle = self.idle.lock().expect("clients");
            let at = idle.iter().position(|(of, _)| *of == gateway);
            at.map(|at| idle.swap_remove(at))
        };
        if let Some((_, client)) = idle {
            return client;
        }
        self.connected[gateway].fetch_add(1, Ordering::SeqCst);
        self.gateways[gateway].client().await
    }

    pub(crate) fn give_back(&self, gateway: usize, client: Client) {
        self.idle.lock().expect("clients").push((gateway, client));
    }

    pub(crate) fn hung_up(&self, gateway: usize) {
        self.connected[gateway].fetch_sub(1, Ordering::SeqCst);
    }

    /// Runs a plan.
    pub(crate) async fn run(self: &Arc<Self>, plan: &Plan) -> History {
        let run = Arc::new(Run {
            began: Instant::now(),
            directory: format!("h{}", plan.seed),
            chunks: plan.chunks(),
            records: Mutex::default(),
            faults: Mutex::default(),
        });
        if self.kind != Kind::Local {
            self.store.server().heal();
            self.store.server().strike(plan.strikes.clone());
        }
        self.act(plan, &run).await;
        self.settle().await;
        self.look(&run).await;
        let history = History {
            struck: self.struck(plan),
            doubts: self.doubts(&run),
            asked: self.asked(&run),
            patience: self.settings.request_timeout * 1000,
            ..run.history()
        };
        self.clear(&run);
        if self.kind == Kind::Local {
            history.without_doubts()
        } else {
            history
        }
    }

    /// All clients do what they have to.
    async fn act(self: &Arc<Self>, plan: &Plan, run: &Arc<Run>) {
        let devices = plan.clients.iter().enumerate().map(|(number, steps)| {
            let device = Device {
                number,
                world: Arc::clone(self),
                run: Arc::clone(run),
            };
            tokio::spawn(device.work(steps.clone()))
        });
        let devices: Vec<_> = devices.collect();
        for (number, device) in devices.into_iter().enumerate() {
            if let Err(error) = device.await {
                run.fault(format!("client {number}: {error}"));
            }
        }
    }

    /// Waits until no session is left whose client is gone, and no request that came late.
    async fn settle(&self) {
        for (gateway, connected) in self.gateways.iter().zip(&self.connected) {
            let sessions = &gateway.inner.metrics().sessions;
            eventually("sessions end whose clients are gone", || {
                let connected = connected.load(Ordering::SeqCst);
                usize::try_from(sessions.get()).is_ok_and(|sessions| sessions <= connected)
            })
            .await;
        }
        if self.kind != Kind::Local {
            self.store.server().wait_until_idle().await;
            self.store.server().heal();
        }
    }

    /// Looks at every name, through the gateways and past them.
    async fn look(self: &Arc<Self>, run: &Arc<Run>) {
        let names = names(&run.history());
        for name in &names {
            let call = run.now();
            let key = format!("{}/{name}", run.directory);
            let bytes = self.store.object(&key);
            let content = bytes.map(|bytes| run.read(&format!("at the end, {name}"), &bytes));
            run.note(Record {
                client: DIRECT,
                gateway: DIRECT,
                verb: Verb::Retrieve { key: name.clone() },
                call,
                reply: run.now(),
                last_try: run.now(),
                outcome: look(content),
                words: String::new(),
            });
        }
        for gateway in 0..self.gateways.len() {
            let device = Device {
                number: DIRECT,
                world: Arc::clone(self),
                run: Arc::clone(run),
            };
            device.work(retrievals(&names, gateway)).await;
        }
    }

    /// The faults whose request has come.
    fn struck(&self, plan: &Plan) -> Vec<Fault> {
        let Store::Bucket(server) = &self.store else {
            return Vec::new();
        };
        let strikes = plan.strikes.iter();
        let struck = strikes.filter(|strike| server.count(strike.operation) > strike.nth);
        struck.map(|strike| strike.fault).collect()
    }

    /// What was carried out late, or answered badly.
    fn doubts(&self, run: &Run) -> Vec<Doubt> {
        let Store::Bucket(server) = &self.store else {
            return Vec::new();
        };
        let requests = server.doubtful_requests().into_iter();
        let doubts = requests.map(|(asked, fault, at)| Doubt {
            name: run.name_in(&asked),
            at: run.time(at),
            is_late: matches!(fault, Fault::Late(_) | Fault::Slow(_)),
            words: format!("{asked} ({fault:?})"),
        });
        doubts.collect()
    }

    /// The changes of single objects that it was asked for.
    fn asked(&self, run: &Run) -> Vec<Asked> {
        let Store::Bucket(server) = &self.store else {
            return Vec::new();
        };
        let requests = server.timed_requests().into_iter();
        let changes = requests.filter(|(asked, _)| CHANGES.iter().any(|of| asked.starts_with(of)));
        let asked = changes.filter_map(|(asked, at)| {
            Some(Asked {
                name: run.name_in(&asked)?,
                at: run.time(at),
                words: asked,
            })
        });
        asked.collect()
    }

    /// Nothing of a history slows the next ones down.
    fn clear(&self, run: &Run) {
        match &self.store {
            Store::Bucket(server) => {
                let prefix = format!("{}/", run.directory);
                let keys = server.keys().into_iter();
                for key in keys.filter(|key| key.starts_with(&prefix)) {
                    server.delete(&key);
                }
                server.forget_requests();
            }
            Store::Folder(folder) => {
                let _ = std::fs::remove_dir_all(folder.path().join(&run.directory));
            }
        }
    }
}

fn gateway(store: &Store, settings: Settings) -> Gateway {
    let ms = |ms: u64| format!("{ms}ms");
    let (retry, request) = (ms(settings.retry_timeout), ms(settings.request_timeout));
    let overwrite = if settings.deny { "deny" } else { "allow" };
    let users = UserTable::parse(USERS).expect("users");
    Gateway::start(
        store.clone(),
        users.into(),
        &[
            ("store.retry_timeout", &retry),
            ("store.request_timeout", &request),
            // Requests are counted.
            ("store.probe_interval", "1h"),
            ("upload.overwrite", overwrite),
            ("upload.part_size", "5MiB"),
            ("upload.settle", "0s"),
        ],
    )
}

fn retrievals(names: &[String], gateway: usize) -> Vec<crate::plan::Step> {
    let steps = names.iter().map(|name| crate::plan::Step {
        verb: Verb::Retrieve { key: name.clone() },
        gateway,
        pause: Duration::ZERO,
        hang_up: None,
    });
    steps.collect()
}

impl Run {
    /// Microseconds since it began.
    pub(crate) fn now(&self) -> Time {
        self.time(Instant::now())
    }

    fn time(&self, at: Instant) -> Time {
        let since = at.saturating_duration_since(self.began);
        u64::try_from(since.as_micros()).expect("a short time")
    }

    /// The name that `PutObject h1/d/a?query` is about.
    fn name_in(&self, request: &str) -> Option<String> {
        let (_, asked) = request.split_once(' ')?;
        let key = asked.split('?').next()?;
        let key = key.strip_prefix(&self.directory)?;
        Some(key.strip_prefix('/')?.to_owned())
    }

    /// The path that a client names.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("/{}/{name}", self.directory)
    }

    pub(crate) fn note(&self, record: Record) {
        self.records.lock().expect("records").push(record);
    }

    fn fault(&self, fault: String) {
        self.faults.lock().expect("faults").push(fault);
    }

    /// What bytes say of themselves.
    pub(crate) fn read(&self, from: &str, bytes: &[u8]) -> Content {
        Content::read(bytes, &self.chunks).unwrap_or_else(|wrong| {
            self.fault(format!("{from}: {wrong}"));
            Content::default()
        })
    }

    fn history(&self) -> History {
        History {
            records: self.records.lock().expect("records").clone(),
            faults: self.faults.lock().expect("faults").clone(),
            ..History::default()
        }
    }
}

impl World {
    /// Ends it: nothing is left of what clients have done, neither in the gateways nor in the store.
    pub(crate) async fn close(self: Arc<Self>) {
        let world = Arc::into_inner(self).expect("its clients are gone");
        for (_, client) in world.idle.into_inner().expect("clients") {
            client.hang_up();
        }
        for gateway in &world.gateways {
            let metrics = gateway.inner.metrics();
            let gauges = [
                ("sessions", &metrics.sessions),
                ("memory of uploads", &metrics.upload_memory_used),
                ("memory of downloads", &metrics.download_memory_used),
                ("ports", &metrics.passive_ports_in_use),
            ];
            for (what, gauge) in gauges {
                eventually(&format!("no {what} left"), || gauge.get() == 0).await;
            }
        }
        for gateway in world.gateways {
            gateway.stop().await;
        }
        sweep(world.store, world.settings).await;
    }
}

/// Another gateway sweeps, days later.
async fn sweep(store: Store, settings: Settings) {
    if let Store::Bucket(server) = &store {
        server.age(Duration::from_hours(72));
    }
    // It sweeps once, and is not to fail because the machine is busy.
    let patient = Settings {
        retry_timeout: 10_000,
        request_timeout: 10_000,
        ..settings
    };
    let gateway = gateway(&store, patient);
    let deadline = Instant::now() + PATIENCE;
    while !left(&store).is_empty() {
        assert!(Instant::now() < deadline, "not swept: {:?}", left(&store));
        sleep(Duration::from_millis(5)).await;
    }
    gateway.stop().await;
}

/// What lies in the store that is the gateway's own and no upload's any more.
fn left(store: &Store) -> Vec<String> {
    match store {
        Store::Bucket(server) => {
            let is_own = |key: &String| key.starts_with(".bucketferry/");
            let keys = server.keys().into_iter().filter(is_own);
            // Azure drops blocks that nobody commits, after a week.
            let is_swept = !server.url().starts_with("az");
            let uploads = server.open_uploads().into_iter().filter(|_| is_swept);
            keys.chain(uploads.map(|(key, id)| format!("{key}?{id}")))
                .collect()
        }
        Store::Folder(folder) => {
            let stages = folder.path().join(".bucketferry/stages");
            let Ok(stages) = std::fs::read_dir(stages) else {
                return Vec::new();
            };
            stages.map(|stage| format!("{stage:?}")).collect()
        }
    }
}
