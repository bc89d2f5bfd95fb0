//! Counts and times every request to the store, whatever store it is.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use crate::storage::store::body::{Body, Crc64};
use crate::storage::store::causes::{code_of, find, refused_with};
use crate::storage::store::credentials::{NoCredentials, Renew, STALE};
use crate::storage::store::description::Carries;
use crate::storage::store::stored::Stored;
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::{Start, Unconditional, Upload};
use crate::telemetry::StoreMetrics;

/// A store whose requests are measured.
pub(crate) struct Metered {
    inner: Arc<dyn ObjectStore>,
    metrics: Arc<StoreMetrics>,
    /// What renews the credentials of reads; those of writes are renewed with them.
    credentials: Option<Arc<dyn Renew>>,
}

impl Metered {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, metrics: Arc<StoreMetrics>) -> Self {
        Self {
            inner,
            metrics,
            credentials: None,
        }
    }

    /// The same, whose reads are sent again when others renew its credentials.
    pub(crate) fn renewed_by(self, credentials: Arc<dyn Renew>) -> Self {
        let credentials = Some(credentials);
        Self {
            credentials,
            ..self
        }
    }

    async fn get(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { "head" } else { "get" };
        measure(&self.metrics, operation, self.inner.get_opts(key, options)).await
    }

    /// Awaits a request that was made past the store, and counts it.
    pub(crate) fn measure<T>(
        &self,
        operation: &str,
        request: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        measure(&self.metrics, operation, request)
    }

    /// Counts the requests of an upload.
    pub(crate) fn measured(&self, inner: impl Upload + 'static) -> Box<dyn Upload> {
        let metrics = Arc::clone(&self.metrics);
        let inner = Box::new(inner);
        Box::new(MeteredUpload { inner, metrics })
    }

    /// Begins an upload as `object_store` makes it.
    pub(crate) async fn begin(&self, start: Start) -> Result<Box<dyn Upload>> {
        let options = PutMultipartOptions {
            tags: start.description.tags.set(),
            attributes: start.description.attributes,
            ..PutMultipartOptions::default()
        };
        let upload = self.put_multipart_opts(&start.key, options).await?;
        Ok(self.measured(Unconditional::new(upload)))
    }
}

/// Awaits a request and counts it. Its time begins with this call.
///
/// No `async fn`: that would hold the request twice, as its argument and as what it awaits.
pub(crate) fn measure<T>(
    metrics: &StoreMetrics,
    operation: &str,
    request: impl Future<Output = Result<T>>,
) -> impl Future<Output = Result<T>> {
    let started = Instant::now();
    request.inspect(move |result| {
        let outcome = result.as_ref().err().map_or("ok", label);
        metrics.request(operation, outcome, started.elapsed());
    })
}

/// Whether credentials were good once, or may be again. S3 gives a `HEAD` no reason; it says 400 then, and to no other.
fn is_stale(error: &object_store::Error, is_head: bool) -> bool {
    if find::<NoCredentials>(error).is_some() {
        return false;
    }
    let is_refused = matches!(error, object_store::Error::Unauthenticated { .. });
    let has_code = code_of(error).is_some_and(|code| STALE.contains(&code.as_str()));
    is_refused || has_code || is_head && refused_with(error) == Some(400)
}

fn label(error: &object_store::Error) -> &'static str {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => "not_found",
        E::AlreadyExists { .. } => "exists",
        E::Precondition { .. } | E::NotModified { .. } => "precondition",
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => "denied",
        E::NotSupported { .. } | E::NotImplemented { .. } => "unsupported",
        _ => "error",
    }
}

impl fmt::Debug for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Display for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Metered {
    async fn put_opts(
        &self,
        key: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        measure(
            &self.metrics,
            "put",
            self.inner.put_opts(key, payload, opts),
        )
        .await
    }

    async fn put_multipart_opts(
        &self,
        key: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let request = self.inner.put_multipart_opts(key, opts);
        measure(&self.metrics, "create_multipart", request).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        let (began, is_head) = (Instant::now(), options.head);
        let again = options.clone();
        let renews = || self.credentials.as_ref().is_some_and(|it| it.renew(began));
        let mut got = match self.get(key, options).await {
            Err(error) if is_stale(&error, is_head) && renews() => self.get(key, again).await?,
            got => got?,
        };
        if let Some(carries) = got.extensions.get::<Carries>() {
            carries.put_on(&mut got.attributes);
        }
        Ok(got)
    }

    async fn get_ranges(&self, key: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        measure(&self.metrics, "get", self.inner.get_ranges(key, ranges)).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let metrics = Arc::clone(&self.metrics);
        self.inner
            .delete_stream(keys)
            .inspect(move |result| {
                let outcome = result.as_ref().err().map_or("ok", label);
                metrics.request_without_time("delete", outcome);
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        counted(&self.metrics, self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        counted(&self.metrics, self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        measure(
            &self.metrics,
            "list",
            self.inner.list_with_delimiter(prefix),
        )
        .await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        measure(
            &self.metrics,
            "copy",
            self.inner.copy_opts(from, to, options),
        )
        .await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        measure(
            &self.metrics,
            "rename",
            self.inner.rename_opts(from, to, options),
        )
        .await
    }
}

/// The pages behind a streamed listing can't be seen from here, so it counts as one, by its first entry.
/// Only a folder is listed so, whose listings have no pages; a bucket counts its own
/// ([`keys`](crate::storage::store::keys)).
fn counted(
    metrics: &Arc<StoreMetrics>,
    mut list: BoxStream<'static, Result<ObjectMeta>>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let metrics = Arc::clone(metrics);
    let entries = async move {
        let first = async { list.next().await.transpose() };
        let first = measure(&metrics, "list", first).await;
        stream::iter(first.transpose()).chain(list)
    };
    stream::once(entries).flatten().boxed()
}

#[derive(Debug)]
struct MeteredUpload {
    inner: Box<dyn Upload>,
    metrics: Arc<StoreMetrics>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Upload for MeteredUpload {
    fn put_part(&mut self, body: Body) -> UploadPart {
        let part = self.inner.put_part(body);
        let metrics = Arc::clone(&self.metrics);
        Box::pin(async move { measure(&metrics, "put_part", part).await })
    }

    async fn publish(&mut self, terms: &Terms, whole: Option<Crc64>) -> Result<Stored> {
        let publish = self.inner.publish(terms, whole);
        measure(&self.metrics, "complete_multipart", publish).await
    }

    async fn abort(&mut self) -> Result<()> {
        measure(&self.metrics, "abort_multipart", self.inner.abort()).await
    }

    fn hand_over(&self, parts: usize) -> Option<String> {
        self.inner.hand_over(parts)
    }
}
