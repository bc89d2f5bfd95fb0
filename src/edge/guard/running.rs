//! What the guard knows of the transfer that runs, and what a line means meanwhile.

use std::io;

use tokio::time::Instant;

use crate::config::ControlLoss;
use crate::session::{Abort, FtpPath, Report, Transfer, TransferKind};

use super::super::buffers::Flow;
use super::super::command::{Action, Command, EdgeVerb, SessionVerb};
use super::super::connection::{Line, Lost};
use super::super::data::Arranged;
use super::super::ending::{CloseNotify, Ending};
use super::super::proxy_protocol::DataSocket;
use super::candidates::Candidates;
use super::progress::State;
use super::settle::Settling;

/// A transfer that runs.
pub(super) struct Running {
    pub(super) transfer: Transfer,
    path: FtpPath,
    pub(super) started: Instant,
    pub(super) data: Arranged,
    pub(super) connect_until: Instant,
    pub(super) state: State,
    /// Who has connected, where the data connection is being encrypted.
    pub(super) candidates: Candidates,
    /// The end of an upload's data connection, once there is one.
    pub(super) ending: Option<Ending>,
    /// All data of an upload has come.
    pub(super) has_ended: bool,
    /// An upload that has all its data and waits for its commit.
    pub(super) settling: Option<Settling>,
    /// The size that the client has announced.
    announced: Option<u64>,
    /// The data connection has, or will have, TLS.
    is_encrypted: bool,
    /// The fresh name of a `STOU`.
    pub(super) unique: Option<FtpPath>,
    /// `ABOR`s that came meanwhile; each is answered in the end.
    pub(super) aborts: u32,
    quit: Option<Quit>,
    pub(super) lost: Option<Lost>,
    /// What the storage says of it in the end.
    pub(super) report: Option<Report>,
}

/// When the client said `QUIT`. If it did so twice, the later one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Quit {
    /// While its data was still coming, or ahead of it. That is no word about the data: it may have been sent
    /// with the `STOR`, by a client that has died since.
    BeforeTheEnd,
    /// After its data.
    AfterTheEnd,
}

impl Running {
    pub(super) fn new(
        transfer: Transfer,
        path: FtpPath,
        data: Arranged,
        announced: Option<u64>,
        is_encrypted: bool,
    ) -> Self {
        Self {
            transfer,
            path,
            started: Instant::now(),
            data,
            connect_until: Instant::now(),
            state: State::Opening,
            candidates: Candidates::default(),
            ending: None,
            has_ended: false,
            settling: None,
            announced,
            is_encrypted,
            unique: None,
            aborts: 0,
            quit: None,
            lost: None,
            report: None,
        }
    }

    /// There is no data connection, and will be none.
    pub(super) fn fail(&mut self, abort: Abort) {
        self.state = State::Moving;
        self.transfer.abort(abort);
    }

    /// The path that is read or written: the one that was named, but for `STOU`.
    pub(super) fn target(&self) -> &FtpPath {
        self.unique.as_ref().unwrap_or(&self.path)
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
        self.lost.is_some() && !self.has_left() && on_loss == ControlLoss::Discard
    }

    /// A data connection, its end seen to: that of an upload is watched, and of a download only all has an orderly
    /// one.
    pub(super) fn with_its_end(
        &self,
        stream: DataSocket,
    ) -> io::Result<(DataSocket, Option<Ending>)> {
        if !matches!(self.transfer.kind(), TransferKind::Store(_)) {
            return Ok((stream.reset_unless_shut_down()?, None));
        }
        let (ending, stream) = Ending::of(stream);
        Ok((stream, Some(ending)))
    }

    /// The way that its bytes go.
    pub(super) fn flow(&self) -> Flow {
        match self.transfer.kind() {
            TransferKind::Store(_) => Flow::FromClient,
            TransferKind::Retrieve { .. } | TransferKind::List(_) => Flow::ToClient,
        }
    }

    /// Notes a `QUIT`.
    pub(super) fn on_quit(&mut self) {
        self.candidates.on_quit();
        let ended = self.ending.as_ref().is_some_and(Ending::has_come);
        let quit = if ended {
            Quit::AfterTheEnd
        } else {
            Quit::BeforeTheEnd
        };
        self.quit = self.quit.max(Some(quit));
        if self.has_quit_after_its_data()
            && let Some(settling) = &mut self.settling
        {
            settling.hurry();
        }
    }

    /// Whether the client has said `QUIT`, and its data had ended by then.
    pub(super) fn has_quit_after_its_data(&self) -> bool {
        self.quit == Some(Quit::AfterTheEnd)
    }

    /// Whether an upload is complete whose client has said `QUIT` without waiting for the reply.
    pub(super) fn has_quit_early(&self) -> bool {
        let uploads = matches!(self.transfer.kind(), TransferKind::Store(_));
        let left_early = self.lost.is_some() && self.quit.is_some();
        uploads && (left_early || self.has_quit_after_its_data())
    }

    /// Whether the client has left in an orderly way: its control connection may close.
    fn has_left(&self) -> bool {
        match (self.transfer.kind(), self.quit) {
            (_, None) => false,
            (TransferKind::Store(_), Some(Quit::BeforeTheEnd)) => self.may_be_proven(),
            (_, Some(_)) => true,
        }
    }

    /// Whether the end of an upload's data is proven, or may still be when it has come.
    fn may_be_proven(&self) -> bool {
        if self.has_ended {
            self.is_proven()
        } else {
            self.announced.is_some() || self.is_encrypted
        }
    }

    /// Whether the data that has come is the whole file for certain. Some clients announce 0 when they don't know.
    pub(super) fn is_proven(&self) -> bool {
        let is_announced = |size| self.transfer.is_as_announced(size);
        let as_announced = self.transfer.bytes() > 0 && self.announced.is_some_and(is_announced);
        let ending = self.ending.as_ref().map(Ending::close_notify);
        as_announced || ending.is_some_and(CloseNotify::was_said)
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
