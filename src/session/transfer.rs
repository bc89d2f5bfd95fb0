//! The rendezvous of a transfer: the guard on one side, the storage on the other.
//!
//! ```text
//!  guard (Transfer)                       storage (Job)
//!    puts the job into the session  ──►   takes it, opens the object
//!    ◄── Event::Opened ───────────────    open()
//!    readies the data connection, 150
//!    connect(stream) ─────────────────►   ... moves the bytes, through the job's ClientStream ...
//!    ◄── Event::Commit ───────────────    commit(): may the object be published?
//!    grants or aborts ────────────────►   publishes, or discards
//!    ◄── report ──────────────────────    finish(report)
//! ```
//!
//! The job is the only way to the client's bytes, and `commit` the only way to a published object:
//! when the guard is gone, both fail.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::answer::Failure;
use super::client_stream::ClientStream;
use super::path::FtpPath;

/// The client's data connection. A read of zero bytes is its orderly end: in clear text a FIN, under
/// TLS a `close_notify`; anything else is an error.
pub trait Client: AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Sync + Unpin> Client for T {}

/// A data connection, clear or encrypted.
pub type DataStream = Box<dyn Client>;

/// What the client asked to be transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferKind {
    /// `RETR`, from this offset on.
    Retrieve {
        /// Bytes to skip, as `REST` said.
        offset: u64,
    },
    /// `STOR`, `STOU`, `APPE`, or `REST n` and `STOR`.
    Store(StoreMode),
    /// `LIST`, `NLST` or `MLSD`.
    List(ListFormat),
}

/// How an upload relates to what is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreMode {
    /// `STOR`: the new object takes the old one's place.
    Replace,
    /// `STOU`: a fresh name that no object has.
    Unique,
    /// `APPE`: after what is there, if anything is.
    Append,
    /// `REST n` and `STOR`: after what is there, which must be `n` bytes long.
    RestartAt(u64),
}

/// How a listing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListFormat {
    /// `LIST`: as `ls -l` prints it.
    Long,
    /// `NLST`: names only.
    Names,
    /// `MLSD`: facts and name (RFC 3659).
    Facts,
}

impl TransferKind {
    /// The metric label of the direction, as seen from the bucket.
    #[must_use]
    pub fn direction(self) -> &'static str {
        match self {
            Self::Retrieve { .. } => "download",
            Self::Store(_) => "upload",
            Self::List(_) => "list",
        }
    }
}

/// Why a transfer was given up before its end. What the client is told and what is counted follow
/// from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// The client sent `ABOR`.
    ClientAbort,
    /// The control connection closed or broke.
    ControlLost,
    /// The data connection broke.
    DataLost,
    /// The data connection never came.
    NoDataConnection,
    /// The data connection never came, and its port was given to another user, because none was free.
    PortTakenBack,
    /// The TLS handshake of the data connection failed.
    HandshakeFailed,
    /// The data connection did not prove that it belongs to the control connection.
    NotResumed,
    /// No byte moved for the stall timeout.
    Stalled,
    /// The gateway shuts down and its grace is over.
    Shutdown,
    /// The login holds no more, and transfers are not to be finished then.
    LoginLapsed,
    /// The client announced this many bytes with `ALLO` and sent others.
    SizeMismatch {
        /// Bytes announced.
        declared: u64,
        /// Bytes received.
        received: u64,
    },
    /// The guard or the storage went away without a word; a defect, but never a published object.
    Internal,
}

impl Abort {
    /// The metric label.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        Outcome(match self {
            Self::ClientAbort => "client_abort",
            Self::ControlLost => "control_lost",
            Self::DataLost => "data_lost",
            Self::NoDataConnection | Self::PortTakenBack => "no_data_connection",
            Self::HandshakeFailed => "tls_handshake",
            Self::NotResumed => "tls_not_resumed",
            Self::Stalled => "stalled",
            Self::Shutdown => "shutdown",
            Self::LoginLapsed => "login_lapsed",
            Self::SizeMismatch { .. } => "size_mismatch",
            Self::Internal => "internal",
        })
    }

    /// What the client is told.
    #[must_use]
    pub fn failure(self) -> Failure {
        match self {
            Self::ClientAbort => Failure::new(426, "Transfer aborted, as you asked"),
            Self::ControlLost => Failure::new(426, "Control connection lost, transfer aborted"),
            Self::DataLost => Failure::new(426, "Data connection lost, transfer aborted"),
            Self::NoDataConnection => Failure::new(425, "Can't open data connection"),
            Self::PortTakenBack => Failure::new(
                425,
                "No passive port was free, and yours was the oldest of those who hold most: it was given to another \
                 user. Try again",
            ),
            Self::HandshakeFailed => {
                Failure::new(426, "TLS handshake on the data connection failed")
            }
            Self::NotResumed => Failure::new(
                522,
                "The data connection has to resume the control connection's TLS session",
            ),
            Self::Stalled => Failure::new(426, "No data for too long, transfer aborted"),
            Self::Shutdown => Failure::new(426, "Gateway is shutting down, transfer aborted"),
            Self::LoginLapsed => {
                Failure::new(426, "Your login is not valid any more, transfer aborted")
            }
            Self::SizeMismatch { declared, received } => Failure::new(
                451,
                format!("ALLO announced {declared} bytes but {received} came, nothing was stored"),
            ),
            Self::Internal => Failure::new(451, "Internal error, transfer aborted"),
        }
    }
}

/// How a transfer ended, as a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome(pub &'static str);

impl Outcome {
    /// Everything arrived.
    pub const COMPLETE: Self = Self("complete");

    /// The same, but the client said `QUIT` without waiting for the reply.
    pub const QUIT_BEFORE_REPLY: Self = Self("quit_before_reply");
}

/// The end of a transfer as the storage saw it.
#[derive(Debug)]
pub struct Report {
    /// Bytes that went over the data connection.
    pub bytes: u64,
    /// Its label.
    pub outcome: Outcome,
    /// What to tell the client; `None` for a transfer that is complete.
    pub failure: Option<Failure>,
    /// The CRC64-NVME of the object that an upload has made, if all of it is known.
    pub crc64nvme: Option<u64>,
}

impl Report {
    /// A transfer that is complete.
    #[must_use]
    pub fn complete(bytes: u64) -> Self {
        Self {
            bytes,
            outcome: Outcome::COMPLETE,
            failure: None,
            crc64nvme: None,
        }
    }

    /// With the checksum of what was stored.
    #[must_use]
    pub fn with_checksum(mut self, crc64nvme: Option<u64>) -> Self {
        self.crc64nvme = crc64nvme;
        self
    }

    /// A transfer that was given up.
    #[must_use]
    pub fn aborted(bytes: u64, abort: Abort) -> Self {
        Self {
            bytes,
            outcome: abort.outcome(),
            failure: Some(abort.failure()),
            crc64nvme: None,
        }
    }
}

/// What the storage tells the guard while it works.
#[derive(Debug)]
pub enum Event {
    /// The object is open (or may be written): ready the data connection and say 150.
    Opened {
        /// The fresh name of a `STOU`.
        unique: Option<FtpPath>,
    },
    /// All bytes are here: may the object be published?
    Commit {
        /// How the client's data ended.
        ended: Ended,
        /// The answer, if it is yes. Aborting the transfer is no.
        grant: Grant,
    },
}

/// The right to publish an object, to be given once.
#[derive(Debug)]
pub struct Grant(oneshot::Sender<()>);

impl Grant {
    /// Lets the storage publish the object. From here on the transfer can't be aborted.
    pub fn grant(self) {
        // A storage that is gone has published nothing; its report says so.
        let _ = self.0.send(());
    }
}

/// Bytes moved so far.
#[derive(Debug, Default)]
struct Progress {
    moved: AtomicU64,
    /// Of an upload: what its object has in front of them.
    before: AtomicU64,
}

impl Progress {
    /// Bytes that went over the data connection until now.
    fn bytes(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Whether a client that has announced this size has sent it all. Where it goes on with a file, some mean
    /// the rest and some the whole.
    fn is_as_announced(&self, size: u64) -> bool {
        let (bytes, before) = (self.bytes(), self.before.load(Ordering::Relaxed));
        size == bytes || size == before.saturating_add(bytes)
    }
}

/// The orderly end of an upload's data, as the storage saw it.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// When it was seen.
    pub at: Instant,
    /// How long the data connection had been without a byte before it ended.
    pub quiet: Duration,
}

impl Ended {
    /// An end that is seen now, after so long without a byte.
    #[must_use]
    pub fn now(quiet: Duration) -> Self {
        let at = Instant::now();
        Self { at, quiet }
    }
}

#[derive(Debug, Default)]
struct Cancel {
    token: CancellationToken,
    reason: OnceLock<Abort>,
}

/// The guard's side of a transfer.
#[derive(Debug)]
pub struct Transfer {
    kind: TransferKind,
    events: mpsc::Receiver<Event>,
    stream: Option<(oneshot::Sender<DataStream>, oneshot::Sender<()>)>,
    cancel: Arc<Cancel>,
    progress: Arc<Progress>,
    report: oneshot::Receiver<Report>,
}

/// The storage's side of a transfer.
#[derive(Debug)]
pub struct Job {
    kind: TransferKind,
    path: FtpPath,
    /// Where the root that the path is in shows to the client.
    mount: FtpPath,
    named: String,
    declared: Option<u64>,
    running: Option<TaskTrackerToken>,
    events: mpsc::Sender<Event>,
    stream: Option<ClientStream>,
    connected: Option<oneshot::Receiver<()>>,
    cancel: Arc<Cancel>,
    progress: Arc<Progress>,
    report: oneshot::Sender<Report>,
}

impl Transfer {
    /// Both sides of a transfer.
    #[must_use]
    pub fn new(kind: TransferKind, path: FtpPath) -> (Self, Job) {
        let (event_sender, events) = mpsc::channel(1);
        let (stream_sender, stream) = oneshot::channel();
        let (connected_sender, connected) = oneshot::channel();
        let (report_sender, report) = oneshot::channel();
        let cancel = Arc::new(Cancel::default());
        let progress = Arc::new(Progress::default());
        let transfer = Self {
            kind,
            events,
            stream: Some((stream_sender, connected_sender)),
            cancel: Arc::clone(&cancel),
            progress: Arc::clone(&progress),
            report,
        };
        let job = Job {
            kind,
            path,
            mount: FtpPath::root(),
            named: String::new(),
            declared: None,
            running: None,
            events: event_sender,
            stream: Some(ClientStream::awaited(stream)),
            connected: Some(connected),
            cancel,
            progress,
            report: report_sender,
        };
        (transfer, job)
    }

    /// What is transferred.
    #[must_use]
    pub fn kind(&self) -> TransferKind {
        self.kind
    }

    /// The storage's next word; `None` when it has nothing more to say. Safe to cancel.
    pub async fn event(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Hands the client's data connection over.
    pub fn connect(&mut self, stream: DataStream) {
        if let Some((sender, connected)) = self.stream.take() {
            // A storage that has gone meanwhile drops the stream, which closes it.
            let _ = sender.send(stream);
            let _ = connected.send(());
        }
    }

    /// Gives the transfer up. The first reason counts; after a granted commit there is no effect.
    pub fn abort(&self, reason: Abort) {
        let _ = self.cancel.reason.set(reason);
        self.cancel.token.cancel();
    }

    /// Whether it was given up.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.cancel.token.is_cancelled()
    }

    /// Bytes moved so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.progress.bytes()
    }

    /// Whether a client that has announced this size has sent it all.
    #[must_use]
    pub fn is_as_announced(&self, size: u64) -> bool {
        self.progress.is_as_announced(size)
    }

    /// The storage's report, once it has finished; `None` if it never took the job, or went away
    /// without a word.
    pub fn take_report(&mut self) -> Option<Report> {
        self.report.try_recv().ok()
    }
}

impl Drop for Transfer {
    /// A guard that goes away takes its transfer with it.
    fn drop(&mut self) {
        self.abort(Abort::ControlLost);
    }
}

impl Job {
    /// Notes the size that the client announced with `ALLO`, to be checked before the commit.
    #[must_use]
    pub fn declaring(mut self, size: Option<u64>) -> Self {
        self.declared = size;
        self
    }

    /// Notes the path in the client's own words, which `NLST` repeats before each name.
    #[must_use]
    pub fn called(mut self, named: String) -> Self {
        self.named = named;
        self
    }

    /// The same for who sees the path's root: it shows to the client at `mount`.
    #[must_use]
    pub(crate) fn mounted(mut self, mount: FtpPath, path: FtpPath) -> Self {
        self.mount = mount;
        self.path = path;
        self
    }

    /// Makes the gateway wait for the end of this transfer before it exits.
    #[must_use]
    pub fn tracked(mut self, running: TaskTrackerToken) -> Self {
        self.running = Some(running);
        self
    }

    /// For work that outlives the job, and that the gateway has to wait for as well.
    #[must_use]
    pub fn running(&self) -> Option<TaskTrackerToken> {
        self.running.clone()
    }

    /// Fires when the transfer is given up, also after its commit was granted.
    pub(crate) fn given_up(&self) -> CancellationToken {
        self.cancel.token.clone()
    }

    /// What is transferred.
    #[must_use]
    pub fn kind(&self) -> TransferKind {
        self.kind
    }

    /// The path in the client's own words; empty if it named none.
    #[must_use]
    pub fn named(&self) -> &str {
        &self.named
    }

    /// The path that the client named.
    #[must_use]
    pub fn path(&self) -> &FtpPath {
        &self.path
    }

    /// The client's end of it, to be taken once.
    pub(crate) fn take_stream(&mut self) -> Option<ClientStream> {
        self.stream.take()
    }

    /// Says that the object is open and waits for the client's data connection.
    ///
    /// # Errors
    /// When the transfer is aborted, as it is when no data connection comes.
    pub async fn open(&mut self, unique: Option<FtpPath>) -> Result<(), Abort> {
        let connected = self.connected.take().ok_or(Abort::Internal)?;
        let unique = unique.map(|path| self.mount.above(&path));
        self.say(Event::Opened { unique }).await?;
        tokio::select! {
            biased;
            abort = self.aborted() => Err(abort),
            connected = connected => connected.map_err(|_| self.reason()),
        }
    }

    /// The commit barrier: asks whether the object may be published. After `Ok` it must be.
    ///
    /// # Errors
    /// When the transfer was aborted, or the bytes received are not those announced.
    pub async fn commit(&mut self, ended: Ended) -> Result<(), Abort> {
        if let Some(declared) = self.declared
            && !self.progress.is_as_announced(declared)
        {
            let received = self.progress.bytes();
            return Err(Abort::SizeMismatch { declared, received });
        }
        let (grant, granted) = oneshot::channel();
        let grant = Grant(grant);
        self.say(Event::Commit { ended, grant }).await?;
        tokio::select! {
            biased;
            granted = granted => granted.map_err(|_| self.reason()),
            abort = self.aborted() => Err(abort),
        }
    }

    /// Resolves when the transfer is given up.
    pub fn aborted(&self) -> impl Future<Output = Abort> + Send + use<> {
        let cancel = Arc::clone(&self.cancel);
        async move {
            cancel.token.cancelled().await;
            cancel.reason.get().copied().unwrap_or(Abort::Internal)
        }
    }

    /// Does something that may be dropped half-way when the transfer is given up. The caller pins it: passed by value,
    /// it would be held twice.
    pub async fn unless_aborted<T, E: From<Abort>>(
        &self,
        work: impl Future<Output = Result<T, E>> + Unpin,
    ) -> Result<T, E> {
        tokio::select! {
            biased;
            abort = self.aborted() => Err(abort.into()),
            result = work => result,
        }
    }

    /// Notes the size that the object has before this transfer.
    pub fn goes_on_after(&self, bytes: u64) {
        self.progress.before.store(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that went over the data connection.
    pub fn count(&self, bytes: usize) {
        self.progress
            .moved
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes moved so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.progress.bytes()
    }

    /// Ends the transfer.
    pub fn finish(self, report: Report) {
        // A guard that is gone has logged the loss already.
        let _ = self.report.send(report);
    }

    async fn say(&self, event: Event) -> Result<(), Abort> {
        self.events.send(event).await.map_err(|_| self.reason())
    }

    /// Why it was given up.
    pub(crate) fn reason(&self) -> Abort {
        self.cancel.reason.get().copied().unwrap_or(Abort::Internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload() -> (Transfer, Job) {
        Transfer::new(TransferKind::Store(StoreMode::Replace), FtpPath::root())
    }

    #[tokio::test]
    async fn a_granted_commit_is_granted() {
        let (mut transfer, mut job) = upload();
        let storage = tokio::spawn(async move { job.commit(Ended::now(Duration::ZERO)).await });
        match transfer.event().await {
            Some(Event::Commit { grant, .. }) => grant.grant(),
            other => panic!("expected a commit, got {other:?}"),
        }
        assert_eq!(storage.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_dropped_grant_refuses() {
        let (mut transfer, mut job) = upload();
        let storage = tokio::spawn(async move { job.commit(Ended::now(Duration::ZERO)).await });
        let event = transfer.event().await;
        transfer.abort(Abort::ClientAbort);
        drop(event);
        assert_eq!(storage.await.unwrap(), Err(Abort::ClientAbort));
    }

    #[tokio::test]
    async fn a_guard_that_goes_away_refuses() {
        let (transfer, mut job) = upload();
        drop(transfer);
        assert_eq!(
            job.commit(Ended::now(Duration::ZERO)).await,
            Err(Abort::ControlLost)
        );
        assert_eq!(job.aborted().await, Abort::ControlLost);
        assert_eq!(job.open(None).await.err(), Some(Abort::ControlLost));
    }

    #[tokio::test]
    async fn the_first_reason_counts() {
        let (transfer, job) = upload();
        transfer.abort(Abort::Stalled);
        transfer.abort(Abort::ClientAbort);
        assert_eq!(job.aborted().await, Abort::Stalled);
    }

    #[tokio::test]
    async fn announced_sizes_are_held_against_what_came() {
        let (_transfer, job) = upload();
        let mut job = job.declaring(Some(3));
        job.count(2);
        let mismatch = Abort::SizeMismatch {
            declared: 3,
            received: 2,
        };
        assert_eq!(job.commit(Ended::now(Duration::ZERO)).await, Err(mismatch));
    }

    #[test]
    fn what_goes_on_is_announced_as_the_rest_or_as_the_whole() {
        let (transfer, job) = upload();
        job.goes_on_after(60);
        job.count(40);
        assert!(transfer.is_as_announced(40));
        assert!(transfer.is_as_announced(100));
        for size in [0, 39, 60, 99, 101] {
            assert!(!transfer.is_as_announced(size), "{size}");
        }
    }
}
