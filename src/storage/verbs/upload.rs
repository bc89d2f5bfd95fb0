//! Uploads: from the client's socket into one object, whole or not at all.
//!
//! ```text
//! prepare ─► open ─► pump (parts go up while bytes come in, the last one too) ─► commit barrier ─► publish
//!                     └── anything goes wrong, anywhere ──► discard ◄──┘
//! ```
//!
//! Up to `publish` nothing that a reader could see has changed. `publish` is reached only through
//! [`Job::commit`], which the guard grants. Where the store's answer to it is lost, the store is asked
//! again ([`verdict`](crate::storage::write::verdict)).

use std::net::IpAddr;
use std::pin::pin;
use std::time::SystemTime;

use object_store::path::Path;
use object_store::{Attributes, GetOptions, GetResult, ObjectStore, ObjectStoreExt};
use tokio::io::AsyncRead;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::auth::{Permission, User};
use crate::config::{Overwrite, Verify, is_archive};
use crate::session::{Abort, Ended, FtpPath, Job, StoreMode, TransferKind};

use crate::storage::Storage;
use crate::storage::error::StorageError;
use crate::storage::store::description::{Carries, Description, Tags};
use crate::storage::store::mark::{Lineage, Mark};
use crate::storage::store::precondition::{self, Precondition};
use crate::storage::store::upload::Base;
use crate::storage::verbs::attributes;
use crate::storage::verbs::contract::Uploader;
use crate::storage::verbs::contract::permit;
use crate::storage::write::appending::OnlyAppend;
use crate::storage::write::handover::Owner;
use crate::storage::write::part::Read;
use crate::storage::write::publish::{DISCARD_PATIENCE, Published, without_bucket};
use crate::storage::write::relief::Revoked;
use crate::storage::write::telling::Telling;
use crate::storage::write::writer::{Intake, ObjectWriter, Plan};

impl Storage {
    pub(crate) async fn receive(
        &self,
        user: &User,
        uploader: Uploader<'_>,
        job: &mut Job,
        input: impl AsyncRead + Send + Unpin,
    ) -> Result<Option<u64>, StorageError> {
        // Boxed, as the publication is: few sessions are at either, and all would hold the memory.
        let prepare = Box::pin(self.prepare(user, uploader, job));
        let (plan, kept) = job.unless_aborted(prepare).await?;
        let unique = plan.unique.clone();
        let goes_on = kept.is_some();
        let mut writer = match kept {
            Some(mut kept) => {
                kept.go_on(plan, job.running());
                kept
            }
            None => self.writer(user, uploader, plan, job.running()),
        };
        job.goes_on_after(writer.size_before());
        match self.pump(job, unique, input, &mut writer).await {
            Ok(()) => {
                let key = writer.plan.key.clone();
                let published = Box::pin(self.publish(writer)).await;
                let published = published.map_err(|error| match error {
                    StorageError::GivenUp => job.reason().into(),
                    error => error,
                })?;
                let mark = published.mark.as_ref().map(Mark::as_str);
                let version = published.version.as_ref().and_then(precondition::name_of);
                if let Some(upload) = mark.or(version) {
                    uploader.own.note(&self.own_name(&key), upload);
                }
                Ok(published.crc64nvme)
            }
            Err(error) => {
                let error = blame(error, &writer.plan);
                let may_come_back =
                    uploader.may_return && (is_loss(&error) || goes_on && is_other_size(&error));
                let owner = Owner::new(&user.name, uploader.peer);
                self.give_up(&owner, writer, may_come_back).await;
                Err(error)
            }
        }
    }

    fn writer(
        &self,
        user: &User,
        uploader: Uploader<'_>,
        plan: Plan,
        running: Option<TaskTrackerToken>,
    ) -> ObjectWriter {
        let description = match self.store.traits().metadata {
            Some(names) => {
                let base = plan.said.as_ref();
                attributes::of(names, user, uploader, &plan.key, &self.upload, base)
            }
            None => Description::default(),
        };
        let mut writer = self.writers.begin(plan, description, running);
        if uploader.may_return {
            writer.telling = self.telling(user, uploader.peer, &writer);
        }
        writer
    }

    /// What lets other gateways go on with an upload, if that is wanted and possible.
    fn telling(&self, user: &User, peer: IpAddr, writer: &ObjectWriter) -> Option<Telling> {
        let (unfinished, plan) = (self.unfinished.as_ref()?, &writer.plan);
        if !plan.can_be_resumed() {
            return None;
        }
        let is_new = plan.precondition == Precondition::Absent;
        let (owner, mark) = (Owner::new(&user.name, peer), writer.mark.as_ref()?);
        unfinished.telling(owner, mark, &plan.key, is_new)
    }

    /// Publishes the file. What was kept of it before, wherever, is of no use any more.
    async fn publish(&self, writer: ObjectWriter) -> Result<Published, StorageError> {
        let is_new = writer.plan.can_be_resumed();
        let (key, running) = (writer.plan.key.clone(), writer.running.clone());
        let published = writer.publish().await?;
        let now = SystemTime::now();
        if let Some(unfinished) = self.unfinished.clone().filter(|_| is_new) {
            let forgetting = tokio::spawn(async move {
                unfinished.forget_everywhere(&key, now).await;
                drop(running);
            });
            // The client does not wait for a store that is slow to forget, but the gateway's end does.
            let _ = tokio::time::timeout(DISCARD_PATIENCE, forgetting).await;
        }
        Ok(published)
    }

    /// Discards what was taken, or keeps it for a client that may come back.
    async fn give_up(&self, owner: &Owner, mut writer: ObjectWriter, may_come_back: bool) {
        match &self.unfinished {
            Some(unfinished) if may_come_back && writer.plan.can_be_resumed() => {
                unfinished.keep(owner, writer);
            }
            _ => {
                writer.discard().await;
            }
        }
    }

    /// Everything that can be refused before the client sends a byte.
    async fn prepare(
        &self,
        user: &User,
        uploader: Uploader<'_>,
        job: &Job,
    ) -> Result<(Plan, Option<ObjectWriter>), StorageError> {
        permit(user, Permission::Write)?;
        let TransferKind::Store(mode) = job.kind() else {
            return Err(Abort::Internal.into());
        };
        let mode = match mode {
            StoreMode::RestartAt(0) => StoreMode::Replace,
            mode => mode,
        };
        let unique = (mode == StoreMode::Unique).then(|| fresh_name(job.path()));
        let path = unique.as_ref().unwrap_or(job.path());
        let key = self.file_key(user, path)?;
        self.check_directory_of(user, path).await?;
        let only = match mode {
            StoreMode::Append | StoreMode::RestartAt(_) => Some(self.only_append(&key)?),
            StoreMode::Replace | StoreMode::Unique => None,
        };
        let mut kept = None;
        let Origin {
            base,
            precondition,
            lineage,
            said,
        } = match mode {
            StoreMode::Replace => {
                let precondition = self.check_replace(user, &key).await?;
                if let Some(unfinished) = &self.unfinished {
                    unfinished.forget(&key).await;
                }
                Origin::new(precondition)
            }
            StoreMode::Unique => Origin::new(Precondition::Absent),
            StoreMode::Append => {
                let found = self.base(user, &key, None).await?;
                if found.base.is_none() {
                    kept = self.resume_append(user, uploader, &key).await?;
                }
                found
            }
            StoreMode::RestartAt(offset) => {
                let found = self.base(user, &key, Some(offset)).await?;
                if found.base.is_none() {
                    kept = self.resume_at(user, uploader, &key, offset).await?;
                }
                found
            }
        };
        let plan = Plan {
            key,
            unique,
            base,
            precondition,
            lineage,
            said,
            only,
            max_size: user.max_size.or(self.upload.max_size),
        };
        Ok((plan, kept))
    }

    /// Whether a plain `STOR` may go to this key, and on what precondition it is published.
    async fn check_replace(&self, user: &User, key: &Path) -> Result<Precondition, StorageError> {
        match self.overwrite(user) {
            Overwrite::Allow => Ok(Precondition::None),
            Overwrite::Deny => match self.store.objects().head(key).await {
                Ok(_) => Err(StorageError::Exists),
                Err(object_store::Error::NotFound { .. }) => Ok(Precondition::Absent),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Keeps other appends to this object away, which could only spoil each other's.
    pub(crate) fn only_append(&self, key: &Path) -> Result<OnlyAppend, StorageError> {
        self.appending.begin(key).ok_or(StorageError::Conflict)
    }

    /// What is already there, up to an offset, which the client's bytes come after. What may not be replaced may
    /// not be added to either: it was delivered once.
    async fn base(
        &self,
        user: &User,
        key: &Path,
        offset: Option<u64>,
    ) -> Result<Origin, StorageError> {
        let head = GetOptions::new().with_head(true);
        match self.store.objects().get_opts(key, head).await {
            Ok(_) if self.overwrite(user) == Overwrite::Deny => Err(StorageError::Exists),
            Ok(GetResult {
                meta,
                attributes,
                extensions,
                ..
            }) => {
                let size = meta.size;
                let kept = offset.unwrap_or(size);
                if kept > size {
                    return Err(StorageError::Restart { asked: kept, size });
                }
                let base = Base::of(&meta).up_to(kept);
                let version = base.version.clone();
                let lineage = Lineage::after(&attributes);
                let carries = extensions.get::<Carries>();
                let said = self.said(key, attributes, carries).await?;
                Ok(Origin {
                    base: Some(base),
                    precondition: Precondition::Unchanged(version),
                    lineage,
                    said: Some(said),
                })
            }
            Err(object_store::Error::NotFound { .. }) => Ok(Origin::new(Precondition::Absent)),
            Err(error) => Err(error.into()),
        }
    }

    /// What is said of an object that is added to, or that it can't be.
    async fn said(
        &self,
        key: &Path,
        attributes: Attributes,
        carries: Option<&Carries>,
    ) -> Result<Description, StorageError> {
        let class = carries.and_then(|carries| carries.class.as_deref());
        let is_readable = carries.is_some_and(|carries| carries.is_restored)
            && self.upload.verify != Verify::ReadBack;
        if class.is_some_and(is_archive) && !is_readable {
            return Err(StorageError::Archived(object_store::Error::Generic {
                store: "the store",
                source: format!("{key} has the class {}", class.unwrap_or_default()).into(),
            }));
        }
        let tags = match carries {
            Some(carries) if carries.is_tagged => self.store.tags(key).await,
            _ => Ok(Tags::default()),
        };
        Ok(Description {
            attributes,
            tags: tags.map_err(|error| match error {
                // It was there a moment ago.
                object_store::Error::NotFound { .. } => StorageError::Conflict,
                error => error.into(),
            })?,
            ..Description::default()
        })
    }

    /// What is kept of an upload that was cut off, if the client goes on where that ends.
    async fn resume_at(
        &self,
        user: &User,
        uploader: Uploader<'_>,
        key: &Path,
        asked: u64,
    ) -> Result<Option<ObjectWriter>, StorageError> {
        match self.take_unfinished(user, uploader, key, asked).await {
            None if asked > 0 => {
                let size = self.unfinished_size(user, uploader.peer, key).await;
                let size = size.unwrap_or(0);
                Err(StorageError::Restart { asked, size })
            }
            kept => Ok(kept),
        }
    }

    /// The same for `APPE`, which names no offset: it goes on with what it was told of, and nothing else.
    async fn resume_append(
        &self,
        user: &User,
        uploader: Uploader<'_>,
        key: &Path,
    ) -> Result<Option<ObjectWriter>, StorageError> {
        let Some(told) = uploader.told else {
            if let Some(unfinished) = &self.unfinished {
                unfinished.forget(key).await;
            }
            return Ok(None);
        };
        let kept = self.take_unfinished(user, uploader, key, told).await;
        kept.map(Some).ok_or(StorageError::Conflict)
    }

    async fn take_unfinished(
        &self,
        user: &User,
        uploader: Uploader<'_>,
        key: &Path,
        size: u64,
    ) -> Option<ObjectWriter> {
        let (unfinished, owner) = (
            self.unfinished.as_ref()?,
            Owner::new(&user.name, uploader.peer),
        );
        // What another process has kept begins as any new file does.
        let begin = || {
            let plan = Plan {
                key: key.clone(),
                unique: None,
                base: None,
                precondition: Precondition::Absent,
                lineage: Lineage::default(),
                said: None,
                only: None,
                max_size: None,
            };
            self.writer(user, uploader, plan, None)
        };
        unfinished.take(&owner, key, size, begin).await
    }

    /// How much is kept of an upload of this client's that was cut off.
    pub(crate) async fn unfinished_size(
        &self,
        user: &User,
        peer: IpAddr,
        key: &Path,
    ) -> Option<u64> {
        let owner = Owner::new(&user.name, peer);
        self.unfinished.as_ref()?.size(&owner, key).await
    }

    /// Moves everything into the writer and asks for the commit.
    async fn pump(
        &self,
        job: &mut Job,
        unique: Option<FtpPath>,
        mut input: impl AsyncRead + Send + Unpin,
        writer: &mut ObjectWriter,
    ) -> Result<(), StorageError> {
        job.open(unique).await?;
        let ended = job
            .unless_aborted(pin!(self.read_all(job, &mut input, writer)))
            .await?;
        drop(input);
        // The guard's wait for a client that dies counts from here: it costs no more than what is left of it
        // when the last part is up.
        job.unless_aborted(pin!(self.send_rest(writer))).await?;
        Ok(job.commit(ended).await?)
    }

    /// Sends what can be sent before the commit. An upload that may be gone on with is not sent to its end: the
    /// last byte has to be let go if its client is lost, and a store gives no byte back.
    async fn send_rest(&self, writer: &mut ObjectWriter) -> Result<(), StorageError> {
        if self.unfinished.is_some() && writer.plan.can_be_resumed() {
            return Ok(());
        }
        writer.send_rest().await
    }

    /// Reads to the end.
    async fn read_all(
        &self,
        job: &Job,
        input: &mut (impl AsyncRead + Send + Unpin),
        writer: &mut ObjectWriter,
    ) -> Result<Ended, StorageError> {
        writer.take_base().await?;
        loop {
            writer.open_chunk().await?;
            let filled = self.fill(job, input, writer.intake()).await?;
            writer.close_chunk().await?;
            writer.tell()?;
            match filled {
                Filled::ToTheEnd(ended) => return Ok(ended),
                Filled::UntilRevoked(revoked) => writer.make_way(revoked).await?,
                Filled::InPart => {}
            }
        }
    }

    /// Reads until the chunk is full, or others need the memory, or the client has ended its data connection.
    async fn fill(
        &self,
        job: &Job,
        input: &mut (impl AsyncRead + Send + Unpin),
        mut intake: Intake<'_>,
    ) -> Result<Filled, Abort> {
        let mut quiet_since = Instant::now();
        let mut stalled = quiet_since + self.upload.stall_timeout;
        while !intake.is_full() {
            match tokio::time::timeout_at(stalled, intake.read(input)).await {
                Ok(Read::Bytes(Ok(0))) => {
                    return Ok(Filled::ToTheEnd(Ended::now(quiet_since.elapsed())));
                }
                Ok(Read::Bytes(Ok(bytes))) => {
                    job.count(bytes);
                    quiet_since = Instant::now();
                    stalled = quiet_since + self.upload.stall_timeout;
                }
                Ok(Read::Bytes(Err(_))) => return Err(Abort::DataLost),
                Ok(Read::Revoked(revoked)) => return Ok(Filled::UntilRevoked(revoked)),
                Ok(Read::Again) => {}
                Err(_) => return Err(Abort::Stalled),
            }
        }
        Ok(Filled::InPart)
    }
}

/// What an upload begins with.
struct Origin {
    base: Option<Base>,
    precondition: Precondition,
    lineage: Lineage,
    /// What the base carries.
    said: Option<Description>,
}

impl Origin {
    /// A new object, on this precondition.
    fn new(precondition: Precondition) -> Self {
        Self {
            base: None,
            precondition,
            lineage: Lineage::default(),
            said: None,
        }
    }
}

/// What was read.
enum Filled {
    /// More may come.
    InPart,
    /// More may come, but others need the memory first.
    UntilRevoked(Revoked),
    /// All that the client sends.
    ToTheEnd(Ended),
}

/// A store that finds nothing has lost what is appended to, or has no bucket.
fn blame(error: StorageError, plan: &Plan) -> StorageError {
    match error {
        StorageError::NotFound if plan.base.is_some() => StorageError::Conflict,
        error => without_bucket(error),
    }
}

/// Whether the client was lost, rather than refused or of another mind. One that the gateway leaves at its end may go on
/// at another.
fn is_loss(error: &StorageError) -> bool {
    use Abort::{ControlLost, DataLost, NoDataConnection, PortTakenBack, Shutdown, Stalled};
    matches!(
        error,
        StorageError::Aborted(
            ControlLost | DataLost | NoDataConnection | PortTakenBack | Shutdown | Stalled
        )
    )
}

/// Whether the client sent another size than it had announced. That is no reason to let go of what was kept for it
/// before: it has only to begin where that ends now.
fn is_other_size(error: &StorageError) -> bool {
    matches!(error, StorageError::Aborted(Abort::SizeMismatch { .. }))
}

/// A name that no object has: the one asked for, and 64 random bits.
pub(crate) fn fresh_name(path: &FtpPath) -> FtpPath {
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
