//! Requests to S3 of our own making, for what `object_store`'s paths can't say.
//!
//! Keys that end with a slash (directory markers) and keys with empty segments or control
//! characters exist in real buckets; a part can be a copy of what the bucket has; and an upload can be
//! completed on a condition. These requests are signed and sent with `object_store`'s own
//! credentials, authorizer and HTTP client.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{ClientOptions, HttpClient, HttpConnector, HttpRequestBody};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{Error, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::telemetry::Metrics;

use super::connector::PatientConnector;
use super::metered::measure;

/// The wait before the second attempt; doubled each time, up to [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_millis(100);

/// The longest wait between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(3);

/// Sends signed requests to one bucket.
pub(super) struct SignedS3 {
    s3: Arc<AmazonS3>,
    client: HttpClient,
    bucket: String,
    region: String,
    unsigned: bool,
    retry_timeout: Duration,
    metrics: Arc<Metrics>,
}

/// How requests are signed and how long they are tried.
pub(super) struct Signing {
    pub(super) bucket: String,
    pub(super) region: String,
    pub(super) unsigned: bool,
    pub(super) retry_timeout: Duration,
}

impl SignedS3 {
    pub(super) fn new(
        s3: Arc<AmazonS3>,
        signing: Signing,
        options: &ClientOptions,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        Ok(Self {
            s3,
            client: PatientConnector.connect(options)?,
            bucket: signing.bucket,
            region: signing.region,
            unsigned: signing.unsigned,
            retry_timeout: signing.retry_timeout,
            metrics,
        })
    }

    /// One page of a listing, as XML.
    pub(super) async fn list(&self, query: &[(&str, &str)]) -> Result<Bytes> {
        let mut url = self.bucket_url().await?;
        url.query_pairs_mut().extend_pairs(query);
        // The signature wants spaces as `%20`; forms write them as `+`.
        let escaped = url.query().map(|query| query.replace('+', "%20"));
        url.set_query(escaped.as_deref());
        let request = self.request(Method::GET, &url, Content::default());
        measure(&self.metrics, "list", request).await
    }

    /// Has the store forget a multipart upload.
    pub(super) async fn abort(&self, key: &Path, upload_id: &str) -> Result<()> {
        let mut url = self.url(key).await?;
        url.query_pairs_mut().append_pair("uploadId", upload_id);
        let request = self.request(Method::DELETE, &url, Content::default());
        measure(&self.metrics, "abort_multipart", request).await?;
        Ok(())
    }

    /// The store, for what it can say itself.
    pub(super) fn store(&self) -> &AmazonS3 {
        &self.s3
    }

    /// Makes a range of an object a part of a multipart upload, if the object still has this tag.
    /// The answer is XML.
    pub(super) async fn copy_part(&self, part: &CopiedPart<'_>) -> Result<Bytes> {
        let mut url = self.url(part.to).await?;
        url.query_pairs_mut()
            .append_pair("partNumber", &(part.index + 1).to_string())
            .append_pair("uploadId", part.upload_id);
        let source = utf8_percent_encode(part.from.as_ref(), PATH);
        let source = format!("{}/{source}", self.bucket);
        let range = format!("bytes={}-{}", part.range.start, part.range.end - 1);
        let mut content = Content::default();
        content.header("x-amz-copy-source", &source)?;
        content.header("x-amz-copy-source-range", &range)?;
        if let Some(e_tag) = part.e_tag {
            content.header("x-amz-copy-source-if-match", e_tag)?;
        }
        let request = self.request(Method::PUT, &url, content);
        measure(&self.metrics, "copy_part", request).await
    }

    /// Makes an object of a multipart upload's parts, which are listed as XML, if `condition` (a
    /// header and its value) holds. The answer is XML.
    pub(super) async fn complete(
        &self,
        key: &Path,
        upload_id: &str,
        parts: String,
        condition: Option<(&'static str, &str)>,
    ) -> Result<Bytes> {
        let mut url = self.url(key).await?;
        url.query_pairs_mut().append_pair("uploadId", upload_id);
        let mut content = Content {
            body: parts.into(),
            ..Content::default()
        };
        if let Some((name, value)) = condition {
            content.header(name, value)?;
        }
        self.request(Method::POST, &url, content).await
    }

    async fn bucket_url(&self) -> Result<Url> {
        let mut url = self.url(&Path::from("x")).await?;
        let bucket = url.path().trim_end_matches('x').to_owned();
        url.set_path(&bucket);
        Ok(url)
    }

    /// Where an object lies. The signer knows endpoint, bucket and style of addressing; its
    /// signature is thrown away.
    async fn url(&self, key: &Path) -> Result<Url> {
        let validity = Duration::from_mins(1);
        let mut url = self.s3.signed_url(Method::GET, key, validity).await?;
        url.set_query(None);
        Ok(url)
    }

    /// Tries until there is an answer that trying again would not change, or time is over.
    async fn request(&self, method: Method, url: &Url, content: Content) -> Result<Bytes> {
        let give_up = Instant::now() + self.retry_timeout;
        let mut wait = BACKOFF;
        loop {
            let (error, again) = match self.attempt(method.clone(), url, &content).await {
                Ok((status, body)) if status.is_success() => return Ok(body),
                Ok((status, body)) => (refusal(status, &body, url.path()), is_passing(status)),
                Err(error) => (error, true),
            };
            if !again || Instant::now() + wait > give_up {
                return Err(error);
            }
            tracing::debug!(%error, "store request failed, trying again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(MAX_BACKOFF);
        }
    }

    async fn attempt(
        &self,
        method: Method,
        url: &Url,
        content: &Content,
    ) -> Result<(StatusCode, Bytes)> {
        let may_tell_late = method != Method::GET;
        let mut request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .body(HttpRequestBody::from(content.body.clone()))
            .map_err(generic)?;
        request.headers_mut().extend(content.headers.clone());
        if !self.unsigned {
            let credential = self.s3.credentials().get_credential().await?;
            let authorizer = AwsAuthorizer::new(&credential, "s3", &self.region);
            authorizer.try_authorize(&mut request, None)?;
        }
        let response = self.client.execute(request).await.map_err(generic)?;
        let status = response.status();
        let body = response.into_body().bytes().await.map_err(generic)?;
        let late = may_tell_late.then(|| told_late(&body)).flatten();
        Ok((late.filter(|_| status.is_success()).unwrap_or(status), body))
    }
}

/// What a request has besides its method and URL.
#[derive(Default)]
struct Content {
    headers: HeaderMap,
    body: Bytes,
}

impl Content {
    fn header(&mut self, name: &'static str, value: &str) -> Result<()> {
        let value = HeaderValue::from_str(value).map_err(generic)?;
        self.headers.insert(name, value);
        Ok(())
    }
}

/// A range of an object that becomes a part.
pub(super) struct CopiedPart<'a> {
    pub(super) from: &'a Path,
    /// The tag that the object has to have.
    pub(super) e_tag: Option<&'a str>,
    pub(super) range: Range<u64>,
    pub(super) to: &'a Path,
    pub(super) upload_id: &'a str,
    /// From 0 on.
    pub(super) index: usize,
}

impl fmt::Debug for SignedS3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedS3({})", self.s3)
    }
}

/// What is left as it is in the path of a key.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'/')
    .remove(b'_')
    .remove(b'~');

/// S3 says 200 before it has copied or put together what may take long. If that fails, the answer has
/// an error in it instead.
fn told_late(body: &[u8]) -> Option<StatusCode> {
    let body = std::str::from_utf8(body).ok()?;
    let (_, error) = body.split_once("<Error>")?;
    Some(match code_in(error)? {
        "AccessDenied" => StatusCode::FORBIDDEN,
        "NoSuchKey" | "NoSuchUpload" => StatusCode::NOT_FOUND,
        "PreconditionFailed" => StatusCode::PRECONDITION_FAILED,
        "ConditionalRequestConflict" => StatusCode::CONFLICT,
        "NotImplemented" => StatusCode::NOT_IMPLEMENTED,
        "EntityTooSmall" | "InvalidPart" | "InvalidPartOrder" | "InvalidRequest" => {
            StatusCode::BAD_REQUEST
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    })
}

/// What stands in the `Code` of an error.
fn code_in(error: &str) -> Option<&str> {
    let (_, code) = error.split_once("<Code>")?;
    Some(code.split_once("</Code>")?.0)
}

fn is_passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
}

/// The error that `object_store` would have given for the same answer.
fn refusal(status: StatusCode, body: &[u8], key: &str) -> Error {
    let path = key.to_owned();
    let source = format!("{status}: {}", String::from_utf8_lossy(body)).into();
    match status {
        StatusCode::NOT_FOUND => Error::NotFound { path, source },
        StatusCode::FORBIDDEN => Error::PermissionDenied { path, source },
        StatusCode::UNAUTHORIZED => Error::Unauthenticated { path, source },
        StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => {
            Error::Precondition { path, source }
        }
        StatusCode::NOT_IMPLEMENTED | StatusCode::METHOD_NOT_ALLOWED => {
            Error::NotSupported { source }
        }
        _ => Error::Generic {
            store: "S3",
            source,
        },
    }
}

fn generic(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic {
        store: "S3",
        source: Box::new(error),
    }
}
