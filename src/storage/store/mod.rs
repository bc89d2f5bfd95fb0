//! The stores: one trait, and a folder for each kind.
//!
//! What a kind can do is data ([`Traits`]), so that nothing above this floor asks which kind it is. A new kind is
//! a folder here, and a line in [`open`].

pub(crate) mod azure;
pub(crate) mod body;
pub(crate) mod causes;
pub(crate) mod credentials;
pub(crate) mod description;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod gcs;
pub(crate) mod http;
pub(crate) mod keys;
pub(crate) mod local;
pub(crate) mod mark;
pub(crate) mod memory;
pub(crate) mod metered;
pub(crate) mod names;
pub(crate) mod open;
pub(crate) mod options;
pub(crate) mod precondition;
pub(crate) mod s3;
pub(crate) mod stored;
#[cfg(test)]
pub(crate) mod suite;
pub(crate) mod terms;
pub(crate) mod upload;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectStore, PutOptions, Result, UpdateVersion};

use body::{Algorithm, Body};
use description::{Description, Tags};
use keys::{MAX_PAGE, Marker, Object, Page, Query, if_any, marker};
use metered::Metered;
use names::SegmentRules;
use precondition::Precondition;
use stored::{Comparison, Kept, Stored};
use terms::Terms;
use upload::{Base, Start, Upload};

/// From so many bytes on, every store takes a part, and not only as the last one.
pub(crate) const MIN_PART: usize = 5 << 20;

/// The directory right under the store's prefix that is the gateway's own: no client sees or names it.
pub(crate) const RESERVED: &str = ".bucketferry";

/// What a kind of store can do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    /// As many parts as an upload may have.
    pub(crate) max_parts: Option<usize>,
    /// Which names it takes.
    pub(crate) names: SegmentRules,
    /// What metadata is called, where the store keeps any.
    pub(crate) metadata: Option<MetadataNames>,
    /// Directories exist by themselves, and are renamed at once, as files are. Elsewhere markers keep them, and a
    /// rename is copies and deletes.
    pub(crate) directories: bool,
    /// What makes certain that [`Store::delete_unchanged`] spares an object that has changed.
    pub(crate) deletes: Deletes,
    /// Whether an upload that was aborted can't be published any more, however late the store is at it.
    pub(crate) aborts: Aborts,
    /// Several streams read an object faster than one.
    pub(crate) parallel_reads: bool,
    /// Preconditions hold for certain; elsewhere it has to be tried.
    pub(crate) conditions: bool,
    /// A request may arrive after it was given up, and overtake later ones.
    pub(crate) late_requests: bool,
}

/// How a store lets metadata be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MetadataNames {
    pub(crate) user: &'static str,
    pub(crate) session: &'static str,
}

impl MetadataNames {
    /// As HTTP headers are.
    pub(crate) const HYPHENED: Self = Self {
        user: "ftp-user",
        session: "ftp-session",
    };

    /// What another name is called there.
    pub(crate) fn of(self, name: &str) -> String {
        if self == Self::IDENTIFIERS {
            return name.replace('-', "_");
        }
        name.to_owned()
    }

    /// Azure takes identifiers only.
    pub(crate) const IDENTIFIERS: Self = Self {
        user: "ftp_user",
        session: "ftp_session",
    };
}

/// By what a deletion names the version that it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletes {
    /// It may name one, but not every such store looks at it.
    Blindly,
    /// By the `ETag`.
    ByTag,
    /// By Google's generation.
    ByGeneration,
}

impl Deletes {
    /// Whether it is certain that this object stays if it has changed.
    pub(crate) fn are_certain(self, object: &Object) -> bool {
        match self {
            Self::Blindly => false,
            Self::ByTag => object.e_tag.is_some(),
            Self::ByGeneration => object.generation.is_some(),
        }
    }
}

/// Which aborts are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aborts {
    /// All.
    Final,
    /// None: blocks can't be taken back, and what is about to be composed may be.
    Open,
}

/// Whether an object can stay where it is as the beginning of its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// It has to be written again.
    Never,
    /// It may turn out, when the upload is begun, that it can't ([`Error::NotSupported`]). It counts for so many
    /// parts.
    Perhaps(usize),
    /// It can, and counts for so many parts.
    Surely(usize),
}

/// A bucket or a folder, of whatever kind.
#[async_trait]
pub(crate) trait Store: fmt::Debug + Send + Sync {
    /// What it can do.
    fn traits(&self) -> Traits;

    /// The store as `object_store` knows it, for reading.
    fn objects(&self) -> &Arc<Metered>;

    /// What an operator should know about how it is used, each a sentence.
    async fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// One page of a listing.
    ///
    /// # Errors
    /// [`Error::NotSupported`] where [`Traits::directories`] is true.
    async fn list(&self, query: Query<'_>) -> Result<Page>;

    /// What lies right in a directory, in pages of up to `limit` entries. A directory that is not there has one
    /// empty page, or none.
    fn pages(&self, directory: &Path, limit: usize) -> BoxStream<'_, Result<Page>> {
        listed(self, marker(directory), limit)
    }

    /// Asks for as little as there is to ask, to see whether the store answers.
    async fn probe(&self, directory: &Path) -> Result<()> {
        self.pages(directory, 1).next().await.transpose().map(drop)
    }

    /// By what it can be held to what it was sent.
    fn comparison(&self) -> Comparison;

    /// Tries by what it can be held, if that is not known yet, on an object at `key` that it may write.
    async fn try_comparison(&self, _key: &Path) -> Result<()> {
        Ok(())
    }

    /// By which algorithm it keeps checksums itself that [`kept_checksum`](Self::kept_checksum) asks for.
    fn keeps(&self) -> Option<Algorithm> {
        None
    }

    /// The checksum that it keeps of a version of an object. `None` if there is none, or another version by now.
    async fn kept_checksum(&self, _key: &Path, _version: &UpdateVersion) -> Result<Option<Kept>> {
        Ok(None)
    }

    /// The tags of an object.
    async fn tags(&self, _key: &Path) -> Result<Tags> {
        Ok(Tags::default())
    }

    /// Writes a whole object.
    ///
    /// # Errors
    /// [`Error::NotSupported`] or [`Error::NotImplemented`] if the store does not know the precondition.
    async fn put(
        &self,
        key: &Path,
        body: Body,
        description: Description,
        terms: &Terms,
    ) -> Result<Stored> {
        put_by_library(self.objects(), key, body, description, terms).await
    }

    /// Whether a base can stay where it is.
    fn keeping(&self, base: &Base) -> Keeping;

    /// Begins an upload in parts.
    ///
    /// # Errors
    /// [`Error::NotSupported`] if the base can't be kept.
    async fn begin(&self, start: Start) -> Result<Box<dyn Upload>>;

    /// Goes on with an upload that another process has begun and [handed over](Upload::hand_over).
    ///
    /// # Errors
    /// [`Error::NotSupported`] if the store can't, or does not understand what it was given.
    async fn resume(&self, start: Start, _handed_over: &str) -> Result<Box<dyn Upload>> {
        Err(Error::NotSupported {
            source: format!("{}: uploads end with their process here", start.key).into(),
        })
    }

    /// Copies an object of any size as it was found, with all that it says of itself. The copy is there afterwards.
    ///
    /// # Errors
    /// [`Error::Precondition`] also if the source is not what was found.
    async fn copy(&self, from: &Base, to: &Path, terms: &Terms) -> Result<()>;

    /// Deletes the object at any key.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there was none and the store says so. S3 says so only on a precondition.
    async fn delete(&self, key: &str, terms: &Terms) -> Result<()>;

    /// Deletes objects that are still as they were listed. How many are not, and stay: on stores that don't know
    /// such a condition, none.
    async fn delete_unchanged(&self, objects: &[Object]) -> Result<usize>;

    /// Writes a marker: an empty object under a key that ends with a slash. Some stores refuse content there, so a
    /// note goes into its metadata. The precondition holds on stores that have conditions.
    async fn write_marker(
        &self,
        key: &str,
        note: Option<&str>,
        precondition: &Precondition,
    ) -> Result<()>;

    /// What is at a marker's key, if anything is.
    async fn read_marker(&self, key: &str) -> Result<Option<Marker>>;

    /// Makes an empty directory exist.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] if there is a marker. It stays: it may be another program's object, with content.
    async fn create_directory(&self, directory: &Path) -> Result<()> {
        let (key, absent) = (marker(directory), Precondition::Absent);
        self.write_marker(&key, None, &absent).await
    }

    /// Removes what makes an empty directory exist.
    async fn remove_directory(&self, directory: &Path) -> Result<()> {
        if_any(self.delete(&marker(directory), &Terms::none()).await).map(drop)
    }

    /// When a directory that exists by itself, though nothing may be in it, has changed. `None` if there is none.
    async fn directory_changed(&self, _directory: &Path) -> Option<SystemTime> {
        None
    }

    /// Renames a file or a directory at once, where [`Traits::directories`] is true. The preconditions of a file are
    /// looked at, that of its old name and that of its new one; a directory takes the place of nothing.
    async fn rename(&self, from: &Path, _to: &Path, _names: [&Precondition; 2]) -> Result<()> {
        Err(Error::NotSupported {
            source: format!("{from}: this store does not rename").into(),
        })
    }

    /// Removes what uploads that were given up before this time have left under a prefix. How many there were.
    async fn sweep(&self, prefix: &Path, before: DateTime<Utc>) -> Result<usize>;
}

/// Writes an object as `object_store` does, which does not tell of its tries.
pub(crate) async fn put_by_library(
    objects: &Metered,
    key: &Path,
    body: Body,
    description: Description,
    terms: &Terms,
) -> Result<Stored> {
    let options = PutOptions {
        mode: terms.precondition.mode(),
        tags: description.tags.set(),
        attributes: description.attributes,
        ..PutOptions::default()
    };
    let put = objects.put_opts(key, body.payload, options).await;
    let put = put.inspect_err(|error| terms.attempts.unseen(error))?;
    Ok(Stored::uncompared(put.into()))
}

/// Deletes what lies right in a directory and is older than `before`. How much that was.
pub(crate) async fn sweep_directory(
    store: &dyn Store,
    directory: &Path,
    before: DateTime<Utc>,
) -> Result<usize> {
    let mut swept = 0;
    let mut pages = store.pages(directory, MAX_PAGE);
    while let Some(page) = pages.next().await {
        let is_old = |object: &Object| DateTime::<Utc>::from(object.modified) < before;
        let old: Vec<_> = page?.objects.into_iter().filter(is_old).collect();
        swept += old.len() - store.delete_unchanged(&old).await?;
    }
    Ok(swept)
}

/// Asks for pages until one names no next. Azure may send some with nothing on them.
fn listed<S: Store + ?Sized>(
    store: &S,
    prefix: String,
    limit: usize,
) -> BoxStream<'_, Result<Page>> {
    /// Which page comes next.
    enum Next {
        First,
        At(String),
        None,
    }
    let pages = stream::try_unfold(Next::First, move |mut next| {
        let prefix = prefix.clone();
        async move {
            loop {
                let token = match &next {
                    Next::First => None,
                    Next::At(token) => Some(token.as_str()),
                    Next::None => return Ok(None),
                };
                let query = Query {
                    prefix: &prefix,
                    grouped: true,
                    token,
                    limit,
                };
                let page = store.list(query).await?;
                next = page.next.clone().map_or(Next::None, Next::At);
                if matches!(next, Next::None) || !page.is_empty() {
                    return Ok(Some((page, next)));
                }
            }
        }
    });
    pages.boxed()
}
