//! File descriptors: sessions and transfers are made of them, and there are only so many.
//!
//! A session takes its few when it is admitted, a transfer its own before it gets a port. So whoever has
//! begun can go on: what can't be had is refused before, and never in the middle of an upload.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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

/// More transfers than this share [`KERNEL_MEMORY`]; fewer may have what the kernel thinks best.
const FEW: usize = 32;

/// What the kernel may hold, more or less, of what clients have sent and nobody has read yet.
const KERNEL_MEMORY: usize = 128 * 1024 * 1024;

/// Less than this makes the kernel drop what arrives.
const MIN_RECEIVE_BUFFER: usize = 64 * 1024;

/// All descriptors, and who has how many of them.
#[derive(Debug)]
pub struct Descriptors {
    free: Arc<Semaphore>,
    all: usize,
    per_transfer: u32,
    max_sessions: usize,
    transfers: Arc<()>,
}

/// What the store needs of them.
#[derive(Debug, Clone, Copy)]
pub struct StoreConnections {
    /// Connections that one transfer may have at once.
    pub per_transfer: usize,
    /// Files that may stay open when a transfer has ended.
    pub kept_files: usize,
    /// Connections that are kept when nobody uses them, under this limit on open files.
    pub idle: fn(usize) -> usize,
}

/// Descriptors of a session or of a transfer. Dropping it gives them back.
#[derive(Debug)]
pub(super) struct Permit(#[expect(dead_code, reason = "it is held")] OwnedSemaphorePermit);

/// The place of a transfer, which is also counted.
#[derive(Debug)]
pub(super) struct TransferPermit {
    _permit: Permit,
    all: Arc<()>,
}

impl Descriptors {
    /// The process' own, for `wanted` sessions at most. See [`raise_open_files`].
    #[must_use]
    pub fn new(limit: usize, wanted: usize, store: StoreConnections) -> Self {
        let per_transfer = PER_TRANSFER + store.per_transfer;
        let free = limit.saturating_sub(RESERVE + store.kept_files + (store.idle)(limit));
        let free = free.clamp(PER_SESSION + per_transfer, Semaphore::MAX_PERMITS);
        let fit = (free - free / FOR_TRANSFERS) / PER_SESSION;
        if fit < wanted {
            let for_sessions = wanted * PER_SESSION * FOR_TRANSFERS / (FOR_TRANSFERS - 1);
            let needed = for_sessions + RESERVE + store.kept_files + (store.idle)(usize::MAX);
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
            transfers: Arc::default(),
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

    /// One for a connection that may turn out to be a transfer's; `None` if they are short.
    pub(super) fn one(&self) -> Option<Permit> {
        if self.free.available_permits() < self.all / SHORT {
            return None;
        }
        Arc::clone(&self.free).try_acquire_owned().ok().map(Permit)
    }

    /// Those of a transfer, as soon as there are so many; `None` if that takes too long.
    pub(super) async fn transfer(&self) -> Option<TransferPermit> {
        let permit = Arc::clone(&self.free).acquire_many_owned(self.per_transfer);
        let permit = tokio::time::timeout(PERMIT_TIMEOUT, permit).await;
        Some(TransferPermit {
            _permit: Permit(permit.ok()?.ok()?),
            all: Arc::clone(&self.transfers),
        })
    }
}

impl TransferPermit {
    /// What the kernel should buffer of a client that nobody reads from, if it should not decide by
    /// itself. It would let each have many megabytes, and when all its memory for TCP is used up, it drops
    /// what arrives, from everybody. The share of one of many is still more than it needs: all of them
    /// together move this much in each round trip.
    pub(super) fn receive_buffer(&self) -> Option<usize> {
        let transfers = Arc::strong_count(&self.all) - 1;
        (transfers > FEW).then(|| (KERNEL_MEMORY / transfers).max(MIN_RECEIVE_BUFFER))
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
        assert!(descriptors.transfer().await.is_none());
        transfers.pop();
        assert!(descriptors.transfer().await.is_some());
        assert!(descriptors.session().is_some());
        drop((session, transfers));
        assert_eq!(descriptors.free.available_permits(), 26);
    }

    #[tokio::test]
    async fn many_transfers_share_what_the_kernel_may_hold() {
        let descriptors = Descriptors::new(20_000, 1, STORE);
        let mut transfers = Vec::new();
        for _ in 0..FEW {
            transfers.push(descriptors.transfer().await.unwrap());
        }
        assert_eq!(transfers[0].receive_buffer(), None);
        transfers.push(descriptors.transfer().await.unwrap());
        assert_eq!(transfers[0].receive_buffer(), Some(KERNEL_MEMORY / 33));
        transfers.truncate(1);
        assert_eq!(transfers[0].receive_buffer(), None);
    }
}
