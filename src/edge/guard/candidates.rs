//! Who has connected to the port of one transfer, under TLS: its client, and maybe others at the client's address.
//!
//! The first to connect need not be the client. So the port stays open until one has proven to be: who resumes the control
//! connection's TLS session, or shows its certificate. Who is refused takes nothing from the others.
//!
//! Where no proof is required, and a client gives none, whoever is alone is taken for it. Of several without proof none is.

use std::time::Duration;

use futures::future::{BoxFuture, select_all};
use tokio::time::Instant;

use crate::session::{Abort, DataStream};

use super::super::descriptors::Permit;
use super::super::ending::Ending;
use super::super::tls::{Accepted, HandshakeError};

/// So many may be asked at once. One more waits in the port's queue, and the oldest gives way to it.
const MAX_CANDIDATES: usize = 16;

/// After this time one that has proven nothing gives way to others.
const HESITATION: Duration = Duration::from_secs(2);

/// After a refusal the next one is looked at so much later: a handshake costs a millisecond of a core.
const PACE: Duration = Duration::from_millis(20);

/// So long one without proof waits where others have connected.
const CONTEST: Duration = Duration::from_secs(1);

/// The same where nobody else has, but the client has given proof on its data connections so far.
const ABSENCE: Duration = Duration::from_millis(250);

/// What a handshake came to; `None` if it took too long.
pub(super) type Handshaken = Option<Result<Accepted, HandshakeError>>;

/// The connections to one port.
#[derive(Default)]
pub(super) struct Candidates {
    handshaking: Vec<Candidate>,
    held: Option<Held>,
    /// How the last one was refused.
    refused: Option<Abort>,
    next_from: Option<Instant>,
    /// No other can come.
    is_closed: bool,
}

/// A connection whose handshake goes on.
pub(super) struct Candidate {
    pub(super) arrived: Instant,
    pub(super) handshake: BoxFuture<'static, Handshaken>,
    /// The end of an upload's data connection.
    pub(super) ending: Option<Ending>,
    /// Its descriptor, but for the first one's, which belongs to the transfer.
    pub(super) permit: Option<Permit>,
}

/// One that is encrypted, and has given no proof.
struct Held {
    until: Instant,
    connection: Connection,
}

/// An encrypted data connection.
pub(super) struct Connection {
    pub(super) stream: DataStream,
    pub(super) ending: Option<Ending>,
    pub(super) is_proven: bool,
    /// Kept as long as others could come.
    _permit: Option<Permit>,
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
        if self.handshaking.len() >= MAX_CANDIDATES {
            self.handshaking.remove(0);
        }
        self.handshaking.push(candidate);
    }

    /// From when on another may connect.
    pub(super) fn next_from(&self) -> Option<Instant> {
        let room = match self.handshaking.first() {
            Some(oldest) if self.handshaking.len() >= MAX_CANDIDATES => {
                Some(oldest.arrived + HESITATION)
            }
            _ => None,
        };
        room.max(self.next_from)
    }

    /// The port is closed.
    pub(super) fn close(&mut self) -> Judged {
        self.is_closed = true;
        self.what_is_left()
    }

    /// Waits until something has become of one. Safe to cancel.
    pub(super) async fn next(&mut self) -> Ended {
        let contest_ends = self.held.as_ref().map(|held| held.until);
        let contest = async {
            match contest_ends {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            (handshaken, index) = finished(&mut self.handshaking) => {
                Ended::Handshake(Box::new((handshaken, self.handshaking.remove(index))))
            }
            () = contest => match self.held.take() {
                Some(held) => Ended::Uncontested(held.connection),
                None => std::future::pending().await,
            },
        }
    }

    /// One has gone through its handshake. `resumes` says that the client's data connections have given proof so far.
    pub(super) fn secured(
        &mut self,
        accepted: Accepted,
        candidate: Candidate,
        resumes: bool,
    ) -> Judged {
        let connection = Connection {
            stream: accepted.stream,
            ending: candidate.ending,
            is_proven: accepted.is_proven,
            _permit: candidate.permit,
        };
        if connection.is_proven {
            return Judged::Taken(connection);
        }
        if self.held.take().is_some() {
            // Which of the two is the client's nobody can tell.
            return self.refused(Abort::NotResumed);
        }
        let is_alone = self.handshaking.is_empty();
        if is_alone && (!resumes || self.is_closed) {
            return Judged::Taken(connection);
        }
        let patience = if is_alone { ABSENCE } else { CONTEST };
        self.held = Some(Held {
            until: Instant::now() + patience,
            connection,
        });
        Judged::Waits
    }

    /// One was not the client's, or has failed.
    pub(super) fn refused(&mut self, abort: Abort) -> Judged {
        self.refused = Some(abort);
        self.next_from = Some(Instant::now() + PACE);
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
