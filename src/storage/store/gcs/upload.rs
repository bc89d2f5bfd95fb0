//! Appends on Google Cloud Storage: what is there and what is new are composed into the new object.
//!
//! Google composes objects only, so what is new has to be one, until it is composed: in a appends of
//! its own under the store's prefix, which no listing of ours shows, and which is swept.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStoreExt, PutPayload, Result, UploadPart};

use crate::storage::store::RESERVED;
use crate::storage::store::gcs::compose::Composition;
use crate::storage::store::gcs::xml_api::XmlApi;
use crate::storage::store::precondition::Precondition;
use crate::storage::store::upload::{Base, Start, Upload};

/// Where under the store's prefix lies what is to be composed.
pub(crate) fn appends_prefix(prefix: &Path) -> Path {
    prefix.clone().join(RESERVED).join("appends")
}

/// An object that grows.
#[derive(Debug)]
pub(crate) struct GcsUpload {
    gcs: Arc<XmlApi>,
    composition: Composition,
    upload: Box<dyn MultipartUpload>,
    /// What is new is an object by now.
    is_there: bool,
}

impl GcsUpload {
    /// Begins an append, with what is new at a appends under `prefix`.
    ///
    /// # Errors
    /// [`Error::NotSupported`] if the object has no generation.
    pub(crate) async fn begin(
        gcs: Arc<XmlApi>,
        prefix: &Path,
        start: Start,
        base: Base,
    ) -> Result<Self> {
        let Some(generation) = base.version.version else {
            return Err(Error::NotSupported {
                source: "the object has no generation".into(),
            });
        };
        let name: u128 = rand::random();
        let tail = appends_prefix(prefix).join(format!("{name:032x}"));
        let upload = gcs.store().put_multipart(&tail).await?;
        let composition = Composition {
            key: start.key,
            attributes: start.attributes,
            base: base.key,
            generation,
            tail,
        };
        Ok(Self {
            gcs,
            composition,
            upload,
            is_there: false,
        })
    }
}

impl GcsUpload {
    /// What is new is in the new object by now.
    async fn forget_tail(&mut self) {
        let tail = &self.composition.tail;
        if let Err(error) = self.gcs.store().delete(tail).await {
            tracing::warn!(%tail, %error, "can't remove what was appended, the sweep will");
        }
    }
}

#[async_trait]
impl Upload for GcsUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn publish(&mut self, precondition: &Precondition) -> Result<()> {
        if !self.is_there {
            self.upload.complete().await?;
            self.is_there = true;
        }
        self.gcs.compose(&self.composition, precondition).await?;
        self.forget_tail().await;
        Ok(())
    }

    async fn abort(&mut self) -> Result<()> {
        if self.is_there {
            return self.gcs.store().delete(&self.composition.tail).await;
        }
        self.upload.abort().await
    }
}
