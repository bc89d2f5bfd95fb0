//! Azure Blob Storage.

pub(crate) mod blob_api;
pub(crate) mod copy;
pub(crate) mod listing;
pub(crate) mod open;
pub(crate) mod upload;
pub(crate) mod xml;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use http::{Method, Response};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, Result};

use crate::storage::store::keys::{Object, Page, Query, SMALL_OBJECT_RANGE, one_by_one, small};
use crate::storage::store::metered::Metered;
use crate::storage::store::names::SegmentRules;
use crate::storage::store::precondition::{Precondition, look};
use crate::storage::store::upload::{Base, Start, Upload};
use crate::storage::store::{Aborts, Deletes, Keeping, MIN_PART, MetadataNames, Store, Traits};

use blob_api::{BlobApi, conditional};
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
        }
    }

    fn objects(&self) -> &Arc<Metered> {
        &self.objects
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

    async fn begin(&self, start: Start) -> Result<Box<dyn Upload>> {
        let Some(base) = start.base.clone() else {
            return self.objects.begin(start).await;
        };
        let upload = AzureUpload::begin(Arc::clone(&self.api), start, &base).await?;
        Ok(self.objects.measured(upload))
    }

    async fn copy(&self, from: &Base, to: &Path, precondition: &Precondition) -> Result<()> {
        look(&*self.objects, to, precondition).await?;
        self.objects.copy(&from.key, to).await?;
        self.api.wait_for_copy(to.as_ref()).await
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
        let ask = self
            .api
            .about(Method::PUT, key)
            .with("x-ms-blob-type", "BlockBlob");
        let mut ask = conditional(ask, precondition)?;
        ask.body = body;
        match (self.api.send("put", ask).await, precondition) {
            (Err(Error::Precondition { path, source }), Precondition::Absent) => {
                Err(Error::AlreadyExists { path, source })
            }
            (result, _) => result.map(drop),
        }
    }

    async fn read_small(&self, key: &str) -> Result<Bytes> {
        let ask = self
            .api
            .about(Method::GET, key)
            .with("range", SMALL_OBJECT_RANGE);
        small(self.api.send("get", ask).await.map(Response::into_body))
    }

    /// Azure forgets blocks that are in no blob by itself, after a week.
    async fn sweep(&self, _: &Path, _: DateTime<Utc>) -> Result<usize> {
        Ok(0)
    }
}
