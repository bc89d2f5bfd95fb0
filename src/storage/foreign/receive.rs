//! Uploads into a foreign back-end.
//!
//! ```text
//! prepare ─► open ─► put reads what comes in ─► end of the data ─► look again ─► commit barrier ─► the reader ends
//! ```
//!
//! The back-end's `put` runs beside all of it, and sees no end of its reader unless the commit was granted.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::FutureExt;
use futures::future::{Fuse, FusedFuture};
use md5::{Digest, Md5};
use object_store::path::Path;
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, RwLockWriteGuard};
use tokio::time::{Instant, timeout};

use crate::auth::{Permission, User};
use crate::config::{ByteSize, Overwrite};
use crate::session::{Abort, Ended, FtpPath, Job, StoreMode, TransferKind};
use crate::storage::error::{Beyond, StorageError};
use crate::storage::verbs::contract::Input;
use crate::storage::verbs::contract::permit;
use crate::storage::verbs::upload::fresh_name;
use crate::storage::write::budget::Claim;
use crate::storage::write::publish::{DISCARD_PATIENCE, without_bucket};

use super::gate::{Feed, Gated, Unread, gate};
use super::{ForeignStorage, Kind, Trouble};

/// What one upload takes at most: chunks that wait, and what the HTTP client holds.
pub(super) const UPLOAD_MEMORY: usize = 1 << 20;

/// One read of the client's data.
const CHUNK: usize = 64 * 1024;

/// So long an upload waits for others to end.
const WAIT: Duration = Duration::from_secs(10);

/// So often it is looked what an upload has become.
const LOOKS: usize = 3;

/// What is to become of an upload.
struct Plan {
    key: Path,
    /// The name that the gateway has found.
    unique: Option<FtpPath>,
    /// It may not replace anything.
    only_new: bool,
    max_size: Option<ByteSize>,
}

/// The bytes that came in.
#[derive(Default)]
struct Content {
    bytes: u64,
    md5: Md5,
}

/// The back-end's own work.
type Putting<'a> = Fuse<Pin<Box<dyn Future<Output = Result<u64, Trouble>> + Send + 'a>>>;

impl ForeignStorage {
    pub(super) async fn receive(
        &self,
        user: &User,
        job: &mut Job,
        input: Input,
    ) -> Result<(), StorageError> {
        let (plan, _memory) = job.unless_aborted(pin!(self.prepare(user, job))).await?;
        job.open(plan.unique.clone()).await?;
        let (feed, gated) = gate();
        let mut putting = self.put(&plan.key, gated);
        let mut content = Content::default();
        let taking = async {
            let ended = self.fill(job, input, &feed, &plan, &mut content).await?;
            self.commit(job, ended, &plan).await
        };
        let committed = tokio::select! {
            biased;
            committed = taking => committed,
            // It can only have failed.
            stored = &mut putting => {
                self.count("put", Instant::now().into_std(), stored.as_ref().err());
                Err(without_bucket(early(stored)))
            }
        };
        match committed {
            Ok(_alone) => self.conclude(&plan.key, feed, putting, content).await,
            Err(error) => {
                drop(feed);
                // The back-end hears of it before the client does.
                if !putting.is_terminated() {
                    let _ = timeout(DISCARD_PATIENCE, putting).await;
                }
                Err(error)
            }
        }
    }

    /// Decides what the upload is to become, or refuses it before the client has sent a byte.
    async fn prepare(
        &self,
        user: &User,
        job: &Job,
    ) -> Result<(Plan, (OwnedSemaphorePermit, Claim)), StorageError> {
        permit(user, Permission::Write)?;
        let TransferKind::Store(mode) = job.kind() else {
            return Err(Abort::Internal.into());
        };
        match mode {
            StoreMode::Append => return Err(StorageError::BeyondDriver(Beyond::Append)),
            StoreMode::RestartAt(1..) => return Err(StorageError::BeyondDriver(Beyond::Restart)),
            StoreMode::Replace | StoreMode::Unique | StoreMode::RestartAt(0) => {}
        }
        let unique = (mode == StoreMode::Unique).then(|| fresh_name(job.path()));
        let path = unique.as_ref().unwrap_or(job.path());
        let key = self.file_key(user, path)?;
        self.check_directory_of(user, path).await?;
        let denied = user.overwrite.unwrap_or(self.upload.overwrite) == Overwrite::Deny;
        let plan = Plan {
            key,
            only_new: denied || unique.is_some(),
            unique,
            max_size: user.max_size.or(self.upload.max_size),
        };
        self.check_new(&plan).await?;
        let room = timeout(WAIT, self.room()).await;
        Ok((plan, room.map_err(|_| StorageError::MemoryShort)??))
    }

    /// Room for one upload, in the memory that all stores share.
    async fn room(&self) -> Result<(OwnedSemaphorePermit, Claim), Abort> {
        let turn = Arc::clone(&self.uploads).acquire_owned().await;
        let mut claim = self.budget.claim(UPLOAD_MEMORY);
        claim.grow(UPLOAD_MEMORY).await;
        Ok((turn.map_err(|_| Abort::Internal)?, claim))
    }

    /// Whether there is nothing yet where nothing may be replaced.
    async fn check_new(&self, plan: &Plan) -> Result<(), StorageError> {
        if !plan.only_new {
            return Ok(());
        }
        let found = self.ask("head", self.inner.metadata(plan.key.as_ref()));
        match found.await.map_err(StorageError::from) {
            Ok(_) => Err(StorageError::Exists),
            Err(StorageError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Has the back-end store what it reads. No timeout counts here: the client may be slow.
    fn put<'a>(&'a self, key: &'a Path, gated: Gated) -> Putting<'a> {
        self.inner.put(key.as_ref(), gated).fuse()
    }

    /// Reads to the end of what the client sends.
    async fn fill(
        &self,
        job: &Job,
        mut input: Input,
        feed: &Feed,
        plan: &Plan,
        content: &mut Content,
    ) -> Result<Ended, StorageError> {
        job.unless_aborted(pin!(async {
            let mut quiet_since = Instant::now();
            loop {
                let mut chunk = BytesMut::with_capacity(CHUNK);
                let read = timeout(self.upload.stall_timeout, input.read_buf(&mut chunk)).await;
                match read {
                    Err(_) => return Err(Abort::Stalled.into()),
                    Ok(Err(_)) => return Err(Abort::DataLost.into()),
                    Ok(Ok(0)) => return Ok(Ended::now(quiet_since.elapsed())),
                    Ok(Ok(bytes)) => job.count(bytes),
                }
                quiet_since = Instant::now();
                content.take(&chunk, plan.max_size)?;
                let feeding = async {
                    if feed.send(chunk.freeze()).await == Err(Unread) {
                        // The back-end is about to say why.
                        std::future::pending::<()>().await;
                    }
                };
                let fed = timeout(self.request_timeout, feeding).await;
                fed.map_err(|_| Trouble::silence(self.request_timeout))?;
            }
        }))
        .await
    }

    /// Asks the guard, after another look at what may not be replaced. What is returned keeps this gateway's other
    /// changes away from the key.
    async fn commit(
        &self,
        job: &mut Job,
        ended: Ended,
        plan: &Plan,
    ) -> Result<RwLockWriteGuard<'_, ()>, StorageError> {
        let looking = pin!(async {
            let alone = self.locks.lock(&plan.key).write().await;
            self.check_new(plan).await.map(|()| alone)
        });
        let alone = job.unless_aborted(looking).await?;
        job.commit(ended).await?;
        Ok(alone)
    }

    /// Lets the back-end's reader end, and holds what it has stored against what came in.
    async fn conclude(
        &self,
        key: &Path,
        feed: Feed,
        putting: Putting<'_>,
        content: Content,
    ) -> Result<(), StorageError> {
        let (patience, started) = (self.request_timeout, Instant::now().into_std());
        // Side by side: the back-end may have to read before there is room for the end. One that does not read any more
        // has its answer.
        let stored = async { futures::join!(feed.end(), putting).1 };
        let stored = timeout(patience, stored).await;
        let stored = stored.unwrap_or_else(|_| Err(Trouble::silence(patience)));
        self.count("put", started, stored.as_ref().err());
        let stored = stored.map_err(|trouble| without_bucket(trouble.of_change().into()))?;
        if stored != content.bytes {
            return Err(StorageError::Corrupt(format!(
                "{stored} bytes are stored of {}",
                content.bytes
            )));
        }
        let found = self.look_at(key).await.map_err(Trouble::unseen)?;
        let sent = u128::from_be_bytes(content.md5.finalize().into());
        let sent = format!("{sent:032x}");
        match found {
            Some(found) if !found.eq_ignore_ascii_case(&sent) => Err(StorageError::Corrupt(
                format!("the MD5 of what is stored is {found}, of what was sent {sent}"),
            )),
            _ => Ok(()),
        }
    }
}

impl ForeignStorage {
    /// The MD5 of what is stored now. Whatever keeps it from being seen, it is there, or was.
    async fn look_at(&self, key: &Path) -> Result<Option<String>, Trouble> {
        let mut found = self.ask("head", self.inner.md5(key.as_ref())).await;
        for _ in 1..LOOKS {
            if found.is_ok() {
                break;
            }
            found = self.ask("head", self.inner.md5(key.as_ref())).await;
        }
        match found? {
            Some(md5) if md5.is_empty() => {
                Err(Trouble::new(Kind::Failed, "the store tells no MD5"))
            }
            md5 => Ok(md5),
        }
    }
}

impl Content {
    fn take(&mut self, chunk: &[u8], limit: Option<ByteSize>) -> Result<(), StorageError> {
        self.bytes += chunk.len() as u64;
        self.md5.update(chunk);
        match limit {
            Some(limit) if self.bytes > limit.0 => Err(StorageError::TooLarge(limit)),
            _ => Ok(()),
        }
    }
}

/// A back-end that has ended before its reader did.
fn early(stored: Result<u64, Trouble>) -> StorageError {
    match stored {
        Err(trouble) => trouble.into(),
        Ok(bytes) => StorageError::Corrupt(format!(
            "the back-end says that it has stored {bytes} bytes of an upload that had not ended"
        )),
    }
}
