//! File descriptors: sessions and transfers are made of them, and there are only so many.
//!
//! A session takes its few when it is admitted, a transfer its own before it gets a port. So whoever has
//! begun can go on: what can't be had is refused before, and never in the middle of an upload.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::session::Refusal;

/// A session's control connection, and the pair to the FTP session behind.
const PER_SESSION: usize = 3;

/// What a transfer takes besides, the store not counted: the passive port and the data connection.
const PER_TRANSFER: usize = 2;

/// Listeners, logs, name lookups, connections that are being refused, the runtime's own; and 64 connections of the
/// admin endpoint.
const RESERVE: usize = 128;

/// One in so many is kept from sessions, so that those there are can also transfer.
const FOR_TRANSFERS: usize = 5;

/// Where fewer than one in so many are free, they are kept for sessions and transfers.
const SHORT: usize = 4;

/// How long a transfer waits for others to end.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// All descriptors, and who has how many of them.
#[derive(Debug)]
pub struct Descriptors {
    free: Arc<Semaphore>,
    all: usize,
    per_transfer: u32,
    max_sessions: usize,
}

/// What the store needs of them.
#[derive(Debug, Clone, Copy)]
pub struct StoreConnections {
    /// How many stores there are.
    pub stores: usize,
    /// Connections that one transfer may have at once.
    pub per_transfer: usize,
    /// Moves from one store into another that may run, each with two transfers' connections.
    pub moves: usize,
    /// Files that may stay open in each store when a transfer has ended.
    pub kept_files: usize,
    /// Connections to each that are kept when nobody uses them, under this limit on open files.
    pub idle: fn(usize) -> usize,
}

impl StoreConnections {
    /// What all stores may have that no transfer has asked for, under this limit on open files.
    fn kept(&self, limit: usize) -> usize {
        let moves = 2 * self.moves * self.per_transfer;
        self.stores * (self.kept_files + (self.idle)(limit)) + moves
    }
}

/// Descriptors of a session or of a transfer. Dropping it gives them back.
#[derive(Debug)]
pub(super) struct Permit(#[expect(dead_code, reason = "it is held")] OwnedSemaphorePermit);

impl Descriptors {
    /// The process' own, for `wanted` sessions at most. See [`raise_open_files`].
    #[must_use]
    pub fn new(limit: usize, wanted: usize, store: StoreConnections) -> Self {
        let per_transfer = PER_TRANSFER + store.per_transfer;
        let free = limit.saturating_sub(RESERVE + store.kept(limit));
        let free = free.clamp(PER_SESSION + per_transfer, Semaphore::MAX_PERMITS);
        let fit = (free - free / FOR_TRANSFERS) / PER_SESSION;
        if fit < wanted {
            let for_sessions = wanted * PER_SESSION * FOR_TRANSFERS / (FOR_TRANSFERS - 1);
            let needed = for_sessions + RESERVE + store.kept(usize::MAX);
            tracing::warn!(
                open_files = limit,
                max_sessions = fit,
                "limits.max_sessions = {wanted} needs {needed} open files; raise the limit (ulimit -n, \
                 LimitNOFILE) or lower the setting. Until then there are fewer sessions",
            );
        }
        Self {
            free: Arc::new(Semaphore::new(free)),
            all: free,
            per_transfer: u32::try_from(per_transfer).unwrap_or(u32::MAX),
            max_sessions: fit.clamp(1, wanted),
        }
    }

    /// How many sessions fit.
    #[must_use]
    pub fn max_sessions(&self) -> usize {
        self.max_sessions
    }

    /// Those of a session; `None` if transfers have them.
    pub(super) fn session(&self) -> Option<Permit> {
        #[allow(clippy::cast_possible_truncation, reason = "it is 3")]
        let permit = Arc::clone(&self.free).try_acquire_many_owned(PER_SESSION as u32);
        permit.ok().map(Permit)
    }

    /// Those of a session with its place among all sessions. The descriptors come first: for a place that can't be used,
    /// no other session should give way.
    ///
    /// # Errors
    /// [`Refusal::TooFewOpenFiles`] if transfers have them, or those of `take_place`.
    pub(super) fn session_in<T>(
        &self,
        take_place: impl FnOnce() -> Result<T, Refusal>,
    ) -> Result<(T, Permit), Refusal> {
        let permit = self.session().ok_or(Refusal::TooFewOpenFiles)?;
        Ok((take_place()?, permit))
    }

    /// One for a connection that may turn out to be a transfer's; `None` if they are short.
    pub(super) fn one(&self) -> Option<Permit> {
        if self.free.available_permits() < self.all / SHORT {
            return None;
        }
        Arc::clone(&self.free).try_acquire_owned().ok().map(Permit)
    }

    /// Those of a transfer, as soon as there are so many; `None` if that takes too long.
    pub(super) async fn transfer(&self) -> Option<Permit> {
        let permit = Arc::clone(&self.free).acquire_many_owned(self.per_transfer);
        let permit = tokio::time::timeout(PERMIT_TIMEOUT, permit).await;
        Some(Permit(permit.ok()?.ok()?))
    }
}

/// Raises the limit on open files as far as the system lets us, and returns it.
#[must_use]
pub fn raise_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        // Where it can't be raised, what there is has to do.
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "can't raise the limit on open files");
        }
    }
    let current = getrlimit(Resource::Nofile).current;
    // No limit is a very large one.
    current.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreConnections = StoreConnections {
        stores: 1,
        moves: 0,
        per_transfer: 5,
        kept_files: 0,
        idle: |_| 256,
    };

    #[test]
    fn the_limit_is_raised() {
        let raised = raise_open_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(Some(raised as u64), limit.current);
    }

    #[test]
    fn sessions_are_held_against_the_limit() {
        let fit = |limit, wanted| Descriptors::new(limit, wanted, STORE).max_sessions();
        assert_eq!(fit(20_000, 5000), 5000);
        assert_eq!(fit(1024, 2000), 170);
        assert_eq!(fit(10, 2000), 2);
        assert_eq!(fit(usize::MAX, 2000), 2000);
    }

    #[tokio::test(start_paused = true)]
    async fn what_transfers_have_sessions_can_t_and_the_other_way_round() {
        // 26 are three transfers, a session, and two to spare.
        let descriptors = Descriptors::new(RESERVE + 256 + 26, 1000, STORE);
        let session = descriptors.session().unwrap();
        let mut transfers = Vec::new();
        for _ in 0..3 {
            transfers.push(descriptors.transfer().await.unwrap());
        }
        assert!(descriptors.session().is_none());
        let refused = descriptors.session_in(|| -> Result<(), _> { panic!("a place is taken") });
        assert_eq!(refused.unwrap_err(), Refusal::TooFewOpenFiles);
        assert!(descriptors.transfer().await.is_none());
        transfers.pop();
        assert!(descriptors.transfer().await.is_some());
        assert!(descriptors.session().is_some());
        let refused = descriptors.session_in(|| Err::<(), _>(Refusal::TooManySessions));
        assert_eq!(refused.unwrap_err(), Refusal::TooManySessions);
        drop((session, transfers));
        assert_eq!(descriptors.free.available_permits(), 26);
    }
}
