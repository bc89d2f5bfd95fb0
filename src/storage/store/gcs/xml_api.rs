//! Requests of our own to Google's XML API, for what `object_store` can't say.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, ETAG, HeaderMap};
use http::{Method, Response};
use object_store::client::HttpRequest;
use object_store::gcp::GoogleCloudStorage;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{AttributeValue, Error, MultipartId, Result, UpdateVersion};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::storage::store::body::{Algorithm, Body};
use crate::storage::store::description::{Carries, Description, Headers};
use crate::storage::store::gcs::compose::Composition;
use crate::storage::store::gcs::hash;
use crate::storage::store::http::requests::{Ask, Sender, Sign, url_of, with_query};
use crate::storage::store::keys::{Page, Query, only_if};
use crate::storage::store::metered::measure;
use crate::storage::store::precondition::{Precondition, told_apart};
use crate::storage::store::s3::listing;
use crate::storage::store::s3::sweep::Uploads;
use crate::storage::store::stored::Kept;
use crate::storage::store::terms::Terms;
use crate::telemetry::StoreMetrics;

/// The condition on the version that is there; 0 is none.
const GENERATION: &str = "x-goog-if-generation-match";

/// What errors call the store, as `object_store` does.
pub(crate) const STORE: &str = "GCS";

/// Where Google's buckets are.
pub(crate) const GOOGLE: &str = "https://storage.googleapis.com";

/// A part that is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Names it to the completion.
    pub(crate) e_tag: String,
    /// Its CRC32C.
    pub(crate) sum: u64,
    pub(crate) length: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InitiateMultipartUploadResult {
    upload_id: String,
}

/// Sends requests to one bucket.
pub(crate) struct XmlApi {
    gcs: Arc<GoogleCloudStorage>,
    bucket: Url,
    unsigned: bool,
    sender: Sender,
    metrics: Arc<StoreMetrics>,
}

impl XmlApi {
    /// The bucket at `base`, as the store's library reaches it.
    pub(crate) fn new(
        gcs: Arc<GoogleCloudStorage>,
        bucket: Url,
        unsigned: bool,
        sender: Sender,
        metrics: Arc<StoreMetrics>,
    ) -> Self {
        Self {
            gcs,
            bucket,
            unsigned,
            sender,
            metrics,
        }
    }

    /// The store, for what it can say itself.
    pub(crate) fn store(&self) -> &GoogleCloudStorage {
        &self.gcs
    }

    /// One page of a listing.
    pub(crate) async fn list(&self, query: Query<'_>) -> Result<Page> {
        let url = with_query(self.bucket.clone(), &listing::query(&query).pairs());
        let body = self.send("list", Ask::new(Method::GET, url, "")).await?;
        listing::parse(&body).map_err(|error| self.sender.generic(error))
    }

    /// Begins an upload in parts of what is to be composed, for which it needs the class of the whole. It is for the caller
    /// to count.
    pub(crate) async fn create_multipart(
        &self,
        key: &Path,
        class: Option<&AttributeValue>,
    ) -> Result<MultipartId> {
        let mut ask = self.about(Method::POST, key.as_ref());
        ask.url = with_query(ask.url, &[("uploads", "")]);
        if let Some(class) = class {
            ask = ask.with(Headers::GOOGLE.class, class);
        }
        let answer = self.sender.send(&ask, self).await?;
        let begun: InitiateMultipartUploadResult =
            quick_xml::de::from_reader(answer.body().as_ref())
                .map_err(|error| self.sender.generic(error))?;
        Ok(begun.upload_id)
    }

    /// Composes existing objects into one.
    pub(crate) async fn compose(
        &self,
        composition: &Composition,
        description: &Description,
        terms: &Terms,
    ) -> Result<Response<Bytes>> {
        let ask = self.about(Method::PUT, composition.key.as_ref());
        let mut ask = ask.with_body(composition.components());
        ask.url = with_query(ask.url, &[("compose", "")]);
        self.write("compose", ask, description, terms).await
    }

    /// The checksum that Google keeps of a version of an object.
    pub(crate) async fn kept_checksum(
        &self,
        key: &Path,
        version: &UpdateVersion,
    ) -> Result<Option<Kept>> {
        let ask = self.about(Method::HEAD, key.as_ref());
        let answer = match self.send_for_head("head", ask).await {
            Ok(answer) => answer,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let now = self::version(answer.headers());
        if now.e_tag != version.e_tag {
            return Ok(None);
        }
        Ok(hash::told(answer.headers()).map(|value| Kept {
            algorithm: Algorithm::Crc32c,
            value,
        }))
    }

    /// Sends a part, from 0 on. Its tag is for the completion.
    pub(crate) async fn put_part(
        &self,
        key: &str,
        id: &str,
        index: usize,
        body: Body,
    ) -> Result<Part> {
        let (sum, length) = (hash::crc32c(&body.payload), body.length() as u64);
        let ask = self.about(Method::PUT, key);
        let mut ask = ask.with(hash::HEADER, &hash::written(sum));
        let number = (index + 1).to_string();
        ask.url = with_query(ask.url, &[("partNumber", &number), ("uploadId", id)]);
        let ask = ask.with_body(body.payload);
        let answer = self.sender.send(&ask, self).await?;
        hash::compared(Some(sum), answer.headers()).check(STORE)?;
        let e_tag = version(answer.headers()).e_tag;
        let missing = || Error::Generic {
            store: STORE,
            source: format!("part {number} of {key} has no tag").into(),
        };
        Ok(Part {
            e_tag: e_tag.ok_or_else(missing)?,
            sum,
            length,
        })
    }

    /// The storage class of an object, which listings do not tell.
    pub(crate) async fn class(&self, key: &Path) -> Result<Option<Box<str>>> {
        let answer = self.send_for_head("head", self.about(Method::HEAD, key.as_ref()));
        let carries = Carries::of(answer.await?.headers());
        Ok(carries.and_then(|carries| carries.class))
    }

    /// Writes an object.
    pub(crate) async fn write(
        &self,
        operation: &str,
        ask: Ask,
        description: &Description,
        terms: &Terms,
    ) -> Result<Response<Bytes>> {
        let ask = ask.describing(description, &Headers::GOOGLE);
        let ask = conditional(ask, terms)?;
        let answer = self.send_for_head(operation, ask).await;
        answer.map_err(|error| told_apart(STORE, error, &terms.precondition))
    }

    /// A request about any key.
    pub(crate) fn about(&self, method: Method, key: &str) -> Ask {
        Ask::new(method, url_of(&self.bucket, key), key)
    }

    /// The body of the answer, counted and timed.
    pub(crate) async fn send(&self, operation: &str, ask: Ask) -> Result<Bytes> {
        Ok(self.send_for_head(operation, ask).await?.into_body())
    }

    /// The answer with its headers, counted and timed.
    pub(crate) async fn send_for_head(&self, operation: &str, ask: Ask) -> Result<Response<Bytes>> {
        measure(&self.metrics, operation, self.sender.send(&ask, self)).await
    }

    /// The bucket's name.
    pub(crate) fn bucket_name(&self) -> &str {
        self.bucket.path().trim_matches('/')
    }

    /// An answer that can't be read.
    pub(crate) fn unreadable(
        &self,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        self.sender.generic(error)
    }
}

pub(crate) fn version(headers: &HeaderMap) -> UpdateVersion {
    let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
    UpdateVersion {
        e_tag: text(ETAG.as_str()),
        version: text("x-goog-generation"),
    }
}

/// A request on these terms: a precondition on the generation.
pub(crate) fn conditional(ask: Ask, terms: &Terms) -> Result<Ask> {
    let ask = ask.telling(&terms.attempts);
    match &terms.precondition {
        Precondition::None => Ok(ask),
        Precondition::Absent => Ok(ask.with(GENERATION, "0")),
        Precondition::Unchanged(version) => match &version.version {
            Some(generation) => only_if(ask, GENERATION, generation),
            None => Ok(ask),
        },
    }
}

#[async_trait]
impl Uploads for XmlApi {
    async fn list_uploads(&self, query: &[(&str, &str)]) -> Result<Bytes> {
        let url = with_query(self.bucket.clone(), query);
        self.send("list_multiparts", Ask::new(Method::GET, url, ""))
            .await
    }

    async fn forget(&self, key: &Path, upload_id: &str) -> Result<()> {
        let id = upload_id.to_owned();
        let aborted = self.gcs.abort_multipart(key, &id);
        measure(&self.metrics, "abort_multipart", aborted).await
    }
}

#[async_trait]
impl Sign for XmlApi {
    async fn sign(&self, request: &mut HttpRequest, _: Option<&[u8]>) -> Result<()> {
        if self.unsigned {
            return Ok(());
        }
        let credential = self.gcs.credentials().get_credential().await?;
        if !credential.bearer.is_empty() {
            let bearer = format!("Bearer {}", credential.bearer).parse();
            let bearer = bearer
                .map_err(|error: http::header::InvalidHeaderValue| self.sender.generic(error))?;
            request.headers_mut().insert(AUTHORIZATION, bearer);
        }
        Ok(())
    }
}

impl fmt::Debug for XmlApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XmlApi({})", self.gcs)
    }
}
