//! The guard: the FTP server that a client sees.
//!
//! One task a client. It reads a line, answers it itself or through the FTP session behind it, and
//! reads the next; during a transfer it listens on (see [`transfer`]). It owns the working directory, the
//! restart offset and the data connection. A client's line is never passed on: what libunftp gets
//! is always written anew.

mod active;
mod arriving;
mod candidates;
mod data_connection;
mod early;
mod files;
mod lapse;
mod login;
mod progress;
mod protection;
mod record;
mod running;
mod security;
mod settings;
mod settle;
mod standing;
mod status;
mod transfer;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::auth::Standing;
use crate::ftp::{Link, LinkError, Reply};
use crate::session::{Admitted, EntryKind, FtpPath, LoggedIn, Refusal, Session};

use crate::telemetry::LineKind;

use super::bandwidth::SessionRates;
use super::command::{Action, Command, ParseError, SessionVerb, UNKNOWN};
use super::connection::{Connection, Line, Lost};
use super::data::Arranged;
use super::shared::Edge;
use super::sockets::Beginning;

use arriving::{expected, turn_away};
use protection::Protection;
use standing::lapsed;

use early::Early;

/// Lines that a client may send ahead while a transfer runs.
const MAX_WAITING: usize = 64;

/// Bytes of these lines, but for the last.
const MAX_WAITING_BYTES: usize = 16 * 1024;

/// One client's FTP server.
pub(super) struct Guard {
    edge: Arc<Edge>,
    session: Arc<Session>,
    connection: Connection,
    /// The FTP session behind; opened once the client has logged in, so that one that never does costs only its socket.
    link: Option<Link>,
    /// Lines that came during a transfer and wait for its end.
    waiting: VecDeque<Line>,
    protection: Protection,
    cwd: FtpPath,
    data: Option<Arranged>,
    /// Until when the port behind `data` is kept for a transfer that does not come.
    data_until: Instant,
    /// `EPSV ALL` was said: nothing but `EPSV` from now on (RFC 2428).
    epsv_all: bool,
    /// `REST`: where the next transfer starts.
    restart: u64,
    /// `ALLO`: the announced size of the next upload.
    announced: Option<u64>,
    /// `TYPE A`, which is also what holds before any `TYPE` (RFC 959, section 5.1).
    is_text: bool,
    /// The control connection came through a balancer of `ftp.trusted_proxies`.
    is_behind_proxy: bool,
    /// `RNFR`: what is to be renamed.
    rename_from: Option<EntryKind>,
    user_name: Option<String>,
    failed_logins: u32,
    login_until: Instant,
    early: Early,
    /// The login, as long as it holds.
    standing: Option<Arc<Standing>>,
    /// Among all sessions.
    admitted: Arc<Admitted>,
    /// Among the sessions of the user that has logged in.
    place: Option<LoggedIn>,
    /// The client has had its greeting.
    greeted: bool,
    rates: SessionRates,
}

/// Whether the session goes on after a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Command,
    Close,
}

/// Why a session ended other than by `QUIT`.
#[derive(Debug)]
enum End {
    /// The control connection is gone.
    Lost(Lost),
    /// The FTP session behind is gone.
    Link(LinkError),
    /// The guard itself ends it, with these words.
    Said(Reply),
}

/// Whether one more line may wait.
fn has_room(waiting: &VecDeque<Line>) -> bool {
    let bytes: usize = waiting.iter().map(Line::len).sum();
    waiting.len() < MAX_WAITING && bytes < MAX_WAITING_BYTES
}

impl From<Lost> for End {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl From<LinkError> for End {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl Guard {
    pub(super) fn new(
        edge: Arc<Edge>,
        session: Arc<Session>,
        stream: TcpStream,
        admitted: Arc<Admitted>,
    ) -> Self {
        let login_until = Instant::now() + edge.config.ftp.login_timeout;
        Self {
            edge,
            session,
            connection: Connection::new(stream),
            link: None,
            waiting: VecDeque::new(),
            protection: Protection::default(),
            cwd: FtpPath::root(),
            data: None,
            data_until: login_until,
            epsv_all: false,
            restart: 0,
            announced: None,
            is_text: true,
            is_behind_proxy: false,
            rename_from: None,
            user_name: None,
            failed_logins: 0,
            login_until,
            early: Early::default(),
            standing: None,
            admitted,
            place: None,
            greeted: false,
            rates: SessionRates::default(),
        }
    }

    /// For a client that was greeted then, before anybody knew who it was.
    pub(super) fn greeted(mut self, then: Instant) -> Self {
        self.login_until = then + self.edge.config.ftp.login_timeout;
        self.greeted = true;
        self
    }

    /// For a client whose packets end at a balancer.
    pub(super) fn behind_proxy(mut self, is_behind_proxy: bool) -> Self {
        self.is_behind_proxy = is_behind_proxy;
        self
    }

    /// Serves the client until it leaves, is lost, or has to go.
    pub(super) async fn run(mut self, beginning: Beginning) {
        tracing::debug!(session = %self.session.id(), peer = %self.session.peer(), "connected");
        let end = self.serve(beginning).await;
        self.log_end(&end);
        // Who closes slowly must not be in the way of its own next login, nor of others' transfers.
        self.place = None;
        self.data = None;
        let farewell = match end {
            // What the client has ended in order, we end so too: under TLS it may wait for that.
            Ok(()) | Err(End::Lost(Lost::Closed)) => None,
            Err(End::Lost(Lost::ProxyHeader)) => {
                self.edge.proxies.pretended(self.session.peer());
                Some(Reply::new(421, "That is not FTP, good-bye"))
            }
            Err(End::Lost(Lost::Flood)) => Some(Reply::new(421, "That is not FTP, good-bye")),
            Err(End::Lost(Lost::TooFarAhead)) => {
                Some(Reply::new(421, "Too many commands sent ahead, good-bye"))
            }
            Err(End::Lost(_)) => return,
            Err(End::Link(_)) => Some(Reply::new(421, "Internal error, please log in again")),
            Err(End::Said(reply)) => Some(reply),
        };
        if let Some(reply) = farewell
            && self.send(&reply).await.is_err()
        {
            return;
        }
        self.connection.close().await;
    }

    /// Whether one more line of this kind is to be written about this client.
    fn logs(&self, kind: LineKind) -> bool {
        self.edge.logs(kind, self.session.peer().ip())
    }

    /// The same of a user, whose lines do not hide those about others at this client's address.
    fn logs_user(&self, kind: LineKind, user: &str) -> bool {
        let peer = self.session.peer().ip();
        self.edge.lines.permit_user(kind, peer, user)
    }

    fn log_end(&self, end: &Result<(), End>) {
        let (session, peer) = (self.session.id(), self.session.peer());
        match end {
            Ok(()) => tracing::debug!(%session, %peer, "disconnected"),
            Err(End::Lost(lost)) => {
                tracing::debug!(%session, %peer, reason = lost.reason(), "connection lost");
            }
            Err(End::Link(error)) => tracing::error!(%session, %peer, %error, "session failed"),
            Err(End::Said(reply)) => {
                tracing::debug!(%session, %peer, reply = reply.to_wire().trim_end(), "disconnected by us");
            }
        }
    }

    async fn serve(&mut self, beginning: Beginning) -> Result<(), End> {
        if beginning == Beginning::Tls {
            self.begin_encrypted().await?;
        }
        if !self.greeted {
            self.send(&self.edge.greeting()).await?;
        }
        loop {
            let line = self.next_line().await?;
            if self.answer(line).await? == Next::Close {
                return Ok(());
            }
        }
    }

    /// The next line, or the reason to wait no longer.
    async fn next_line(&mut self) -> Result<Line, End> {
        self.check_standing()?;
        if let Some(line) = self.waiting.pop_front() {
            return Ok(line);
        }
        let logged_in = self.session.user().is_some();
        let idle_until = Instant::now() + self.edge.config.ftp.idle_timeout;
        let until = if logged_in {
            idle_until
        } else {
            idle_until.min(self.login_until)
        };
        let expected = expected(&self.edge, &self.session, false, self.data_until);
        let standing = self.standing.clone();
        loop {
            tokio::select! {
                biased;
                () = self.session.cancelled().cancelled() => return Err(End::Said(shutting_down())),
                () = self.edge.shutdown.draining().cancelled() => return Err(End::Said(shutting_down())),
                () = self.admitted.gives_way().cancelled() => return Err(self.turn_away(Refusal::GaveWay)),
                lapse = lapsed(standing.as_deref()) => return Err(self.end_of_standing(lapse)),
                line = self.connection.line() => return Ok(line?),
                () = tokio::time::sleep_until(self.data_until), if self.data.is_some() => self.data = None,
                () = turn_away(&mut self.data, &expected) => {}
                () = tokio::time::sleep_until(until) => return Err(End::Said(too_late(logged_in))),
            }
        }
    }

    /// Answers one line.
    async fn answer(&mut self, line: Line) -> Result<Next, End> {
        self.hear_early()?;
        let Line::Text(line) = line else {
            return self.reply(UNKNOWN, Reply::new(500, "Line too long")).await;
        };
        match Command::parse(&line) {
            Ok(command) => self.execute(command).await,
            Err(error) => self.reply_to_parse_error(error, &line).await,
        }
    }

    async fn reply_to_parse_error(&mut self, error: ParseError, line: &[u8]) -> Result<Next, End> {
        if error == ParseError::UnknownVerb {
            self.hear_unknown(line)?;
        }
        let (verb, reply) = match error {
            ParseError::UnknownVerb => (UNKNOWN, Reply::new(500, "Unknown command")),
            ParseError::ArgumentMissing(spec) => (
                spec.name,
                Reply::new(501, format!("{} needs an argument", spec.name)),
            ),
            ParseError::ControlCharacter => (
                UNKNOWN,
                Reply::new(501, "Control characters are not allowed in a command"),
            ),
        };
        self.reply(verb, reply).await
    }

    async fn execute(&mut self, command: Command) -> Result<Next, End> {
        let verb = command.spec.name;
        if !command.spec.before_login && self.session.user().is_none() {
            return self
                .reply(verb, Reply::new(530, "Please log in with USER and PASS"))
                .await;
        }
        self.session.clear_answers();
        match command.spec.action {
            Action::Edge(edge) => self.edge_verb(edge, verb, &command.argument).await,
            Action::Transfer(transfer) => self.transfer(transfer, verb, &command.argument).await,
            Action::Session(SessionVerb::User) => self.user(&command.argument).await,
            Action::Session(SessionVerb::Pass) => self.pass(&command.argument).await,
            Action::Session(session) => self.session_verb(session, verb, &command.argument).await,
        }
    }

    /// Counts and sends the reply to a command.
    async fn reply(&mut self, verb: &'static str, reply: Reply) -> Result<Next, End> {
        self.count(verb, &reply);
        self.send(&reply).await?;
        Ok(Next::Command)
    }

    fn count(&self, verb: &'static str, reply: &Reply) {
        self.edge
            .metrics
            .commands
            .with_label_values(&[verb, reply.class()])
            .inc();
    }

    async fn send(&mut self, reply: &Reply) -> Result<(), Lost> {
        let wire = reply.to_wire();
        let encoded = self.session.encode(&wire).into_owned();
        self.connection.send(&encoded).await
    }

    /// The open link; a command that gets here without one came before `USER`.
    fn link(&mut self) -> Result<&mut Link, End> {
        self.link.as_mut().ok_or_else(no_session)
    }

    /// The path that an argument names.
    fn path(&self, argument: &[u8]) -> Result<FtpPath, Reply> {
        let name = self.name(argument)?;
        self.cwd
            .resolve(&name)
            .map_err(|error| Reply::new(553, error.to_string()))
    }

    /// The same of a file; `code` is for a name that is a directory's.
    fn file_path(&self, argument: &[u8], code: u16) -> Result<FtpPath, Reply> {
        if FtpPath::names_directory(&self.name(argument)?) {
            return Err(Reply::new(
                code,
                "A slash or dots at the end are for directories, not for files",
            ));
        }
        self.path(argument)
    }

    fn name<'a>(&self, argument: &'a [u8]) -> Result<Cow<'a, str>, Reply> {
        let name = self.session.decode(argument);
        name.ok_or_else(|| Reply::new(501, "Name is not in UTF-8"))
    }
}

fn no_session() -> End {
    End::Said(Reply::new(421, "No session, good-bye"))
}

fn too_late(logged_in: bool) -> Reply {
    let text = if logged_in {
        "Idle for too long, good-bye"
    } else {
        "Login took too long, good-bye"
    };
    Reply::new(421, text)
}

fn shutting_down() -> Reply {
    Reply::new(421, "Gateway is shutting down, good-bye")
}
