//! Histories: several clients, two gateways and a store that misbehaves, and then the question whether all that the
//! clients were told can be true.
//!
//! A seed decides what happens: which clients ask for what ([`plan`]), and which requests go wrong at the store
//! ([`adversary`]). What the clients hear is written down ([`history`]) and checked ([`check`]): there has to be one order
//! in which every operation took effect, between its call and its reply, and which explains all that was read. A history
//! for which there is none is made smaller ([`shrink`]) and shown.
//!
//! There are several lanes of it, each with a test of its own ([`lane`]): in one the gateways are processes that are
//! killed, in another calls to the system fail below a folder ([`failing`]), and in another the store is a server that
//! is no double (`make clouds`).
//!
//! `HISTORIES` says how many there are on each store, `SEED` the seed of the first, `STORES` the stores
//! (`s3,google,azure,local`), `AT_ONCE` how many run side by side. So a seed runs alone:
//! `SEED=17 HISTORIES=1 STORES=s3 cargo test --test histories whatever_happens`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that can't be set up has failed"
)]

#[allow(
    dead_code,
    unused_imports,
    reason = "a toolbox: not every test binary needs every tool"
)]
#[path = "../gateway/support/mod.rs"]
mod support;

mod adversary;
mod check;
mod client;
mod content;
mod failing;
mod history;
mod lane;
mod plan;
mod served;
mod shrink;
mod world;

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use doubles::Fault;
use futures::FutureExt;

use adversary::Kind;
use check::Judgement;
use history::History;
use lane::Lane;
use plan::{BATCH, Plan, Settings};
use shrink::{Failure, shrink};
use support::eventually;
use world::World;

/// The seed of the first.
const SEED: u64 = 1;

/// So many run at once, unless `AT_ONCE` says otherwise.
const AT_ONCE: u64 = 16;

/// One at a time: each counts what the process has open, and needs the processor.
static ONE_LANE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// After so many histories a long run says how far it is.
const TELL_EVERY: usize = 1000;

/// After so many failures there is nothing more to learn.
const ENOUGH: usize = 3;

/// What is opened once and stays: signals, timers.
const DESCRIPTORS_OF_THE_RUNTIME: usize = 16;

/// What is to be done, and what has come of it.
#[derive(Default)]
struct Work {
    lane: Lane,
    /// Seeds that can share a world.
    batches: VecDeque<(Kind, Vec<u64>)>,
    done: usize,
    worlds: usize,
    /// How operations ended, and which faults have struck.
    tally: BTreeMap<String, usize>,
    absent_again: usize,
    equal_again: usize,
    unknown: usize,
    failures: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_an_order_explains_it() {
    let _alone = ONE_LANE.lock().await;
    let descriptors = descriptors();
    let worlds = run_lane(Lane::Here).await;
    // Each double keeps its port to itself.
    let kept = worlds + DESCRIPTORS_OF_THE_RUNTIME;
    eventually("no descriptors left", || {
        self::descriptors() <= descriptors + kept
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_an_order_explains_it() {
    let _alone = ONE_LANE.lock().await;
    run_lane(Lane::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    not(feature = "interposable"),
    ignore = "calls to the system have to go by way of libc: make test-histories-failing"
)]
async fn whatever_fails_an_order_explains_it() {
    let _alone = ONE_LANE.lock().await;
    run_lane(Lane::Failing).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: make clouds"]
async fn whichever_server_it_is_an_order_explains_it() {
    let _alone = ONE_LANE.lock().await;
    run_lane(Lane::Real).await;
}

/// Runs all histories of a lane. How many worlds there were.
async fn run_lane(lane: Lane) -> usize {
    let began = Instant::now();
    let work = Arc::new(Mutex::new(Work::from_environment(lane)));
    let workers =
        (0..setting("AT_ONCE", AT_ONCE)).map(|_| tokio::spawn(work_off(Arc::clone(&work))));
    let workers: Vec<_> = workers.collect();
    for worker in workers {
        worker.await.expect("a worker");
    }
    let work = Arc::into_inner(work).expect("all workers have ended");
    let work = work.into_inner().unwrap();
    println!("{}", work.report(began.elapsed()));
    assert!(work.failures.is_empty(), "{}", work.failures.join("\n"));
    work.worlds
}

/// How many this process has open.
fn descriptors() -> usize {
    let open = std::fs::read_dir("/proc/self/fd").expect("descriptors");
    open.count()
}

impl Work {
    fn from_environment(lane: Lane) -> Self {
        let (seed, histories) = (
            setting("SEED", SEED),
            setting("HISTORIES", lane.histories()),
        );
        let stores = std::env::var("STORES").unwrap_or_default();
        let is_picked =
            |kind: &Kind| stores.is_empty() || stores.split(',').any(|name| name == kind.name());
        let kinds = lane.kinds().iter().copied();
        let kinds: Vec<_> = kinds.filter(is_picked).collect();
        assert!(!kinds.is_empty(), "STORES={stores}");
        let seeds: Vec<_> = (seed..seed + histories).collect();
        let batches = seeds.chunk_by(|a, b| a / BATCH == b / BATCH);
        let batches = batches.flat_map(|batch| kinds.iter().map(|kind| (*kind, batch.to_vec())));
        Self {
            lane,
            batches: batches.collect(),
            ..Self::default()
        }
    }

    fn report(&self, took: Duration) -> String {
        let mut text = format!("{} histories in {took:.1?}", self.done);
        for (what, times) in &self.tally {
            let _ = write!(text, "\n{times:8} {what}");
        }
        let exceptions = [
            ("late while the name was absent (again)", self.absent_again),
            (
                "late while the name held the same (again)",
                self.equal_again,
            ),
            ("with too many orders to tell", self.unknown),
        ];
        for (what, times) in exceptions {
            let _ = write!(text, "\n{times:8} {what}");
        }
        text
    }

    fn next(&mut self) -> Option<(Kind, Vec<u64>)> {
        if self.failures.len() >= ENOUGH {
            return None;
        }
        self.worlds += 1;
        self.batches.pop_front()
    }

    /// Counts a history. How many there are.
    fn count(&mut self, history: &History, judgement: &Judgement) -> usize {
        self.done += 1;
        if self.done.is_multiple_of(TELL_EVERY) {
            println!("{} histories, {} failed", self.done, self.failures.len());
        }
        for record in &history.records {
            *self
                .tally
                .entry(record.outcome.word().to_owned())
                .or_default() += 1;
        }
        for fault in &history.struck {
            *self.tally.entry(kind_of(*fault)).or_default() += 1;
        }
        for (_, strike) in &history.failed {
            let what = format!("{:?} {:?}", strike.call, strike.failure);
            *self.tally.entry(what).or_default() += 1;
        }
        *self.tally.entry("killed".to_owned()).or_default() += history.kills;
        self.absent_again += judgement.absent_again;
        self.equal_again += judgement.equal_again;
        self.unknown += judgement.unknown;
        self.done
    }
}

/// `Late`, whatever by.
fn kind_of(fault: Fault) -> String {
    match fault {
        Fault::Refuse(status) => format!("Refuse({status})"),
        Fault::DoneBut(status) => format!("DoneBut({status})"),
        fault => {
            let text = format!("{fault:?}");
            text.split('(').next().unwrap_or_default().to_owned()
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    let Ok(value) = std::env::var(name) else {
        return default;
    };
    value.parse().unwrap_or_else(|_| panic!("{name}={value}"))
}

async fn work_off(work: Arc<Mutex<Work>>) {
    let lane = work.lock().unwrap().lane;
    loop {
        let Some((kind, seeds)) = work.lock().unwrap().next() else {
            return;
        };
        let batch = AssertUnwindSafe(run_all(&work, lane, kind, &seeds)).catch_unwind();
        if let Err(panic) = batch.await {
            let (name, why) = (kind.name(), words(&*panic));
            let told = format!("seeds {seeds:?} on {name}: {why}");
            work.lock().unwrap().failures.push(told);
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.unwrap_or_else(|| "a panic without words".to_owned())
}

/// Runs seeds that have the same settings, one after the other on the same gateways.
async fn run_all(work: &Mutex<Work>, lane: Lane, kind: Kind, seeds: &[u64]) {
    let settings = Settings::of(seeds[0]);
    let world = World::open(kind, lane, settings).await;
    for seed in seeds {
        let plan = Plan::of(*seed, kind, lane);
        let history = world.run(&plan).await;
        let judgement = check::check(&history, settings.deny);
        let nth = work.lock().unwrap().count(&history, &judgement);
        if judgement.wrong.is_empty() {
            continue;
        }
        let failure = Failure {
            plan,
            history,
            judgement,
        };
        let told = tell(kind, lane, settings, &shrink(kind, lane, failure).await);
        let told = format!("after {nth} histories, {told}");
        work.lock().unwrap().failures.push(told);
    }
    world.close().await;
}

/// A failing history, for whoever mends it.
fn tell(kind: Kind, lane: Lane, settings: Settings, failure: &Failure) -> String {
    let Failure {
        plan,
        history,
        judgement,
    } = failure;
    let (seed, kind) = (plan.seed, kind.name());
    let mut text = format!("seed {seed} on {kind}, {settings:?}:\n{}", history.told());
    for strike in &plan.strikes {
        let _ = writeln!(text, "  {strike:?}");
    }
    for kill in &plan.kills {
        let _ = writeln!(text, "  {kill:?}");
    }
    for strike in &plan.failing {
        let _ = writeln!(text, "  {strike:?}");
    }
    for wrong in &judgement.wrong {
        let _ = writeln!(text, "{wrong}");
    }
    let _ = writeln!(
        text,
        "alone: SEED={seed} HISTORIES=1 STORES={kind} cargo test {}--test histories {}",
        lane.features(),
        lane.test()
    );
    text
}
