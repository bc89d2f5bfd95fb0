//! A store, the gateways on it, and their clients; and a history that runs on them.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use doubles::Fault;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::adversary::{Kind, LATEST};
use crate::check::atoms::names;
use crate::client::{Device, look};
use crate::content::{Chunk, Content};
use crate::failing::{self, Shared};
use crate::history::{Asked, Doubt, History, Outcome, Record, Time};
use crate::lane::Lane;
use crate::plan::{Kill, Plan, Settings, Verb, When};
use crate::served::{Connected, Served, gateway};
use crate::support::real::Real;
use crate::support::{PATIENCE, Store};

/// So often it is looked how busy the machine is, in microseconds.
const TICK: Time = 5_000;

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
    lane: Lane,
    settings: Settings,
    store: Store,
    gateways: Vec<Served>,
    /// What fails below each gateway.
    failing: Vec<Shared>,
    _scratch: TempDir,
    idle: Mutex<Vec<Connected>>,
}

/// A history that is being made.
pub(crate) struct Run {
    began: Instant,
    directory: String,
    chunks: Vec<Chunk>,
    records: Mutex<Vec<Record>>,
    /// By how much a sleeper has woken too late.
    lag: AtomicU64,
    faults: Mutex<Vec<String>>,
    /// Gateways that have closed a connection amid an operation, and in which of their lives.
    cut_off: Mutex<Vec<(usize, usize)>>,
}

impl World {
    pub(crate) async fn open(kind: Kind, lane: Lane, settings: Settings) -> Arc<Self> {
        let store = match kind {
            _ if lane == Lane::Real => Store::Real(Arc::new(Real::from_environment())),
            Kind::S3 => Store::s3(),
            Kind::Google => Store::google(),
            Kind::Azure => Store::azure(),
            Kind::Local => Store::folder(),
        };
        let settings = if lane == Lane::Real {
            settings.patient()
        } else {
            settings
        };
        heal(&store, kind, lane, settings);
        let gateways = if settings.alone { 1 } else { 2 };
        let scratch = tempfile::tempdir().expect("a folder");
        let mut failing = Vec::new();
        if lane == Lane::Failing {
            let shared = |number: usize| {
                let path = scratch.path().join(number.to_string());
                Shared::new(path, store.path(), settings.named_stages)
            };
            failing.extend((0..gateways).map(shared));
        }
        let mut served = Vec::new();
        for number in 0..gateways {
            let failing = failing.get(number);
            served.push(Served::start(lane, &store, settings, failing).await);
        }
        Arc::new(Self {
            kind,
            lane,
            settings,
            store,
            gateways: served,
            failing,
            _scratch: scratch,
            idle: Mutex::default(),
        })
    }

    /// A client of a gateway's that has logged in.
    pub(crate) async fn client(&self, gateway: usize) -> Connected {
        let idle = {
            let mut idle = self.idle.lock().expect("clients");
            idle.retain(|client| self.has(client));
            let at = idle.iter().position(|client| client.gateway == gateway);
            at.map(|at| idle.swap_remove(at))
        };
        if let Some(client) = idle {
            return client;
        }
        let (client, life) = self.gateways[gateway].client().await;
        Connected {
            client,
            gateway,
            life,
        }
    }

    /// Whether the gateway lives on that a client is connected to.
    pub(crate) fn has(&self, client: &Connected) -> bool {
        self.gateways[client.gateway].lives() == client.life
    }

    pub(crate) fn give_back(&self, client: Connected) {
        self.idle.lock().expect("clients").push(client);
    }

    pub(crate) fn hung_up(&self, gateway: usize, life: usize) {
        self.gateways[gateway].hung_up(life);
    }

    /// For so long a command goes on without its client: until the request that is under way has ended. A gateway that
    /// was killed asks for nothing more, but the store may be late with what it was asked for last.
    pub(crate) fn patience(&self) -> Time {
        let is_late = self.lane.has_processes() && self.kind != Kind::Local;
        let store = if is_late { LATEST } else { 0 };
        self.settings.request_timeout.max(store) * 1000
    }

    /// Runs a plan.
    pub(crate) async fn run(self: &Arc<Self>, plan: &Plan) -> History {
        let run = Arc::new(Run {
            began: Instant::now(),
            directory: self.directory(plan.seed),
            chunks: plan.chunks(),
            records: Mutex::default(),
            lag: AtomicU64::default(),
            faults: Mutex::default(),
            cut_off: Mutex::default(),
        });
        let lives = self.lives();
        let lag = tokio::spawn(Arc::clone(&run).watch_lag());
        self.fail(&plan.failing);
        if let Some(server) = self.store.double() {
            heal(&self.store, self.kind, self.lane, self.settings);
            server.strike(plan.strikes.clone());
        }
        self.act(plan, &run).await;
        self.settle().await;
        lag.abort();
        self.check_cut_off(&run);
        let failed = self.failed(plan, &run);
        self.fail(&[]);
        self.look(&run).await;
        let history = History {
            struck: self.struck(plan),
            kills: self.lives() - lives,
            is_folder: self.kind == Kind::Local,
            failed,
            doubts: self.doubts(&run),
            asked: self.asked(&run),
            patience: self.settings.request_timeout * 1000,
            ..run.history()
        };
        self.clear(&run);
        history
    }

    /// Where a history's files are. What is in a real store stays there, and the same seed may run again.
    fn directory(&self, seed: u64) -> String {
        if self.lane == Lane::Real {
            return format!("h{seed}-{:08x}", rand::random::<u32>());
        }
        format!("h{seed}")
    }

    /// From now on these calls fail, and no others.
    fn fail(&self, strikes: &[failing::Strike]) {
        for (gateway, shared) in self.failing.iter().enumerate() {
            let of_it = strikes.iter().filter(|strike| strike.gateway == gateway);
            shared.plan(&of_it.collect::<Vec<_>>());
        }
    }

    /// The calls that have failed.
    fn failed(&self, plan: &Plan, run: &Run) -> Vec<(Time, failing::Strike)> {
        let mut failed = Vec::new();
        for (gateway, shared) in self.failing.iter().enumerate() {
            let strikes = plan.failing.iter();
            let of_it = strikes.filter(|strike| strike.gateway == gateway);
            for (number, strike) in of_it.enumerate() {
                if let Some(at) = shared.struck(number) {
                    let since = at.elapsed().unwrap_or_default();
                    let at = Instant::now().checked_sub(since);
                    failed.push((run.time(at.unwrap_or(run.began)), strike.clone()));
                }
            }
        }
        failed
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
        let world = Arc::clone(self);
        let kills = plan.kills.clone();
        let killing = tokio::spawn(async move { world.kill_all(&kills).await });
        for (number, device) in devices.into_iter().enumerate() {
            if let Err(error) = device.await {
                run.fault(format!("client {number}: {error}"));
            }
        }
        killing.abort();
        let _ = killing.await;
    }

    /// Kills gateways when it is time.
    async fn kill_all(&self, kills: &[Kill]) {
        for kill in kills {
            match kill.when {
                When::After(time) => sleep(time).await,
                When::Asked { operation, nth } => {
                    while self.store.server().count(operation) <= nth {
                        sleep(Duration::from_millis(1)).await;
                    }
                }
            }
            self.gateways[kill.gateway].kill();
        }
    }

    /// How many lives of gateways are over.
    fn lives(&self) -> usize {
        self.gateways.iter().map(Served::lives).sum()
    }

    /// Only a gateway that has died may close a connection amid an operation.
    fn check_cut_off(&self, run: &Run) {
        for (gateway, life) in run.cut_off.lock().expect("ends").iter() {
            if self.gateways[*gateway].lives() == *life {
                run.fault(format!("gateway {gateway} has closed a connection"));
            }
        }
    }

    /// Waits until no session is left whose client is gone, and no request that came late.
    async fn settle(&self) {
        for gateway in &self.gateways {
            gateway.settle().await;
        }
        if let Some(server) = self.store.double() {
            server.wait_until_idle().await;
            heal(&self.store, self.kind, self.lane, self.settings);
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
        let Some(server) = self.store.double() else {
            return Vec::new();
        };
        let strikes = plan.strikes.iter();
        let struck = strikes.filter(|strike| server.count(strike.operation) > strike.nth);
        struck.map(|strike| strike.fault).collect()
    }

    /// What was carried out late, or answered badly.
    fn doubts(&self, run: &Run) -> Vec<Doubt> {
        let Some(server) = self.store.double() else {
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
        let Some(server) = self.store.double() else {
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
            Store::Real(_) => {}
        }
    }
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

    /// A gateway has closed a connection amid an operation.
    pub(crate) fn cut_off(&self, gateway: usize, life: usize) {
        self.cut_off.lock().expect("ends").push((gateway, life));
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

    /// Notes by how much a busy machine wakes sleepers too late.
    async fn watch_lag(self: Arc<Self>) {
        loop {
            let due = self.now() + TICK;
            sleep(Duration::from_micros(TICK)).await;
            let late = self.now().saturating_sub(due);
            self.lag.fetch_max(late, Ordering::Relaxed);
        }
    }

    fn history(&self) -> History {
        // Several threads have to get their turn before a gateway notices that its client is gone.
        let lag = 5 * self.lag.load(Ordering::Relaxed);
        let mut records = self.records.lock().expect("records").clone();
        for record in &mut records {
            record.last_try += lag;
            if record.outcome == Outcome::Unheard {
                record.reply += lag;
            }
        }
        History {
            records,
            faults: self.faults.lock().expect("faults").clone(),
            ..History::default()
        }
    }
}

impl World {
    /// Ends it: nothing is left of what clients have done, neither in the gateways nor in the store.
    pub(crate) async fn close(self: Arc<Self>) {
        let world = Arc::into_inner(self).expect("its clients are gone");
        for connected in world.idle.into_inner().expect("clients") {
            connected.client.hang_up();
        }
        for gateway in world.gateways {
            gateway.close().await;
        }
        // Nobody makes what lies in a real store look older.
        if world.lane != Lane::Real {
            sweep(world.store, world.settings).await;
        }
    }
}

/// Another gateway sweeps, days later.
async fn sweep(store: Store, settings: Settings) {
    age(&store);
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

/// Lets days go by.
fn age(store: &Store) {
    let days = Duration::from_hours(72);
    match store {
        Store::Bucket(server) => server.age(days),
        Store::Folder(_) => {
            for stage in stages(store) {
                let stage = File::open(stage).expect("a stage");
                let aged = stage.set_modified(SystemTime::now() - days);
                aged.expect("an older stage");
            }
        }
        Store::Real(_) => {}
    }
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
        Store::Folder(_) => {
            let stages = stages(store).into_iter();
            stages.map(|stage| stage.display().to_string()).collect()
        }
        Store::Real(_) => Vec::new(),
    }
}

/// The stages in a folder.
fn stages(store: &Store) -> Vec<PathBuf> {
    let stages = std::fs::read_dir(store.path().join(".bucketferry/stages"));
    let stages = stages.into_iter().flatten();
    stages.map(|stage| stage.expect("a stage").path()).collect()
}

/// Lets go wrong what always does, and nothing else.
fn heal(store: &Store, kind: Kind, lane: Lane, settings: Settings) {
    let Some(server) = store.double() else {
        return;
    };
    server.heal();
    if settings.refuses_conditions(kind, lane) {
        server.refuse_conditions();
    }
}
