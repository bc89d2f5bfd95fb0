//! Requests to S3 of our own making, for what `object_store`'s paths can't say.
//!
//! Keys that end with a slash (directory markers) and keys with empty segments or control
//! characters exist in real buckets. These requests are signed and sent with `object_store`'s own
//! credentials, authorizer and HTTP client.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpRequestBody, ReqwestConnector,
};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{Error, Result};
use url::Url;

use crate::telemetry::Metrics;

use super::metered::measure;

/// The wait before the second attempt; doubled each time, up to [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_millis(100);

/// The longest wait between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(3);

/// Sends signed requests to one bucket.
pub(super) struct SignedS3 {
    s3: Arc<AmazonS3>,
    client: HttpClient,
    region: String,
    unsigned: bool,
    retry_timeout: Duration,
    metrics: Arc<Metrics>,
}

/// How requests are signed and how long they are tried.
pub(super) struct Signing {
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
            client: ReqwestConnector::default().connect(options)?,
            region: signing.region,
            unsigned: signing.unsigned,
            retry_timeout: signing.retry_timeout,
            metrics,
        })
    }

    /// Makes the marker `key/` exist.
    pub(super) async fn create_marker(&self, key: &Path) -> Result<()> {
        let url = self.marker_url(key).await?;
        let request = self.request(Method::PUT, &url, key.as_ref());
        measure(&self.metrics, "put", request).await?;
        Ok(())
    }

    /// Makes the marker `key/` not exist. It is no error if it did not.
    pub(super) async fn remove_marker(&self, key: &Path) -> Result<()> {
        let url = self.marker_url(key).await?;
        let request = self.request(Method::DELETE, &url, key.as_ref());
        match measure(&self.metrics, "delete", request).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// One page of a listing, as XML.
    pub(super) async fn list(&self, query: &[(&str, &str)]) -> Result<Bytes> {
        let mut url = self.bucket_url().await?;
        url.query_pairs_mut().extend_pairs(query);
        // The signature wants spaces as `%20`; forms write them as `+`.
        let escaped = url.query().map(|query| query.replace('+', "%20"));
        url.set_query(escaped.as_deref());
        let request = self.request(Method::GET, &url, "");
        measure(&self.metrics, "list", request).await
    }

    /// Has the store forget a multipart upload.
    pub(super) async fn abort(&self, key: &Path, upload_id: &str) -> Result<()> {
        let mut url = self.url(key).await?;
        url.query_pairs_mut().append_pair("uploadId", upload_id);
        let request = self.request(Method::DELETE, &url, key.as_ref());
        measure(&self.metrics, "abort_multipart", request).await?;
        Ok(())
    }

    async fn marker_url(&self, key: &Path) -> Result<Url> {
        let mut url = self.url(key).await?;
        url.set_path(&format!("{}/", url.path()));
        Ok(url)
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
    async fn request(&self, method: Method, url: &Url, key: &str) -> Result<Bytes> {
        let give_up = Instant::now() + self.retry_timeout;
        let mut wait = BACKOFF;
        loop {
            let (error, again) = match self.attempt(method.clone(), url).await {
                Ok((status, body)) if status.is_success() => return Ok(body),
                Ok((status, body)) => (refusal(status, &body, key), is_passing(status)),
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

    async fn attempt(&self, method: Method, url: &Url) -> Result<(StatusCode, Bytes)> {
        let mut request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .body(HttpRequestBody::empty())
            .map_err(generic)?;
        if !self.unsigned {
            let credential = self.s3.credentials().get_credential().await?;
            let authorizer = AwsAuthorizer::new(&credential, "s3", &self.region);
            authorizer.try_authorize(&mut request, None)?;
        }
        let response = self.client.execute(request).await.map_err(generic)?;
        let status = response.status();
        let body = response.into_body().bytes().await.map_err(generic)?;
        Ok((status, body))
    }
}

impl fmt::Debug for SignedS3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedS3({})", self.s3)
    }
}

fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// The error that `object_store` would have given for the same answer.
fn refusal(status: StatusCode, body: &[u8], key: &str) -> Error {
    let path = key.to_owned();
    let source = format!("{status}: {}", String::from_utf8_lossy(body)).into();
    match status {
        StatusCode::NOT_FOUND => Error::NotFound { path, source },
        StatusCode::FORBIDDEN => Error::PermissionDenied { path, source },
        StatusCode::UNAUTHORIZED => Error::Unauthenticated { path, source },
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
