//! Directory markers on S3: zero-byte objects `name/`.
//!
//! The cloud consoles and rclone write and read the same. `object_store` can't name them (its paths
//! lose a trailing slash), so these few requests are signed and sent here, with its own
//! credentials and client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpRequestBody, HttpResponse, ReqwestConnector,
};
use object_store::path::Path;
use object_store::signer::Signer;
use url::Url;

use crate::telemetry::Metrics;

use super::metered::measure;

/// Attempts of one request, the first included.
const ATTEMPTS: u32 = 4;

/// The wait before the second attempt; doubled each time.
const BACKOFF: Duration = Duration::from_millis(100);

/// Writes and deletes markers.
pub(super) struct S3Markers {
    s3: Arc<AmazonS3>,
    client: HttpClient,
    region: String,
    unsigned: bool,
    metrics: Arc<Metrics>,
}

impl S3Markers {
    pub(super) fn new(
        s3: Arc<AmazonS3>,
        region: String,
        unsigned: bool,
        options: &ClientOptions,
        metrics: Arc<Metrics>,
    ) -> object_store::Result<Self> {
        Ok(Self {
            s3,
            client: ReqwestConnector::default().connect(options)?,
            region,
            unsigned,
            metrics,
        })
    }

    /// Makes `key/` exist.
    pub(super) async fn create(&self, key: &Path) -> object_store::Result<()> {
        measure(&self.metrics, "put", self.request(Method::PUT, key)).await
    }

    /// Makes `key/` not exist. It is no error if it did not.
    pub(super) async fn remove(&self, key: &Path) -> object_store::Result<()> {
        match measure(&self.metrics, "delete", self.request(Method::DELETE, key)).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            result => result,
        }
    }

    async fn request(&self, method: Method, key: &Path) -> object_store::Result<()> {
        let url = self.marker_url(key).await?;
        let mut wait = BACKOFF;
        for _ in 1..ATTEMPTS {
            match self.attempt(method.clone(), &url).await {
                Ok(response) if response.status().is_server_error() => {}
                Ok(response) => return judge(response, key).await,
                Err(error) => tracing::debug!(%error, "marker request failed, trying again"),
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        judge(self.attempt(method, &url).await?, key).await
    }

    /// Where the marker lies: where the object without the slash would, and a slash. The signer
    /// knows endpoint, bucket and style of addressing; its signature is thrown away.
    async fn marker_url(&self, key: &Path) -> object_store::Result<Url> {
        let mut url = self
            .s3
            .signed_url(Method::PUT, key, Duration::from_mins(1))
            .await?;
        url.set_query(None);
        url.set_path(&format!("{}/", url.path()));
        Ok(url)
    }

    async fn attempt(&self, method: Method, url: &Url) -> object_store::Result<HttpResponse> {
        let mut request = Request::builder()
            .method(method)
            .uri(url.as_str())
            .body(HttpRequestBody::empty())
            .map_err(generic)?;
        if !self.unsigned {
            let credential = self.s3.credentials().get_credential().await?;
            AwsAuthorizer::new(&credential, "s3", &self.region)
                .try_authorize(&mut request, None)?;
        }
        self.client.execute(request).await.map_err(generic)
    }
}

impl fmt::Debug for S3Markers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Markers({})", self.s3)
    }
}

/// The errors that `object_store` would have given for the same answer.
async fn judge(response: HttpResponse, key: &Path) -> object_store::Result<()> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let path = format!("{key}/");
    let body = response.into_body().bytes().await.unwrap_or_default();
    let source = format!("{status}: {}", String::from_utf8_lossy(&body)).into();
    Err(match status {
        StatusCode::NOT_FOUND => object_store::Error::NotFound { path, source },
        StatusCode::FORBIDDEN => object_store::Error::PermissionDenied { path, source },
        StatusCode::UNAUTHORIZED => object_store::Error::Unauthenticated { path, source },
        _ => object_store::Error::Generic {
            store: "S3",
            source,
        },
    })
}

fn generic(error: impl std::error::Error + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic {
        store: "S3",
        source: Box::new(error),
    }
}
