//! Multipart uploads on S3 as `object_store` can't make them: begun with a copy of what the bucket
//! has, and completed on a condition.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use http::Method;
use object_store::path::Path;
use object_store::{Error, MultipartId, Result, UpdateVersion, UploadPart};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::storage::store::body::{Body, Crc64};
use crate::storage::store::causes::{is_no_class, refused_with};
use crate::storage::store::description::Description;
use crate::storage::store::s3::checksums::{Check, Part, is_crc64, read_crc64, written_crc64};
use crate::storage::store::s3::signed::{Completion, CopiedPart, SignedS3};
use crate::storage::store::s3::writes::{header, told_apart, version};
use crate::storage::store::stored::{Compared, Difference, Stored};
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::{Base, Start, Upload, first, understood};

/// Ranges are copied in steps of this many bytes, if there are not too many of them: S3 copies faster
/// side by side, and an answer that takes long looks like none.
const COPIED_PART: u64 = 128 << 20;

/// At most so many parts are copies: the store takes ten thousand.
const MAX_COPIED_PARTS: u64 = 2000;

/// Copies under way at the same time: no more connections than an upload has.
const CONCURRENCY: usize = 4;

/// A multipart upload.
#[derive(Debug)]
pub(crate) struct S3Upload {
    s3: Arc<SignedS3>,
    key: Path,
    id: MultipartId,
    /// What parts are compared with: the upload was begun so.
    check: Check,
    next: usize,
    parts: Arc<Mutex<BTreeMap<usize, Part>>>,
}

#[derive(Debug, Deserialize)]
struct CopyPartResult {
    #[serde(rename = "ETag")]
    e_tag: String,
    #[serde(rename = "ChecksumSHA256")]
    checksum_sha256: Option<String>,
    #[serde(rename = "ChecksumCRC64NVME")]
    checksum_crc64nvme: Option<String>,
}

#[derive(Debug, Serialize)]
struct CompleteMultipartUpload {
    #[serde(rename = "Part")]
    parts: Vec<NamedPart>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NamedPart {
    #[serde(rename = "ETag")]
    e_tag: String,
    part_number: usize,
    #[serde(rename = "ChecksumSHA256", skip_serializing_if = "Option::is_none")]
    checksum_sha256: Option<String>,
    #[serde(rename = "ChecksumCRC64NVME", skip_serializing_if = "Option::is_none")]
    checksum_crc64nvme: Option<String>,
}

/// What makes it an answer, and not an error or nothing.
#[derive(Debug, Deserialize)]
struct CompleteMultipartUploadResult {
    #[serde(rename = "ETag")]
    e_tag: String,
    #[serde(rename = "ChecksumCRC64NVME")]
    checksum_crc64nvme: Option<String>,
    #[serde(rename = "ChecksumType")]
    checksum_type: Option<String>,
}

impl CompleteMultipartUploadResult {
    /// The checksum of all bytes, if the store tells it. Some tell a sum of sums by the same name.
    fn crc64(&self) -> Option<&str> {
        let kind = self.checksum_type.as_deref();
        let told = self.checksum_crc64nvme.as_deref();
        told.filter(|told| is_crc64(told) && kind.is_none_or(|kind| kind == "FULL_OBJECT"))
    }
}

/// Some stores leave the quotes out here, and nowhere else.
fn quoted(e_tag: String) -> String {
    if e_tag.starts_with('"') || e_tag.starts_with("W/") {
        return e_tag;
    }
    format!("\"{e_tag}\"")
}

/// What another process goes on with.
#[derive(Debug, Serialize, Deserialize)]
struct HandedOver {
    id: MultipartId,
    check: Check,
    parts: Vec<Part>,
}

impl S3Upload {
    /// Goes on with an upload that another process has begun.
    pub(crate) fn resume(s3: Arc<SignedS3>, start: Start, handed_over: &str) -> Result<Self> {
        let HandedOver { id, check, parts } = understood(handed_over)?;
        Ok(Self {
            s3,
            key: start.key,
            id,
            check,
            next: parts.len(),
            parts: Arc::new(Mutex::new(parts.into_iter().enumerate().collect())),
        })
    }

    /// Begins an upload, with what is kept of another object first.
    pub(crate) async fn begin(s3: Arc<SignedS3>, start: Start) -> Result<Self> {
        if start.base.is_none() {
            let check = s3.check_of_parts(false);
            return Self::begin_by(s3, start, check).await;
        }
        let check = s3.check_of_parts(true);
        let upload = Self::begin_by(Arc::clone(&s3), start.clone(), check).await?;
        if upload.can_be_completed() {
            return Ok(upload);
        }
        // A completion would have to name what the store has not told.
        s3.copies_have_none();
        upload.give_up().await;
        let check = s3.check_of_parts(true);
        Self::begin_by(s3, start, check).await
    }

    /// The same with this checksum.
    pub(crate) async fn begin_by(s3: Arc<SignedS3>, start: Start, check: Check) -> Result<Self> {
        let begun = s3.create_multipart(&start.key, &start.description, check);
        let id = match (begun.await, start.description.without_kept_class()) {
            (Err(error), Some(plain)) if is_no_class(&error) => {
                s3.create_multipart(&start.key, &plain, check).await?
            }
            (begun, _) => begun?,
        };
        let mut upload = Self {
            s3,
            key: start.key,
            id,
            check,
            next: 0,
            parts: Arc::default(),
        };
        if let Some(base) = start.base
            && let Err(error) = upload.copy(&base).await
        {
            let error = if_changed(&upload.s3, &base, error).await;
            upload.give_up().await;
            return Err(error);
        }
        Ok(upload)
    }

    async fn give_up(mut self) {
        if let Err(error) = self.abort().await {
            tracing::warn!(key = %self.key, %error, "can't discard an unfinished upload");
        }
    }

    /// Whether all parts have the checksum that the completion has to name.
    fn can_be_completed(&self) -> bool {
        let has_sum = |part: &Part| match self.check {
            Check::Crc64 => part.crc64.is_some(),
            Check::Sha256 => part.checksum_sha256.is_some(),
            Check::Md5UpTo(_) => true,
        };
        lock(&self.parts).values().all(has_sum)
    }

    /// Copies an object, however large: one request of S3's copies 5 GiB at most.
    pub(crate) async fn copy_object(
        s3: Arc<SignedS3>,
        base: Base,
        to: Path,
        description: Description,
        terms: &Terms,
    ) -> Result<()> {
        let start = Start {
            key: to,
            description,
            base: Some(base),
        };
        let mut upload = Self::begin(s3, start).await?;
        let error = match upload.publish(terms, None).await {
            Ok(copy) => return copy.compared.check("S3"),
            Err(error) => error,
        };
        if let Err(error) = upload.abort().await {
            tracing::warn!(key = %upload.key, %error, "can't discard an unfinished copy");
        }
        // What was not found is the upload: its source was there to be copied.
        Err(match error {
            Error::NotFound { source, .. } => Error::Generic {
                store: "S3",
                source,
            },
            error => error,
        })
    }

    /// How many parts an object of this size becomes.
    pub(crate) fn parts_of(size: u64) -> usize {
        ranges(size).count()
    }

    async fn copy(&mut self, base: &Base) -> Result<()> {
        let this = &*self;
        let copies = ranges(base.size).enumerate();
        let copies = copies.map(|(index, range)| this.copy_part(base, index, range));
        let parts: Vec<_> = stream::iter(copies)
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        self.next = parts.len();
        *lock(&self.parts) = parts.into_iter().collect();
        Ok(())
    }

    async fn copy_part(
        &self,
        base: &Base,
        index: usize,
        range: Range<u64>,
    ) -> Result<(usize, Part)> {
        let length = range.end - range.start;
        let part = CopiedPart {
            from: &base.key,
            e_tag: base.version.e_tag.as_deref(),
            range,
            to: &self.key,
            upload_id: &self.id,
            index,
        };
        let answer: CopyPartResult = read(&self.s3.copy_part(&part).await?)?;
        let sum = answer.checksum_crc64nvme.as_deref();
        let part = Part {
            e_tag: answer.e_tag,
            checksum_sha256: answer.checksum_sha256,
            crc64: sum.and_then(|sum| read_crc64(sum, length)),
        };
        Ok((index, part))
    }

    /// Whether the store has told this checksum of the first part.
    pub(crate) fn has_first(&self, right: Crc64) -> bool {
        let parts = lock(&self.parts);
        parts.get(&0).and_then(|part| part.crc64) == Some(right)
    }

    /// Completes the upload. Whether the store has told the right checksum of the whole.
    pub(crate) async fn complete_and_compare(&self, terms: &Terms) -> Result<bool> {
        let (answer, whole) = self.complete(terms).await?;
        let whole = whole.map(written_crc64);
        Ok(whole.is_some() && answer.crc64() == whole.as_deref())
    }

    async fn complete(
        &self,
        terms: &Terms,
    ) -> Result<(CompleteMultipartUploadResult, Option<Crc64>)> {
        let parts = self.list_of_parts()?;
        let whole = self.crc64();
        let completion = Completion {
            key: &self.key,
            upload_id: &self.id,
            parts: quick_xml::se::to_string(&parts).map_err(generic)?,
            condition: header(&terms.precondition),
            whole,
        };
        let attempts = &terms.attempts;
        let answer = self.s3.complete(completion, attempts).await?;
        let answer = read::<CompleteMultipartUploadResult>(&answer);
        // An empty answer: there may be an object, or there may not.
        Ok((answer.inspect_err(|_| attempts.unanswered())?, whole))
    }

    async fn complete_on(&self, terms: &Terms) -> Result<Stored> {
        let (answer, whole) = self.complete(terms).await?;
        Ok(Stored {
            compared: match whole {
                Some(whole) => Compared::of("crc64nvme", &written_crc64(whole), answer.crc64()),
                // Of each part it was known when it came.
                None if self.check == Check::Sha256 => Compared::Same,
                None => Compared::Not,
            },
            version: UpdateVersion {
                e_tag: Some(quoted(answer.e_tag)),
                version: None,
            },
        })
    }

    /// The checksum of the whole, if that of each part is known.
    fn crc64(&self) -> Option<Crc64> {
        let parts = lock(&self.parts);
        let mut sums = parts.values().map(|part| part.crc64);
        sums.try_fold(Crc64::empty(), |whole, part| Some(whole.then(part?)))
    }

    fn list_of_parts(&self) -> Result<CompleteMultipartUpload> {
        let parts = lock(&self.parts);
        if parts.len() != self.next {
            return Err(Error::Generic {
                store: "S3",
                source: format!("{} of {} parts are there", parts.len(), self.next).into(),
            });
        }
        let parts = parts.iter().map(|(index, part)| named(*index, part));
        Ok(CompleteMultipartUpload {
            parts: parts.collect(),
        })
    }
}

/// Why a copy was refused. Some stores look at the range before the condition: of an object that has become shorter they
/// say that the range is wrong.
async fn if_changed(s3: &SignedS3, base: &Base, error: Error) -> Error {
    let is_about_range = matches!(refused_with(&error), Some(400 | 416));
    if !is_about_range || base.version.e_tag.is_none() {
        return error;
    }
    let Ok(ask) = s3.about(Method::HEAD, base.key.as_ref()).await else {
        return error;
    };
    match s3.send_for_head("head", ask).await {
        Ok(answer) if version(answer.headers()).e_tag != base.version.e_tag => {
            Error::Precondition {
                path: base.key.to_string(),
                source: error.into(),
            }
        }
        _ => error,
    }
}

#[async_trait]
impl Upload for S3Upload {
    fn put_part(&mut self, body: Body) -> UploadPart {
        let index = self.next;
        self.next += 1;
        let (s3, parts) = (Arc::clone(&self.s3), Arc::clone(&self.parts));
        let (key, id, check) = (self.key.clone(), self.id.clone(), self.check);
        Box::pin(async move {
            let part = s3.put_part(&key, &id, index, body, check).await?;
            lock(&parts).insert(index, part);
            Ok(())
        })
    }

    async fn publish(&mut self, terms: &Terms, whole: Option<Crc64>) -> Result<Stored> {
        if let (Some(sent), Some(parts)) = (whole, self.crc64())
            && sent != parts
        {
            return Err(generic(Difference {
                what: "crc64nvme",
                sent: written_crc64(sent),
                stored: written_crc64(parts),
            }));
        }
        let completed = self.complete_on(terms).await;
        completed.map_err(|error| told_apart(error, &terms.precondition))
    }

    async fn abort(&mut self) -> Result<()> {
        self.s3.abort(&self.key, &self.id).await
    }

    fn hand_over(&self, parts: usize) -> Option<String> {
        let parts = first(&lock(&self.parts), parts)?;
        let (id, check) = (self.id.clone(), self.check);
        serde_json::to_string(&HandedOver { id, check, parts }).ok()
    }
}

/// The ranges that an object is copied in. Each is large enough for a part.
fn ranges(size: u64) -> impl Iterator<Item = Range<u64>> {
    let count = (size / COPIED_PART).clamp(1, MAX_COPIED_PARTS);
    let bound = move |index: u64| size / count * index + (size % count) * index / count;
    (0..count).map(move |index| bound(index)..bound(index + 1))
}

fn named(index: usize, part: &Part) -> NamedPart {
    NamedPart {
        e_tag: part.e_tag.clone(),
        part_number: index + 1,
        checksum_sha256: part.checksum_sha256.clone(),
        checksum_crc64nvme: part.crc64.map(written_crc64),
    }
}

fn read<T: DeserializeOwned>(answer: &Bytes) -> Result<T> {
    quick_xml::de::from_reader(answer.as_ref()).map_err(generic)
}

fn generic(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic {
        store: "S3",
        source: Box::new(error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::store::MIN_PART;

    #[test]
    fn ranges_cover_an_object_and_are_all_large_enough() {
        for size in [
            MIN_PART as u64,
            COPIED_PART - 1,
            COPIED_PART,
            2 * COPIED_PART - 1,
            3 * COPIED_PART + 7,
            (5 << 40) + 13,
        ] {
            let all: Vec<_> = ranges(size).collect();
            assert_eq!(all.first().map(|range| range.start), Some(0));
            assert_eq!(all.last().map(|range| range.end), Some(size));
            assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start));
            let large_enough = |range: &Range<u64>| range.end - range.start >= MIN_PART as u64;
            assert!(all.iter().all(large_enough), "{size}");
            let small_enough = |range: &Range<u64>| range.end - range.start <= 5 << 30;
            assert!(all.iter().all(small_enough), "{size}");
        }
    }

    #[test]
    fn parts_are_named_with_their_checksums() {
        let part = |e_tag: &str, crc64| Part {
            e_tag: e_tag.to_owned(),
            checksum_sha256: None,
            crc64,
        };
        let parts = [part("\"a\"", Some(Crc64::told(1, 5))), part("\"b\"", None)];
        let parts = parts.iter().enumerate().map(|(at, part)| named(at, part));
        let list = CompleteMultipartUpload {
            parts: parts.collect(),
        };
        assert_eq!(
            quick_xml::se::to_string(&list).unwrap(),
            "<CompleteMultipartUpload>\
             <Part><ETag>\"a\"</ETag><PartNumber>1</PartNumber>\
             <ChecksumCRC64NVME>AAAAAAAAAAE=</ChecksumCRC64NVME></Part>\
             <Part><ETag>\"b\"</ETag><PartNumber>2</PartNumber></Part>\
             </CompleteMultipartUpload>"
        );
    }
}
