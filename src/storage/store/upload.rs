//! An upload in parts, as every store has it.

use std::fmt;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{
    Attributes, Error, MultipartUpload, ObjectMeta, PutPayload, Result, UpdateVersion, UploadPart,
};

use crate::storage::store::terms::Terms;

/// An upload to be begun.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) key: Path,
    pub(crate) attributes: Attributes,
    /// What the new parts come after.
    pub(crate) base: Option<Base>,
}

/// A version of an object: what is copied, or becomes the beginning of another, usually of its own successor.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    pub(crate) key: Path,
    pub(crate) size: u64,
    pub(crate) version: UpdateVersion,
}

impl Base {
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self {
            key: meta.location.clone(),
            size: meta.size,
            version: UpdateVersion {
                e_tag: meta.e_tag.clone(),
                version: meta.version.clone(),
            },
        }
    }
}

/// An upload in parts that was begun. No reader sees any of it before it is published.
#[async_trait]
pub(crate) trait Upload: fmt::Debug + Send {
    /// Sends the next part; several may be on their way at once.
    fn put_part(&mut self, data: PutPayload) -> UploadPart;

    /// Makes an object of the parts, and tells its version. On stores that can't be told a precondition, it has to
    /// have been looked for ([`look`](crate::storage::store::precondition::look)) right before.
    async fn publish(&mut self, terms: &Terms) -> Result<UpdateVersion>;

    /// Has the store forget the parts.
    async fn abort(&mut self) -> Result<()>;
}

/// An upload that `object_store` makes, which knows no preconditions.
#[derive(Debug)]
pub(crate) struct Unconditional {
    upload: Box<dyn MultipartUpload>,
    aborted: bool,
}

impl Unconditional {
    pub(crate) fn new(upload: Box<dyn MultipartUpload>) -> Self {
        Self {
            upload,
            aborted: false,
        }
    }
}

#[async_trait]
impl Upload for Unconditional {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn publish(&mut self, terms: &Terms) -> Result<UpdateVersion> {
        if self.aborted {
            // The store in memory would make an empty object.
            return Err(Error::NotFound {
                path: "the upload".to_owned(),
                source: "it was aborted".into(),
            });
        }
        let completed = self.upload.complete().await;
        Ok(completed
            .inspect_err(|error| terms.attempts.unseen(error))?
            .into())
    }

    async fn abort(&mut self) -> Result<()> {
        self.aborted = true;
        self.upload.abort().await
    }
}
