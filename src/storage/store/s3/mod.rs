//! Amazon S3, and what speaks its protocol.

pub(crate) mod authorization;
pub(crate) mod carried;
pub(crate) mod checksums;
pub(crate) mod deletions;
pub(crate) mod listing;
pub(crate) mod open;
pub(crate) mod profile;
pub(crate) mod signed;
pub(crate) mod sweep;
pub(crate) mod trial;
pub(crate) mod upload;
pub(crate) mod writes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::Method;
use object_store::path::Path;
use object_store::{CopyOptions, Error, GetOptions, GetResult, ObjectStore, Result, UpdateVersion};

use crate::storage::store::body::{Algorithm, Body};
use crate::storage::store::causes::find;
use crate::storage::store::description::{Carries, Description, Headers, Tags};
use crate::storage::store::http::requests::with_query;
use crate::storage::store::keys::{Marker, Object, Page, Query, if_any, with_note};
use crate::storage::store::mark::Mark;
use crate::storage::store::metered::Metered;
use crate::storage::store::names::SegmentRules;
use crate::storage::store::precondition::{Precondition, check, look};
use crate::storage::store::stored::{Comparison, Difference, Kept, Stored};
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::{Base, Start, Upload};
use crate::storage::store::{
    Aborts, Deletes, Keeping, MIN_PART, MetadataNames, Store, Traits, put_by_library,
};

use checksums::Check;
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
    has_told_of_tags: AtomicBool,
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
            has_told_of_tags: AtomicBool::default(),
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

    async fn put_marker(
        &self,
        key: &str,
        note: Option<&str>,
        precondition: &Precondition,
    ) -> Result<()> {
        let (terms, empty) = (Terms::new(precondition.clone()), Bytes::new().into());
        let description = with_note(note, precondition);
        let put = writes::put(&self.signed, key, empty, &description, &terms).await;
        put.map(drop)
    }

    /// By an upload of parts that are copies.
    async fn copy_large(&self, from: &Base, to: &Path, terms: &Terms) -> Result<()> {
        let found = self.look(&from.key).await?;
        let mut attributes = found.attributes;
        // An object that others wrote has no mark. Its copy gets one, by which it is known from an earlier object of
        // the same size.
        let mark = Mark::of(&attributes).unwrap_or_else(|| {
            let mark = Mark::new();
            mark.put_on(&mut attributes);
            mark
        });
        let is_tagged = found
            .extensions
            .get::<Carries>()
            .is_some_and(|it| it.is_tagged);
        let description = Description {
            attributes,
            tags: if is_tagged {
                self.tags(&from.key).await?
            } else {
                Tags::default()
            },
            is_class_kept: true,
        };
        let signed = Arc::clone(&self.signed);
        let copied = S3Upload::copy_object(signed, from.clone(), to.clone(), description, terms);
        match self.objects.measure("copy", copied).await {
            // The answer may have been lost, and the copy be there.
            Err(error) if !is_damaged(&error) && self.is_there(to, from.size, &mark).await => {
                Ok(())
            }
            copied => copied,
        }
    }

    /// Whether an object is of this size and this upload.
    async fn is_there(&self, key: &Path, size: u64, mark: &Mark) -> bool {
        let found = self.look(key).await;
        found.is_ok_and(|found| found.meta.size == size && mark.is_on(&found.attributes))
    }

    async fn look(&self, key: &Path) -> Result<GetResult> {
        let head = GetOptions::new().with_head(true);
        self.objects.get_opts(key, head).await
    }

    /// By `object_store`, which knows one condition on a copy's target.
    async fn copy_by_library(&self, from: &Base, to: &Path, terms: &Terms) -> Result<()> {
        look(&*self.objects, to, &terms.precondition).await?;
        let copied = self
            .objects
            .copy_opts(&from.key, to, CopyOptions::default());
        copied
            .await
            .inspect_err(|error| terms.attempts.unseen(error))
    }
}

/// Whether what was copied is known to be something else.
fn is_damaged(error: &Error) -> bool {
    find::<Difference>(error).is_some()
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
            conditions: false,
            late_requests: true,
        }
    }

    fn objects(&self) -> &Arc<Metered> {
        &self.objects
    }

    fn comparison(&self) -> Comparison {
        if self.own_uploads {
            self.signed.comparison()
        } else {
            Comparison::Size
        }
    }

    async fn try_comparison(&self, key: &Path) -> Result<()> {
        if self.own_uploads {
            trial::try_checksums(&self.signed, key).await?;
        }
        Ok(())
    }

    fn keeps(&self) -> Option<Algorithm> {
        let keeps = self.own_uploads && self.signed.check_of_parts(false) == Check::Crc64;
        keeps.then_some(Algorithm::Crc64Nvme)
    }

    async fn kept_checksum(&self, key: &Path, version: &UpdateVersion) -> Result<Option<Kept>> {
        self.signed.kept_checksum(key, version).await
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

    async fn resume(&self, start: Start, handed_over: &str) -> Result<Box<dyn Upload>> {
        let upload = S3Upload::resume(Arc::clone(&self.signed), start, handed_over)?;
        Ok(self.objects.measured(upload))
    }

    async fn put(
        &self,
        key: &Path,
        body: Body,
        description: Description,
        terms: &Terms,
    ) -> Result<Stored> {
        if !self.own_uploads {
            return put_by_library(&self.objects, key, body, description, terms).await;
        }
        writes::put(&self.signed, key.as_ref(), body, &description, terms).await
    }

    async fn tags(&self, key: &Path) -> Result<Tags> {
        let mut ask = self.signed.about(Method::GET, key.as_ref()).await?;
        ask.url = with_query(ask.url, &[("tagging", "")]);
        let read = self
            .signed
            .send("tags", ask)
            .await
            .and_then(|body| Tags::read(&body).map_err(|error| self.signed.unreadable(error)));
        Tags::if_allowed(read, &self.has_told_of_tags)
    }

    async fn copy(&self, from: &Base, to: &Path, terms: &Terms) -> Result<()> {
        if !self.own_uploads {
            return self.copy_by_library(from, to, terms).await;
        }
        if from.size > LARGEST_COPY {
            return self.copy_large(from, to, terms).await;
        }
        writes::copy(&self.signed, from, to, terms).await
    }

    async fn delete(&self, key: &str, terms: &Terms) -> Result<()> {
        self.deletions.delete(key, terms).await
    }

    async fn delete_unchanged(&self, objects: &[Object]) -> Result<usize> {
        self.deletions.delete_all(objects).await
    }

    async fn write_marker(
        &self,
        key: &str,
        note: Option<&str>,
        precondition: &Precondition,
    ) -> Result<()> {
        match self.put_marker(key, note, precondition).await {
            // It knows no conditions, or takes the mark of a deletion for an object.
            Err(Error::NotSupported { .. } | Error::AlreadyExists { .. })
                if *precondition != Precondition::None =>
            {
                let there = self.read_marker(key).await?;
                let there = there.as_ref().map(|there| &there.version);
                check(key, precondition, there)?;
                self.put_marker(key, note, &Precondition::None).await
            }
            put => put,
        }
    }

    async fn read_marker(&self, key: &str) -> Result<Option<Marker>> {
        let ask = self.signed.about(Method::HEAD, key).await?;
        let answer = if_any(self.signed.send_for_head("head", ask).await)?;
        Ok(answer
            .map(|answer| Marker::read(answer.headers(), Headers::S3.metadata, writes::version)))
    }

    async fn sweep(&self, prefix: &Path, before: DateTime<Utc>) -> Result<usize> {
        sweep::sweep(self.signed.as_ref(), prefix, before).await
    }
}
