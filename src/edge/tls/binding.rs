//! Whose ticket it is.
//!
//! A data connection is known to be the client's by resuming the TLS session of its control connection. So
//! every ticket carries a number that only its control connection has, and on data connections the tickets of
//! others count for nothing. (rustls has a place for such data of its own, but tells it under TLS 1.3 only.)

use std::sync::Arc;

use rustls::server::{ProducesTickets, StoresServerSessions};

/// The number of one control connection.
pub(super) type Binding = [u8; 16];

/// Tickets and remembered sessions of one control connection.
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
    /// Those of this one.
    Own,
    /// None.
    Nothing,
}

impl<T: ?Sized> Bound<T> {
    fn tie(&self, session: &[u8]) -> Vec<u8> {
        [session, &self.binding].concat()
    }

    fn untie(&self, mut session: Vec<u8>) -> Option<Vec<u8>> {
        let (_, binding) = session.split_last_chunk::<{ size_of::<Binding>() }>()?;
        let taken = match self.takes {
            Takes::Any => true,
            Takes::Own => *binding == self.binding,
            Takes::Nothing => false,
        };
        if !taken {
            return None;
        }
        session.truncate(session.len() - size_of::<Binding>());
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
        number: u8,
        takes: Takes,
    ) -> Bound<dyn StoresServerSessions> {
        Bound {
            inner: Arc::clone(inner),
            binding: [number; 16],
            takes,
        }
    }

    #[test]
    fn a_session_is_taken_by_its_own_and_by_those_who_take_any() {
        let inner: Arc<dyn StoresServerSessions> = ServerSessionMemoryCache::new(10);
        let (own, other) = (bound(&inner, 1, Takes::Own), bound(&inner, 2, Takes::Own));
        assert!(own.put(b"id".to_vec(), b"session".to_vec()));
        assert_eq!(own.get(b"id").unwrap(), b"session");
        assert_eq!(other.get(b"id"), None);
        assert_eq!(bound(&inner, 2, Takes::Any).get(b"id").unwrap(), b"session");
        assert_eq!(bound(&inner, 1, Takes::Nothing).get(b"id"), None);
        assert!(inner.put(b"short".to_vec(), b"x".to_vec()));
        assert_eq!(own.get(b"short"), None);
    }
}
