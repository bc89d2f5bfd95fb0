//! Appends on Google Cloud Storage: what is there and what is new are composed into the new object.
//!
//! Google composes objects only, so what is new has to be one, until it is composed: in a place of
//! its own under the store's prefix, which no listing of ours shows, and which is swept.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{
    Attributes, Error, MultipartUpload, ObjectStoreExt, PutPayload, PutResult, Result, UploadPart,
};

use crate::storage::store::assembly::{Base, Start};
use crate::storage::store::gcs::keys::GcsKeys;

/// The directory under the store's prefix for what is to be composed.
pub(crate) const PLACE: &str = ".bucketferry-appends";

/// An object that grows.
#[derive(Debug)]
pub(crate) struct GcsUpload {
    gcs: Arc<GcsKeys>,
    composition: Composition,
    upload: Box<dyn MultipartUpload>,
    /// What is new is an object by now.
    is_there: bool,
}

/// What is composed, and into what.
#[derive(Debug)]
pub(crate) struct Composition {
    pub(crate) key: Path,
    pub(crate) attributes: Attributes,
    /// The object that stays at its beginning, and its generation, which it has to have yet.
    pub(crate) base: Path,
    pub(crate) generation: String,
    /// Where what is new is put together.
    pub(crate) tail: Path,
}

impl GcsUpload {
    /// Begins an append, with what is new at a place under `prefix`.
    ///
    /// # Errors
    /// [`Error::NotSupported`] if the object has no generation.
    pub(crate) async fn begin(
        gcs: Arc<GcsKeys>,
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
        let tail = prefix.clone().join(PLACE).join(format!("{name:032x}"));
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

impl Composition {
    /// What is new is in the new object by now.
    async fn forget_tail(&self, gcs: &GcsKeys) {
        let tail = &self.tail;
        if let Err(error) = gcs.store().delete(tail).await {
            tracing::warn!(%tail, %error, "can't remove what was appended, the sweep will");
        }
    }
}

#[async_trait]
impl MultipartUpload for GcsUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        if !self.is_there {
            self.upload.complete().await?;
            self.is_there = true;
        }
        self.gcs.compose(&self.composition).await?;
        self.composition.forget_tail(&self.gcs).await;
        Ok(PutResult {
            e_tag: None,
            version: None,
            extensions: http::Extensions::default(),
        })
    }

    async fn abort(&mut self) -> Result<()> {
        if self.is_there {
            return self.gcs.store().delete(&self.composition.tail).await;
        }
        self.upload.abort().await
    }
}
