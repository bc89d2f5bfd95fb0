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
pub mod foreign;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
#[cfg(test)]
pub(crate) mod harness;
#[cfg(test)]
mod kept;
mod key;
mod read;
#[cfg(test)]
mod sentence;
mod served;
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
pub use store::options::{OpenError, bucket, idle_connections};
pub use verbs::contract::{Encode, Input, Output, Uploader, Verbs};
pub use write::conditions::Tried;
pub use write::handovers::Swept;

use std::sync::Arc;

use crate::auth::User;
use crate::config;
use crate::memory::Use;
use crate::session::{Entry, Facts, FtpPath};
use crate::supervise::Supervisor;
use crate::telemetry::Metrics;

use key::KeySpace;
use read::ahead::ReadAhead;
use store::Store;
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

    /// How many files may be kept open for uploads whose clients were lost.
    #[must_use]
    pub fn kept_files(upload: &config::Upload) -> usize {
        upload
            .resume_window
            .map_or(0, |_| verbs::unfinished::MAX_KEPT)
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

/// The facts of what a path was found to be, as `MLST` shows them.
pub fn facts_line(user: &User, facts: Facts, path: &FtpPath, entry: &Entry) -> String {
    FactsOf::new(facts, user.permissions, &user.home, &path.parent()).line(entry)
}
