//! Requests of our own to Google's XML API, for what `object_store` can't say.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use http::header::AUTHORIZATION;
use object_store::client::{ClientOptions, HttpRequest};
use object_store::gcp::GoogleCloudStorage;
use object_store::{Attribute, Result};
use quick_xml::escape::escape;
use url::Url;

use crate::storage::store::gcs::compose::Composition;
use crate::storage::store::http::requests::{Ask, Sender, Sign, url_of, with_query};
use crate::storage::store::keys::{Page, Query, only_if};
use crate::storage::store::metered::measure;
use crate::storage::store::precondition::Precondition;
use crate::storage::store::s3::listing;
use crate::telemetry::Metrics;

/// The condition on the version that is there; 0 is none.
const GENERATION: &str = "x-goog-if-generation-match";

/// Where Google's buckets are.
pub(crate) const GOOGLE: &str = "https://storage.googleapis.com";

/// Sends requests to one bucket.
pub(crate) struct XmlApi {
    gcs: Arc<GoogleCloudStorage>,
    bucket: Url,
    unsigned: bool,
    sender: Sender,
    metrics: Arc<Metrics>,
}

impl XmlApi {
    /// The bucket at `base`, as the store's library reaches it.
    pub(crate) fn new(
        gcs: Arc<GoogleCloudStorage>,
        bucket: Url,
        unsigned: bool,
        options: &ClientOptions,
        retry_timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        Ok(Self {
            gcs,
            bucket,
            unsigned,
            sender: Sender::new(options, retry_timeout, "GCS")?,
            metrics,
        })
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

    /// Makes one object of two, of which the first is still as it was.
    pub(crate) async fn compose(
        &self,
        composition: &Composition,
        precondition: &Precondition,
    ) -> Result<()> {
        let mut ask = self.about(Method::PUT, composition.key.as_ref());
        ask.url = with_query(ask.url, &[("compose", "")]);
        ask.body = components(composition).into();
        ask = conditional(ask, precondition)?;
        for (attribute, value) in &composition.attributes {
            ask = match attribute {
                Attribute::ContentType => ask.with("content-type", value),
                Attribute::Metadata(name) => ask.with_named(&format!("x-goog-meta-{name}"), value),
                _ => ask,
            };
        }
        self.send("compose", ask).await?;
        Ok(())
    }

    /// A request about any key.
    pub(crate) fn about(&self, method: Method, key: &str) -> Ask {
        Ask::new(method, url_of(&self.bucket, key), key)
    }

    /// The answer, counted and timed.
    pub(crate) async fn send(&self, operation: &str, ask: Ask) -> Result<Bytes> {
        let answer = measure(&self.metrics, operation, self.sender.send(&ask, self)).await?;
        Ok(answer.into_body())
    }
}

/// A request with a precondition on the generation.
pub(crate) fn conditional(ask: Ask, precondition: &Precondition) -> Result<Ask> {
    match precondition {
        Precondition::None => Ok(ask),
        Precondition::Absent => Ok(ask.with(GENERATION, "0")),
        Precondition::Unchanged(version) => match &version.version {
            Some(generation) => only_if(ask, GENERATION, generation),
            None => Ok(ask),
        },
    }
}

fn components(composition: &Composition) -> String {
    let [base, tail] = [&composition.base, &composition.tail].map(|key| escape(key.as_ref()));
    let generation = &composition.generation;
    format!(
        "<ComposeRequest><Component><Name>{base}</Name><Generation>{generation}</Generation></Component>\
         <Component><Name>{tail}</Name></Component></ComposeRequest>"
    )
}

#[async_trait]
impl Sign for XmlApi {
    async fn sign(&self, request: &mut HttpRequest) -> Result<()> {
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
