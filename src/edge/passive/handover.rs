//! What was in the queue of a passive port when it was taken back.
//!
//! Promises: a connection of the port's holder that the kernel had by then stays, in whatever the holder's task is busy.
//! One that comes in the instant between is reset, as one that comes later is refused.
//! Bounded: one connection of the holder's own origin, or else [`MAX_QUEUED`], which may be those of proxies.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use crate::auth::Origin;

/// Most connections of other origins that are handed over. Each is a descriptor.
const MAX_QUEUED: usize = 4;

type Queued = (TcpStream, SocketAddr);

/// `None` until the port is taken back.
#[derive(Debug, Default)]
pub(super) struct Handover(Mutex<Option<VecDeque<Queued>>>);

impl Handover {
    /// Empties the queue of a port that is about to be closed, and keeps for [`Self::next`] what may be its holder's.
    pub(super) fn begin(&self, listener: &TcpListener, holder: Origin) {
        let mut queued: VecDeque<_> = std::iter::from_fn(|| accept_queued(listener)).collect();
        let is_own = |(_, peer): &Queued| Origin::from(peer.ip()) == holder;
        // Strangers may have come first, and as many as the queue holds.
        if let Some(own) = queued.iter().position(is_own) {
            queued.swap(0, own);
            queued.truncate(1);
        }
        queued.truncate(MAX_QUEUED);
        *self.lock() = Some(queued);
    }

    /// The next connection that was handed over.
    pub(super) fn next(&self) -> Option<Queued> {
        let next = self.lock().as_mut()?.pop_front()?;
        // One that is gone already is no loss.
        let _ = SockRef::from(&next.0).set_linger(None);
        Some(next)
    }

    /// Whether the port is another's, and nothing is left of its queue.
    pub(super) fn is_over(&self) -> bool {
        self.lock().as_ref().is_some_and(VecDeque::is_empty)
    }

    /// Every change under this lock is complete before anything in it can panic.
    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<Queued>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that the kernel has already. It is reset if nobody takes it.
fn accept_queued(listener: &TcpListener) -> Option<Queued> {
    loop {
        match SockRef::from(listener).accept() {
            Ok((socket, peer)) => {
                let peer = peer.as_socket()?;
                socket.set_nonblocking(true).ok()?;
                socket.set_linger(Some(Duration::ZERO)).ok()?;
                return Some((TcpStream::from_std(socket.into()).ok()?, peer));
            }
            // The client has given that one up.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => return None,
        }
    }
}
