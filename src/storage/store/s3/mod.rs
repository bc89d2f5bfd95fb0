//! Amazon S3, and what speaks its protocol.

pub(crate) mod carried;
pub(crate) mod deletions;
pub(crate) mod listing;
pub(crate) mod open;
pub(crate) mod signed;
pub(crate) mod sweep;
pub(crate) mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::Method;
use object_store::path::Path;
use object_store::{Attributes, Error, GetOptions, ObjectStore, ObjectStoreExt, Result};

use crate::storage::store::http::requests::Ask;
use crate::storage::store::keys::{Object, Page, Query, SMALL_OBJECT_RANGE, only_if, small};
use crate::storage::store::mark::Mark;
use crate::storage::store::metered::Metered;
use crate::storage::store::names::SegmentRules;
use crate::storage::store::precondition::{Precondition, look};
use crate::storage::store::upload::{Base, Start, Upload};
use crate::storage::store::{Aborts, Deletes, Keeping, MIN_PART, MetadataNames, Store, Traits};

use deletions::Deletions;
use signed::SignedS3;
use upload::S3Upload;

/// S3 copies no more in one request.
const LARGEST_COPY: u64 = 5 << 30;

/// Parts that an upload may have.
const MAX_PARTS: usize = 10_000;

/// One bucket.
#[derive(Debug)]
pub(crate) struct S3 {
    objects: Arc<Metered>,
    signed: Arc<SignedS3>,
    deletions: Deletions,
    /// Whether uploads are requests of our own: those of directory buckets are signed with sessions that only
    /// `object_store` has.
    own_uploads: bool,
    copies: AtomicU8,
}

/// Whether the store copies ranges: not known yet, yes, no.
const UNTRIED: u8 = 0;
const COPIES: u8 = 1;
const REFUSES: u8 = 2;

impl S3 {
    /// `copies` is false where it is known that an object can't be copied into a part.
    pub(crate) fn new(
        objects: Arc<Metered>,
        signed: Arc<SignedS3>,
        own_uploads: bool,
        copies: bool,
    ) -> Self {
        Self {
            objects,
            deletions: Deletions::new(Arc::clone(&signed)),
            signed,
            own_uploads,
            copies: AtomicU8::new(if copies { UNTRIED } else { REFUSES }),
        }
    }

    async fn begin_own(&self, start: Start) -> Result<S3Upload> {
        let with_base = start.base.is_some();
        let begun = S3Upload::begin(Arc::clone(&self.signed), start).await;
        match &begun {
            Ok(_) if with_base => self.copies.store(COPIES, Ordering::Relaxed),
            Err(Error::NotSupported { .. }) => self.copies.store(REFUSES, Ordering::Relaxed),
            Ok(_) | Err(_) => {}
        }
        begun
    }

    /// By an upload of parts that are copies.
    async fn copy_large(&self, from: &Base, to: &Path, precondition: &Precondition) -> Result<()> {
        let attributes = self.attributes(&from.key).await?.1;
        let mark = Mark::of(&attributes);
        let signed = Arc::clone(&self.signed);
        let copied =
            S3Upload::copy_object(signed, from.clone(), to.clone(), attributes, precondition);
        match self.objects.measure("copy", copied).await {
            // The answer may have been lost, and the copy be there.
            Err(_) if self.is_there(to, from.size, mark.as_ref()).await => Ok(()),
            copied => copied,
        }
    }

    /// Whether an object is of this size and this upload.
    async fn is_there(&self, key: &Path, size: u64, mark: Option<&Mark>) -> bool {
        let found = self.attributes(key).await;
        found.is_ok_and(|(found, attributes)| {
            found == size && Mark::of(&attributes).as_ref() == mark
        })
    }

    async fn attributes(&self, key: &Path) -> Result<(u64, Attributes)> {
        let head = GetOptions::new().with_head(true);
        let found = self.objects.get_opts(key, head).await?;
        Ok((found.meta.size, found.attributes))
    }
}

#[async_trait]
impl Store for S3 {
    fn traits(&self) -> Traits {
        Traits {
            max_parts: Some(MAX_PARTS),
            names: SegmentRules::NONE,
            metadata: Some(MetadataNames::HYPHENED),
            directories: false,
            // AWS looks at the version since 2025; most others take the condition and don't.
            deletes: Deletes::Blindly,
            aborts: Aborts::Final,
            parallel_reads: true,
        }
    }

    fn objects(&self) -> &Arc<Metered> {
        &self.objects
    }

    async fn list(&self, query: Query<'_>) -> Result<Page> {
        let query = listing::query(&query);
        let ask = self.signed.about_all(Method::GET, &query.pairs()).await?;
        let body = self.signed.send("list", ask).await?;
        listing::parse(&body).map_err(|error| self.signed.unreadable(error))
    }

    fn keeping(&self, base: &Base) -> Keeping {
        let parts = S3Upload::parts_of(base.size);
        match self.copies.load(Ordering::Relaxed) {
            _ if !self.own_uploads || base.size < MIN_PART as u64 => Keeping::Never,
            REFUSES => Keeping::Never,
            UNTRIED => Keeping::Perhaps(parts),
            _ => Keeping::Surely(parts),
        }
    }

    async fn begin(&self, start: Start) -> Result<Box<dyn Upload>> {
        if !self.own_uploads {
            return self.objects.begin(start).await;
        }
        let begin = self.begin_own(start);
        let upload = self.objects.measure("create_multipart", begin).await?;
        Ok(self.objects.measured(upload))
    }

    async fn copy(&self, from: &Base, to: &Path, precondition: &Precondition) -> Result<()> {
        look(&*self.objects, to, precondition).await?;
        if from.size > LARGEST_COPY && self.own_uploads {
            return self.copy_large(from, to, precondition).await;
        }
        self.objects.copy(&from.key, to).await
    }

    async fn delete(&self, key: &str, precondition: &Precondition) -> Result<()> {
        let ask = self.signed.about(Method::DELETE, key).await?;
        let ask = conditional(ask, precondition)?;
        match self.signed.send("delete", ask).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete_unchanged(&self, objects: &[Object]) -> Result<usize> {
        self.deletions.delete_all(objects).await
    }

    async fn write_small(&self, key: &str, body: Bytes, precondition: &Precondition) -> Result<()> {
        let ask = self.signed.about(Method::PUT, key).await?;
        let mut ask = conditional(ask, precondition)?;
        ask.body = body.clone();
        match (self.signed.send("put", ask).await, precondition) {
            (
                Err(Error::NotSupported { .. }),
                Precondition::Absent | Precondition::Unchanged(_),
            ) => self.write_small(key, body, &Precondition::None).await,
            (Err(Error::Precondition { path, source }), Precondition::Absent) => {
                Err(Error::AlreadyExists { path, source })
            }
            (result, _) => result.map(drop),
        }
    }

    async fn read_small(&self, key: &str) -> Result<Bytes> {
        let ask = self.signed.about(Method::GET, key).await?;
        let ask = ask.with("range", SMALL_OBJECT_RANGE);
        small(self.signed.send("get", ask).await)
    }

    async fn sweep(&self, prefix: &Path, before: DateTime<Utc>) -> Result<usize> {
        sweep::sweep(&self.signed, prefix, before).await
    }
}

fn conditional(ask: Ask, precondition: &Precondition) -> Result<Ask> {
    match upload::header(precondition) {
        Some((name, value)) => only_if(ask, name, value),
        None => Ok(ask),
    }
}
