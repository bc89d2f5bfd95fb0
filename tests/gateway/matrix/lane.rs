//! A bucket, and a gateway on it, on which runs follow each other: what happens there is theirs.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use doubles::Server;
use prometheus::proto::MetricFamily;
use rustix::process::Signal;

use crate::support::ftp::Client;
use crate::support::process::Process;
use crate::support::{Gateway, MIB, Store, eventually, noise};

use super::act::{self, Heard};
use super::case::{Case, Fault, Size, Step, Trouble};
use super::check::{self, Before};
use super::known;

/// An object that nobody touches.
const BYSTANDER: &str = "bystander.bin";

/// Which runs can follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sort {
    /// Small ones, which mostly wait: for retries, for timeouts.
    Small,
    /// Multipart uploads, which cost memory and processor time.
    Large,
    /// Those that kill the gateway, so it needs a process.
    Killed,
}

/// Where runs take place.
pub(super) struct Lane {
    gateway: Running,
    left: BTreeMap<&'static str, usize>,
}

enum Running {
    Here(Gateway),
    Process(Option<Process>, Store),
}

/// How often uploads ended how.
type Outcomes = BTreeMap<String, u64>;

impl Sort {
    pub(super) fn of(case: &Case) -> Self {
        match (case.trouble, case.size) {
            (Trouble::GatewayKilled, _) => Self::Killed,
            (_, Size::Small) => Self::Small,
            (_, Size::Large) => Self::Large,
        }
    }

    /// How many lanes there are of this sort.
    pub(super) fn lanes(self) -> usize {
        match self {
            Self::Small => 24,
            Self::Large => 4,
            Self::Killed => 2,
        }
    }

    /// Short waits, but longer than anything takes on a busy machine.
    fn settings(self) -> [(&'static str, &'static str); 5] {
        let request_timeout = match self {
            Self::Small => "1s",
            Self::Large | Self::Killed => "3s",
        };
        [
            ("upload.part_size", "5 MiB"),
            ("upload.stall_timeout", "1s"),
            ("store.retry_timeout", "1s"),
            ("store.request_timeout", request_timeout),
            // It would take the place of a fault.
            ("store.probe_interval", "1h"),
        ]
    }
}

impl Lane {
    pub(super) async fn open(sort: Sort) -> Self {
        let store = Store::s3();
        store.put(BYSTANDER, b"nobody touches this");
        let gateway = match sort {
            Sort::Small | Sort::Large => Running::Here(Gateway::with(store, &sort.settings())),
            Sort::Killed => {
                let process = Process::serve(&store, &sort.settings()).await;
                Running::Process(Some(process), store)
            }
        };
        let left = BTreeMap::new();
        Self { gateway, left }
    }

    /// One run. Panics if the sentence is broken; gives in a word how it ended.
    pub(super) async fn run(&mut self, case: &Case) -> String {
        let name = format!("{}.bin", case.seed);
        let bytes = contents(case.seed, case.new);
        let before = self.prepare(case, &name);
        let whole = [before.bytes(), &bytes].concat();
        let whole: &[u8] = if case.is_append() { &whole } else { &bytes };
        self.plan_fault(case);

        let outcome = match &self.gateway {
            Running::Here(_) => self.run_here(case, &before, whole, &bytes).await,
            Running::Process(..) => self.run_and_kill(case, &before, whole, &bytes).await,
        };
        self.server().delete(&name);
        self.server().forget_requests();
        outcome
    }

    async fn run_here(
        &mut self,
        case: &Case,
        before: &Before,
        whole: &[u8],
        bytes: &[u8],
    ) -> String {
        let outcomes = self.outcomes();
        let heard = act::upload(self, case, &before.name, bytes).await;
        self.wait_for_the_end().await;
        let outcome = the_new_one(&outcomes, &self.outcomes());
        check::outcome(case, &outcome, &heard);
        // Before anything that was held back can go on.
        let whole_now = check::sentence(self.server(), before, whole, &outcome, &heard);
        self.server().heal();
        self.server().wait_until_idle().await;
        if known::may_come_late(case) {
            check::before_or_whole(self.server(), before, whole);
        } else {
            let whole_later = check::sentence(self.server(), before, whole, &outcome, &heard);
            assert_eq!(whole_now, whole_later, "the bucket changed after the reply");
        }
        self.check_leftovers(case).await;
        outcome
    }

    async fn run_and_kill(
        &mut self,
        case: &Case,
        before: &Before,
        whole: &[u8],
        bytes: &[u8],
    ) -> String {
        let heard = act::upload(self, case, &before.name, bytes).await;
        self.buried().await;
        self.server().wait_until_abandoned().await;
        let is_whole = check::after_a_kill(self.server(), before, whole, &heard);
        self.restart().await;
        check::readers_see(self, before, is_whole.then_some(whole)).await;
        self.check_leftovers(case).await;
        let told = heard.reply.filter(|reply| !reply.is_preliminary());
        let told = told.map_or("nothing said".to_owned(), |reply| reply.code.to_string());
        format!(
            "(gateway killed: {told}, {})",
            if is_whole { "whole" } else { "as before" }
        )
    }

    /// The bucket as it is to be when nothing happens.
    fn prepare(&self, case: &Case, name: &str) -> Before {
        if case.exists() {
            self.server().put(name, contents(!case.seed, case.old));
            // Older than any difference of clocks.
            self.server().age(Duration::from_mins(20));
        }
        Before::of(self.server(), name)
    }

    fn plan_fault(&self, case: &Case) {
        let Trouble::Store(step, fault) = case.trouble else {
            return;
        };
        let (server, operation) = (self.server(), step.operation());
        match fault {
            Fault::Once(status) => server.fail_next(operation, 1, status),
            Fault::Always(status) => server.fail_next(operation, usize::MAX, status),
            Fault::LostOnce => server.lose_next_answer(operation, 1),
            Fault::Lost => server.lose_next_answer(operation, usize::MAX),
            Fault::Broken if step == Step::Base => {
                server.break_next_answer(operation, 1, case.old as u64 / 2);
            }
            Fault::Broken => server.break_next_answer(operation, 1, 10),
            Fault::Silent => server.stall(operation, Duration::from_mins(10)),
        }
    }

    /// No open multipart upload, but for those that are known.
    async fn check_leftovers(&mut self, case: &Case) {
        match known::leaves_uploads(case) {
            None => {
                let server = self.server();
                eventually("no multipart upload is left open", || {
                    server.open_uploads().is_empty()
                })
                .await;
            }
            Some(why) => {
                let left = known::sweep(self.store(), why).await;
                *self.left.entry(why.words()).or_default() += left;
            }
        }
    }

    /// What the runs have left for the sweep.
    pub(super) fn left(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.left.iter().map(|(what, times)| (*what, *times))
    }

    pub(super) fn server(&self) -> &Server {
        self.store().server()
    }

    fn store(&self) -> &Store {
        match &self.gateway {
            Running::Here(gateway) => &gateway.store,
            Running::Process(_, store) => store,
        }
    }

    pub(super) async fn client(&self) -> Client {
        match &self.gateway {
            Running::Here(gateway) => gateway.client().await,
            Running::Process(process, _) => {
                let process = process.as_ref().expect("a running gateway");
                Client::connect_as(process.address, "ferry", "secret").await
            }
        }
    }

    /// SIGKILL.
    pub(super) fn kill(&self) {
        let Running::Process(Some(process), _) = &self.gateway else {
            unreachable!("only a process can be killed");
        };
        process.signal(Signal::KILL);
    }

    async fn buried(&mut self) {
        if let Running::Process(process, _) = &mut self.gateway {
            process.take().expect("a killed gateway").ended().await;
        }
    }

    async fn restart(&mut self) {
        if let Running::Process(process, store) = &mut self.gateway {
            *process = Some(Process::serve(store, &Sort::Killed.settings()).await);
        }
    }

    /// A transfer that has ended is counted.
    async fn wait_for_the_end(&self) {
        let Running::Here(gateway) = &self.gateway else {
            return;
        };
        let in_flight = &gateway.inner.metrics().transfers_in_flight;
        let in_flight = in_flight.with_label_values(&["upload"]);
        eventually("the transfer ends", || in_flight.get() == 0).await;
    }

    fn outcomes(&self) -> Outcomes {
        let Running::Here(gateway) = &self.gateway else {
            unreachable!("a killed gateway's metrics are gone");
        };
        let families = gateway.inner.metrics().transfers.collect();
        let series = families.iter().flat_map(MetricFamily::get_metric);
        series
            .filter_map(|metric| {
                let label = |name| metric.get_label().iter().find(|label| label.name() == name);
                let upload = label("direction")?.value() == "upload";
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a count"
                )]
                let times = metric.get_counter().get_value() as u64;
                upload.then_some((label("outcome")?.value().to_owned(), times))
            })
            .collect()
    }
}

/// The one outcome that there is more of.
fn the_new_one(before: &Outcomes, after: &Outcomes) -> String {
    let more = after.iter().filter_map(|(outcome, times)| {
        let more = times - before.get(outcome).copied().unwrap_or(0);
        (more > 0).then_some((outcome, more))
    });
    match more.collect::<Vec<_>>()[..] {
        [(outcome, 1)] => outcome.clone(),
        ref counted => panic!("one upload was counted as {counted:?}"),
    }
}

/// Bytes that differ from run to run.
fn contents(seed: u64, length: usize) -> Bytes {
    static NOISE: std::sync::LazyLock<Bytes> = std::sync::LazyLock::new(|| noise(12 * MIB).into());
    let from = usize::try_from(seed.wrapping_mul(7919) % MIB as u64).expect("an offset");
    NOISE.slice(from..from + length)
}

impl Heard {
    pub(super) fn code(&self) -> Option<u16> {
        self.reply.as_ref().map(|reply| reply.code)
    }
}
