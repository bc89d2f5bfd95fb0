//! Transfers: what libunftp does between its login check and the storage.
//!
//! libunftp's own transfer verbs want a data connection, and theirs would carry nothing: the client's is the guard's.
//! `SITE` is the door that libunftp leaves open: it looks whether the session has logged in, lets go of its lock, and
//! calls a handler with the session's storage. So each transfer is one `SITE` command of a private name, whose argument
//! is the number of the job that the guard has left in the session.
//!
//! A client's own `SITE` never gets here: the guard answers it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use libunftp::options::{Reply, ReplyCode, SiteCommandContext, SiteCommandHandler};
use tokio::io::AsyncReadExt;
use tokio_util::task::task_tracker::TaskTrackerToken;
use unftp_core::storage::StorageBackend;

use crate::session::{ClientOf, ClientStream, Session, StoreMode, TransferKind};

use super::backend::Backend;
use super::bridge::SessionUser;

/// What is read of a client that should only read, before its connection is closed.
const MAX_SKIPPED: u64 = 64 * 1024;

/// How long such a client may take to end its own side.
const LINGER: Duration = Duration::from_secs(5);

/// The name of the private command. It is random for each process, so that no line of a client's could name it, should
/// one ever get through.
#[derive(Debug, Clone)]
pub(super) struct Command(Arc<str>);

impl Command {
    pub(super) fn random() -> Self {
        let number: u64 = rand::random();
        Self(format!("TRANSFER-{number:016X}").into())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs the transfers of one session.
#[derive(Debug)]
pub(super) struct TransferHandler {
    session: Arc<Session>,
}

impl TransferHandler {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }
}

#[async_trait]
impl SiteCommandHandler<Backend, SessionUser> for TransferHandler {
    /// The guard has the storage's report; libunftp's reply only says that the line is free again.
    async fn handle(&self, context: &SiteCommandContext<Backend, SessionUser>) -> Reply {
        let job = context.arguments.trim().parse().ok();
        let client = job.and_then(|job| self.session.take_client(job));
        if let (Some(client), Some(user)) = (client, context.user.as_ref()) {
            transfer(&context.storage, user, client).await;
        }
        Reply::new(ReplyCode::CommandOkay, "Done")
    }
}

/// How it ended is in the job's report.
async fn transfer(storage: &Backend, user: &SessionUser, client: ClientOf) {
    let ClientOf {
        kind,
        path,
        mut stream,
        running,
    } = client;
    let path = path.as_str();
    let ended = match kind {
        TransferKind::Store(mode) => {
            let offset = match mode {
                StoreMode::RestartAt(offset) => offset,
                StoreMode::Replace | StoreMode::Unique | StoreMode::Append => 0,
            };
            // It ends the stream itself.
            let _ = storage.put(user, stream, path, offset).await;
            return;
        }
        TransferKind::Retrieve { offset } => {
            let sent = storage.get_into(user, path, offset, &mut stream);
            sent.await.map(|_| ())
        }
        TransferKind::List(_) => storage.list_into(&mut stream).await,
    };
    if ended.is_ok() {
        see_off(stream, running);
    }
}

/// Waits for the client to end its own side, after it was sent all. What it says at its end, as it does under TLS,
/// resets a connection that nobody reads from any more, and what is still on its way would be lost.
fn see_off(stream: ClientStream, running: Option<TaskTrackerToken>) {
    tokio::spawn(async move {
        let mut unread = stream.take(MAX_SKIPPED);
        // Whatever comes of it, the connection ends now.
        let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut unread, &mut tokio::io::sink()))
            .await;
        drop(running);
    });
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::super::{Ftp, Link, PathVerb, Request};
    use super::*;
    use crate::auth::{Authenticator, LockoutPolicy, UserTable};
    use crate::config::ByteSize;
    use crate::session::{Event, FtpPath, Transfer};
    use crate::storage::harness;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A client that has logged in, as the guard has it.
    struct Guarded {
        session: Arc<Session>,
        link: Link,
        tasks: TaskTracker,
    }

    impl Guarded {
        async fn new() -> Self {
            let storage = Arc::new(harness::storage(&[("STORE__URL", "memory://")]));
            let users = vec![("ferry".to_owned(), "secret".to_owned())];
            let users = UserTable::from_plain(users).unwrap();
            let policy = LockoutPolicy {
                failures: 0,
                failures_per_address: 0,
                lockout: PATIENCE,
            };
            let logger = slog::Logger::root(slog::Discard, slog::o!());
            let ftp = Ftp::new(
                Authenticator::new(users.into(), policy, ByteSize::mib(64)),
                storage,
                logger,
            );
            let address = ([127, 0, 0, 1], 21).into();
            let charset = encoding_rs::UTF_8;
            let session = Session::new(address, address, charset, CancellationToken::new());
            let session = Arc::new(session);
            let login = ftp.authenticate(&session, "ferry", "secret".into());
            session.log_in(Arc::clone(login.await.unwrap().user()));
            let link = ftp.open(Arc::clone(&session)).await.unwrap();
            Self {
                session,
                link,
                tasks: TaskTracker::new(),
            }
        }

        /// Begins an upload, as the guard does.
        async fn upload(&mut self) -> Transfer {
            let kind = TransferKind::Store(StoreMode::Replace);
            let (transfer, job) = Transfer::new(kind, path());
            let number = self.session.offer(job.tracked(self.tasks.token()));
            self.link.start_transfer(number).await.unwrap();
            transfer
        }

        /// The guard's task is dropped, and everything that it holds. Then the transfer must end, too.
        async fn dropped_with(self, transfer: Transfer) {
            drop((self.link, transfer));
            self.tasks.close();
            let ended = tokio::time::timeout(PATIENCE, self.tasks.wait()).await;
            assert!(ended.is_ok(), "the storage goes on without a guard");
            assert!(self.session.take_job().is_none());
        }
    }

    fn path() -> FtpPath {
        FtpPath::root().resolve("a.bin").unwrap()
    }

    /// The client's end, once the storage has opened the object.
    async fn connected(transfer: &mut Transfer) -> tokio::io::DuplexStream {
        let opened = transfer.event().await;
        assert!(matches!(opened, Some(Event::Opened { .. })), "{opened:?}");
        let (ours, theirs) = tokio::io::duplex(1024);
        transfer.connect(Box::new(theirs));
        ours
    }

    #[tokio::test]
    async fn a_guard_that_is_dropped_while_the_storage_opens_ends_the_transfer() {
        let mut guarded = Guarded::new().await;
        let transfer = guarded.upload().await;
        guarded.dropped_with(transfer).await;
    }

    #[tokio::test]
    async fn a_guard_that_is_dropped_while_bytes_move_ends_the_transfer() {
        let mut guarded = Guarded::new().await;
        let mut transfer = guarded.upload().await;
        let mut client = connected(&mut transfer).await;
        client.write_all(b"half of it").await.unwrap();
        guarded.dropped_with(transfer).await;
        // The storage has let go of the client.
        assert!(client.write_all(&[0; 4096]).await.is_err());
    }

    #[tokio::test]
    async fn a_guard_that_is_dropped_while_the_storage_asks_for_the_commit_ends_the_transfer() {
        let mut guarded = Guarded::new().await;
        let mut transfer = guarded.upload().await;
        let mut client = connected(&mut transfer).await;
        client.write_all(b"all of it").await.unwrap();
        drop(client);
        let event = transfer.event().await;
        assert!(matches!(event, Some(Event::Commit { .. })), "{event:?}");
        guarded.dropped_with(transfer).await;
    }

    #[tokio::test]
    async fn a_transfer_that_is_granted_is_stored_and_the_line_is_free_again() {
        let mut guarded = Guarded::new().await;
        for _ in 0..3 {
            let mut transfer = guarded.upload().await;
            let mut client = connected(&mut transfer).await;
            client.write_all(b"all of it").await.unwrap();
            drop(client);
            match transfer.event().await {
                Some(Event::Commit { grant, .. }) => grant.grant(),
                other => panic!("expected a commit, got {other:?}"),
            }
            assert!(transfer.event().await.is_none());
            assert!(transfer.take_report().unwrap().failure.is_none());
            assert_eq!(guarded.link.transfer_reply().await.unwrap().code, 200);
        }
        let size = Request::Path(PathVerb::Size, &path());
        assert_eq!(guarded.link.call(size).await.unwrap().code, 213);
    }

    /// libunftp has no word in who may log in, and lets nobody in who has not.
    #[tokio::test]
    async fn a_client_that_has_not_logged_in_is_no_user_behind_either() {
        let storage = Arc::new(harness::storage(&[("STORE__URL", "memory://")]));
        let policy = LockoutPolicy {
            failures: 0,
            failures_per_address: 0,
            lockout: PATIENCE,
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let authenticator =
            Authenticator::new(UserTable::default().into(), policy, ByteSize::mib(64));
        let ftp = Ftp::new(authenticator, storage, logger);
        let (address, charset) = (([127, 0, 0, 1], 21).into(), encoding_rs::UTF_8);
        let session = Session::new(address, address, charset, CancellationToken::new());
        assert!(ftp.open(Arc::new(session)).await.is_err());
    }

    /// Nor is one that another command has left.
    #[tokio::test]
    async fn a_number_that_nobody_has_offered_does_nothing() {
        let mut guarded = Guarded::new().await;
        let (transfer, job) = Transfer::new(TransferKind::Retrieve { offset: 0 }, FtpPath::root());
        let number = guarded.session.offer(job);
        guarded.link.start_transfer(number + 1).await.unwrap();
        assert_eq!(guarded.link.transfer_reply().await.unwrap().code, 200);
        assert!(guarded.session.take_job().is_some());
        drop(transfer);
    }
}
