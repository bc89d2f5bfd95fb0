//! Who may connect for a transfer, and the wait for it.

use tokio::time::Instant;

use crate::session::Session;

use super::super::data::{Arranged, Expected};
use super::super::shared::Edge;
use super::candidates::Candidates;
use super::progress::{Happened, State};

/// Who may connect, and until when. `client_speaks` says that it sends something.
pub(super) fn expected<'a>(
    edge: &'a Edge,
    session: &Session,
    client_speaks: bool,
    until: Instant,
) -> Expected<'a> {
    Expected {
        peer: session.peer().ip(),
        trusted: &edge.config.passive.trusted_networks,
        proxies: &edge.proxies,
        client_speaks,
        until,
        metrics: &edge.metrics,
        lines: &edge.lines,
    }
}

/// Turns strangers away from the port of a transfer that is still to come. It has no end, and is safe to cancel.
pub(super) async fn turn_away(data: &mut Option<Arranged>, expected: &Expected<'_>) {
    match data {
        Some(data) => data.turn_away(expected).await,
        None => std::future::pending().await,
    }
}

/// The data connection as it comes about. While the store opens the object, the port is watched as before the verb: a
/// client that has connected keeps its port longest.
pub(super) async fn data_connection(
    state: State,
    data: &mut Arranged,
    candidates: &mut Candidates,
    expected: &Expected<'_>,
) -> Happened {
    match state {
        State::Connecting => Happened::Connected(data.establish(expected).await),
        State::Securing => {
            let next_from = candidates.next_from();
            let may_come = data.is_passive();
            let another = async {
                if let Some(next_from) = next_from {
                    tokio::time::sleep_until(next_from).await;
                }
                data.establish(expected).await
            };
            let until = candidates.until(expected.until);
            tokio::select! {
                biased;
                ended = candidates.next() => Happened::Secured(ended),
                // Others that keep coming can't put it off.
                () = tokio::time::sleep_until(until), if may_come => {
                    Happened::Connected(Err(std::io::ErrorKind::TimedOut.into()))
                }
                another = another, if may_come => Happened::Connected(another),
            }
        }
        State::Opening => {
            data.turn_away(expected).await;
            std::future::pending().await
        }
        State::Moving | State::Done => std::future::pending().await,
    }
}
