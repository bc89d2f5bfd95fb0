//! Azure Blob Storage.

pub(crate) mod blob_api;
pub(crate) mod copy;
pub(crate) mod customer_key;
pub(crate) mod listing;
pub(crate) mod open;
pub(crate) mod upload;
pub(crate) mod xml;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use http::Method;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, Result};

use crate::storage::store::body::Body;
use crate::storage::store::description::{Carries, Description, Tags};
use crate::storage::store::keys::{Marker, Object, Page, Query, if_any, one_by_one, with_note};
use crate::storage::store::metered::Metered;
use crate::storage::store::names::SegmentRules;
use crate::storage::store::precondition::{Precondition, look, told_apart};
use crate::storage::store::stored::{Comparison, Stored};
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::{Base, Start, Upload};
use crate::storage::store::{Aborts, Deletes, Keeping, MIN_PART, MetadataNames, Store, Traits};

use blob_api::{BlobApi, STORE, conditional};
use upload::{AzureUpload, MAX_PARTS};

/// One container.
#[derive(Debug)]
pub(crate) struct Azure {
    objects: Arc<Metered>,
    api: Arc<BlobApi>,
}

impl Azure {
    pub(crate) fn new(objects: Arc<Metered>, api: Arc<BlobApi>) -> Self {
        Self { objects, api }
    }
}

#[async_trait]
impl Store for Azure {
    fn traits(&self) -> Traits {
        Traits {
            max_parts: Some(MAX_PARTS),
            names: SegmentRules::AZURE,
            metadata: Some(MetadataNames::IDENTIFIERS),
            directories: false,
            deletes: Deletes::ByTag,
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
        self.api.comparison()
    }

    async fn list(&self, query: Query<'_>) -> Result<Page> {
        self.api.list(query).await
    }

    fn keeping(&self, base: &Base) -> Keeping {
        // What is smaller was put at once, and has no blocks. Blocks are kept whole. Else it depends on who has made
        // the blob.
        if base.size < MIN_PART as u64 || !base.is_whole {
            Keeping::Never
        } else {
            Keeping::Perhaps(0)
        }
    }

    async fn put(
        &self,
        key: &Path,
        body: Body,
        description: Description,
        terms: &Terms,
    ) -> Result<Stored> {
        let key = key.as_ref();
        self.api.put_blob(key, body, &description, terms).await
    }

    async fn tags(&self, key: &Path) -> Result<Tags> {
        self.api.tags(key.as_ref()).await
    }

    async fn begin(&self, start: Start) -> Result<Box<dyn Upload>> {
        let upload = AzureUpload::begin(Arc::clone(&self.api), start).await?;
        Ok(self.objects.measured(upload))
    }

    async fn resume(&self, start: Start, handed_over: &str) -> Result<Box<dyn Upload>> {
        let upload = AzureUpload::resume(Arc::clone(&self.api), start, handed_over)?;
        Ok(self.objects.measured(upload))
    }

    async fn copy(&self, from: &Base, to: &Path, terms: &Terms) -> Result<()> {
        if self.api.has_customer_key() {
            // Such blobs are copied by another request, which only `object_store` makes.
            if from.carries != Carries::default() {
                tracing::warn!(key = %from.key, "with a customer's own key, a copy loses access tier and tags");
            }
            look(&*self.objects, to, &terms.precondition).await?;
            let copied = self.objects.copy(&from.key, to).await;
            return copied.inspect_err(|error| terms.attempts.unseen(error));
        }
        self.api.copy(from, to, terms).await?;
        match self.api.wait_for_copy(to.as_ref()).await {
            // What was not found is the copy: its source was there to be copied.
            // Its answer is not passed on: it says 404, which would be read as a source that is gone.
            Err(Error::NotFound { .. }) => Err(Error::Generic {
                store: STORE,
                source: format!("the copy to {to} is not there").into(),
            }),
            copied => copied,
        }
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
        let empty = Bytes::new().into();
        let put = self.api.put_blob(key, empty, &description, &terms);
        put.await.map(drop)
    }

    async fn read_marker(&self, key: &str) -> Result<Option<Marker>> {
        if_any(self.api.read_marker(key).await)
    }

    /// Azure forgets blocks that are in no blob by itself, after a week.
    async fn sweep(&self, _: &Path, _: DateTime<Utc>) -> Result<usize> {
        Ok(0)
    }
}
