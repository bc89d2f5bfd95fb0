//! Google Cloud Storage, by its XML API.

pub(crate) mod compose;
pub(crate) mod open;
pub(crate) mod upload;
pub(crate) mod xml_api;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use http::Method;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, Result};

use crate::storage::store::keys::{
    MAX_PAGE, Object, Page, Query, SMALL_OBJECT_RANGE, marker, one_by_one, small,
};
use crate::storage::store::metered::Metered;
use crate::storage::store::names::SegmentRules;
use crate::storage::store::precondition::{Precondition, look};
use crate::storage::store::upload::{Base, Start, Upload};
use crate::storage::store::{Aborts, Deletes, Keeping, MIN_PART, MetadataNames, Store, Traits};

use upload::{GcsUpload, appends_prefix};
use xml_api::{XmlApi, conditional};

/// Parts that an upload may have.
const MAX_PARTS: usize = 10_000;

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
            aborts: Aborts::FinalWithoutBase,
            parallel_reads: true,
        }
    }

    fn objects(&self) -> &Arc<Metered> {
        &self.objects
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

    async fn begin(&self, mut start: Start) -> Result<Box<dyn Upload>> {
        let Some(base) = start.base.take() else {
            return self.objects.begin(start).await;
        };
        let upload = GcsUpload::begin(Arc::clone(&self.api), &self.prefix, start, base).await?;
        Ok(self.objects.measured(upload))
    }

    async fn copy(&self, from: &Base, to: &Path, precondition: &Precondition) -> Result<()> {
        look(&*self.objects, to, precondition).await?;
        self.objects.copy(&from.key, to).await
    }

    async fn delete(&self, key: &str, precondition: &Precondition) -> Result<()> {
        let ask = conditional(self.api.about(Method::DELETE, key), precondition)?;
        match self.api.send("delete", ask).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete_unchanged(&self, objects: &[Object]) -> Result<usize> {
        let deletes = objects.iter().map(|object| {
            let unchanged = Precondition::Unchanged(object.version());
            async move { self.delete(&object.key, &unchanged).await }.boxed()
        });
        one_by_one(deletes.collect::<Vec<_>>().into_iter()).await
    }

    async fn write_small(&self, key: &str, body: Bytes, precondition: &Precondition) -> Result<()> {
        let mut ask = conditional(self.api.about(Method::PUT, key), precondition)?;
        ask.body = body;
        match (self.api.send("put", ask).await, precondition) {
            (Err(Error::Precondition { path, source }), Precondition::Absent) => {
                Err(Error::AlreadyExists { path, source })
            }
            (result, _) => result.map(drop),
        }
    }

    async fn read_small(&self, key: &str) -> Result<Bytes> {
        let ask = self.api.about(Method::GET, key);
        small(
            self.api
                .send("get", ask.with("range", SMALL_OBJECT_RANGE))
                .await,
        )
    }

    /// What was to be composed, and was not.
    async fn sweep(&self, prefix: &Path, before: DateTime<Utc>) -> Result<usize> {
        let appends = marker(&appends_prefix(prefix));
        let mut swept = 0;
        let mut token = None;
        loop {
            let query = Query {
                prefix: &appends,
                grouped: false,
                token: token.as_deref(),
                limit: MAX_PAGE,
            };
            let page = self.list(query).await?;
            let is_old = |object: &Object| DateTime::<Utc>::from(object.modified) < before;
            let old: Vec<_> = page.objects.into_iter().filter(is_old).collect();
            swept += old.len() - self.delete_unchanged(&old).await?;
            token = page.next;
            if token.is_none() {
                return Ok(swept);
            }
        }
    }
}
