//! One client: who it is, where it comes from, what it is doing and how to stop it.
//!
//! The session is the meeting place of the rooms. The guard (`edge`) puts a transfer into it, the
//! storage behind libunftp takes it out; a failure that libunftp's reply could not express, or the
//! lines of an `MLST`, come back through it. It holds no socket and speaks no protocol.

mod answer;
mod before_login;
mod client_stream;
mod facts;
mod frequency;
mod id;
mod own_uploads;
mod path;
mod registry;
mod secured;
mod transfer;

pub use answer::{Entry, EntryKind, Failure, StatusPage};
pub use client_stream::ClientStream;
pub use facts::{Fact, Facts};
pub use id::SessionId;
pub use own_uploads::{MAX_OWN_UPLOADS, OwnUploads};
pub use path::{FtpPath, PathError};
pub use registry::{Admission, Admitted, Checking, LoggedIn, Refusal, Registry};
pub use secured::Secured;
pub use transfer::{
    Abort, Client, DataStream, Ended, Event, Grant, Job, ListFormat, Outcome, Report, StoreMode,
    Transfer, TransferKind,
};

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use encoding_rs::Encoding;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::auth::User;

/// One client's session, shared by the guard and by what libunftp calls on its behalf.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    peer: SocketAddr,
    local: SocketAddr,
    socket: SocketAddr,
    cancel: CancellationToken,
    gone: CancellationToken,
    legacy_charset: &'static Encoding,
    speaks_legacy: AtomicBool,
    facts: AtomicU8,
    own_uploads: OwnUploads,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    secured: Option<Arc<Secured>>,
    user: Option<Arc<User>>,
    /// A transfer that nobody has taken, and its number.
    job: Option<(u64, Job)>,
    jobs: u64,
    failure: Option<Failure>,
    found: Option<(Entry, String)>,
    /// Where the pages of a `STAT` are awaited.
    status: Option<mpsc::Sender<StatusPage>>,
    last_line: Option<String>,
    told_unfinished: Option<(FtpPath, u64)>,
}

/// A transfer's client, and what is to be done for it.
#[derive(Debug)]
pub struct ClientOf {
    /// What is transferred.
    pub kind: TransferKind,
    /// The path that the client named.
    pub path: FtpPath,
    /// Its end.
    pub stream: ClientStream,
    /// For work that outlives the transfer, and that the gateway has to wait for as well.
    pub running: Option<TaskTrackerToken>,
}

impl Session {
    /// A session of the client at `peer`, which connected to `local`.
    ///
    /// `cancel` ends the session at once: its transfer is aborted and its connection closed.
    #[must_use]
    pub fn new(
        peer: SocketAddr,
        local: SocketAddr,
        legacy_charset: &'static Encoding,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            id: SessionId::random(),
            peer,
            local,
            socket: local,
            gone: cancel.child_token(),
            cancel,
            legacy_charset,
            speaks_legacy: AtomicBool::new(false),
            facts: AtomicU8::new(Facts::all().bits()),
            own_uploads: OwnUploads::default(),
            state: Mutex::default(),
        }
    }

    /// The same behind a proxy: the control connection came to `socket`, whatever address of the proxy
    /// the client has connected to.
    #[must_use]
    pub fn on_socket(mut self, socket: SocketAddr) -> Self {
        self.socket = socket;
        self
    }

    /// What logs and object metadata call this session.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The client's address, IPv4-mapped addresses already unmapped.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address the client connected to: a proxy's, where there is one.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The address of ours to which the control connection came.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        self.socket
    }

    /// Fires when the session has to end at once.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Fires when nobody is there any more to hear a reply.
    #[must_use]
    pub fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    /// What is known of TLS on the control connection; `None` in clear.
    #[must_use]
    pub fn secured(&self) -> Option<Arc<Secured>> {
        self.state().secured.clone()
    }

    /// Notes that the control connection is encrypted from now on.
    pub fn secure(&self, secured: Secured) {
        self.state().secured = Some(Arc::new(secured));
    }

    /// The user that has logged in.
    #[must_use]
    pub fn user(&self) -> Option<Arc<User>> {
        self.state().user.clone()
    }

    /// Notes who the client is.
    pub fn log_in(&self, user: Arc<User>) {
        self.state().user = Some(user);
    }

    /// Notes that the client was told this size of a file that is kept unfinished.
    pub fn tell_unfinished(&self, path: FtpPath, size: u64) {
        self.state().told_unfinished = Some((path, size));
    }

    /// The size that the client was told of a file that is kept unfinished, if that was the last file it
    /// was told of.
    pub fn take_unfinished(&self, path: &FtpPath) -> Option<u64> {
        let told = self.state().told_unfinished.take();
        told.filter(|(told, _)| told == path).map(|(_, size)| size)
    }

    /// What this session's user has stored in it.
    #[must_use]
    pub fn own_uploads(&self) -> &OwnUploads {
        &self.own_uploads
    }

    /// Forgets the user.
    pub fn log_out(&self) {
        self.state().user = None;
    }

    /// Forgets the user and all that a client has chosen so far, as before a new `USER`.
    pub fn start_over(&self) {
        let mut state = self.state();
        state.user = None;
        state.told_unfinished = None;
        self.own_uploads.clear();
        self.speaks_legacy.store(false, Ordering::Relaxed);
        self.facts.store(Facts::all().bits(), Ordering::Relaxed);
    }

    /// Leaves a transfer for the storage to take, under the number that this returns.
    pub fn offer(&self, job: Job) -> u64 {
        let mut state = self.state();
        state.failure = None;
        state.jobs += 1;
        let number = state.jobs;
        state.job = Some((number, job));
        number
    }

    /// What the transfer of this number is, and its client's end; `None` when it is not there, or no more. The
    /// transfer stays for the storage to take.
    pub fn take_client(&self, number: u64) -> Option<ClientOf> {
        let mut state = self.state();
        let (_, job) = state
            .job
            .as_mut()
            .filter(|(offered, _)| *offered == number)?;
        Some(ClientOf {
            kind: job.kind(),
            path: job.path().clone(),
            stream: job.take_stream()?,
            running: job.running(),
        })
    }

    /// Takes the transfer that the guard left; `None` when there is none.
    pub fn take_job(&self) -> Option<Job> {
        self.state().job.take().map(|(_, job)| job)
    }

    /// Says what the client is to be told instead of libunftp's own words.
    pub fn fail(&self, failure: Failure) {
        self.state().failure = Some(failure);
    }

    /// The failure that was left since the last command.
    pub fn take_failure(&self) -> Option<Failure> {
        self.state().failure.take()
    }

    /// Leaves what a path was found to be, and its facts for `MLST`.
    pub fn found(&self, entry: Entry, facts: String) {
        self.state().found = Some((entry, facts));
    }

    /// What the last looked-up path was found to be, and its facts.
    pub fn take_found(&self) -> Option<(Entry, String)> {
        self.state().found.take()
    }

    /// The facts that the client wants of `MLST` and `MLSD`.
    #[must_use]
    pub fn facts(&self) -> Facts {
        Facts::from_bits(self.facts.load(Ordering::Relaxed))
    }

    /// Remembers the client's choice of facts.
    pub fn choose_facts(&self, facts: Facts) {
        self.facts.store(facts.bits(), Ordering::Relaxed);
    }

    /// Awaits the lines that answer a `STAT` with a path, page by page.
    pub fn await_status(&self) -> mpsc::Receiver<StatusPage> {
        let (sender, pages) = mpsc::channel(1);
        self.state().status = Some(sender);
        pages
    }

    /// Where the pages of a `STAT` are awaited; `None` if they are not.
    pub fn take_status(&self) -> Option<mpsc::Sender<StatusPage>> {
        self.state().status.take()
    }

    /// Leaves the last line that answers a `STAT` with a path.
    pub fn end_status(&self, last_line: String) {
        self.state().last_line = Some(last_line);
    }

    /// The last line of a `STAT`, if all its pages have been sent.
    pub fn take_last_line(&self) -> Option<String> {
        self.state().last_line.take()
    }

    /// Forgets everything that an earlier command left behind.
    pub fn clear_answers(&self) {
        let mut state = self.state();
        state.failure = None;
        state.found = None;
        state.status = None;
        state.last_line = None;
        state.job = None;
    }

    /// Reads a name as the client sent it: UTF-8, or else the configured old charset, which the
    /// client is from then on also answered in. `None` if the bytes mean nothing in either.
    pub fn decode<'a>(&self, name: &'a [u8]) -> Option<Cow<'a, str>> {
        if let Ok(name) = std::str::from_utf8(name) {
            return Some(Cow::Borrowed(name));
        }
        let decoded = self
            .legacy_charset
            .decode_without_bom_handling_and_without_replacement(name)?;
        self.speaks_legacy.store(true, Ordering::Relaxed);
        Some(decoded)
    }

    /// Writes text the way this client reads it.
    #[must_use]
    pub fn encode<'a>(&self, text: &'a str) -> Cow<'a, [u8]> {
        if self.speaks_legacy.load(Ordering::Relaxed) {
            self.legacy_charset.encode(text).0
        } else {
            Cow::Borrowed(text.as_bytes())
        }
    }

    /// The client said `OPTS UTF8 ON`: answer in UTF-8 whatever it sent before.
    pub fn prefer_utf8(&self) {
        self.speaks_legacy.store(false, Ordering::Relaxed);
    }

    /// Every change under this lock is a single assignment, so a panic elsewhere can't have left it
    /// half-done: a poisoned lock is as good as any.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let address = SocketAddr::from(([127, 0, 0, 1], 21));
        Session::new(
            address,
            address,
            encoding_rs::WINDOWS_1252,
            CancellationToken::new(),
        )
    }

    #[test]
    fn old_names_are_read_and_answered_in_their_charset() {
        let session = session();
        assert_eq!(session.encode("ü").as_ref(), "ü".as_bytes());
        assert_eq!(session.decode(b"M\xfcller").as_deref(), Some("Müller"));
        assert_eq!(session.encode("Müller").as_ref(), b"M\xfcller");
        session.prefer_utf8();
        assert_eq!(session.encode("ü").as_ref(), "ü".as_bytes());
    }

    #[test]
    fn utf8_stays_utf8() {
        let session = session();
        assert_eq!(
            session.decode("Müller".as_bytes()).as_deref(),
            Some("Müller")
        );
        assert_eq!(session.encode("ü").as_ref(), "ü".as_bytes());
    }

    #[test]
    fn an_offered_transfer_forgets_the_failure_before_it() {
        let session = session();
        session.fail(Failure::new(550, "old news"));
        let (_transfer, job) = Transfer::new(TransferKind::Retrieve { offset: 0 }, FtpPath::root());
        let number = session.offer(job);
        assert!(session.take_failure().is_none());
        assert!(session.take_client(number + 1).is_none());
        assert!(session.take_client(number).is_some());
        assert!(session.take_client(number).is_none());
        assert!(session.take_job().is_some());
        assert!(session.take_job().is_none());
    }
}
