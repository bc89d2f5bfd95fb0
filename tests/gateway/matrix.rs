//! The matrix: whatever fails, at whatever moment, on whatever object, the one sentence holds.
//!
//! (client killed, ABOR, data reset, control lost, stall, a store that fails at any step in any way, gateway
//! killed) × (small, multipart) × (new name, existing name, append, append to nothing). After each run:
//!
//! - a 226 was said if and only if the object is whole, byte for byte;
//! - otherwise the bucket is exactly as it was before, the object's tag included;
//! - reply and metric tell the same, and what this failure ought to be told as;
//! - no multipart upload is left open.
//!
//! What no gateway could promise, and what this one does not yet, is in [`known`], and nowhere else.
//!
//! `BUCKETFERRY_MATRIX_RUNS` says how many runs there are, `BUCKETFERRY_MATRIX_SEED` the seed of the first; the next
//! has the next number. So a run that fails is repeated alone by its own seed and one run.
//! `BUCKETFERRY_MATRIX_ONLY` picks those whose description has these words, such as `ControlReset`. One run in ten is a
//! multipart upload (5 to 11 MiB, in parts of 5 MiB), the others are at most 200 kB; the default goes through every
//! cell of both at least once.

mod act;
mod case;
mod check;
mod known;
mod lane;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;

use case::Case;
use lane::{Lane, Sort};

/// The default number of runs.
const RUNS: u64 = 2000;

/// The default seed of the first run.
const SEED: u64 = 1;

/// So long takes no run that ends at all.
const RUN_LIMIT: Duration = Duration::from_mins(1);

/// After so many failures there is nothing more to learn.
const ENOUGH: usize = 5;

/// What all lanes work on.
#[derive(Default)]
struct Work {
    queues: BTreeMap<Sort, VecDeque<Case>>,
    tally: BTreeMap<String, usize>,
    failures: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_the_sentence_holds() {
    let (seed, runs) = (
        setting("BUCKETFERRY_MATRIX_SEED", SEED),
        setting("BUCKETFERRY_MATRIX_RUNS", RUNS),
    );
    let started = Instant::now();
    let only = std::env::var("BUCKETFERRY_MATRIX_ONLY").unwrap_or_default();
    let work = Arc::new(Mutex::new(Work::new(seed, runs, &only)));
    let sorts: Vec<_> = work.lock().unwrap().lanes();
    let lanes: Vec<_> = sorts
        .into_iter()
        .map(|sort| tokio::spawn(work_off(Arc::clone(&work), sort)))
        .collect();
    for lane in lanes {
        lane.await.expect("a lane");
    }
    let work = work.lock().unwrap();
    println!("{}", work.report(seed, runs, started.elapsed()));
    assert!(
        work.failures.is_empty(),
        "the sentence was broken:\n{}",
        work.failures.join("\n")
    );
}

fn setting(name: &str, default: u64) -> u64 {
    let Ok(value) = std::env::var(name) else {
        return default;
    };
    value.parse().unwrap_or_else(|_| panic!("{name}={value}"))
}

/// Runs one sort's cases, one after the other.
async fn work_off(work: Arc<Mutex<Work>>, sort: Sort) {
    let mut lane = None;
    loop {
        let Some(case) = work.lock().unwrap().next(sort) else {
            break;
        };
        let mut current = match lane.take() {
            Some(lane) => lane,
            None => Lane::open(sort).await,
        };
        let run = AssertUnwindSafe(current.run(&case)).catch_unwind();
        match tokio::time::timeout(RUN_LIMIT, run).await {
            Ok(Ok(outcome)) => {
                work.lock().unwrap().count(&outcome);
                lane = Some(current);
            }
            Ok(Err(panic)) => {
                let why = words(&*panic);
                work.lock().unwrap().fail(&case, &why);
            }
            Err(_) => work.lock().unwrap().fail(&case, "it does not end"),
        }
    }
    if let Some(lane) = lane {
        work.lock().unwrap().count_left(&lane);
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "a panic without words".to_owned())
}

impl Work {
    fn new(seed: u64, runs: u64, only: &str) -> Self {
        let mut work = Self::default();
        let cases = (seed..seed + runs).map(Case::of);
        for case in cases.filter(|case| case.to_string().contains(only)) {
            let queue = work.queues.entry(Sort::of(&case)).or_default();
            queue.push_back(case);
        }
        work
    }

    /// As many lanes of each sort as there is work for.
    fn lanes(&self) -> Vec<Sort> {
        let lanes = self.queues.iter().flat_map(|(sort, queue)| {
            let lanes = sort.lanes().min(queue.len());
            std::iter::repeat_n(*sort, lanes)
        });
        lanes.collect()
    }

    fn next(&mut self, sort: Sort) -> Option<Case> {
        if self.failures.len() >= ENOUGH {
            return None;
        }
        self.queues.get_mut(&sort)?.pop_front()
    }

    fn count(&mut self, outcome: &str) {
        *self.tally.entry(outcome.to_owned()).or_default() += 1;
    }

    fn count_left(&mut self, lane: &Lane) {
        for (what, times) in lane.left() {
            *self.tally.entry(what.to_owned()).or_default() += times;
        }
    }

    fn fail(&mut self, case: &Case, why: &str) {
        let seed = case.seed;
        self.failures.push(format!(
            "{case}\n  {why}\n  alone: BUCKETFERRY_MATRIX_SEED={seed} BUCKETFERRY_MATRIX_RUNS=1 cargo test --test \
             gateway matrix\n"
        ));
    }

    fn report(&self, seed: u64, runs: u64, took: Duration) -> String {
        let mut text = format!("{runs} runs from seed {seed} in {took:.1?}");
        for (outcome, times) in &self.tally {
            let _ = write!(text, "\n{times:6} {outcome}");
        }
        text
    }
}
