//! Google Cloud Storage, by its XML API.

pub(crate) mod compose;
pub(crate) mod hash;
pub(crate) mod open;
pub(crate) mod upload;
pub(crate) mod xml_api;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use http::Method;
use object_store::path::Path;
use object_store::{Result, UpdateVersion};
use serde::Deserialize;

use crate::storage::store::body::{Algorithm, Body};
use crate::storage::store::description::{Description, Headers};
use crate::storage::store::http::requests::encoded;
use crate::storage::store::keys::{Marker, Object, Page, Query, if_any, one_by_one, with_note};
use crate::storage::store::metered::Metered;
use crate::storage::store::names::SegmentRules;
use crate::storage::store::precondition::{Precondition, told_apart};
use crate::storage::store::s3::sweep;
use crate::storage::store::stored::{Comparison, Kept, Stored};
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::{Base, Start, Upload};
use crate::storage::store::{
    Aborts, Deletes, Keeping, MIN_PART, MetadataNames, Store, Traits, sweep_directory,
};

use upload::{GcsUpload, appends_prefix};
use xml_api::{STORE, XmlApi, conditional};

/// Parts that an upload may have.
const MAX_PARTS: usize = 10_000;

/// What makes it an answer, and not an error or nothing.
#[derive(Debug, Deserialize)]
struct CopyObjectResult {
    #[serde(rename = "ETag")]
    _e_tag: String,
}

/// One bucket.
#[derive(Debug)]
pub(crate) struct Gcs {
    objects: Arc<Metered>,
    api: Arc<XmlApi>,
    /// Under which all is that the gateway stores.
    prefix: Path,
}

impl Gcs {
    pub(crate) fn new(objects: Arc<Metered>, api: Arc<XmlApi>, prefix: Path) -> Self {
        Self {
            objects,
            api,
            prefix,
        }
    }
}

#[async_trait]
impl Store for Gcs {
    fn traits(&self) -> Traits {
        Traits {
            max_parts: Some(MAX_PARTS),
            names: SegmentRules::NONE,
            metadata: Some(MetadataNames::HYPHENED),
            directories: false,
            // Listings tell generations, and deletes name them.
            deletes: Deletes::ByGeneration,
            aborts: Aborts::Open,
            parallel_reads: true,
            conditions: true,
            late_requests: true,
        }
    }

    fn objects(&self) -> &Arc<Metered> {
        &self.objects
    }

    fn comparison(&self) -> Comparison {
        Comparison::Checksum("crc32c")
    }

    fn keeps(&self) -> Option<Algorithm> {
        Some(Algorithm::Crc32c)
    }

    async fn kept_checksum(&self, key: &Path, version: &UpdateVersion) -> Result<Option<Kept>> {
        self.api.kept_checksum(key, version).await
    }

    async fn list(&self, query: Query<'_>) -> Result<Page> {
        self.api.list(query).await
    }

    fn keeping(&self, base: &Base) -> Keeping {
        // A composition has any number of parts, and each is a whole object.
        if base.size < MIN_PART as u64 || !base.is_whole {
            Keeping::Never
        } else {
            Keeping::Surely(0)
        }
    }

    async fn put(
        &self,
        key: &Path,
        body: Body,
        description: Description,
        terms: &Terms,
    ) -> Result<Stored> {
        let sum = hash::crc32c(&body.payload);
        let ask = self.api.about(Method::PUT, key.as_ref());
        let ask = ask.with(hash::HEADER, &hash::written(sum));
        let ask = ask.with_body(body.payload);
        let answer = self.api.write("put", ask, &description, terms).await?;
        Ok(Stored {
            compared: hash::compared(Some(sum), answer.headers()),
            version: xml_api::version(answer.headers()),
        })
    }

    async fn begin(&self, start: Start) -> Result<Box<dyn Upload>> {
        let begin = GcsUpload::begin(Arc::clone(&self.api), &self.prefix, start);
        let upload = self.objects.measure("create_multipart", begin).await?;
        Ok(self.objects.measured(upload))
    }

    async fn resume(&self, start: Start, handed_over: &str) -> Result<Box<dyn Upload>> {
        let upload = GcsUpload::resume(Arc::clone(&self.api), &self.prefix, start, handed_over)?;
        Ok(self.objects.measured(upload))
    }

    async fn copy(&self, from: &Base, to: &Path, terms: &Terms) -> Result<()> {
        let source = format!("{}/{}", self.api.bucket_name(), encoded(from.key.as_ref()));
        let ask = self.api.about(Method::PUT, to.as_ref());
        let mut ask = ask.with("x-goog-copy-source", &source);
        if let Some(generation) = &from.version.version {
            ask = ask.with("x-goog-copy-source-generation", generation);
        }
        let class = match &from.carries.class {
            Some(class) => Some(class.clone()),
            None => self.api.class(&from.key).await?,
        };
        if let Some(class) = class {
            // Of what nothing is said, Google makes what is usual in the bucket.
            ask = ask.with(Headers::GOOGLE.class, &class);
        }
        let ask = conditional(ask, terms)?;
        let answer = self.api.send("copy", ask).await;
        let answer = answer.map_err(|error| told_apart(STORE, error, &terms.precondition))?;
        let _: CopyObjectResult = quick_xml::de::from_reader(answer.as_ref()).map_err(|error| {
            // An empty answer: it may have copied, and it may not.
            terms.attempts.unanswered();
            self.api.unreadable(error)
        })?;
        Ok(())
    }

    async fn delete(&self, key: &str, terms: &Terms) -> Result<()> {
        let ask = conditional(self.api.about(Method::DELETE, key), terms)?;
        let answer = self.api.send("delete", ask).await;
        answer
            .map(drop)
            .map_err(|error| told_apart(STORE, error, &terms.precondition))
    }

    async fn delete_unchanged(&self, objects: &[Object]) -> Result<usize> {
        let deletes = objects.iter().map(|object| {
            let unchanged = Terms::new(Precondition::Unchanged(object.version()));
            async move { self.delete(&object.key, &unchanged).await }.boxed()
        });
        one_by_one(deletes.collect::<Vec<_>>().into_iter()).await
    }

    async fn write_marker(
        &self,
        key: &str,
        note: Option<&str>,
        precondition: &Precondition,
    ) -> Result<()> {
        let terms = Terms::new(precondition.clone());
        let description = with_note(note, precondition);
        let ask = self.api.about(Method::PUT, key);
        let put = self.api.write("put", ask, &description, &terms);
        put.await.map(drop)
    }

    async fn read_marker(&self, key: &str) -> Result<Option<Marker>> {
        let ask = self.api.about(Method::HEAD, key);
        let answer = if_any(self.api.send_for_head("head", ask).await)?;
        Ok(answer.map(|answer| {
            Marker::read(answer.headers(), Headers::GOOGLE.metadata, xml_api::version)
        }))
    }

    /// What was to be composed, and was not, whether its last part has come or not.
    async fn sweep(&self, prefix: &Path, before: DateTime<Utc>) -> Result<usize> {
        let appends = appends_prefix(prefix);
        let swept = sweep_directory(self, &appends, before).await?;
        let begun = sweep::sweep(self.api.as_ref(), &appends, before).await?;
        Ok(swept + begun)
    }
}
