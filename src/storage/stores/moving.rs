//! A rename from one store into another: the file is fetched and stored as a client would do it, and deleted where it was.
//!
//! It is stored only if all of it was fetched, and deleted only if it is still what was found. So whatever fails, it is
//! under its old name, or under both.

use tokio::io::DuplexStream;

use crate::session::{Abort, Event, Grant, Job, Outcome, StoreMode, Transfer, TransferKind};
use crate::storage::error::StorageError;
use crate::storage::store::http::command::given_up;
use crate::storage::verbs::contract::Uploader;

use super::There;

/// Bytes that may be on the way from one store to the other. With what a download takes, they are no more than
/// [`DOWNLOAD`](crate::memory::DOWNLOAD).
const PIPE: usize = 64 << 10;

/// Moves a file into another store.
pub(super) async fn move_file(
    by: Uploader<'_>,
    from: &There<'_>,
    to: &There<'_>,
) -> Result<(), StorageError> {
    let looking = async {
        let taken = from.store.front.take(by.own, from.spot()).await?;
        check_target(to).await?;
        Ok(taken)
    };
    let taken = tokio::select! {
        biased;
        () = given_up() => Err(StorageError::GivenUp),
        taken = looking => taken,
    }?;
    let size = taken.size();
    let fetched = TransferKind::Retrieve { offset: 0 };
    let (fetching, fetch) = Transfer::new(fetched, from.path.clone().into_owned());
    // What is left of it has nobody who would go on with it.
    let by = Uploader {
        may_return: false,
        ..by
    };
    let stored = TransferKind::Store(StoreMode::Replace);
    let (storing, store) = Transfer::new(stored, to.path.clone().into_owned());
    let (fetched, stored, ()) = tokio::join!(
        fetch_from(from, fetch),
        store_in(by, to, store.declaring(Some(size))),
        pass_on(fetching, storing),
    );
    stored.map_err(|error| match (error, fetched) {
        // It was not all there to be stored.
        (StorageError::Aborted(_), Err(cause)) if !matches!(cause, StorageError::Aborted(_)) => {
            cause
        }
        // It was another file by then.
        (StorageError::Aborted(Abort::SizeMismatch { .. }), Ok(_)) => StorageError::Conflict,
        (error, _) => error,
    })?;
    from.store.front.give_away(from.spot(), taken).await
}

/// A file takes the place of a file alone, as within one store.
async fn check_target(to: &There<'_>) -> Result<(), StorageError> {
    match to.store.front.stat(to.user, &to.path).await {
        Ok(found) if found.is_directory() => Err(StorageError::Exists),
        // Credentials that may only write can't tell.
        Ok(_) | Err(StorageError::NotFound | StorageError::StoreDenied(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn fetch_from(from: &There<'_>, mut job: Job) -> Result<u64, StorageError> {
    let mut output = job.take_stream().ok_or(Abort::Internal)?;
    from.store.front.download(from.user, job, &mut output).await
}

async fn store_in(by: Uploader<'_>, to: &There<'_>, mut job: Job) -> Result<u64, StorageError> {
    let input = job.take_stream().ok_or(Abort::Internal)?;
    to.store
        .front
        .upload(to.user, by, job, Box::new(input))
        .await
}

/// Passes the bytes on, until the client's session has ended: what was not stored by then is not to be.
async fn pass_on(mut fetching: Transfer, mut storing: Transfer) {
    tokio::select! {
        biased;
        () = conduct(&mut fetching, &mut storing) => {}
        () = given_up() => {
            fetching.abort(Abort::ClientAbort);
            storing.abort(Abort::ClientAbort);
        }
    }
}

/// What the guard does for a client: lets the bytes through as soon as both ends are ready, and has them published if
/// all were fetched.
async fn conduct(fetching: &mut Transfer, storing: &mut Transfer) {
    let (near, far) = tokio::io::duplex(PIPE);
    // Nobody comes back to go on with what is left of either: it is given up as a client gives up.
    let given_up = Abort::ClientAbort;
    if !connect(storing, far).await {
        fetching.abort(given_up);
        return;
    }
    if !connect(fetching, near).await {
        storing.abort(given_up);
        return;
    }
    let grant = commit(storing).await;
    // A fetch says nothing more; this waits for its end.
    while grant.is_some() && fetching.event().await.is_some() {}
    let is_whole = |transfer: &mut Transfer| {
        let report = transfer.take_report();
        report.is_some_and(|report| report.outcome == Outcome::COMPLETE)
    };
    match grant {
        Some(grant) if is_whole(fetching) && fetching.bytes() == storing.bytes() => {
            grant.grant();
            // Dropping it would be taken for a client that is gone.
            while storing.event().await.is_some() {}
        }
        Some(_) => storing.abort(given_up),
        None => fetching.abort(given_up),
    }
}

/// Gives a transfer its end of the pipe as soon as it is ready; `false` if it has failed before.
async fn connect(transfer: &mut Transfer, end: DuplexStream) -> bool {
    match transfer.event().await {
        Some(Event::Opened { .. }) => transfer.connect(Box::new(end)),
        Some(Event::Commit { .. }) | None => return false,
    }
    true
}

/// The right to publish, when it is asked for; `None` if the transfer has failed before.
async fn commit(transfer: &mut Transfer) -> Option<Grant> {
    match transfer.event().await {
        Some(Event::Commit { grant, .. }) => Some(grant),
        Some(Event::Opened { .. }) | None => None,
    }
}
