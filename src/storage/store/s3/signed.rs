//! Requests to S3 of our own making, for what `object_store` can't say.
//!
//! Keys that end with a slash (directory markers) and keys with empty segments or control characters
//! exist in real buckets; a part can be a copy of what the bucket has; an upload can be completed on a
//! condition. These requests are signed with `object_store`'s own credentials.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::Utc;
use http::header::ETAG;
use http::{Method, Response};
use object_store::aws::AmazonS3;
use object_store::client::HttpRequest;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{Error, MultipartId, Result, UpdateVersion};
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::Url;

use crate::config::Verify;
use crate::telemetry::StoreMetrics;

use crate::storage::store::body::{Algorithm, Body, Crc64};
use crate::storage::store::description::{Description, Headers};
use crate::storage::store::http::attempts::Attempts;
use crate::storage::store::http::requests::{Ask, Sender, Sign, encoded, url_of, with_query};
use crate::storage::store::metered::measure;
use crate::storage::store::s3::authorization::Authorizer;
use crate::storage::store::s3::carried::Carried;
use crate::storage::store::s3::checksums::{
    CHEAP_MD5, CRC64NVME, Check, MD5_OF_NOTHING, Part, SHA256, Sent, checked, is_checksum_wanted,
    is_of_whole, read_crc64, sha256, written_crc64,
};
use crate::storage::store::stored::{Comparison, Kept};

/// Sends signed requests to one bucket.
pub(crate) struct SignedS3 {
    s3: Arc<AmazonS3>,
    signing: Signing,
    sender: Sender,
    bucket: OnceCell<Url>,
    /// What was [`Learnt`] of the checksums that the store compares, if nobody has said which; 0 is nothing.
    learnt: AtomicU8,
    /// Whether the store tells no checksum of parts that are copies, which it then wants of a completion.
    copies_have_none: AtomicBool,
    /// Whether every body has to go with a checksum, as far as is known.
    wants_checksums: AtomicBool,
    metrics: Arc<StoreMetrics>,
}

/// What was learnt of the checksums that a store compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learnt {
    /// It compares the CRC64 of objects, and of uploads in parts.
    ComparesAll = 1,
    /// It compares that of objects.
    ComparesObjects = 2,
    /// It compares none.
    Nothing = 3,
}

/// How requests are signed.
pub(crate) struct Signing {
    /// The bucket's name.
    pub(crate) bucket: String,
    pub(crate) authorizer: Authorizer,
    pub(crate) unsigned: bool,
    /// Whether signatures cover the payload, at the price of a SHA-256 of every byte.
    pub(crate) payloads: bool,
    /// What the store is to compare the payload with, if that is settled.
    pub(crate) check: Option<Check>,
    /// How what was stored is compared, where the store has no checksum.
    pub(crate) verify: Verify,
    /// What requests carry besides.
    pub(crate) carried: Carried,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InitiateMultipartUploadResult {
    upload_id: String,
}

/// What a multipart upload becomes.
pub(crate) struct Completion<'a> {
    pub(crate) key: &'a Path,
    pub(crate) upload_id: &'a str,
    /// As XML.
    pub(crate) parts: String,
    /// A header and its value.
    pub(crate) condition: Option<(&'static str, &'a str)>,
    /// The checksum that the object has to have.
    pub(crate) whole: Option<Crc64>,
}

/// A range of an object that becomes a part.
pub(crate) struct CopiedPart<'a> {
    pub(crate) from: &'a Path,
    /// The tag that the object has to have.
    pub(crate) e_tag: Option<&'a str>,
    pub(crate) range: Range<u64>,
    pub(crate) to: &'a Path,
    pub(crate) upload_id: &'a str,
    /// From 0 on.
    pub(crate) index: usize,
}

impl SignedS3 {
    pub(crate) fn new(
        s3: Arc<AmazonS3>,
        signing: Signing,
        sender: Sender,
        metrics: Arc<StoreMetrics>,
    ) -> Self {
        Self {
            s3,
            signing,
            sender,
            bucket: OnceCell::new(),
            learnt: AtomicU8::default(),
            copies_have_none: AtomicBool::new(false),
            wants_checksums: AtomicBool::new(false),
            metrics,
        }
    }

    /// A request about the whole bucket.
    pub(crate) async fn about_all(&self, method: Method, query: &[(&str, &str)]) -> Result<Ask> {
        let url = with_query(self.bucket().await?.clone(), query);
        Ok(Ask::new(method, url, ""))
    }

    /// A request about any key.
    pub(crate) async fn about(&self, method: Method, key: &str) -> Result<Ask> {
        Ok(Ask::new(method, url_of(self.bucket().await?, key), key))
    }

    /// The body of the answer, counted and timed.
    pub(crate) async fn send(&self, operation: &str, ask: Ask) -> Result<Bytes> {
        let answer = self.send_for_head(operation, ask).await?;
        Ok(answer.into_body())
    }

    /// The answer with its headers, counted and timed.
    pub(crate) async fn send_for_head(&self, operation: &str, ask: Ask) -> Result<Response<Bytes>> {
        measure(&self.metrics, operation, self.answer(ask)).await
    }

    /// What the store is to compare objects with, as far as it is known.
    pub(crate) fn check(&self) -> Check {
        self.check_if(&[Learnt::ComparesAll, Learnt::ComparesObjects])
    }

    /// The same of parts; `with_copies` if some of them are copies.
    pub(crate) fn check_of_parts(&self, with_copies: bool) -> Check {
        if with_copies && self.copies_have_none.load(Ordering::Relaxed) {
            return self.by_md5();
        }
        self.check_if(&[Learnt::ComparesAll])
    }

    /// Notes that the store tells no checksum of copies.
    pub(crate) fn copies_have_none(&self) {
        self.copies_have_none.store(true, Ordering::Relaxed);
    }

    /// The CRC64, if one of those was learnt, unless another is settled.
    fn check_if(&self, compares: &[Learnt]) -> Check {
        let learnt = self.learnt.load(Ordering::Relaxed);
        match self.signing.check {
            Some(check) => check,
            None if compares.iter().any(|known| *known as u8 == learnt) => Check::Crc64,
            None => self.by_md5(),
        }
    }

    fn by_md5(&self) -> Check {
        let of_all = self.compares_tags() || self.wants_checksums.load(Ordering::Relaxed);
        Check::Md5UpTo(if of_all { usize::MAX } else { CHEAP_MD5 })
    }

    /// Whether tags are compared with the MD5 of what was sent.
    pub(crate) fn compares_tags(&self) -> bool {
        self.signing.verify == Verify::Md5
    }

    /// By what the store can be held to what it was sent.
    pub(crate) fn comparison(&self) -> Comparison {
        match self.check_of_parts(false) {
            Check::Crc64 => Comparison::Checksum("crc64nvme"),
            Check::Sha256 => Comparison::Checksum("sha256"),
            Check::Md5UpTo(usize::MAX) => Comparison::Checksum("md5"),
            Check::Md5UpTo(_) if self.is_untried() => Comparison::Unknown,
            Check::Md5UpTo(_) => Comparison::Size,
        }
    }

    /// Whether it is not known yet which checksum the store compares.
    pub(crate) fn is_untried(&self) -> bool {
        self.signing.check.is_none() && self.learnt.load(Ordering::Relaxed) == 0
    }

    /// Notes what the store compares.
    pub(crate) fn learn(&self, learnt: Learnt) {
        self.learnt.store(learnt as u8, Ordering::Relaxed);
    }

    /// The checksum that the store keeps of a version of an object.
    pub(crate) async fn kept_checksum(
        &self,
        key: &Path,
        version: &UpdateVersion,
    ) -> Result<Option<Kept>> {
        let ask = self.about(Method::HEAD, key.as_ref()).await?;
        let ask = ask.with("x-amz-checksum-mode", "ENABLED");
        let answer = match self.send_for_head("head", ask).await {
            Ok(answer) => answer,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let told = |name: &str| answer.headers().get(name)?.to_str().ok();
        if told(ETAG.as_str()) != version.e_tag.as_deref() {
            return Ok(None);
        }
        let is_whole = is_of_whole(answer.headers());
        let sum = told(CRC64NVME).filter(|_| is_whole);
        let sum = sum.and_then(|sum| read_crc64(sum, 0));
        Ok(sum.map(|sum| Kept {
            algorithm: Algorithm::Crc64Nvme,
            value: sum.value(),
        }))
    }

    /// The bucket's name.
    pub(crate) fn bucket_name(&self) -> &str {
        &self.signing.bucket
    }

    /// Has the store forget a multipart upload. It is for the caller to count.
    pub(crate) async fn abort(&self, key: &Path, upload_id: &str) -> Result<()> {
        let mut ask = self.about(Method::DELETE, key.as_ref()).await?;
        ask.url = with_query(ask.url, &[("uploadId", upload_id)]);
        self.answer(ask).await.map(drop)
    }

    /// The same for an upload that nobody counts the requests of.
    pub(crate) async fn sweep(&self, key: &Path, upload_id: &str) -> Result<()> {
        measure(&self.metrics, "abort_multipart", self.abort(key, upload_id)).await
    }

    /// Makes a range of an object a part of a multipart upload, if the object still has this tag.
    /// The answer is XML.
    pub(crate) async fn copy_part(&self, part: &CopiedPart<'_>) -> Result<Bytes> {
        let mut ask = self.about(Method::PUT, part.to.as_ref()).await?;
        let number = (part.index + 1).to_string();
        let query = [("partNumber", &*number), ("uploadId", part.upload_id)];
        ask.url = with_query(ask.url, &query);
        let (bucket, from) = (&self.signing.bucket, encoded(part.from.as_ref()));
        let range = format!("bytes={}-{}", part.range.start, part.range.end - 1);
        let mut ask = ask
            .with("x-amz-copy-source", &format!("{bucket}/{from}"))
            .with("x-amz-copy-source-range", &range);
        if let Some(e_tag) = part.e_tag {
            ask = ask.with("x-amz-copy-source-if-match", e_tag);
        }
        self.send("copy_part", ask).await
    }

    /// Begins a multipart upload. It is for the caller to count, as its parts and its completion are.
    pub(crate) async fn create_multipart(
        &self,
        key: &Path,
        description: &Description,
        check: Check,
    ) -> Result<MultipartId> {
        let mut ask = self.about(Method::POST, key.as_ref()).await?;
        ask.url = with_query(ask.url, &[("uploads", "")]);
        ask = ask.describing(description, &Headers::S3);
        ask = match check {
            Check::Crc64 => ask
                .with("x-amz-checksum-algorithm", "CRC64NVME")
                .with("x-amz-checksum-type", "FULL_OBJECT"),
            Check::Sha256 => ask.with("x-amz-checksum-algorithm", "SHA256"),
            Check::Md5UpTo(_) => ask,
        };
        let answer = self.answer(ask).await?.into_body();
        let begun: InitiateMultipartUploadResult =
            quick_xml::de::from_reader(answer.as_ref()).map_err(|error| self.unreadable(error))?;
        Ok(begun.upload_id)
    }

    /// Sends a part, from 0 on.
    pub(crate) async fn put_part(
        &self,
        key: &Path,
        upload_id: &str,
        index: usize,
        body: Body,
        check: Check,
    ) -> Result<Part> {
        let mut ask = self.about(Method::PUT, key.as_ref()).await?;
        let number = (index + 1).to_string();
        ask.url = with_query(ask.url, &[("partNumber", &number), ("uploadId", upload_id)]);
        let crc64 = (check == Check::Crc64).then_some(body.crc64);
        let (answer, sent) = self.write(ask, body, check).await?;
        let compared = sent.compared(answer.headers(), self.compares_tags());
        compared.check("S3")?;
        let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let missing = || Error::Generic {
            store: "S3",
            source: format!("part {number} of {key} has no tag").into(),
        };
        Ok(Part {
            e_tag: header(ETAG.as_str()).ok_or_else(missing)?,
            checksum_sha256: header(SHA256),
            crc64,
        })
    }

    /// Makes an object of a multipart upload's parts. The answer is XML.
    pub(crate) async fn complete(
        &self,
        completion: Completion<'_>,
        attempts: &Arc<Attempts>,
    ) -> Result<Bytes> {
        let Completion {
            key,
            upload_id,
            parts,
            condition,
            whole,
        } = completion;
        let ask = self.about(Method::POST, key.as_ref()).await?;
        let mut ask = ask.with_body(parts).telling(attempts);
        ask.url = with_query(ask.url, &[("uploadId", upload_id)]);
        if let Some(whole) = whole {
            ask = ask
                .with(CRC64NVME, &written_crc64(whole))
                .with("x-amz-checksum-type", "FULL_OBJECT");
        }
        // After a conflict S3 wants all parts anew.
        ask.waits_for_others = false;
        if let Some((name, value)) = condition {
            ask = ask.with(name, value);
        }
        Ok(self.answer(ask).await?.into_body())
    }

    /// An answer that can't be read.
    pub(crate) fn unreadable(
        &self,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        self.sender.generic(error)
    }

    async fn answer(&self, ask: Ask) -> Result<Response<Bytes>> {
        let mut ask = self.signing.carried.on(ask);
        let is_empty = ask.body.content_length() == 0;
        if ask.digest.is_none() && self.signing.payloads && !self.signing.unsigned && !is_empty {
            ask.digest = Some(sha256(&ask.body));
        }
        self.sender.send(&ask, self).await
    }

    /// The answer to a request with a body, and what it has said of the body. A bucket with Object Lock wants a checksum
    /// of each, and says so once. It is for the caller to count.
    async fn write(&self, ask: Ask, body: Body, check: Check) -> Result<(Response<Bytes>, Sent)> {
        if let Check::Md5UpTo(most) = check
            && body.length() > most
        {
            let (asked, sent) = checked(ask.clone(), body.clone(), check).await;
            match self.answer(asked).await {
                Err(error) if is_checksum_wanted(&error) => {
                    self.wants_checksums.store(true, Ordering::Relaxed);
                }
                answered => return Ok((answered?, sent)),
            }
            let (ask, sent) = checked(ask, body, Check::Md5UpTo(usize::MAX)).await;
            return Ok((self.answer(ask).await?, sent));
        }
        let (ask, sent) = checked(ask, body, check).await;
        Ok((self.answer(ask).await?, sent))
    }

    /// Writes an object, counted and timed.
    pub(crate) async fn put(&self, ask: Ask, body: Body) -> Result<(Response<Bytes>, Sent)> {
        measure(&self.metrics, "put", self.write(ask, body, self.check())).await
    }

    /// Copies an object, counted and timed. Some stores want a checksum there too: that of the empty body.
    pub(crate) async fn copy(&self, ask: Ask) -> Result<Bytes> {
        let copy = async {
            if !self.wants_checksums.load(Ordering::Relaxed) {
                match self.answer(ask.clone()).await {
                    Err(error) if is_checksum_wanted(&error) => {
                        self.wants_checksums.store(true, Ordering::Relaxed);
                    }
                    answered => return answered,
                }
            }
            self.answer(ask.with("content-md5", MD5_OF_NOTHING)).await
        };
        let answer = measure(&self.metrics, "copy", copy).await?;
        Ok(answer.into_body())
    }

    /// Where the bucket lies. The signer knows endpoint, bucket and style of addressing; its signature
    /// is thrown away.
    async fn bucket(&self) -> Result<&Url> {
        let ask = async || {
            let (key, validity) = (Path::from("x"), Duration::from_mins(1));
            let mut url = self.s3.signed_url(Method::GET, &key, validity).await?;
            let bucket = url.path().trim_end_matches('x').to_owned();
            url.set_query(None);
            url.set_path(&bucket);
            Ok(url)
        };
        self.bucket.get_or_try_init(ask).await
    }
}

#[async_trait]
impl Sign for SignedS3 {
    async fn sign(&self, request: &mut HttpRequest, digest: Option<&[u8]>) -> Result<()> {
        if self.signing.unsigned {
            return Ok(());
        }
        let credential = self.s3.credentials().get_credential().await?;
        self.signing
            .authorizer
            .authorize(request, digest, &credential, Utc::now())
            .map_err(|error| self.unreadable(error))
    }
}

impl fmt::Debug for SignedS3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedS3({})", self.s3)
    }
}
