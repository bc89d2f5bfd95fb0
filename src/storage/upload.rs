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
use object_store::{GetResult, ObjectStoreExt, UpdateVersion};
use tokio::io::AsyncReadExt;

use crate::auth::{Permission, User};
use crate::config::Overwrite;
use crate::session::{Abort, DataStream, FtpPath, Job, SessionId, StoreMode, TransferKind};

use super::sink::{Condition, Plan, Sink, without_bucket};
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

    /// What is already there, to be written again before the client's bytes. What may not be
    /// replaced may not be added to either: it was delivered once.
    async fn base(
        &self,
        user: &User,
        key: &Path,
        offset: Option<u64>,
    ) -> Result<(Option<GetResult>, Condition), StorageError> {
        match self.store.get(key).await {
            Ok(_) if self.overwrite(user) == Overwrite::Deny => Err(StorageError::Exists),
            Ok(object) => {
                let size = object.meta.size;
                if let Some(asked) = offset.filter(|offset| *offset != size) {
                    return Err(StorageError::Restart { asked, size });
                }
                let condition = Condition::Unchanged(UpdateVersion {
                    e_tag: object.meta.e_tag.clone(),
                    version: object.meta.version.clone(),
                });
                Ok((Some(object), condition))
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
        sink.write_base().await?;
        loop {
            let mut chunk = sink.chunk().await;
            let more = self.fill(job, stream, &mut chunk).await?;
            sink.write(chunk.freeze()).await?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Reads until the chunk is full or the client has ended its data connection, which is `false`.
    async fn fill(
        &self,
        job: &Job,
        stream: &mut DataStream,
        chunk: &mut BytesMut,
    ) -> Result<bool, Abort> {
        while chunk.len() < chunk.capacity() {
            let read = tokio::time::timeout(self.upload.stall_timeout, stream.read_buf(chunk));
            match read.await {
                Ok(Ok(0)) => return Ok(false),
                Ok(Ok(bytes)) => job.count(bytes),
                Ok(Err(_)) => return Err(Abort::DataLost),
                Err(_) => return Err(Abort::Stalled),
            }
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
