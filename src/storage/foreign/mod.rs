//! Back-ends of libunftp's that are not ours, behind the same guard.
//!
//! The gateway keeps for them rights, homes and names. It publishes no file before the guard has agreed, and holds each
//! upload against what it has become. They make no change on a condition, and can't be asked what became of one. So the
//! gateway can't keep two promises: a newer file may be replaced, and a change that was told as failed may take effect.
//! `check` says so.

mod error;
mod gate;
mod receive;
mod send;

pub use error::{Kind, Trouble};
pub use gate::Gated;

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use object_store::path::Path;
use tokio::io::AsyncRead;
use tokio::sync::{Semaphore, mpsc};

use crate::auth::{Permission, User};
use crate::config::{self, ByteSize, MissingDirectories, Verify};
use crate::memory::Use;
use crate::session::{Entry, Facts, FtpPath, Job, OwnUploads, StatusPage};
use crate::storage::common::Common;
use crate::storage::error::{Beyond, StorageError};
use crate::storage::key::KeySpace;
use crate::storage::store::RESERVED;
use crate::storage::store::names::SegmentRules;
use crate::storage::store::options::{self, OpenError};
use crate::storage::verbs::contract::{
    Encode, Input, Output, Spot, StoreFront, Taken, Uploader, Verbs, permit, permit_look,
    permit_rename, report,
};
use crate::storage::verbs::listing::{self, Listed};
use crate::storage::verbs::listing_memory::ListingMemory;
use crate::storage::verbs::pages::{Page, Pages};
use crate::storage::write::budget::Budget;
use crate::storage::write::conditions::Tried;
use crate::storage::write::handovers::Swept;
use crate::storage::write::locks::KeyLocks;
use crate::telemetry::StoreMetrics;

use receive::UPLOAD_MEMORY;

/// A listing comes in many answers, of which only the last is seen.
const LISTING_ANSWERS: u32 = 10;

/// What a back-end gives to read.
pub type Reader = Box<dyn AsyncRead + Send + Sync + Unpin>;

/// A back-end that is not ours. Keys have no slash at either end; the root is the empty one.
#[async_trait]
pub trait Foreign: Debug + Send + Sync {
    /// Its name, as `store.driver` has it.
    fn driver(&self) -> &'static str;

    /// What is at a key, if it is a file or the back-end tells directories by their metadata.
    async fn metadata(&self, key: &str) -> Result<Entry, Trouble>;

    /// Whether there is such a directory.
    async fn is_directory(&self, key: &str) -> Result<bool, Trouble>;

    /// All that is in a directory.
    async fn list(&self, key: &str) -> Result<Vec<Entry>, Trouble>;

    /// A file's content from an offset on.
    async fn get(&self, key: &str, offset: u64) -> Result<Reader, Trouble>;

    /// Stores what it reads to its end, and returns the size of what it has stored. If the reading fails, nothing must
    /// become visible.
    async fn put(&self, key: &str, content: Gated) -> Result<u64, Trouble>;

    /// The MD5 of a file, in hexadecimal digits; `None` where the back-end has none.
    async fn md5(&self, key: &str) -> Result<Option<String>, Trouble>;

    /// Deletes a file.
    async fn delete(&self, key: &str) -> Result<(), Trouble>;

    /// Makes a directory.
    async fn make_directory(&self, key: &str) -> Result<(), Trouble>;

    /// Removes an empty directory.
    async fn remove_directory(&self, key: &str) -> Result<(), Trouble>;
}

/// A foreign back-end, as FTP sees it.
#[derive(Debug)]
pub struct ForeignStorage {
    inner: Box<dyn Foreign>,
    keys: KeySpace,
    /// What was seen at a key stays so while one of this gateway's changes is made there.
    locks: KeyLocks,
    /// For each upload that may run, of [`UPLOAD_MEMORY`].
    uploads: Arc<Semaphore>,
    listing_memory: ListingMemory,
    request_timeout: Duration,
    upload: config::Upload,
    download: config::Download,
    budget: Budget,
    metrics: Arc<StoreMetrics>,
}

impl ForeignStorage {
    /// Puts FTP's verbs onto a back-end. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When a setting asks for what no foreign back-end can do.
    pub fn open(
        inner: Box<dyn Foreign>,
        config: &config::Store,
        common: &Common,
        metrics: Arc<StoreMetrics>,
    ) -> Result<Self, OpenError> {
        let upload = common.upload.clone();
        let beyond = [
            ("upload.resume_window", upload.resume_window.is_some()),
            ("upload.verify", upload.verify == Verify::ReadBack),
            ("upload.metadata", upload.metadata.iter().next().is_some()),
            ("upload.content_types", !upload.content_types.is_empty()),
        ];
        if let Some((setting, _)) = beyond.into_iter().find(|(_, is_set)| *is_set) {
            let driver = inner.driver();
            return Err(OpenError::BeyondDriver { setting, driver });
        }
        // Nothing takes memory back from one of these, so they leave half of it to the other stores.
        let share = common.upload_memory() / common.stores.min(2);
        let uploads = (share / UPLOAD_MEMORY).clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            inner,
            keys: KeySpace::new(options::root(config)?, SegmentRules::NONE),
            locks: KeyLocks::default(),
            uploads: Arc::new(Semaphore::new(uploads)),
            // Nobody knows how long a listing is until it is there: one is fetched at a time.
            listing_memory: ListingMemory::new(ByteSize(0), metrics.all().memory_of(Use::Listings)),
            request_timeout: config.request_timeout,
            upload,
            download: common.download.clone(),
            budget: common.budget.clone(),
            metrics,
        })
    }

    /// Awaits an answer of the back-end, for so long at most, and counts it. The back-ends have no timeout of their own.
    async fn within<T>(
        &self,
        patience: Duration,
        operation: &str,
        request: impl Future<Output = Result<T, Trouble>> + Send,
    ) -> Result<T, Trouble> {
        let started = Instant::now();
        let answer = tokio::time::timeout(patience, request).await;
        let answer = answer.unwrap_or_else(|_| Err(Trouble::silence(patience)));
        self.count(operation, started, answer.as_ref().err());
        answer
    }

    /// Counts a request that was begun then.
    fn count(&self, operation: &str, started: Instant, trouble: Option<&Trouble>) {
        let outcome = trouble.map_or("ok", Trouble::label);
        self.metrics.request(operation, outcome, started.elapsed());
    }

    async fn ask<T>(
        &self,
        operation: &str,
        request: impl Future<Output = Result<T, Trouble>> + Send,
    ) -> Result<T, Trouble> {
        self.within(self.request_timeout, operation, request).await
    }

    /// The key of a path that is to be one object.
    fn file_key(&self, user: &User, path: &FtpPath) -> Result<Path, StorageError> {
        if path.is_root() {
            return Err(StorageError::IsDirectory);
        }
        self.keys.key(user, path)
    }

    /// What a path is, whoever asks.
    async fn look(&self, user: &User, path: &FtpPath) -> Result<Entry, StorageError> {
        if path.is_root() {
            return Ok(Entry::directory(path.name()));
        }
        match self.file(user, path).await {
            Err(StorageError::NotFound | StorageError::IsDirectory) => {}
            found => return found,
        }
        if self.directory_exists(user, path).await? {
            return Ok(Entry::directory(path.name()));
        }
        Err(StorageError::NotFound)
    }

    async fn directory_exists(&self, user: &User, path: &FtpPath) -> Result<bool, StorageError> {
        let key = self.keys.key(user, path)?;
        Ok(self
            .ask("list", self.inner.is_directory(key.as_ref()))
            .await?)
    }

    async fn check_directory_of(&self, user: &User, path: &FtpPath) -> Result<(), StorageError> {
        let directory = path.parent();
        let may_be_missing = self.upload.missing_directories == MissingDirectories::Create;
        let is_there = directory.is_root() || user.leads_to_mount(directory.as_str());
        if may_be_missing || is_there || self.directory_exists(user, &directory).await? {
            return Ok(());
        }
        Err(StorageError::MissingDirectory(
            user.shown(directory.as_str()),
        ))
    }

    /// A directory that has lost its last child stays until it is removed itself. The client was told what it asked
    /// for, whatever comes of this.
    async fn keep_directory(&self, user: &User, path: &FtpPath) {
        if path.is_root() || !matches!(self.directory_exists(user, path).await, Ok(false)) {
            return;
        }
        let Ok(key) = self.keys.key(user, path) else {
            return;
        };
        let made = self.ask("put", self.inner.make_directory(key.as_ref()));
        if let Err(error) = made.await {
            tracing::debug!(%path, %error, "can't keep an empty directory");
        }
    }
}

#[async_trait]
impl Listed for ForeignStorage {
    fn listing_memory(&self) -> &ListingMemory {
        &self.listing_memory
    }

    fn stall_timeout(&self) -> Duration {
        self.download.stall_timeout
    }

    /// One page, however long: the back-end has it whole before we see anything of it.
    fn directory(&self, user: &User, path: &FtpPath) -> Result<Pages<'_>, StorageError> {
        let key = self.keys.key(user, path)?;
        let page = async move {
            let patience = self.request_timeout.saturating_mul(LISTING_ANSWERS);
            let listing = self.inner.list(key.as_ref());
            let entries = match self.within(patience, "list", listing).await {
                Err(trouble) if trouble.kind() == Kind::Absent => Vec::new(),
                entries => entries?,
            };
            let page = page_of(entries, key == *self.keys.prefix());
            self.metrics.hide(page.hidden);
            Ok(page)
        };
        Ok(stream::once(page).boxed())
    }

    async fn is_empty_directory(&self, user: &User, path: &FtpPath) -> Result<bool, StorageError> {
        self.directory_exists(user, path).await
    }

    async fn file(&self, user: &User, path: &FtpPath) -> Result<Entry, StorageError> {
        let key = self.file_key(user, path)?;
        let entry = self.ask("head", self.inner.metadata(key.as_ref())).await?;
        if entry.is_directory() {
            return Err(StorageError::IsDirectory);
        }
        Ok(Entry {
            name: path.name().to_owned(),
            ..entry
        })
    }
}

/// What FTP can say of what a back-end lists.
fn page_of(entries: Vec<Entry>, at_root: bool) -> Page {
    let mut page = Page::default();
    for entry in entries {
        if at_root && entry.name == RESERVED {
            continue;
        }
        page.add_entry(entry);
    }
    page.entries.sort_by(|a, b| a.name.cmp(&b.name));
    page
}

#[async_trait]
impl Verbs for ForeignStorage {
    async fn stat(&self, user: &User, path: &FtpPath) -> Result<Entry, StorageError> {
        permit_look(user)?;
        self.look(user, path).await
    }

    async fn enter(&self, user: &User, path: &FtpPath) -> Result<(), StorageError> {
        if path.is_root() {
            return Ok(());
        }
        match self.directory_exists(user, path).await {
            // Credentials that may only write can't tell: let the client go where it will.
            Ok(true) | Err(StorageError::StoreDenied(_)) => Ok(()),
            Err(error) => Err(error),
            Ok(false) => match self.file(user, path).await {
                Ok(_) => Err(StorageError::NotADirectory),
                Err(error) => Err(error),
            },
        }
    }

    async fn make_directory(&self, user: &User, path: &FtpPath) -> Result<(), StorageError> {
        permit(user, Permission::Mkdir)?;
        let key = self.keys.key(user, path)?;
        self.check_directory_of(user, path).await?;
        let _alone = self.locks.lock(&key).write().await;
        match self.look(user, path).await {
            Ok(_) => return Err(StorageError::Occupied),
            Err(StorageError::NotFound | StorageError::StoreDenied(_)) => {}
            Err(error) => return Err(error),
        }
        let made = self.ask("put", self.inner.make_directory(key.as_ref()));
        Ok(made.await.map_err(Trouble::of_change)?)
    }

    async fn remove_directory(&self, user: &User, path: &FtpPath) -> Result<(), StorageError> {
        permit(user, Permission::Delete)?;
        if path.is_root() {
            return Err(StorageError::NotEmpty);
        }
        let key = self.keys.key(user, path)?;
        let removed = self.ask("delete", self.inner.remove_directory(key.as_ref()));
        match removed.await.map_err(Trouble::of_change) {
            Err(trouble) if trouble.kind() == Kind::Absent => {
                return match self.file(user, path).await {
                    Ok(_) => Err(StorageError::NotADirectory),
                    Err(error) => Err(error),
                };
            }
            removed => removed?,
        }
        self.keep_directory(user, &path.parent()).await;
        Ok(())
    }

    async fn delete(&self, user: &User, path: &FtpPath) -> Result<(), StorageError> {
        permit(user, Permission::Delete)?;
        let key = self.file_key(user, path)?;
        {
            let _alone = self.locks.lock(&key).write().await;
            let deleted = self.ask("delete", self.inner.delete(key.as_ref()));
            match deleted.await.map_err(Trouble::of_change) {
                Err(trouble) if trouble.kind() == Kind::Absent => {
                    let is_directory = self.directory_exists(user, path).await?;
                    return Err(if is_directory {
                        StorageError::IsDirectory
                    } else {
                        StorageError::NotFound
                    });
                }
                deleted => deleted?,
            }
        }
        self.keep_directory(user, &path.parent()).await;
        Ok(())
    }

    async fn rename(
        &self,
        _: Uploader<'_>,
        from: Spot<'_>,
        to: Spot<'_>,
    ) -> Result<(), StorageError> {
        permit_rename(from.user, to.user)?;
        Err(StorageError::BeyondDriver(Beyond::Rename))
    }

    async fn upload(
        &self,
        user: &User,
        _: Uploader<'_>,
        mut job: Job,
        input: Input,
    ) -> Result<u64, StorageError> {
        let received = self.receive(user, &mut job, input).await;
        report(job, received)
    }

    async fn download(
        &self,
        user: &User,
        mut job: Job,
        output: &mut Output<'_>,
    ) -> Result<u64, StorageError> {
        let sent = self.send(user, &mut job, output).await;
        report(job, sent)
    }

    async fn list(
        &self,
        user: &User,
        facts: Facts,
        mut job: Job,
        output: &mut Output<'_>,
        encode: &Encode<'_>,
    ) -> Result<u64, StorageError> {
        let sent = listing::send_listing(self, user, facts, &mut job, output, encode).await;
        report(job, sent)
    }

    async fn send_status(
        &self,
        user: &User,
        path: &FtpPath,
        guard: mpsc::Sender<StatusPage>,
    ) -> Result<String, StorageError> {
        listing::send_status(self, user, path, guard).await
    }

    async fn unfinished_entry(&self, _: &User, _: IpAddr, _: &FtpPath) -> Option<Entry> {
        None
    }
}

#[async_trait]
impl StoreFront for ForeignStorage {
    /// It can delete nothing on the condition that it is what was seen.
    async fn take(&self, _: &OwnUploads, _: Spot<'_>) -> Result<Taken, StorageError> {
        Err(StorageError::BeyondDriver(Beyond::Rename))
    }

    async fn give_away(&self, _: Spot<'_>, _: Taken) -> Result<(), StorageError> {
        Err(StorageError::BeyondDriver(Beyond::Rename))
    }

    async fn leave_unfinished(&self) {}

    /// Asks for the list of a directory that has nothing in it: it has an answer where there is a bucket.
    async fn probe(&self) -> Result<(), StorageError> {
        let probed = self.keys.prefix().clone().join(RESERVED);
        match self.ask("list", self.inner.list(probed.as_ref())).await {
            Ok(_) => Ok(()),
            Err(trouble) => match trouble.kind() {
                // As of our own stores: a refusal is an answer.
                Kind::Denied => Ok(()),
                Kind::Absent | Kind::NoBucket => Err(StorageError::NoBucket),
                _ => Err(trouble.into()),
            },
        }
    }

    async fn ping(&self) {
        let key = self.keys.prefix().clone().join(RESERVED);
        let _ = self.ask("head", self.inner.metadata(key.as_ref())).await;
    }

    async fn try_store(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn conditions(&self) -> Vec<Tried> {
        Vec::new()
    }

    fn comparison(&self) -> (&'static str, &'static str) {
        (
            "size and MD5, asked for after the upload",
            "what was damaged is told the client, and is in the bucket",
        )
    }

    fn largest_upload(&self) -> Option<ByteSize> {
        None
    }

    async fn notes(&self) -> Vec<String> {
        let driver = self.inner.driver();
        vec![
            format!(
                "store.driver is {driver}: files can't be renamed, appended to or gone on with, and each is sent in one \
                 request, which nothing sends again."
            ),
            format!(
                "{driver} makes no change on a condition: of two who write one name through two gateways, both are told \
                 226, also under upload.overwrite = \"deny\". Where the store's answer to an upload is lost, the client \
                 is told 451, and the file may be there, or come later and replace another."
            ),
            format!(
                "{driver} has a whole directory in memory before it lists it: give the container 1 KiB more for each name \
                 in your largest directory."
            ),
        ]
    }

    async fn sweep(&self, _: Duration) -> Swept {
        Swept::default()
    }
}
