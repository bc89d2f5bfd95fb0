//! Uploads in parts on Google Cloud Storage: what is there, if anything is, and what is new are composed into the object.
//!
//! Google completes uploads in parts without a precondition, and composes on one. It composes objects only, so what is
//! new has to be one until it is composed: in a directory of its own under the store's prefix, which no listing of ours
//! shows, and which is swept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use http::Method;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Attribute, Error, MultipartId, ObjectStoreExt, Result, UploadPart};
use serde::{Deserialize, Serialize};

use crate::storage::store::RESERVED;
use crate::storage::store::body::{Algorithm, Body, Crc64, combined};
use crate::storage::store::gcs::compose::Composition;
use crate::storage::store::gcs::hash;
use crate::storage::store::gcs::xml_api::{Part, STORE, XmlApi, version};
use crate::storage::store::stored::{Carried, Stored};
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::{Start, Upload, first, understood};

/// Where under the store's prefix lies what is to be composed.
pub(crate) fn appends_prefix(prefix: &Path) -> Path {
    prefix.clone().join(RESERVED).join("appends")
}

/// An object in the making.
#[derive(Debug)]
pub(crate) struct GcsUpload {
    gcs: Arc<XmlApi>,
    composition: Composition,
    id: MultipartId,
    next: usize,
    parts: Arc<Mutex<BTreeMap<usize, Part>>>,
    /// What is new is an object by now.
    is_there: bool,
}

/// What another process goes on with.
#[derive(Debug, Serialize, Deserialize)]
struct HandedOver {
    /// Where what is new is put together.
    tail: String,
    id: MultipartId,
    parts: Vec<Part>,
    /// What it was begun with; the whole has to have the same.
    #[serde(default)]
    class: Option<String>,
}

impl GcsUpload {
    /// Goes on with an upload that another process has begun.
    ///
    /// # Errors
    /// [`Error::NotSupported`] if what it was handed over is not in its place under `prefix`.
    pub(crate) fn resume(
        gcs: Arc<XmlApi>,
        prefix: &Path,
        start: Start,
        handed_over: &str,
    ) -> Result<Self> {
        let HandedOver {
            tail,
            id,
            parts,
            class,
        } = understood(handed_over)?;
        let tail = Path::parse(tail)?;
        if !tail.prefix_matches(&appends_prefix(prefix)) {
            // It is deleted in the end.
            return Err(Error::NotSupported {
                source: format!("{tail} is not for uploads").into(),
            });
        }
        let mut description = start.description;
        let attributes = &mut description.attributes;
        attributes.remove(&Attribute::StorageClass);
        if let Some(class) = class {
            attributes.insert(Attribute::StorageClass, class.into());
        }
        let composition = Composition {
            key: start.key,
            description,
            base: None,
            tail,
        };
        Ok(Self {
            gcs,
            composition,
            id,
            next: parts.len(),
            parts: Arc::new(Mutex::new(parts.into_iter().enumerate().collect())),
            is_there: false,
        })
    }

    /// Begins an upload, with what is new in a place of its own under `prefix`.
    ///
    /// # Errors
    /// [`Error::NotSupported`] if the object that it begins with has no generation.
    pub(crate) async fn begin(gcs: Arc<XmlApi>, prefix: &Path, start: Start) -> Result<Self> {
        let base = start.base.map(|base| {
            let generation = base.version.version.ok_or_else(|| Error::NotSupported {
                source: "the object has no generation".into(),
            });
            Ok::<_, Error>((base.key, generation?))
        });
        let base = base.transpose()?;
        let name: u128 = rand::random();
        let tail = appends_prefix(prefix).join(format!("{name:032x}"));
        let class = start.description.attributes.get(&Attribute::StorageClass);
        let id = gcs.create_multipart(&tail, class).await?;
        let composition = Composition {
            key: start.key,
            description: start.description,
            base,
            tail,
        };
        Ok(Self {
            gcs,
            composition,
            id,
            next: 0,
            parts: Arc::default(),
            is_there: false,
        })
    }
}

impl GcsUpload {
    /// Makes an object of what is new.
    async fn put_together(&self) -> Result<()> {
        let parts = lock(&self.parts).clone();
        if parts.len() != self.next {
            return Err(Error::Generic {
                store: STORE,
                source: format!("{} of {} parts are there", parts.len(), self.next).into(),
            });
        }
        let (tail, store) = (&self.composition.tail, self.gcs.store());
        let parts = parts.into_values().map(|part| PartId {
            content_id: part.e_tag,
        });
        let parts = parts.collect();
        store.complete_multipart(tail, &self.id, parts).await?;
        Ok(())
    }

    /// The CRC32C of the whole, if nothing of it was there before.
    fn sum(&self) -> Option<u64> {
        if self.composition.base.is_some() {
            return None;
        }
        let parts = lock(&self.parts);
        let after = |sum, part: &Part| combined(Algorithm::Crc32c, sum, part.sum, part.length);
        Some(parts.values().fold(0, after))
    }

    /// What is new is in the new object by now.
    async fn forget_tail(&mut self) {
        let tail = &self.composition.tail;
        let delete = self.gcs.about(Method::DELETE, tail.as_ref());
        if let Err(error) = self.gcs.send("delete", delete).await {
            tracing::warn!(%tail, %error, "can't remove a part that was composed, the sweep will");
        }
    }
}

#[async_trait]
impl Upload for GcsUpload {
    fn put_part(&mut self, body: Body) -> UploadPart {
        let index = self.next;
        self.next += 1;
        let (gcs, parts) = (Arc::clone(&self.gcs), Arc::clone(&self.parts));
        let (key, id) = (self.composition.tail.clone(), self.id.clone());
        Box::pin(async move {
            let part = gcs.put_part(key.as_ref(), &id, index, body).await?;
            lock(&parts).insert(index, part);
            Ok(())
        })
    }

    async fn publish(&mut self, terms: &Terms, whole: Option<Crc64>) -> Result<Stored> {
        if !self.is_there {
            self.put_together().await?;
            self.is_there = true;
        }
        let mut description = self.composition.description.clone();
        if let Some(whole) = whole {
            Carried::put_on(whole, &mut description.attributes);
        }
        let answer = self.gcs.compose(&self.composition, &description, terms);
        let answer = answer.await?;
        self.forget_tail().await;
        // Nobody has told Google what the composition has to be.
        let told = hash::told(answer.headers()).and(self.sum());
        Ok(Stored {
            compared: hash::compared(told, answer.headers()),
            version: version(answer.headers()),
        })
    }

    async fn abort(&mut self) -> Result<()> {
        if self.is_there {
            return self.gcs.store().delete(&self.composition.tail).await;
        }
        let (tail, id) = (&self.composition.tail, &self.id);
        self.gcs.store().abort_multipart(tail, id).await
    }

    fn hand_over(&self, parts: usize) -> Option<String> {
        if self.is_there || self.composition.base.is_some() {
            return None;
        }
        let parts = first(&lock(&self.parts), parts)?;
        let attributes = &self.composition.description.attributes;
        let class = attributes.get(&Attribute::StorageClass);
        let handed_over = HandedOver {
            tail: self.composition.tail.to_string(),
            id: self.id.clone(),
            parts,
            class: class.map(|class| class.to_string()),
        };
        serde_json::to_string(&handed_over).ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
