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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::server::{ProducesTickets, StoresServerSessions};

/// So many connections of a client are remembered as its own. Clients resume with what the last few gave them, or with what
/// the control connection gave.
const MAX_PROVEN: usize = 64;

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
    /// The last data connection that was taken for the client's had proven to be.
    resumes: bool,
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

    /// Whether the last data connection that was taken for the client's had proven to be.
    pub(super) fn resumes(&self) -> bool {
        self.serials().resumes
    }

    /// A data connection was taken for the client's.
    pub(super) fn note_taken(&self, is_proven: bool) {
        self.serials().resumes = is_proven;
    }

    fn with(&self, serial: u64) -> Binding {
        Binding {
            family: self.clone(),
            serial,
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
}

impl Binding {
    /// The connection is the client's: from now on its tickets count.
    pub(super) fn prove(&self) {
        let proven = &mut self.family.serials().proven;
        if proven.len() == MAX_PROVEN {
            proven.pop_front();
        }
        proven.push_back(self.serial);
    }

    fn written(&self) -> [u8; TIE] {
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
            && (serial == CONTROL || self.family.serials().proven.contains(&serial))
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
        assert_eq!(next.get(b"id").unwrap(), b"session");
        for _ in 0..MAX_PROVEN {
            family.data().prove();
        }
        assert_eq!(next.get(b"id"), None);
    }
}
