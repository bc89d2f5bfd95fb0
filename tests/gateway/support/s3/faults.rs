//! What the server is told to do wrong, and the log of what it was asked.
//!
//! Faults are planned per S3 operation (`"PutObject"`, `"UploadPart"`, …, or `"*"` for every one), so that a test
//! says which step fails, not which request. They strike after the signature was checked and before the
//! operation is done, unless said otherwise.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use s3s::access::{S3Access, S3AccessContext};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use tokio::sync::watch;

use super::bucket::Bucket;
use super::http::Visit;

/// Something that goes wrong with one request.
#[derive(Clone, Copy)]
pub(super) enum Fault {
    /// The operation is refused with this status.
    Refuse(u16),
    /// The operation is done, but its answer never comes: the connection closes.
    LoseAnswer,
    /// The answer's body breaks off after so many bytes.
    BreakAnswer(u64),
}

/// The plan of faults and the log, shared by the test and the server.
#[derive(Default)]
pub(super) struct Faults {
    plan: watch::Sender<Plan>,
    log: Mutex<Vec<String>>,
    /// Requests are Google's, and have a token where S3's are signed.
    pub(super) google: OnceLock<Arc<Mutex<Bucket>>>,
    /// Bytes of all requests.
    pub(super) received: Arc<AtomicU64>,
    in_hand: AtomicUsize,
    connected: AtomicUsize,
}

#[derive(Default)]
struct Plan {
    faults: Vec<Planned>,
    stalls: Vec<(String, Duration)>,
    bandwidth: Option<u64>,
    answer_bandwidth: Option<u64>,
}

struct Planned {
    operation: String,
    fault: Fault,
    left: usize,
}

impl Faults {
    pub(super) fn plan(&self, operation: &str, fault: Fault, times: usize) {
        let planned = Planned {
            operation: operation.to_owned(),
            fault,
            left: times,
        };
        self.plan.send_modify(|plan| plan.faults.push(planned));
    }

    pub(super) fn stall(&self, operation: &str, by: Duration) {
        self.plan
            .send_modify(|plan| plan.stalls.push((operation.to_owned(), by)));
    }

    pub(super) fn limit_bandwidth(&self, bytes_per_second: u64) {
        self.plan
            .send_modify(|plan| plan.bandwidth = Some(bytes_per_second));
    }

    pub(super) fn bandwidth(&self) -> Option<u64> {
        self.plan.borrow().bandwidth
    }

    pub(super) fn limit_answers(&self, bytes_per_second: u64) {
        self.plan
            .send_modify(|plan| plan.answer_bandwidth = Some(bytes_per_second));
    }

    pub(super) fn answer_bandwidth(&self) -> Option<u64> {
        self.plan.borrow().answer_bandwidth
    }

    /// Forgets every fault; requests that wait go on.
    pub(super) fn heal(&self) {
        self.plan.send_modify(|plan| *plan = Plan::default());
    }

    pub(super) fn log(&self, line: String) {
        self.log.lock().expect("the log").push(line);
    }

    pub(super) fn logged(&self) -> Vec<String> {
        self.log.lock().expect("the log").clone()
    }

    pub(super) fn forget_log(&self) {
        self.log.lock().expect("the log").clear();
    }

    /// Counts bytes of requests.
    pub(super) fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Counts a request that is being answered, until what it gives is dropped.
    pub(super) fn take_in_hand(&self) -> InHand<'_> {
        self.in_hand.fetch_add(1, Ordering::SeqCst);
        InHand(&self.in_hand)
    }

    pub(super) fn in_hand(&self) -> usize {
        self.in_hand.load(Ordering::SeqCst)
    }

    /// Counts a connection, until what it gives is dropped.
    pub(super) fn connect(self: &Arc<Self>) -> Connected {
        self.connected.fetch_add(1, Ordering::SeqCst);
        Connected(Arc::clone(self))
    }

    pub(super) fn connected(&self) -> usize {
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
pub(super) struct InHand<'a>(&'a AtomicUsize);

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A connection on which more may be asked.
pub(super) struct Connected(Arc<Faults>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, Ordering::SeqCst);
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
        let mut planned = self.faults.iter_mut();
        let planned =
            planned.find(|planned| planned.left > 0 && is_of(&planned.operation, operation))?;
        planned.left -= 1;
        Some(planned.fault)
    }
}

/// The gate that every signed request passes, once it is known which operation it asks for.
pub(super) struct Gate(pub(super) Arc<Faults>);

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() && self.0.google.get().is_none() {
            return Err(s3_error!(AccessDenied, "Signature is required"));
        }
        self.0.log(describe(context));
        let visit = context.extensions_mut().get::<Visit>().cloned();
        let visit = visit.expect("every request is a visit");
        visit.admit();
        let operation = context.s3_op().name();
        self.0.wait(operation).await;
        match self.0.next(operation) {
            Some(fault) => visit.strike(fault),
            None => Ok(()),
        }
    }
}

/// What has been decided about one request.
#[derive(Default)]
pub(super) struct Decision {
    pub(super) admitted: OnceLock<()>,
    pub(super) fault: OnceLock<Fault>,
}

impl Decision {
    pub(super) fn strike(&self, fault: Fault) -> S3Result<()> {
        let _ = self.fault.set(fault);
        match fault {
            Fault::Refuse(status) => Err(error_of(status)),
            Fault::LoseAnswer | Fault::BreakAnswer(_) => Ok(()),
        }
    }
}

fn is_of(planned: &str, operation: &str) -> bool {
    planned == "*" || planned == operation
}

/// `UploadPart big.bin?partNumber=1&uploadId=upload-00000001`
fn describe(context: &S3AccessContext<'_>) -> String {
    let key = context.s3_path().get_object_key().unwrap_or_default();
    let query = context
        .uri()
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    format!("{} {key}{query}", context.s3_op().name())
        .trim_end()
        .to_owned()
}

/// The error that S3 sends with `status`. The status itself is set on the answer.
fn error_of(status: u16) -> S3Error {
    let code = match status {
        400 => S3ErrorCode::RequestTimeout,
        403 => S3ErrorCode::AccessDenied,
        404 => S3ErrorCode::NoSuchKey,
        409 => S3ErrorCode::ConditionalRequestConflict,
        412 => S3ErrorCode::PreconditionFailed,
        503 => S3ErrorCode::SlowDown,
        _ => S3ErrorCode::InternalError,
    };
    S3Error::with_message(code, "Planned by the test.")
}
