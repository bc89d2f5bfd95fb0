//! What the server is told to do wrong, and the log of what it was asked.
//!
//! Faults are planned per operation, by S3's name for it in every protocol (`"PutObject"`, `"UploadPart"`, …, or `"*"`
//! for every one), so that a test says which step fails, not which request. They strike after the credentials were checked and before the
//! operation is done, unless said otherwise.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

/// Something that goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The operation is refused with this status.
    Refuse(u16),
    /// The operation is refused with a 409 that asks to try again: `OperationAborted`, on S3.
    RefuseBusy,
    /// The operation is done, and its answer is a failure with this status.
    DoneBut(u16),
    /// The operation is done only after so long, whoever still waits for it.
    Slow(Duration),
    /// The operation is done, but its answer never comes: the connection closes.
    LoseAnswer,
    /// The answer's body breaks off after so many bytes.
    BreakAnswer(u64),
    /// The operation is not done, and the answer is a 200 without a body.
    SayNothing,
    /// A bit of the request's body is another than the client has sent.
    FlipBit,
    /// The connection closes without an answer, and the operation is done so much later.
    Late(Duration),
}

/// A fault that strikes one request: the first of its operation since the last healing has the number 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// S3's name of the operation.
    pub operation: &'static str,
    /// Which of its requests.
    pub nth: usize,
    /// What goes wrong.
    pub fault: Fault,
}

/// The plan of faults and the log, shared by the test and the server.
#[derive(Default)]
pub(crate) struct Faults {
    plan: watch::Sender<Plan>,
    log: Mutex<Vec<(String, Instant)>>,
    /// Requests of which the client can't know what has become of them, and when they were done.
    doubtful: Mutex<Vec<(String, Fault, Instant)>>,
    /// Bytes of all requests.
    pub(crate) received: Arc<AtomicU64>,
    in_hand: AtomicUsize,
    connected: AtomicUsize,
}

#[derive(Default)]
struct Plan {
    faults: Vec<Planned>,
    strikes: Vec<Strike>,
    /// How many requests of each operation there have been.
    asked: HashMap<String, usize>,
    stalls: Vec<(String, Duration)>,
    bandwidth: Option<u64>,
    answer_bandwidth: Option<u64>,
    demanded: Option<&'static str>,
    refuses_conditions: bool,
}

struct Planned {
    operation: String,
    fault: Fault,
    left: usize,
}

impl Faults {
    pub(crate) fn plan(&self, operation: &str, fault: Fault, times: usize) {
        let planned = Planned {
            operation: operation.to_owned(),
            fault,
            left: times,
        };
        self.plan.send_modify(|plan| plan.faults.push(planned));
    }

    pub(crate) fn strike(&self, strikes: Vec<Strike>) {
        self.plan.send_modify(|plan| plan.strikes.extend(strikes));
    }

    pub(crate) fn stall(&self, operation: &str, by: Duration) {
        self.plan
            .send_modify(|plan| plan.stalls.push((operation.to_owned(), by)));
    }

    pub(crate) fn limit_bandwidth(&self, bytes_per_second: u64) {
        self.plan
            .send_modify(|plan| plan.bandwidth = Some(bytes_per_second));
    }

    pub(crate) fn bandwidth(&self) -> Option<u64> {
        self.plan.borrow().bandwidth
    }

    pub(crate) fn limit_answers(&self, bytes_per_second: u64) {
        self.plan
            .send_modify(|plan| plan.answer_bandwidth = Some(bytes_per_second));
    }

    pub(crate) fn answer_bandwidth(&self) -> Option<u64> {
        self.plan.borrow().answer_bandwidth
    }

    /// From now on, nothing is written without this header.
    pub(crate) fn demand(&self, header: &'static str) {
        self.plan.send_modify(|plan| plan.demanded = Some(header));
    }

    pub(crate) fn demanded(&self) -> Option<&'static str> {
        self.plan.borrow().demanded
    }

    /// From now on, requests with a condition on what they write are refused.
    pub(crate) fn refuse_conditions(&self) {
        self.plan.send_modify(|plan| plan.refuses_conditions = true);
    }

    pub(crate) fn refuses_conditions(&self) -> bool {
        self.plan.borrow().refuses_conditions
    }

    /// Whether a request may have to outlive its connection.
    pub(crate) fn has_late_ones(&self) -> bool {
        let is_late =
            |planned: &Planned| planned.left > 0 && matches!(planned.fault, Fault::Late(_));
        let plan = self.plan.borrow();
        plan.faults.iter().any(is_late) || plan.strikes.iter().any(Strike::may_be_late)
    }

    /// Whether a body may have to be damaged.
    pub(crate) fn has_flips(&self) -> bool {
        let flips = |planned: &Planned| planned.left > 0 && matches!(planned.fault, Fault::FlipBit);
        self.plan.borrow().faults.iter().any(flips)
    }

    /// Forgets every fault; requests that wait go on.
    pub(crate) fn heal(&self) {
        self.plan.send_modify(|plan| *plan = Plan::default());
    }

    pub(crate) fn log(&self, line: String) {
        self.log
            .lock()
            .expect("the log")
            .push((line, Instant::now()));
    }

    pub(crate) fn logged(&self) -> Vec<(String, Instant)> {
        self.log.lock().expect("the log").clone()
    }

    pub(crate) fn doubtful(&self) -> Vec<(String, Fault, Instant)> {
        self.doubtful.lock().expect("the log").clone()
    }

    fn doubt(&self, line: String, fault: Fault) {
        let mut doubtful = self.doubtful.lock().expect("the log");
        doubtful.push((line, fault, Instant::now()));
    }

    pub(crate) fn forget_log(&self) {
        self.log.lock().expect("the log").clear();
        self.doubtful.lock().expect("the log").clear();
    }

    /// Counts a request that is being answered, until what it gives is dropped.
    pub(crate) fn take_in_hand(self: &Arc<Self>) -> InHand {
        self.in_hand.fetch_add(1, Ordering::SeqCst);
        InHand(Arc::clone(self))
    }

    pub(crate) fn in_hand(&self) -> usize {
        self.in_hand.load(Ordering::SeqCst)
    }

    /// Counts a connection, until what it gives is dropped.
    pub(crate) fn connect(self: &Arc<Self>) -> Connected {
        self.connected.fetch_add(1, Ordering::SeqCst);
        Connected(Arc::clone(self))
    }

    pub(crate) fn connected(&self) -> usize {
        self.connected.load(Ordering::SeqCst)
    }

    /// Waits as long as a stall of `operation` says, or until it is taken back.
    async fn wait(&self, operation: &str) {
        let Some(by) = self.plan.borrow().stall_of(operation) else {
            return;
        };
        let mut plan = self.plan.subscribe();
        let healed = plan.wait_for(|plan| plan.stall_of(operation).is_none());
        let _ = tokio::time::timeout(by, healed).await;
    }

    fn next(&self, operation: &str) -> Option<Fault> {
        let mut fault = None;
        self.plan.send_modify(|plan| fault = plan.next(operation));
        fault
    }
}

/// A request that is being answered, also one whose client has gone.
pub(crate) struct InHand(Arc<Faults>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.in_hand.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A connection on which more may be asked.
pub(crate) struct Connected(Arc<Faults>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Strike {
    fn may_be_late(&self) -> bool {
        matches!(self.fault, Fault::Late(_) | Fault::Slow(_))
    }
}

impl Plan {
    fn stall_of(&self, operation: &str) -> Option<Duration> {
        self.stalls
            .iter()
            .find(|(of, _)| is_of(of, operation))
            .map(|(_, by)| *by)
    }

    fn next(&mut self, operation: &str) -> Option<Fault> {
        let nth = self.asked.entry(operation.to_owned()).or_default();
        let is_struck = |strike: &&Strike| strike.nth == *nth && is_of(strike.operation, operation);
        let struck = self.strikes.iter().find(is_struck);
        *nth += 1;
        if let Some(strike) = struck {
            return Some(strike.fault);
        }
        let mut planned = self.faults.iter_mut();
        let planned =
            planned.find(|planned| planned.left > 0 && is_of(&planned.operation, operation))?;
        planned.left -= 1;
        Some(planned.fault)
    }
}

/// One request, as its protocol and its connection both see it.
#[derive(Clone, Default)]
pub(crate) struct Visit(Arc<Decision>);

/// What has been decided about one request.
#[derive(Default)]
struct Decision {
    admitted: OnceLock<()>,
    fault: OnceLock<Fault>,
    is_late: Notify,
}

impl Visit {
    /// Whether its credentials were right.
    pub(crate) fn is_admitted(&self) -> bool {
        self.0.admitted.get().is_some()
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        self.0.fault.get().copied()
    }

    /// Waits until it is decided that the request is done only after its connection has closed.
    pub(crate) async fn is_late(&self) {
        self.0.is_late.notified().await;
    }
}

/// Where a request waits and fails as planned, once its credentials are checked and its operation is known.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Faults>);

impl Gate {
    pub(crate) fn new(faults: Arc<Faults>) -> Self {
        Self(faults)
    }

    /// The header that everything that writes an object has to have.
    pub(crate) fn demanded(&self) -> Option<&'static str> {
        self.0.demanded()
    }

    /// Whether requests with a condition are refused.
    pub(crate) fn refuses_conditions(&self) -> bool {
        self.0.refuses_conditions()
    }

    /// Lets a request in, and writes down what it asks for. The error is the status that it is refused with.
    pub(crate) async fn pass(
        &self,
        visit: &Visit,
        operation: &str,
        asked: &str,
    ) -> Result<(), u16> {
        let _ = visit.0.admitted.set(());
        let line = format!("{operation} {asked}").trim_end().to_owned();
        self.0.log(line.clone());
        self.0.wait(operation).await;
        let Some(fault) = self.0.next(operation) else {
            return Ok(());
        };
        let _ = visit.0.fault.set(fault);
        match fault {
            Fault::Refuse(status) => Err(status),
            Fault::RefuseBusy => Err(409),
            Fault::SayNothing => Err(500),
            Fault::BreakAnswer(_) | Fault::FlipBit => Ok(()),
            Fault::LoseAnswer | Fault::DoneBut(_) => {
                self.0.doubt(line, fault);
                Ok(())
            }
            Fault::Slow(by) => {
                tokio::time::sleep(by).await;
                self.0.doubt(line, fault);
                Ok(())
            }
            Fault::Late(by) => {
                visit.0.is_late.notify_one();
                tokio::time::sleep(by).await;
                self.0.doubt(line, fault);
                Ok(())
            }
        }
    }
}

fn is_of(planned: &str, operation: &str) -> bool {
    planned == "*" || planned == operation
}
