//! Any key of a bucket on Google Cloud Storage, through its XML API.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use http::Method;
use http::header::AUTHORIZATION;
use object_store::client::{ClientOptions, HttpRequest};
use object_store::gcp::GoogleCloudStorage;
use object_store::{Attribute, Error, Result};
use quick_xml::escape::escape;
use url::Url;

use crate::telemetry::Metrics;

use crate::storage::store::gcs::upload::Composition;
use crate::storage::store::http::requests::{Ask, Sender, Sign, url_of, with_query};
use crate::storage::store::metered::measure;
use crate::storage::store::raw::{
    Query, Raw, RawObject, RawPage, SMALL_RANGE, one_by_one, only_if, small,
};
use crate::storage::store::s3::listing;

/// The condition on the version that is there; 0 is none.
const GENERATION: &str = "x-goog-if-generation-match";

/// Where Google's buckets are.
pub(crate) const GOOGLE: &str = "https://storage.googleapis.com";

/// One bucket by its keys.
pub(crate) struct GcsKeys {
    gcs: Arc<GoogleCloudStorage>,
    bucket: Url,
    unsigned: bool,
    sender: Sender,
    metrics: Arc<Metrics>,
}

impl GcsKeys {
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

    /// Makes one object of two, if the first is still as it was.
    pub(crate) async fn compose(&self, composition: &Composition) -> Result<()> {
        let mut ask = self.about(Method::PUT, composition.key.as_ref());
        ask.url = with_query(ask.url, &[("compose", "")]);
        ask.body = components(composition).into();
        if composition.key == composition.base {
            ask = only_if(ask, GENERATION, &composition.generation)?;
        }
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

    fn about(&self, method: Method, key: &str) -> Ask {
        Ask::new(method, url_of(&self.bucket, key), key)
    }

    async fn send(&self, operation: &str, ask: Ask) -> Result<Bytes> {
        let answer = measure(&self.metrics, operation, self.sender.send(&ask, self)).await?;
        Ok(answer.into_body())
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
impl Sign for GcsKeys {
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

#[async_trait]
impl Raw for GcsKeys {
    async fn list(&self, query: Query<'_>) -> Result<RawPage> {
        let url = with_query(self.bucket.clone(), &listing::query(&query).pairs());
        let body = self.send("list", Ask::new(Method::GET, url, "")).await?;
        listing::parse(&body).map_err(|error| self.sender.generic(error))
    }

    async fn put(&self, key: &str, body: Bytes, create: bool) -> Result<()> {
        let mut ask = self.about(Method::PUT, key);
        ask.body = body;
        if create {
            ask = ask.with(GENERATION, "0");
        }
        match self.send("put", ask).await {
            Err(Error::Precondition { path, source }) => Err(Error::AlreadyExists { path, source }),
            result => result.map(drop),
        }
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        let ask = self.about(Method::GET, key).with("range", SMALL_RANGE);
        small(self.send("get", ask).await)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        match self.send("delete", self.about(Method::DELETE, key)).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete_unchanged(&self, objects: &[RawObject]) -> Result<usize> {
        let deletes = objects.iter().map(|object| {
            let ask = self.about(Method::DELETE, &object.key);
            let ask = match &object.generation {
                Some(generation) => only_if(ask, GENERATION, generation),
                None => Ok(ask),
            };
            async move { self.send("delete", ask?).await.map(drop) }.boxed()
        });
        one_by_one(deletes.collect::<Vec<_>>().into_iter()).await
    }

    /// Listings tell generations, and deletes name them.
    fn deletes_only(&self, object: &RawObject) -> bool {
        object.generation.is_some()
    }
}

impl fmt::Debug for GcsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GcsKeys({})", self.gcs)
    }
}
