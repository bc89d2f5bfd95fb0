//! How objects are put together from parts, by kind of store.
//!
//! An append keeps what is there where the store lets it: its bytes don't pass through the gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attributes, Error, GetOptions, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    Result, UpdateVersion,
};

use crate::storage::store::azure::keys::AzureKeys;
use crate::storage::store::azure::upload::AzureUpload;
use crate::storage::store::gcs::keys::GcsKeys;
use crate::storage::store::gcs::upload::{GcsUpload, PLACE};
use crate::storage::store::local::append::LocalAppend;
use crate::storage::store::metered::Metered;
use crate::storage::store::s3::signed::SignedS3;
use crate::storage::store::s3::upload::S3Upload;
use crate::storage::write::parts::LEAST_PART;
use crate::storage::write::sink::Terms;
use crate::storage::write::verdict::Mark;

/// An upload to be begun.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) key: Path,
    pub(crate) attributes: Attributes,
    /// What has to hold when it is published.
    pub(crate) terms: Terms,
    /// What the new parts come after.
    pub(crate) base: Option<Base>,
}

/// An object that is to become the beginning of another, usually of its own successor.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    pub(crate) key: Path,
    pub(crate) size: u64,
    pub(crate) version: UpdateVersion,
}

impl Base {
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self {
            key: meta.location.clone(),
            size: meta.size,
            version: UpdateVersion {
                e_tag: meta.e_tag.clone(),
                version: meta.version.clone(),
            },
        }
    }
}

/// What puts parts together.
#[derive(Debug)]
pub(crate) struct Assembly {
    store: Arc<Metered>,
    means: Means,
}

/// By which means a store puts parts together.
#[derive(Debug)]
pub(crate) enum Means {
    /// By signed requests of our own: with copies and conditions.
    S3(S3Assembly),
    /// With the blocks of what is there, if it has any.
    Azure(Arc<AzureKeys>),
    /// By composing; what is new waits under this prefix.
    Google(Arc<GcsKeys>, Path),
    /// In a file of its own, beside the one that it will take the place of.
    Local(LocalFileSystem),
    /// As `object_store` does it.
    Store,
}

/// Putting together on S3.
#[derive(Debug)]
pub(crate) struct S3Assembly {
    s3: Arc<SignedS3>,
    copies: AtomicU8,
}

/// Whether the store copies ranges: not known yet, yes, no.
const UNTRIED: u8 = 0;
const COPIES: u8 = 1;
const REFUSES: u8 = 2;

impl Means {
    /// On S3; `copies` is false where it is known that an object can't be copied into a part.
    pub(crate) fn s3(s3: Arc<SignedS3>, copies: bool) -> Self {
        let copies = AtomicU8::new(if copies { UNTRIED } else { REFUSES });
        Self::S3(S3Assembly { s3, copies })
    }
}

impl Assembly {
    pub(crate) fn new(store: Arc<Metered>, means: Means) -> Self {
        Self { store, means }
    }

    /// Whether it can keep a base of this size where it is. If not, it has to be written again.
    pub(crate) fn keeps(&self, size: u64) -> bool {
        match &self.means {
            Means::S3(s3) => {
                size >= LEAST_PART as u64 && s3.copies.load(Ordering::Relaxed) != REFUSES
            }
            // On Azure, what is smaller was put at once, and has no blocks.
            Means::Azure(_) | Means::Google(..) => size >= LEAST_PART as u64,
            Means::Local(_) => true,
            Means::Store => false,
        }
    }

    /// How many parts a base of this size counts for.
    pub(crate) fn parts_of(&self, size: u64) -> usize {
        match &self.means {
            Means::S3(_) => S3Upload::parts_of(size),
            // Azure takes five times as many blocks, and a file and a composition any number.
            Means::Azure(_) | Means::Google(..) | Means::Local(_) | Means::Store => 0,
        }
    }

    /// Whether what was aborted can't be published any more, however late the store may be at it.
    pub(crate) fn forgets(&self, with_base: bool) -> bool {
        match &self.means {
            Means::S3(_) | Means::Local(_) | Means::Store => true,
            // What was about to be composed may be.
            Means::Google(..) => !with_base,
            // Blocks can't be taken back.
            Means::Azure(_) => false,
        }
    }

    /// Whether beginning with a base has to be waited for, as it may turn out that it can't be kept.
    pub(crate) fn may_refuse(&self) -> bool {
        match &self.means {
            Means::S3(s3) => s3.copies.load(Ordering::Relaxed) == UNTRIED,
            // It depends on who has made the blob.
            Means::Azure(_) => true,
            Means::Google(..) | Means::Local(_) | Means::Store => false,
        }
    }

    /// Where objects wait for a moment that are about to be composed, and, where the process is
    /// killed, for the sweep.
    pub(crate) fn waiting_place(&self) -> Option<Path> {
        match &self.means {
            Means::Google(_, prefix) => Some(prefix.clone().join(PLACE)),
            Means::S3(_) | Means::Azure(_) | Means::Local(_) | Means::Store => None,
        }
    }

    /// Begins an upload.
    ///
    /// # Errors
    /// [`Error::NotSupported`] if the base can't be kept.
    pub(crate) async fn begin(&self, start: Start) -> Result<Box<dyn MultipartUpload>> {
        let store = &self.store;
        match (&self.means, start.base.clone()) {
            (Means::S3(s3), _) => {
                let upload = store.measure("create_multipart", s3.begin(start)).await?;
                Ok(store.measured(Box::new(upload)))
            }
            (Means::Azure(azure), Some(base)) => {
                let upload = AzureUpload::begin(Arc::clone(azure), start, &base).await?;
                Ok(store.measured(Box::new(upload)))
            }
            (Means::Google(google, prefix), Some(base)) => {
                let upload = GcsUpload::begin(Arc::clone(google), prefix, start, base).await?;
                Ok(store.measured(Box::new(upload)))
            }
            (Means::Local(local), Some(_)) => {
                let upload = LocalAppend::begin(local, start).await?;
                Ok(store.measured(Box::new(upload)))
            }
            (Means::Azure(_) | Means::Google(..) | Means::Local(_) | Means::Store, _) => {
                let options = start.attributes.into();
                store.put_multipart_opts(&start.key, options).await
            }
        }
    }

    /// Copies an object that is larger than the store copies at once.
    pub(crate) async fn copy_large(&self, base: Base, to: &Path) -> Result<()> {
        let store = &self.store;
        match &self.means {
            Means::S3(s3) => {
                let head = GetOptions::new().with_head(true);
                let attributes = store.get_opts(&base.key, head).await?.attributes;
                let mark = Mark::of(&attributes);
                let (s3, size) = (Arc::clone(&s3.s3), base.size);
                let copied = S3Upload::copy_object(s3, base, to.clone(), attributes);
                match store.measure("copy", copied).await {
                    // The answer may have been lost, and the copy be there.
                    Err(_) if self.is_there(to, size, mark.as_ref()).await => Ok(()),
                    copied => copied,
                }
            }
            Means::Azure(_) | Means::Google(..) | Means::Local(_) | Means::Store => {
                store.copy(&base.key, to).await
            }
        }
    }
}

impl Assembly {
    /// Whether an object is of this size and this upload.
    async fn is_there(&self, key: &Path, size: u64, mark: Option<&Mark>) -> bool {
        let head = GetOptions::new().with_head(true);
        let found = self.store.get_opts(key, head).await;
        found.is_ok_and(|found| {
            found.meta.size == size && Mark::of(&found.attributes).as_ref() == mark
        })
    }
}

impl S3Assembly {
    async fn begin(&self, start: Start) -> Result<S3Upload> {
        let with_base = start.base.is_some();
        let begun = S3Upload::begin(Arc::clone(&self.s3), start).await;
        match &begun {
            Ok(_) if with_base => self.copies.store(COPIES, Ordering::Relaxed),
            Err(Error::NotSupported { .. }) => self.copies.store(REFUSES, Ordering::Relaxed),
            Ok(_) | Err(_) => {}
        }
        begun
    }
}
