//! Whose ticket it is.
//!
//! A data connection is known to be the client's by resuming the TLS session of its control connection. So
//! every ticket carries a number that only its control connection has, and on data connections the tickets of
//! others count for nothing. (rustls has a place for such data of its own, but tells it under TLS 1.3 only.)
//!
//! A ticket is written before its connection is known to be the client's: a stranger at a data port has one by the time it
//! is refused. So each ticket also carries the serial of the connection that it was written for, and counts only if that
//! one has proven to be the client's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::server::{ProducesTickets, StoresServerSessions};

/// The last connections of a client that have proven to be its own, and on which it was given tickets. A connection counts
/// as new again when its ticket is used.
const MAX_PROVEN: usize = 64;

/// A client that has given proof before may have none for so many data connections: some keep few tickets.
const MAX_DOUBTS: u32 = 3;

/// What is written into a ticket: the number of its control connection, and its own serial.
const TIE: usize = size_of::<u128>() + size_of::<u64>();

/// A control connection and its data connections; clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Family {
    number: u128,
    serials: Arc<Mutex<Serials>>,
}

#[derive(Debug, Default)]
struct Serials {
    next: u64,
    /// Those of data connections that have proven to be the client's, the latest last.
    proven: VecDeque<u64>,
    /// So many more data connections without proof, one after the other, and the client is one that gives none.
    doubts_left: u32,
}

impl Serials {
    /// Whether a connection has proven to be the client's. One whose ticket is in use stays.
    fn knows(&mut self, serial: u64) -> bool {
        let is_proven = self.proven.contains(&serial);
        if is_proven {
            self.remember(serial);
        }
        is_proven
    }

    fn remember(&mut self, serial: u64) {
        self.proven.retain(|proven| *proven != serial);
        if self.proven.len() == MAX_PROVEN {
            self.proven.pop_front();
        }
        self.proven.push_back(serial);
    }
}

/// The control connection's. Whoever has its ticket is the client.
const CONTROL: u64 = 0;

impl Family {
    /// That of a new control connection.
    pub(super) fn new() -> Self {
        Self {
            number: rand::random(),
            serials: Arc::default(),
        }
    }

    /// The control connection.
    pub(super) fn control(&self) -> Binding {
        self.with(CONTROL)
    }

    /// A new data connection.
    pub(super) fn data(&self) -> Binding {
        let mut serials = self.serials();
        serials.next += 1;
        self.with(serials.next)
    }

    /// Whether the client is one whose data connections prove to be its own.
    pub(super) fn resumes(&self) -> bool {
        self.serials().doubts_left > 0
    }

    /// A data connection was taken for the client's.
    pub(super) fn note_taken(&self, is_proven: bool) {
        let doubts_left = &mut self.serials().doubts_left;
        *doubts_left = if is_proven {
            MAX_DOUBTS
        } else {
            doubts_left.saturating_sub(1)
        };
    }

    fn with(&self, serial: u64) -> Binding {
        Binding {
            family: self.clone(),
            serial,
            has_issued: Arc::default(),
        }
    }

    fn serials(&self) -> MutexGuard<'_, Serials> {
        self.serials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection.
#[derive(Debug, Clone)]
pub(super) struct Binding {
    family: Family,
    serial: u64,
    /// A ticket was written for it.
    has_issued: Arc<AtomicBool>,
}

impl Binding {
    /// The connection is the client's: from now on its tickets count.
    pub(super) fn prove(&self) {
        if self.has_issued.load(Ordering::Relaxed) {
            self.family.serials().remember(self.serial);
        }
    }

    fn written(&self) -> [u8; TIE] {
        self.has_issued.store(true, Ordering::Relaxed);
        let mut tie = [0; TIE];
        let (number, serial) = tie.split_at_mut(size_of::<u128>());
        number.copy_from_slice(&self.family.number.to_be_bytes());
        serial.copy_from_slice(&self.serial.to_be_bytes());
        tie
    }

    /// Whether a ticket is of the same control connection, and was given to the client.
    fn owns(&self, tie: &[u8; TIE]) -> bool {
        let Some((number, serial)) = tie.split_first_chunk() else {
            return false;
        };
        let Some(serial) = serial.first_chunk() else {
            return false;
        };
        let serial = u64::from_be_bytes(*serial);
        u128::from_be_bytes(*number) == self.family.number
            && (serial == CONTROL || self.family.serials().knows(serial))
    }
}

/// Tickets and remembered sessions of one connection.
#[derive(Debug)]
pub(super) struct Bound<T: ?Sized> {
    pub(super) inner: Arc<T>,
    pub(super) binding: Binding,
    pub(super) takes: Takes,
}

/// Which sessions can be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Those of any control connection.
    Any,
    /// Those of this one, and of its data connections that have proven to be the client's.
    Own,
    /// None.
    Nothing,
}

impl<T: ?Sized> Bound<T> {
    fn tie(&self, session: &[u8]) -> Vec<u8> {
        [session, &self.binding.written()].concat()
    }

    fn untie(&self, mut session: Vec<u8>) -> Option<Vec<u8>> {
        let (_, tie) = session.split_last_chunk::<TIE>()?;
        let taken = match self.takes {
            Takes::Any => true,
            Takes::Own => self.binding.owns(tie),
            Takes::Nothing => false,
        };
        if !taken {
            return None;
        }
        session.truncate(session.len() - TIE);
        Some(session)
    }
}

impl ProducesTickets for Bound<dyn ProducesTickets> {
    fn enabled(&self) -> bool {
        self.inner.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.inner.lifetime()
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.inner.encrypt(&self.tie(session))
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.untie(self.inner.decrypt(ticket)?)
    }
}

/// For clients of TLS 1.2 that know no tickets.
impl StoresServerSessions for Bound<dyn StoresServerSessions> {
    fn put(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        self.inner.put(id, self.tie(&session))
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.untie(self.inner.get(id)?)
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.untie(self.inner.take(id)?)
    }

    fn can_cache(&self) -> bool {
        self.inner.can_cache()
    }
}

#[cfg(test)]
mod tests {
    use rustls::server::ServerSessionMemoryCache;

    use super::*;

    fn bound(
        inner: &Arc<dyn StoresServerSessions>,
        binding: Binding,
        takes: Takes,
    ) -> Bound<dyn StoresServerSessions> {
        Bound {
            inner: Arc::clone(inner),
            binding,
            takes,
        }
    }

    #[test]
    fn a_session_is_taken_by_its_own_and_by_those_who_take_any() {
        let inner: Arc<dyn StoresServerSessions> = ServerSessionMemoryCache::new(10);
        let (family, stranger) = (Family::new(), Family::new());
        let control = bound(&inner, family.control(), Takes::Any);
        let own = bound(&inner, family.data(), Takes::Own);
        let other = bound(&inner, stranger.control(), Takes::Own);
        assert!(control.put(b"id".to_vec(), b"session".to_vec()));
        assert_eq!(own.get(b"id").unwrap(), b"session");
        assert_eq!(other.get(b"id"), None);
        let any = bound(&inner, stranger.control(), Takes::Any);
        assert_eq!(any.get(b"id").unwrap(), b"session");
        let none = bound(&inner, family.control(), Takes::Nothing);
        assert_eq!(none.get(b"id"), None);
        assert!(inner.put(b"short".to_vec(), b"x".to_vec()));
        assert_eq!(own.get(b"short"), None);
    }

    #[test]
    fn what_a_data_connection_was_given_counts_once_it_has_proven_to_be_the_clients() {
        let inner: Arc<dyn StoresServerSessions> = ServerSessionMemoryCache::new(10);
        let family = Family::new();
        let first = family.data();
        let given = bound(&inner, first.clone(), Takes::Own);
        assert!(given.put(b"id".to_vec(), b"session".to_vec()));
        let next = bound(&inner, family.data(), Takes::Own);
        assert_eq!(next.get(b"id"), None);
        first.prove();
        let other = |takes| bound(&inner, family.data(), takes);
        for _ in 0..2 * MAX_PROVEN {
            // Its ticket is used again and again.
            assert_eq!(next.get(b"id").unwrap(), b"session");
            let given = other(Takes::Own);
            assert!(given.put(b"other".to_vec(), b"session".to_vec()));
            given.binding.prove();
        }
        for _ in 0..2 * MAX_PROVEN {
            // Those without a ticket push none out.
            family.data().prove();
        }
        assert_eq!(next.get(b"id").unwrap(), b"session");
        for _ in 0..MAX_PROVEN {
            let given = other(Takes::Own);
            assert!(given.put(b"other".to_vec(), b"session".to_vec()));
            given.binding.prove();
        }
        assert_eq!(next.get(b"id"), None);
        assert_eq!(next.get(b"other").unwrap(), b"session");
    }

    #[test]
    fn a_client_that_resumes_may_fail_to_now_and_then() {
        let family = Family::new();
        assert!(!family.resumes());
        family.note_taken(false);
        assert!(!family.resumes());
        family.note_taken(true);
        for _ in 1..MAX_DOUBTS {
            family.note_taken(false);
            assert!(family.resumes());
        }
        family.note_taken(false);
        assert!(!family.resumes());
    }
}
