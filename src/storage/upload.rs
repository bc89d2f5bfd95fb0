//! Uploads: from the client's socket into one object, whole or not at all.
//!
//! ```text
//! prepare ─► open ─► pump (parts go up while bytes come in) ─► commit barrier ─► publish
//!                     └── anything goes wrong, anywhere ──► discard ◄──┘
//! ```
//!
//! Up to `publish` nothing that a reader could see has changed. `publish` is reached only through
//! [`Job::commit`], which the guard grants. Where the store's answer to it is lost, the store is asked
//! again ([`verdict`](super::verdict)).

use bytes::BytesMut;
use object_store::path::Path;
use object_store::{ObjectStoreExt, UpdateVersion};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use crate::auth::{Permission, User};
use crate::config::Overwrite;
use crate::session::{Abort, DataStream, FtpPath, Job, SessionId, StoreMode, TransferKind};

use super::appending::OnlyAppend;
use super::assembly::Base;
use super::publish::without_bucket;
use super::sink::{Condition, Plan, Pressure, Sink};
use super::{Storage, StorageError, attributes, permit};

impl Storage {
    pub(super) async fn receive(
        &self,
        user: &User,
        session: SessionId,
        job: &mut Job,
    ) -> Result<(), StorageError> {
        let plan = job.unless_aborted(self.prepare(user, job)).await?;
        let unique = plan.unique.clone();
        let attributes = match self.metadata {
            Some(names) => attributes::of(names, user, session, &plan.key),
            None => object_store::Attributes::new(),
        };
        let mut sink = Sink::new(self, plan, attributes, job.running());
        let received = self.pump(job, unique, &mut sink).await;
        match received {
            Ok(()) => sink.publish().await,
            Err(error) => {
                sink.discard().await;
                Err(without_bucket(error))
            }
        }
    }

    /// Everything that can be refused before the client sends a byte.
    async fn prepare(&self, user: &User, job: &Job) -> Result<Plan, StorageError> {
        permit(user, Permission::Write)?;
        let TransferKind::Store(mode) = job.kind() else {
            return Err(Abort::Internal.into());
        };
        let unique = (mode == StoreMode::Unique).then(|| fresh_name(job.path()));
        let path = unique.as_ref().unwrap_or(job.path());
        let key = self.file_key(user, path)?;
        let only = match mode {
            StoreMode::Append | StoreMode::RestartAt(_) => Some(self.only_append(&key)?),
            StoreMode::Replace | StoreMode::Unique => None,
        };
        let (base, condition) = match mode {
            StoreMode::Replace => (None, self.check_replace(user, &key).await?),
            StoreMode::Unique => (None, Condition::Absent),
            StoreMode::Append => self.base(user, &key, None).await?,
            StoreMode::RestartAt(offset) => self.base(user, &key, Some(offset)).await?,
        };
        Ok(Plan {
            key,
            unique,
            base,
            condition,
            only,
            max_size: user.max_size.or(self.upload.max_size),
        })
    }

    /// Whether a plain `STOR` may go to this key, and on what condition it is published.
    async fn check_replace(&self, user: &User, key: &Path) -> Result<Condition, StorageError> {
        match self.overwrite(user) {
            Overwrite::Allow => Ok(Condition::None),
            Overwrite::Deny => match self.store.head(key).await {
                Ok(_) => Err(StorageError::Exists),
                Err(object_store::Error::NotFound { .. }) => Ok(Condition::Absent),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Keeps other appends to this object away, which could only spoil each other's.
    fn only_append(&self, key: &Path) -> Result<OnlyAppend, StorageError> {
        self.appending.begin(key).ok_or(StorageError::Conflict)
    }

    /// What is already there, which the client's bytes come after. What may not be replaced may not
    /// be added to either: it was delivered once.
    async fn base(
        &self,
        user: &User,
        key: &Path,
        offset: Option<u64>,
    ) -> Result<(Option<Base>, Condition), StorageError> {
        match self.store.head(key).await {
            Ok(_) if self.overwrite(user) == Overwrite::Deny => Err(StorageError::Exists),
            Ok(meta) => {
                let size = meta.size;
                if let Some(asked) = offset.filter(|offset| *offset != size) {
                    return Err(StorageError::Restart { asked, size });
                }
                let version = UpdateVersion {
                    e_tag: meta.e_tag,
                    version: meta.version,
                };
                let base = Base {
                    key: key.clone(),
                    size,
                    version: version.clone(),
                };
                Ok((Some(base), Condition::Unchanged(version)))
            }
            Err(object_store::Error::NotFound { .. }) => match offset {
                None | Some(0) => Ok((None, Condition::StillAbsent)),
                Some(asked) => Err(StorageError::Restart { asked, size: 0 }),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Moves everything into the sink and asks for the commit.
    async fn pump(
        &self,
        job: &mut Job,
        unique: Option<FtpPath>,
        sink: &mut Sink,
    ) -> Result<(), StorageError> {
        let mut stream = job.open(unique).await?;
        job.unless_aborted(self.read_all(job, &mut stream, sink))
            .await?;
        drop(stream);
        self.settle().await;
        Ok(job.commit().await?)
    }

    /// Waits a moment for a control connection that dies with its data connection. The runtime's
    /// shortest sleep is a millisecond, which would be most of a small upload.
    async fn settle(&self) {
        if !self.upload.settle.is_zero() {
            tokio::time::sleep(self.upload.settle).await;
        }
    }

    async fn read_all(
        &self,
        job: &Job,
        stream: &mut DataStream,
        sink: &mut Sink,
    ) -> Result<(), StorageError> {
        sink.take_base().await?;
        loop {
            let mut chunk = sink.chunk().await;
            let more = self.fill(job, stream, &mut chunk, sink.pressure()).await?;
            sink.write(chunk.freeze()).await?;
            if !more {
                return Ok(());
            }
            sink.make_way().await;
        }
    }

    /// Reads until the chunk is full, or enough for now, or the client has ended its data connection,
    /// which is `false`.
    async fn fill(
        &self,
        job: &Job,
        stream: &mut DataStream,
        chunk: &mut BytesMut,
        mut pressure: Pressure<'_>,
    ) -> Result<bool, Abort> {
        let mut since = Instant::now();
        let mut stalled = since + self.upload.stall_timeout;
        while chunk.len() < chunk.capacity() {
            let read = async {
                tokio::select! {
                    biased;
                    read = stream.read_buf(chunk) => Some(read),
                    () = pressure.next_look() => None,
                }
            };
            let read = tokio::time::timeout_at(stalled, read).await;
            let now = Instant::now();
            match read {
                Ok(Some(Ok(0))) => return Ok(false),
                Ok(Some(Ok(bytes))) => {
                    job.count(bytes);
                    stalled = now + self.upload.stall_timeout;
                }
                Ok(Some(Err(_))) => return Err(Abort::DataLost),
                Ok(None) => {}
                Err(_) => return Err(Abort::Stalled),
            }
            if pressure.waited(now - since, chunk.len()) {
                break;
            }
            since = now;
        }
        Ok(true)
    }
}

/// A name that no object has: the one asked for, and 64 random bits.
fn fresh_name(path: &FtpPath) -> FtpPath {
    let suffix: u64 = rand::random();
    let name = if path.is_root() {
        format!("ftp-{suffix:016x}")
    } else {
        format!("{}.{suffix:016x}", path.name())
    };
    // Too long a name is left as it is; its conditional create then fails, if it exists.
    path.parent()
        .resolve(&name)
        .unwrap_or_else(|_| path.clone())
}
