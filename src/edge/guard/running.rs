//! What the guard knows of the transfer that runs, and what a line means meanwhile.

use tokio::time::Instant;

use crate::config::ControlLoss;
use crate::session::{FtpPath, Report, Transfer};

use super::super::command::{Action, Command, EdgeVerb, SessionVerb};
use super::super::connection::{Line, Lost};
use super::super::data::Arranged;
use super::security::Handshake;

/// A transfer that runs.
pub(super) struct Running {
    pub(super) transfer: Transfer,
    pub(super) path: FtpPath,
    pub(super) started: Instant,
    pub(super) data: Arranged,
    pub(super) connect_until: Instant,
    pub(super) state: State,
    /// The TLS handshake of the data connection.
    pub(super) handshake: Option<Handshake>,
    /// The fresh name of a `STOU`.
    pub(super) unique: Option<FtpPath>,
    /// `ABOR`s that came meanwhile; each is answered in the end.
    pub(super) aborts: u32,
    /// The client has said that it will leave.
    pub(super) quit: bool,
    pub(super) lost: Option<Lost>,
    /// What the storage says of it in the end.
    pub(super) report: Option<Report>,
}

/// How far a transfer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The storage opens the object.
    Opening,
    /// The client's data connection is awaited.
    Connecting,
    /// The client has been told 150, and its data connection is being encrypted.
    Securing,
    /// The storage has the client's stream.
    Moving,
    /// The storage is done; libunftp has the last word.
    Done,
}

impl Running {
    pub(super) fn new(transfer: Transfer, path: FtpPath, data: Arranged) -> Self {
        Self {
            transfer,
            path,
            started: Instant::now(),
            data,
            connect_until: Instant::now(),
            state: State::Opening,
            handshake: None,
            unique: None,
            aborts: 0,
            quit: false,
            lost: None,
            report: None,
        }
    }

    /// Whether the client has been told that the transfer begins.
    pub(super) fn has_begun(&self) -> bool {
        matches!(self.state, State::Securing | State::Moving)
    }

    /// Whether a finished upload may be published: nobody has given it up, and the control
    /// connection is there or was left in an orderly way.
    pub(super) fn may_commit(&self, on_loss: ControlLoss) -> bool {
        !self.transfer.is_aborted() && !self.is_orphaned(on_loss)
    }

    /// Whether the client went away without a word, and that matters.
    pub(super) fn is_orphaned(&self, on_loss: ControlLoss) -> bool {
        self.lost.is_some() && !self.quit && on_loss == ControlLoss::Discard
    }

    /// The words of the 150.
    pub(super) fn opening(&self) -> String {
        match &self.unique {
            // RFC 1123, section 4.1.2.9: this is where the name is told, and how.
            Some(path) => format!("FILE: {}", path.name()),
            None => "Data connection is open".to_owned(),
        }
    }

    /// A line of `STAT`.
    pub(super) fn status(&self) -> String {
        let direction = self.transfer.kind().direction();
        let bytes = self.transfer.bytes();
        format!("Running {direction}: {bytes} bytes so far")
    }
}

/// What a line that comes during a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum During {
    Abor,
    /// Answered in its turn, but the commit barrier has to know.
    Quit,
    Noop,
    Stat,
    /// It waits for the end.
    Wait,
}

impl During {
    pub(super) fn of(line: &Line) -> Self {
        let Line::Text(text) = line else {
            return Self::Wait;
        };
        let Ok(command) = Command::parse(text) else {
            return Self::Wait;
        };
        match command.spec.action {
            Action::Edge(EdgeVerb::Abor) => Self::Abor,
            Action::Edge(EdgeVerb::Quit) => Self::Quit,
            Action::Edge(EdgeVerb::Noop) => Self::Noop,
            Action::Session(SessionVerb::Stat) if command.argument.is_empty() => Self::Stat,
            _ => Self::Wait,
        }
    }
}
