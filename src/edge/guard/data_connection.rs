//! How a transfer comes to its data connection: who connects, who is told 150, and under TLS, who is the client.

use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;

use crate::ftp::Reply;
use crate::session::Abort;

use super::super::proxy_protocol::DataSocket;
use super::super::tls::DataTls;
use super::Guard;
use super::arriving::expected;
use super::candidates::{Candidate, Candidates, Connection, Ended, Judged};
use super::progress::State;
use super::running::Running;

/// So long the handshake of one that came last may go on after the port is closed.
const LATECOMERS: Duration = Duration::from_secs(2);

impl Guard {
    pub(super) async fn on_connected(
        &mut self,
        running: &mut Running,
        stream: std::io::Result<DataSocket>,
    ) {
        if running.state == State::Securing {
            return self.on_another(running, stream);
        }
        let without = if running.data.is_taken_back() {
            Abort::PortTakenBack
        } else {
            Abort::NoDataConnection
        };
        let stays_open = self.encrypts_data() && !running.data.is_active();
        let with_its_end = stream.and_then(|stream| {
            running.data.bound(&stream, running.flow())?;
            running.with_its_end(stream)
        });
        let way = if stays_open && with_its_end.is_ok() {
            None
        } else {
            Some(running.data.free())
        };
        let (stream, ending) = match with_its_end {
            Ok(connected) => connected,
            Err(error) => {
                if let Some(way) = way {
                    way.log_failure(&self.edge.lines, &self.session, &error);
                }
                return running.fail(without);
            }
        };
        // The port is free before the client hears of it.
        drop(way);
        let opening = Reply::new(150, running.opening());
        let session = self.session.id();
        tracing::debug!(%session, path = running.target().as_str(), "transfer begins");
        if let Err(lost) = self.send(&opening).await {
            self.on_lost(running, lost);
        }
        // Clients begin their handshake only after the 150.
        if self.encrypts_data() {
            running.state = State::Securing;
            let until = Instant::now() + self.edge.config.passive.accept_timeout;
            let kind = running.transfer.kind();
            if let Some(first) = self.handshake(kind, stream, ending, until) {
                running.candidates.add(first);
            }
            if !stays_open {
                let judged = running.candidates.close();
                self.on_judged(running, judged);
            }
        } else {
            running.ending = ending;
            self.hand_over(running, Box::new(stream));
        }
    }

    /// One more has connected to the port of a transfer, or no other can.
    fn on_another(&self, running: &mut Running, stream: std::io::Result<DataSocket>) {
        let Ok(stream) = stream else {
            drop(running.data.free());
            let judged = running.candidates.close();
            return self.on_judged(running, judged);
        };
        // Where descriptors or memory are short, it is closed.
        let Some(permit) = self.edge.descriptors.one() else {
            return;
        };
        let Some(buffers) = self.edge.socket_memory.candidate() else {
            return;
        };
        let bounded = buffers.apply(stream.tcp(), running.flow());
        // One that is gone already is no loss.
        if let Ok((stream, ending)) = bounded.and_then(|()| running.with_its_end(stream)) {
            let (kind, until) = (running.transfer.kind(), running.connect_until + LATECOMERS);
            if let Some(candidate) = self.handshake(kind, stream, ending, until) {
                running.candidates.add(Candidate {
                    place: Some((permit, buffers)),
                    ..candidate
                });
            }
        }
    }

    pub(super) fn on_secured(&self, running: &mut Running, ended: Ended) {
        let judged = match ended {
            Ended::Uncontested(connection) => Judged::Taken(connection),
            Ended::Handshake(ended) => {
                let (handshaken, candidate) = *ended;
                match self.note_handshake(handshaken) {
                    Ok(accepted) => {
                        self.accept_queued(running);
                        let tls = self.protection.control.as_ref();
                        let resumes = tls.is_some_and(DataTls::resumes);
                        running.candidates.secured(accepted, candidate, resumes)
                    }
                    Err(abort) => running.candidates.refused(abort),
                }
            }
        };
        self.on_judged(running, judged);
    }

    /// Whoever has connected by now has a say in whose data connection it is.
    fn accept_queued(&self, running: &mut Running) {
        while running.candidates.has_room() {
            let until = running.connect_until;
            let expected = expected(&self.edge, &self.session, true, until);
            let Some(Ok(stream)) = running.data.establish(&expected).now_or_never() else {
                return;
            };
            self.on_another(running, Ok(stream));
        }
    }

    fn on_judged(&self, running: &mut Running, judged: Judged) {
        match judged {
            Judged::Waits => {}
            Judged::Failed(abort) => {
                drop(running.data.free());
                running.fail(abort);
            }
            Judged::Taken(connection) => self.take(running, connection),
        }
    }

    /// The client has its data connection; the others are closed.
    fn take(&self, running: &mut Running, connection: Connection) {
        drop(running.data.free());
        running.candidates = Candidates::default();
        if let Some(tls) = &self.protection.control {
            tls.note_taken(connection.is_proven);
        }
        running.ending = connection.ending;
        if connection.ended_before_quit {
            running.on_quit();
        }
        self.hand_over(running, connection.stream);
    }
}
