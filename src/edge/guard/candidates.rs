//! Who has connected to the port of one transfer, under TLS: its client, and maybe others at the client's address.
//!
//! The first to connect need not be the client. So the port stays open until one has proven to be: who resumes the control
//! connection's TLS session, or shows its certificate. Who is refused takes nothing from the others.
//!
//! Where no proof is required, and a client has never given one, whoever is alone is taken for it. Of several without proof
//! none is. Where the client has given proof before, nobody without is taken as long as others are there.

use std::time::Duration;

use futures::future::{BoxFuture, select_all};
use tokio::time::Instant;

use crate::session::{Abort, DataStream};

use super::super::buffers::Buffers;
use super::super::descriptors::Permit;
use super::super::ending::Ending;
use super::super::tls::{Accepted, HandshakeError};

/// So many may be asked at once. One more waits in the port's queue, and the oldest gives way to it.
const MAX_CANDIDATES: usize = 16;

/// After this time one that has proven nothing gives way to others.
const HESITATION: Duration = Duration::from_secs(2);

/// After a refusal the next one is looked at so much later: a handshake costs a millisecond of a core.
const PACE: Duration = Duration::from_millis(20);

/// So long one without proof waits where others have connected, of a client that has never given any. It is also how long
/// the port stays open after a handshake that failed, where nobody else has come.
const CONTEST: Duration = Duration::from_secs(1);

/// So long one without proof waits alone, where the client has given proof before.
const ABSENCE: Duration = Duration::from_millis(250);

/// What a handshake came to; `None` if it took too long.
pub(super) type Handshaken = Option<Result<Accepted, HandshakeError>>;

/// The connections to one port.
#[derive(Default)]
pub(super) struct Candidates {
    handshaking: Vec<Candidate>,
    held: Option<Held>,
    /// Two have given no proof: from now on only proof counts.
    is_contested: bool,
    /// How the last one was refused.
    refused: Option<Abort>,
    next_from: Option<Instant>,
    /// No other is waited for, from then on.
    until: Option<Instant>,
    /// No other can come.
    is_closed: bool,
}

/// A connection whose handshake goes on.
pub(super) struct Candidate {
    pub(super) arrived: Instant,
    pub(super) handshake: BoxFuture<'static, Handshaken>,
    /// The end of an upload's data connection.
    pub(super) ending: Option<Ending>,
    /// The client has said `QUIT`, and this connection had ended by then.
    pub(super) ended_before_quit: bool,
    /// What it takes, but for the first one, which takes what is the transfer's.
    pub(super) place: Option<(Permit, Buffers)>,
}

/// One that is encrypted, and has given no proof.
struct Held {
    since: Instant,
    /// The client has given proof before.
    resumes: bool,
    connection: Connection,
}

/// An encrypted data connection.
pub(super) struct Connection {
    pub(super) stream: DataStream,
    pub(super) ending: Option<Ending>,
    pub(super) ended_before_quit: bool,
    pub(super) is_proven: bool,
    /// Kept as long as others could come.
    _place: Option<(Permit, Buffers)>,
}

/// What happened to one of them.
pub(super) enum Ended {
    Handshake(Box<(Handshaken, Candidate)>),
    /// Nobody has contested it.
    Uncontested(Connection),
}

/// What becomes of the transfer.
pub(super) enum Judged {
    /// It has its data connection.
    Taken(Connection),
    /// Others may come.
    Waits,
    /// None of them was the client's, and no other can come.
    Failed(Abort),
}

impl Candidates {
    /// One more has connected.
    pub(super) fn add(&mut self, candidate: Candidate) {
        if !self.has_room() {
            self.handshaking.remove(0);
        }
        self.until = None;
        self.handshaking.push(candidate);
    }

    /// Whether one more need not push out another.
    pub(super) fn has_room(&self) -> bool {
        self.handshaking.len() < MAX_CANDIDATES
    }

    /// From when on another may connect.
    pub(super) fn next_from(&self) -> Option<Instant> {
        let oldest = self.handshaking.first().filter(|_| !self.has_room());
        let room = oldest.map(|oldest| oldest.arrived + HESITATION);
        room.max(self.next_from)
    }

    /// Until when others may come, at the latest by `deadline`.
    pub(super) fn until(&self, deadline: Instant) -> Instant {
        self.until.map_or(deadline, |until| until.min(deadline))
    }

    /// The client has said `QUIT`.
    pub(super) fn on_quit(&mut self) {
        let has_ended = |ending: &Option<Ending>| ending.as_ref().is_some_and(Ending::has_come);
        for candidate in &mut self.handshaking {
            candidate.ended_before_quit = has_ended(&candidate.ending);
        }
        if let Some(Held { connection, .. }) = &mut self.held {
            connection.ended_before_quit = has_ended(&connection.ending);
        }
    }

    /// The port is closed.
    pub(super) fn close(&mut self) -> Judged {
        self.is_closed = true;
        let is_alone = self.handshaking.is_empty();
        if self
            .held
            .take_if(|held| held.resumes && !is_alone)
            .is_some()
        {
            self.refused = Some(Abort::NotResumed);
        }
        self.what_is_left()
    }

    /// Waits until something has become of one. Safe to cancel.
    pub(super) async fn next(&mut self) -> Ended {
        let held_until = self.held_until();
        let uncontested = async {
            match held_until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            (handshaken, index) = finished(&mut self.handshaking) => {
                Ended::Handshake(Box::new((handshaken, self.handshaking.remove(index))))
            }
            () = uncontested => match self.held.take() {
                Some(held) => Ended::Uncontested(held.connection),
                None => std::future::pending().await,
            },
        }
    }

    fn held_until(&self) -> Option<Instant> {
        let held = self.held.as_ref()?;
        let patience = match (held.resumes, self.handshaking.is_empty()) {
            (true, true) => ABSENCE,
            (true, false) => return None,
            (false, true) => Duration::ZERO,
            (false, false) => CONTEST,
        };
        Some(held.since + patience)
    }

    /// One has gone through its handshake. `resumes` says that the client has given proof before.
    pub(super) fn secured(
        &mut self,
        accepted: Accepted,
        candidate: Candidate,
        resumes: bool,
    ) -> Judged {
        let connection = Connection {
            stream: accepted.stream,
            ending: candidate.ending,
            ended_before_quit: candidate.ended_before_quit,
            is_proven: accepted.is_proven,
            _place: candidate.place,
        };
        if connection.is_proven {
            return Judged::Taken(connection);
        }
        if self.held.take().is_some() {
            self.is_contested = true;
        }
        if self.is_contested {
            // Which of them is the client's nobody can tell.
            return self.refused(Abort::NotResumed);
        }
        let is_alone = self.handshaking.is_empty();
        if is_alone && (!resumes || self.is_closed) {
            return Judged::Taken(connection);
        }
        self.held = Some(Held {
            since: Instant::now(),
            resumes,
            connection,
        });
        Judged::Waits
    }

    /// One was not the client's, or has failed.
    pub(super) fn refused(&mut self, abort: Abort) -> Judged {
        let now = Instant::now();
        self.refused = Some(abort);
        self.next_from = Some(now + PACE);
        // Probably it was the client's.
        if abort == Abort::HandshakeFailed && self.handshaking.is_empty() {
            self.until = Some(now + CONTEST);
        }
        self.what_is_left()
    }

    fn what_is_left(&self) -> Judged {
        if !self.is_closed || !self.handshaking.is_empty() || self.held.is_some() {
            return Judged::Waits;
        }
        Judged::Failed(self.refused.unwrap_or(Abort::NoDataConnection))
    }
}

/// The first handshake that ends, and whose it is.
async fn finished(handshaking: &mut [Candidate]) -> (Handshaken, usize) {
    if handshaking.is_empty() {
        return std::future::pending().await;
    }
    let all = handshaking
        .iter_mut()
        .map(|candidate| &mut candidate.handshake);
    let (handshaken, index, _) = select_all(all).await;
    (handshaken, index)
}
