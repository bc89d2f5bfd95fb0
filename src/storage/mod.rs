//! FTP's verbs as operations on objects.
//!
//! The only room that names `object_store`. It promises the sentence that the whole program stands
//! on: an upload that ends well is in the bucket, whole; any other leaves the bucket as it was.
//! [`Storage`] speaks in [`FtpPath`]s and [`User`]s. The bytes of a transfer go straight between the
//! client's stream and the store; when, is agreed on through the session's [`Job`](crate::session::Job).

#[cfg(test)]
mod clouds;
mod error;
#[cfg(test)]
mod faults;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
#[cfg(test)]
pub(crate) mod harness;
mod key;
mod read;
#[cfg(test)]
mod sentence;
mod store;
#[cfg(test)]
mod suite;
mod verbs;
#[cfg(test)]
mod versioned;
#[cfg(test)]
mod whole;
mod write;

pub use error::StorageError;
pub(crate) use store::http::command::on_behalf_of;
pub use store::options::{OpenError, idle_connections};
pub use verbs::upload::Uploader;
pub use write::conditions::Tried;
pub use write::handovers::Swept;

use std::net::IpAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::auth::{Permission, User};
use crate::config;
use crate::memory::Use;
use crate::session::{Entry, EntryKind, Facts, FtpPath, Job, Report};
use crate::supervise::Supervisor;
use crate::telemetry::Metrics;

use key::KeySpace;
use read::ahead::ReadAhead;
use verbs::format::FactsOf;
use verbs::listing_memory::ListingMemory;
use verbs::renaming::Renaming;
use verbs::unfinished::Unfinished;
use write::appending::Appending;
use write::budget::Budget;
use write::conditions::{Conditions, Known};
use write::handovers::Handovers;
use write::part_sizes::PartSizes;
use write::writer::Writers;

/// This part of the upload memory may hold the ends of uploads whose clients were lost.
const KEPT_UPLOADS_SHARE: usize = 8;
use store::Store;

/// A bucket, as FTP sees it.
#[derive(Debug)]
pub struct Storage {
    store: Arc<dyn Store>,
    /// Objects that are being appended to.
    appending: Appending,
    /// Directories that are being renamed.
    renaming: Renaming,
    /// Uploads whose clients may come back, if that is wanted.
    unfinished: Option<Unfinished>,
    keys: KeySpace,
    writers: Writers,
    conditions: Arc<Conditions>,
    /// Whether the gateway may try what the store knows.
    tries: bool,
    read_ahead: ReadAhead,
    listing_memory: ListingMemory,
    upload: config::Upload,
    download: config::Download,
    metrics: Arc<Metrics>,
}

impl Storage {
    /// Opens the store that the configuration names. Nothing is asked of it yet, but a local
    /// folder that is missing is created.
    ///
    /// # Errors
    /// When an option is unknown or contradicts another, or the local folder can't be created.
    pub fn open(config: &config::Config, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        let store = store::open::open(&config.store, config.upload.verify, &metrics)?;
        Self::on(store, config, metrics)
    }

    fn on(
        store: Arc<dyn Store>,
        config: &config::Config,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        let traits = store.traits();
        let sizes = PartSizes::new(&config.upload, traits.max_parts);
        let memory = usize::try_from(config.upload.memory.0).unwrap_or(usize::MAX);
        if sizes.largest() > memory / 4 {
            return Err(OpenError::PartSize {
                found: config.upload.part_size,
                memory: config.upload.memory,
            });
        }
        if let (Some(window), Some(sweep)) =
            (config.upload.resume_window, config.upload.sweep_after)
            && window >= sweep
        {
            return Err(OpenError::ResumeWindow { window, sweep });
        }
        if let Some(path) = &config.upload.spill_dir {
            write::part::try_to_spill(path).map_err(|source| OpenError::SpillDir {
                path: path.clone(),
                source,
            })?;
        }
        let used = metrics.memory_of(Use::Uploads);
        let budget = Budget::new(memory, used, Supervisor::new(&metrics));
        let on_disk = metrics.upload_spilled.clone();
        let trusted = config.store.conditions == config::Conditions::Trust;
        let gauge = metrics.store_conditional_writes.clone();
        let known = if traits.conditions {
            Some(Known::Holds)
        } else {
            trusted.then_some(Known::Trusted)
        };
        let conditions = Arc::new(Conditions::new(known, gauge));
        let writers = Writers::new(
            Arc::clone(&store),
            &config.upload,
            sizes,
            budget,
            on_disk,
            Arc::clone(&conditions),
        );
        let read_ahead = ReadAhead::new(&config.download, metrics.memory_of(Use::Downloads));
        let root = store::options::root(&config.store)?;
        let handovers = Handovers::new(
            Arc::clone(&store),
            Arc::clone(&conditions),
            &root,
            sizes.uniform(),
        );
        Ok(Self {
            store,
            appending: Appending::default(),
            renaming: Renaming::default(),
            unfinished: config.upload.resume_window.map(|window| {
                let memory = memory / KEPT_UPLOADS_SHARE;
                Unfinished::new(window, memory, handovers, config.upload.sweep_after)
            }),
            keys: KeySpace::new(root, traits.names),
            writers,
            conditions,
            tries: !trusted,
            read_ahead,
            listing_memory: ListingMemory::new(
                config.limits.listing_memory,
                metrics.memory_of(Use::Listings),
            ),
            upload: config.upload.clone(),
            download: config.download.clone(),
            metrics,
        })
    }

    /// Receives a file from the client. How it ended is in the report, which the guard has too.
    pub async fn upload(
        &self,
        user: &User,
        uploader: Uploader<'_>,
        mut job: Job,
        input: impl AsyncRead + Send + Unpin,
    ) -> Result<u64, StorageError> {
        let given_up = job.given_up();
        let received = on_behalf_of(given_up, self.receive(user, uploader, &mut job, input)).await;
        match received {
            Ok(crc64nvme) => {
                let bytes = job.bytes();
                job.finish(Report::complete(bytes).with_checksum(crc64nvme));
                Ok(bytes)
            }
            Err(error) => Self::report(job, Err(error)),
        }
    }

    /// Sends a file to the client.
    pub async fn download(
        &self,
        user: &User,
        mut job: Job,
        output: &mut (impl AsyncWrite + Send + Unpin + ?Sized),
    ) -> Result<u64, StorageError> {
        let result = self.send(user, &mut job, output).await;
        Self::report(job, result)
    }

    /// Sends a listing to the client.
    pub async fn list(
        &self,
        user: &User,
        facts: Facts,
        mut job: Job,
        output: &mut (impl AsyncWrite + Send + Unpin),
        encode: impl Fn(&str) -> Vec<u8> + Send,
    ) -> Result<u64, StorageError> {
        let result = self
            .send_listing(user, facts, &mut job, output, encode)
            .await;
        Self::report(job, result)
    }

    /// The facts of what a path was found to be, as `MLST` shows them.
    pub fn facts_line(&self, user: &User, facts: Facts, path: &FtpPath, entry: &Entry) -> String {
        FactsOf::new(facts, user.permissions, &user.home, &path.parent()).line(entry)
    }

    /// The largest file that can be uploaded, if the store has a limit.
    #[must_use]
    pub fn largest_upload(&self) -> Option<config::ByteSize> {
        self.writers.largest_object()
    }

    /// What is safely kept of a file that was cut off, as its uploader may see it.
    pub async fn unfinished_entry(
        &self,
        user: &User,
        peer: IpAddr,
        path: &FtpPath,
    ) -> Option<Entry> {
        let key = self.file_key(user, path).ok()?;
        Some(Entry {
            name: path.name().to_owned(),
            kind: EntryKind::File,
            size: self.unfinished_size(user, peer, &key).await?,
            modified: None,
        })
    }

    /// How many files may be kept open for uploads whose clients were lost.
    #[must_use]
    pub fn kept_files(upload: &config::Upload) -> usize {
        upload
            .resume_window
            .map_or(0, |_| verbs::unfinished::MAX_KEPT)
    }

    /// Leaves what is kept for clients that may come back to other gateways, as far as they can go on with it: the
    /// process ends.
    pub async fn leave_unfinished(&self) {
        if let Some(unfinished) = &self.unfinished {
            unfinished.leave_all().await;
        }
    }

    fn report(job: Job, result: Result<(), StorageError>) -> Result<u64, StorageError> {
        let bytes = job.bytes();
        match result {
            Ok(()) => {
                job.finish(Report::complete(bytes));
                Ok(bytes)
            }
            Err(error) => {
                job.finish(error.report(bytes));
                Err(error)
            }
        }
    }

    /// Whether this user may replace what is there.
    fn overwrite(&self, user: &User) -> config::Overwrite {
        user.overwrite.unwrap_or(self.upload.overwrite)
    }

    /// The key of a path that is to be one object.
    fn file_key(
        &self,
        user: &User,
        path: &FtpPath,
    ) -> Result<object_store::path::Path, StorageError> {
        if path.is_root() {
            return Err(StorageError::IsDirectory);
        }
        self.keys.key(user, path)
    }
}

/// What the user may not do, the store is never asked for.
fn permit(user: &User, permission: Permission) -> Result<(), StorageError> {
    if user.permissions.allows(permission) {
        Ok(())
    } else {
        Err(StorageError::NotPermitted(permission))
    }
}
