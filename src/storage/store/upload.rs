//! An upload in parts, as every store has it.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectMeta, Result, UpdateVersion, UploadPart};
use serde::de::DeserializeOwned;

use crate::storage::store::body::{Body, Crc64};
use crate::storage::store::description::{Carries, Description};
use crate::storage::store::stored::Stored;
use crate::storage::store::terms::Terms;

/// An upload to be begun.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) key: Path,
    pub(crate) description: Description,
    /// What the new parts come after.
    pub(crate) base: Option<Base>,
}

/// A version of an object, or its first bytes: what is copied, or becomes the beginning of another, usually of its
/// own successor.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    pub(crate) key: Path,
    /// So many bytes of the object, from the first on.
    pub(crate) size: u64,
    /// They are all that it has.
    pub(crate) is_whole: bool,
    pub(crate) version: UpdateVersion,
    /// What a copy has to be told to carry as well, as far as it is known.
    pub(crate) carries: Carries,
}

impl Base {
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self {
            key: meta.location.clone(),
            size: meta.size,
            is_whole: true,
            version: UpdateVersion {
                e_tag: meta.e_tag.clone(),
                version: meta.version.clone(),
            },
            carries: Carries::default(),
        }
    }

    /// The same, which was found to carry this.
    pub(crate) fn carrying(self, carries: Carries) -> Self {
        Self { carries, ..self }
    }

    /// The same, up to here.
    pub(crate) fn up_to(self, size: u64) -> Self {
        Self {
            size,
            is_whole: self.is_whole && size == self.size,
            ..self
        }
    }
}

/// An upload in parts that was begun. No reader sees any of it before it is published.
#[async_trait]
pub(crate) trait Upload: fmt::Debug + Send {
    /// Sends the next part; several may be on their way at once.
    fn put_part(&mut self, body: Body) -> UploadPart;

    /// Makes an object of the parts, whose checksum is `whole`, if it is known. On stores that can't be told a
    /// precondition, it has to have been looked for ([`look`](crate::storage::store::precondition::look)) right before.
    async fn publish(&mut self, terms: &Terms, whole: Option<Crc64>) -> Result<Stored>;

    /// Has the store forget the parts.
    async fn abort(&mut self) -> Result<()>;

    /// What [`Store::resume`](crate::storage::store::Store::resume) needs in another process to go on after so many
    /// parts, the same each time. `None` if not all of them are there, or if no other process can go on with it.
    fn hand_over(&self, _parts: usize) -> Option<String> {
        None
    }
}

/// What another process has written, perhaps of another version.
pub(crate) fn understood<T: DeserializeOwned>(handed_over: &str) -> Result<T> {
    serde_json::from_str(handed_over).map_err(|error| Error::NotSupported {
        source: Box::new(error),
    })
}

/// The parts up to here, if all are there.
pub(crate) fn first<T: Clone>(parts: &BTreeMap<usize, T>, count: usize) -> Option<Vec<T>> {
    let first: Vec<T> = parts.range(..count).map(|(_, part)| part.clone()).collect();
    (first.len() == count).then_some(first)
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
    fn put_part(&mut self, body: Body) -> UploadPart {
        self.upload.put_part(body.payload)
    }

    async fn publish(&mut self, terms: &Terms, _: Option<Crc64>) -> Result<Stored> {
        if self.aborted {
            // The store in memory would make an empty object.
            return Err(Error::NotFound {
                path: "the upload".to_owned(),
                source: "it was aborted".into(),
            });
        }
        let completed = self.upload.complete().await;
        let completed = completed.inspect_err(|error| terms.attempts.unseen(error))?;
        Ok(Stored::uncompared(completed.into()))
    }

    async fn abort(&mut self) -> Result<()> {
        self.aborted = true;
        self.upload.abort().await
    }
}
