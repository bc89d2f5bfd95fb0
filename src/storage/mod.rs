//! FTP's verbs as operations on objects.
//!
//! The only room that names `object_store`. It promises the sentence that the whole program stands
//! on: an upload that ends well is in the bucket, whole; any other leaves the bucket as it was.
//! [`Storage`] speaks in [`FtpPath`]s and [`User`]s. The bytes of a transfer go straight between the
//! client's stream and the store; when, is agreed on through the session's [`Job`](crate::session::Job).

#[cfg(test)]
mod clouds;
mod common;
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
pub mod stores;
#[cfg(test)]
mod suite;
mod verbs;
#[cfg(test)]
mod versioned;
#[cfg(test)]
mod whole;
mod write;

pub use common::Common;
pub use error::StorageError;
pub(crate) use store::http::command::on_behalf_of;
pub use store::options::{OpenError, bucket, idle_connections};
pub use verbs::contract::{Encode, Input, Output, Spot, StoreFront, Taken, Uploader, Verbs};
pub use write::conditions::Tried;
pub use write::handovers::Swept;

use std::sync::Arc;

use crate::auth::User;
use crate::config;
use crate::session::{Entry, Facts, FtpPath};
use crate::telemetry::StoreMetrics;

use key::KeySpace;
use read::ahead::ReadAhead;
use store::Store;
use verbs::format::FactsOf;
use verbs::listing_memory::ListingMemory;
use verbs::renaming::Renaming;
use verbs::unfinished::Unfinished;
use write::appending::Appending;
use write::conditions::{Conditions, Known};
use write::handovers::Handovers;
use write::part_sizes::PartSizes;
use write::writer::Writers;

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
    metrics: Arc<StoreMetrics>,
}

impl Storage {
    /// Opens a store. Nothing is asked of it yet, but a local
    /// folder that is missing is created.
    ///
    /// # Errors
    /// When an option is unknown or contradicts another, or the local folder can't be created.
    pub fn open(
        config: &config::Store,
        common: &Common,
        metrics: Arc<StoreMetrics>,
    ) -> Result<Self, OpenError> {
        let store = store::open::open(config, common.upload.verify, &metrics)?;
        Self::on(store, config, common, metrics)
    }

    fn on(
        store: Arc<dyn Store>,
        config: &config::Store,
        common: &Common,
        metrics: Arc<StoreMetrics>,
    ) -> Result<Self, OpenError> {
        let (traits, upload) = (store.traits(), &common.upload);
        let sizes = PartSizes::new(upload, traits.max_parts);
        if sizes.largest() > common.upload_memory() / 4 {
            return Err(OpenError::PartSize {
                found: upload.part_size,
                memory: upload.memory,
            });
        }
        let on_disk = metrics.all().upload_spilled.clone();
        let trusted = config.conditions == config::Conditions::Trust;
        let known = if traits.conditions {
            Some(Known::Holds)
        } else {
            trusted.then_some(Known::Trusted)
        };
        let conditions = Arc::new(Conditions::new(known, Arc::clone(&metrics)));
        let writers = Writers::new(
            Arc::clone(&store),
            upload,
            sizes,
            common.budget.clone(),
            on_disk,
            Arc::clone(&conditions),
        );
        let root = store::options::root(config)?;
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
            unfinished: upload.resume_window.map(|window| {
                Unfinished::new(window, common.kept_memory(), handovers, upload.sweep_after)
            }),
            keys: KeySpace::new(root, traits.names),
            writers,
            conditions,
            tries: !trusted,
            read_ahead: common.read_ahead.clone(),
            listing_memory: common.listing_memory.clone(),
            upload: upload.clone(),
            download: common.download.clone(),
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

    /// What a session calls the object of this key among those that it has stored, in whatever store.
    fn own_name(&self, key: &object_store::path::Path) -> String {
        format!("{}:{key}", self.metrics.name())
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
    // What is mounted belongs into the directory in which it shows.
    let directory = path.parent();
    let (there, rest) = user.at(directory.as_str());
    FactsOf::new(facts, there, rest).line(entry)
}
