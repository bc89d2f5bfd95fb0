//! A transfer, from the verb to its last reply.
//!
//! The order of replies: the storage has opened the object, then the data connection is there,
//! then `150`, then bytes, then one last reply. Meanwhile the guard listens: `ABOR`, `STAT` and
//! `NOOP` are answered at once while bytes move, `QUIT` is noted, anything else waits.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::OnRemoval;
use crate::ftp::{Link, Reply};
use crate::session::{
    Abort, DataStream, Event, FtpPath, ListFormat, Outcome, Report, StoreMode, Transfer,
    TransferKind,
};
use crate::telemetry::InUse;

use super::super::command::TransferVerb;
use super::super::connection::{Line, Lost};
use super::arriving::{data_connection, expected};
use super::progress::{Happened, State};
use super::record::last_reply;
use super::running::{During, Running};
use super::settle::Settling;
use super::standing::lapsed;
use super::{End, Guard, Next, has_room};

/// `ABOR`s that a client may send to end one transfer; each is answered.
const MAX_ABORTS: u32 = 16;

/// Lines that the commit barrier reads; a client that has sent more is no FTP client.
const MAX_DRAINED: usize = 1000;

/// A storage that has dropped its job has also answered; longer than this it takes only if it has
/// failed in a way it should not.
const LAST_WORD: Duration = Duration::from_secs(10);

/// What a transfer verb asks for.
struct Order {
    kind: TransferKind,
    path: FtpPath,
    /// The path in the client's own words.
    named: String,
}

impl Guard {
    pub(super) async fn transfer(
        &mut self,
        transfer: TransferVerb,
        verb: &'static str,
        argument: &[u8],
    ) -> Result<Next, End> {
        let restart = std::mem::take(&mut self.restart);
        let announced = self.announced.take();
        if let Some(reply) = self.refuse_clear_data() {
            return self.reply(verb, reply).await;
        }
        let order = match self.order(transfer, argument, restart) {
            Ok(order) => order,
            Err(reply) => return self.reply(verb, reply).await,
        };
        let Some(data) = self.data.take() else {
            let reply = Reply::new(425, self.nothing_arranged());
            return self.reply(verb, reply).await;
        };
        let (transfer, job) = Transfer::new(order.kind, order.path.clone());
        let announced = announced.filter(|_| matches!(order.kind, TransferKind::Store(_)));
        let job = job
            .called(order.named)
            .declaring(announced.filter(|_| self.edge.config.check_allo))
            .tracked(self.edge.registry.tasks().token());
        let number = self.session.offer(job);
        self.link()?.start_transfer(number).await?;

        let in_flight = &self.edge.metrics.transfers_in_flight;
        let _in_flight = InUse::one_of(in_flight, order.kind.direction());
        // What is announced of a text may be its size with other line ends.
        let proof = announced.filter(|_| !self.is_text);
        let running = Running::new(transfer, order.path, data, proof, self.encrypts_data());
        self.run_transfer(running, verb).await
    }

    fn order(&self, transfer: TransferVerb, argument: &[u8], restart: u64) -> Result<Order, Reply> {
        let kind = match transfer {
            TransferVerb::Retr => TransferKind::Retrieve { offset: restart },
            TransferVerb::Stor if restart > 0 => TransferKind::Store(StoreMode::RestartAt(restart)),
            TransferVerb::Stor => TransferKind::Store(StoreMode::Replace),
            TransferVerb::Stou => TransferKind::Store(StoreMode::Unique),
            TransferVerb::Appe => TransferKind::Store(StoreMode::Append),
            TransferVerb::List(format) => TransferKind::List(format),
        };
        let argument = match transfer {
            TransferVerb::List(ListFormat::Long | ListFormat::Names) => without_options(argument),
            TransferVerb::Stou if argument.is_empty() => b"ftp",
            _ => argument,
        };
        Ok(Order {
            kind,
            path: match kind {
                TransferKind::List(_) => self.path(argument)?,
                TransferKind::Retrieve { .. } => self.file_path(argument, 550)?,
                TransferKind::Store(_) => self.file_path(argument, 553)?,
            },
            named: self
                .session
                .decode(argument)
                .unwrap_or_default()
                .into_owned(),
        })
    }

    async fn run_transfer(
        &mut self,
        mut running: Running,
        verb: &'static str,
    ) -> Result<Next, End> {
        let mut last_word = self.until_reported(&mut running).await?;
        let mut report = self.last_report(&mut running, last_word.as_ref());
        if report.failure.is_none() && running.has_quit_early() {
            report.outcome = Outcome::QUIT_BEFORE_REPLY;
        }
        let reply = last_reply(&running, &report);
        self.record(&running, &report, verb, &reply);
        self.conclude(&mut running, verb, reply).await?;
        // The client need not wait for libunftp to come to its end as well, but its next command does.
        if last_word.is_none() {
            last_word = self.last_word().await?;
        }
        match last_word {
            Some(_) => Ok(Next::Command),
            // The storage has said all, libunftp nothing: the line between them is out of step.
            None => Err(End::Said(Reply::new(
                421,
                "Internal error, please log in again",
            ))),
        }
    }

    /// Until the storage has reported; or else up to libunftp's last word, which is then returned.
    async fn until_reported(&mut self, running: &mut Running) -> Result<Option<Reply>, End> {
        while running.report.is_none() {
            match self.happens(running).await? {
                Happened::Ended(reply) => return Ok(Some(reply)),
                Happened::Silent => break,
                Happened::Event(event) => self.on_event(running, event).await,
                Happened::Connected(stream) => self.on_connected(running, stream).await,
                Happened::Secured(ended) => self.on_secured(running, ended),
                Happened::Line(line) => self.on_line(running, line).await,
                Happened::Settled => self.settle(running).await,
                Happened::Cancelled => running.transfer.abort(Abort::Shutdown),
                Happened::Lapsed => running.transfer.abort(Abort::LoginLapsed),
            }
            // Lines that are only noted cost no budget of the runtime's: others have to get their turn, the
            // storage of this transfer among them.
            tokio::task::consume_budget().await;
        }
        Ok(None)
    }

    async fn last_word(&mut self) -> Result<Option<Reply>, End> {
        match last_word(self.link()?, State::Done).await? {
            Happened::Ended(reply) => Ok(Some(reply)),
            _ => Ok(None),
        }
    }

    /// Waits for whatever comes first.
    async fn happens(&mut self, running: &mut Running) -> Result<Happened, End> {
        let uploads = matches!(running.transfer.kind(), TransferKind::Store(_));
        let client_speaks = uploads || self.encrypts_data();
        let Self {
            edge,
            session,
            connection,
            link,
            standing,
            ..
        } = self;
        let link = link
            .as_mut()
            .ok_or_else(|| End::Said(Reply::new(421, "No session")))?;
        let may_listen = running.lost.is_none();
        let cancelled = session.cancelled();
        let ends_at_once = edge.config.on_removal == OnRemoval::Abort;
        let state = running.state;
        let settled = running.settling.as_ref().map(Settling::until);
        let expected = expected(edge, session, client_speaks, running.connect_until);
        let (data, candidates) = (&mut running.data, &mut running.candidates);
        Ok(tokio::select! {
            biased;
            event = running.transfer.event(), if state != State::Done => Happened::Event(event),
            () = cancelled.cancelled(), if !running.transfer.is_aborted() => Happened::Cancelled,
            _ = lapsed(standing.as_deref()), if ends_at_once && !running.transfer.is_aborted() => {
                Happened::Lapsed
            }
            // Lines that keep coming can't put it off; those that have come are read before it counts.
            () = until(settled) => Happened::Settled,
            line = connection.line(), if may_listen => Happened::Line(line),
            happened = data_connection(state, data, candidates, &expected) => happened,
            reply = last_word(link, state) => reply?,
        })
    }

    async fn on_event(&mut self, running: &mut Running, event: Option<Event>) {
        match event {
            Some(Event::Opened { unique }) => {
                running.unique = unique;
                running.state = State::Connecting;
                running.connect_until = Instant::now() + self.edge.patience(&running.data);
            }
            Some(Event::Commit { ended, grant }) => {
                self.begin_settling(running, ended, grant).await;
            }
            None => {
                running.state = State::Done;
                running.report = running.transfer.take_report();
            }
        }
    }

    /// The commit barrier's look at the control connection: everything that the kernel holds.
    pub(super) async fn drain_control(&mut self, running: &mut Running) {
        for _ in 0..MAX_DRAINED {
            if running.lost.is_some() {
                return;
            }
            let Some(line) = self.connection.arrived() else {
                return;
            };
            self.on_line(running, line).await;
        }
        self.on_lost(running, Lost::TooFarAhead);
    }

    /// Gives the client's stream to the storage, no faster than it may move.
    pub(super) fn hand_over(&self, running: &mut Running, stream: DataStream) {
        let kind = running.transfer.kind();
        let stream = self.edge.bandwidth.throttled(&self.rates, kind, stream);
        running.state = State::Moving;
        running.transfer.connect(stream);
    }

    async fn on_line(&mut self, running: &mut Running, line: Result<Line, Lost>) {
        let line = match line {
            Ok(line) => line,
            Err(lost) => return self.on_lost(running, lost),
        };
        // Before the 150, and behind others that wait, an answer would be taken for another's.
        let at_once = running.has_begun() && self.waiting.is_empty();
        let answered = match During::of(&line) {
            During::Abor if running.aborts < MAX_ABORTS => {
                running.aborts += 1;
                running.transfer.abort(Abort::ClientAbort);
                Ok(())
            }
            During::Noop if at_once => {
                let reply = Reply::new(200, "Still at it");
                self.send_counted("NOOP", reply).await
            }
            During::Stat if at_once => {
                let status = self.status(Some(running.status()));
                self.send_counted("STAT", status).await
            }
            during if has_room(&self.waiting) => {
                if during == During::Quit {
                    running.on_quit();
                }
                self.waiting.push_back(line);
                Ok(())
            }
            _ => Err(Lost::TooFarAhead),
        };
        if let Err(lost) = answered {
            self.on_lost(running, lost);
        }
    }

    async fn send_counted(&mut self, verb: &'static str, reply: Reply) -> Result<(), Lost> {
        self.count(verb, &reply);
        self.send(&reply).await
    }

    /// The control connection is gone: so is the transfer, unless the client had left in an orderly way or
    /// the operator wants such uploads kept.
    pub(super) fn on_lost(&mut self, running: &mut Running, lost: Lost) {
        tracing::debug!(
            session = %self.session.id(),
            reason = lost.reason(),
            "control connection lost during a transfer"
        );
        running.lost = Some(lost);
        if running.is_orphaned(self.edge.config.on_control_loss) {
            running.transfer.abort(Abort::ControlLost);
        }
    }

    /// The storage's report; without one, what libunftp said.
    fn last_report(&self, running: &mut Running, last_word: Option<&Reply>) -> Report {
        let failure = self.session.take_failure();
        // A job that nobody took must not be found by the next command.
        drop(self.session.take_job());
        let report = running.report.take();
        let report = report.or_else(|| running.transfer.take_report());
        report.unwrap_or_else(|| {
            tracing::error!(session = %self.session.id(), ?last_word, "a transfer without a report");
            let abort = Abort::Internal;
            Report {
                bytes: running.transfer.bytes(),
                outcome: abort.outcome(),
                failure: failure.or_else(|| Some(abort.failure())),
                crc64nvme: None,
            }
        })
    }

    /// Says how it ended, and answers the ABORs that ended it.
    async fn conclude(
        &mut self,
        running: &mut Running,
        verb: &'static str,
        reply: Reply,
    ) -> Result<(), End> {
        self.count(verb, &reply);
        if let Some(lost) = running.lost.take() {
            return Err(End::Lost(lost));
        }
        self.send(&reply).await?;
        for _ in 0..running.aborts {
            self.reply("ABOR", Reply::new(226, "Abort done")).await?;
        }
        Ok(())
    }
}

/// The end of a wait, if there is one.
async fn until(settled: Option<Instant>) {
    match settled {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// libunftp's last reply. Once the storage is done it has to come soon.
async fn last_word(link: &mut Link, state: State) -> Result<Happened, End> {
    let reply = link.transfer_reply();
    if state != State::Done {
        return Ok(Happened::Ended(reply.await?));
    }
    match tokio::time::timeout(LAST_WORD, reply).await {
        Ok(reply) => Ok(Happened::Ended(reply?)),
        Err(_) => Ok(Happened::Silent),
    }
}

/// `LIST -la name`: options as `ls` has them are taken off, whatever they ask for. `MLSD` and `MLST` have none.
pub(super) fn without_options(mut argument: &[u8]) -> &[u8] {
    loop {
        let argument_end = argument.iter().position(|byte| *byte == b' ');
        let (first, rest) = match argument_end {
            Some(end) => (&argument[..end], &argument[end + 1..]),
            None => (argument, &argument[argument.len()..]),
        };
        match first {
            [b'-', options @ ..] if options.iter().all(u8::is_ascii_alphanumeric) => {
                argument = rest;
            }
            _ => return argument,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_ls_are_no_path() {
        assert_eq!(without_options(b"-la"), b"");
        assert_eq!(without_options(b"-a -l in out"), b"in out");
        assert_eq!(without_options(b"in -l"), b"in -l");
        assert_eq!(without_options(b"-dash.txt"), b"-dash.txt");
        assert_eq!(without_options(b""), b"");
    }
}
