//! Uploads in parts on Azure: the blocks of what is there, if anything is, stay, and new ones come after them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use object_store::path::Path;
use object_store::{Error, Result, UploadPart};

use crate::storage::store::azure::blob_api::{BlobApi, Committed, STORE};
use crate::storage::store::body::{Body, Crc64};
use crate::storage::store::description::Description;
use crate::storage::store::stored::{Carried, Stored};
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::{Base, Start, Upload, first, understood};

/// The length of the names of blocks; all of a blob have to have the same. `object_store`'s are as long.
const NAME_LENGTH: usize = 32;

/// Parts that an upload may have: a fifth of what Azure takes, so that an append finds room.
pub(crate) const MAX_PARTS: usize = 10_000;

/// As many blocks as a blob can have.
const MAX_BLOCKS: usize = 50_000;

/// A blob in the making.
#[derive(Debug)]
pub(crate) struct AzureUpload {
    azure: Arc<BlobApi>,
    key: Path,
    description: Description,
    /// The names of the blocks that it begins with, as Azure writes them.
    kept: Vec<String>,
    next: usize,
    /// The names of the blocks that are new, by their place.
    parts: Arc<Mutex<BTreeMap<usize, String>>>,
}

impl AzureUpload {
    /// Goes on with an upload that another process has begun: the names of its blocks.
    pub(crate) fn resume(azure: Arc<BlobApi>, start: Start, handed_over: &str) -> Result<Self> {
        let names: Vec<String> = understood(handed_over)?;
        Ok(Self {
            azure,
            key: start.key,
            description: start.description,
            kept: Vec::new(),
            next: names.len(),
            parts: Arc::new(Mutex::new(names.into_iter().enumerate().collect())),
        })
    }

    /// Begins an upload. Azure is asked nothing, unless it is an append.
    ///
    /// # Errors
    /// [`Error::NotSupported`] if the blob has no blocks, or others than ours.
    pub(crate) async fn begin(azure: Arc<BlobApi>, start: Start) -> Result<Self> {
        let kept = match &start.base {
            Some(base) => Self::blocks_of(&azure, base).await?,
            None => Vec::new(),
        };
        Ok(Self {
            azure,
            key: start.key,
            description: start.description,
            kept,
            next: 0,
            parts: Arc::default(),
        })
    }

    /// The blocks of a version of a blob, to which others can be added.
    async fn blocks_of(azure: &BlobApi, base: &Base) -> Result<Vec<String>> {
        let blocks = azure.blocks(base.key.as_ref()).await;
        let blocks = blocks.map_err(|error| match error {
            // 409: it is no block blob.
            Error::AlreadyExists { source, .. } => Error::NotSupported { source },
            error => error,
        })?;
        if blocks.e_tag.is_none() || blocks.e_tag != base.version.e_tag {
            return Err(Error::Precondition {
                path: base.key.to_string(),
                source: "the blob was changed meanwhile".into(),
            });
        }
        check(&blocks, base.size)?;
        Ok(blocks.names)
    }

    fn list_of_blocks(&self) -> Result<String> {
        let parts = lock(&self.parts);
        if parts.len() != self.next {
            return Err(Error::Generic {
                store: STORE,
                source: format!("{} of {} blocks are there", parts.len(), self.next).into(),
            });
        }
        let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        for name in &self.kept {
            // Writing into a string can't fail.
            let _ = write!(list, "<Committed>{name}</Committed>");
        }
        for name in parts.values() {
            let _ = write!(list, "<Uncommitted>{name}</Uncommitted>");
        }
        list.push_str("</BlockList>");
        Ok(list)
    }
}

/// Whether more blocks of ours can follow those.
fn check(blocks: &Committed, size: u64) -> Result<()> {
    if blocks.size != size {
        return Err(unsupported("the blob is not all blocks"));
    }
    if blocks.names.len() + MAX_PARTS > MAX_BLOCKS {
        return Err(unsupported("the blob has no room for blocks"));
    }
    let is_ours = |name: &String| {
        let name = BASE64.decode(name);
        name.is_ok_and(|name| name.len() == NAME_LENGTH)
    };
    if !blocks.names.iter().all(is_ours) {
        return Err(unsupported("another program has made its blocks"));
    }
    Ok(())
}

fn unsupported(what: &'static str) -> Error {
    Error::NotSupported {
        source: what.into(),
    }
}

#[async_trait]
impl Upload for AzureUpload {
    fn put_part(&mut self, body: Body) -> UploadPart {
        let index = self.next;
        self.next += 1;
        let (azure, parts) = (Arc::clone(&self.azure), Arc::clone(&self.parts));
        let key = self.key.clone();
        Box::pin(async move {
            let name = BASE64.encode(format!("{:032x}", rand::random::<u128>()));
            azure.put_block(key.as_ref(), &name, body).await?;
            lock(&parts).insert(index, name);
            Ok(())
        })
    }

    async fn publish(&mut self, terms: &Terms, whole: Option<Crc64>) -> Result<Stored> {
        let blocks = self.list_of_blocks()?;
        let (key, mut description) = (self.key.as_ref(), self.description.clone());
        if let Some(whole) = whole {
            Carried::put_on(whole, &mut description.attributes);
        }
        let put = self.azure.put_blocks(key, blocks, &description, terms);
        put.await
    }

    /// Azure forgets blocks that are in no blob after a week; it can't be told to do so before.
    async fn abort(&mut self) -> Result<()> {
        Ok(())
    }

    fn hand_over(&self, parts: usize) -> Option<String> {
        if !self.kept.is_empty() {
            return None;
        }
        serde_json::to_string(&first(&lock(&self.parts), parts)?).ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(names: &[&str], size: u64) -> Committed {
        Committed {
            e_tag: None,
            names: names.iter().map(|name| BASE64.encode(name)).collect(),
            size,
        }
    }

    #[test]
    fn only_blocks_of_ours_can_be_added_to() {
        let ours = "0123456789abcdef0123456789abcdef";
        assert!(check(&blocks(&[ours, ours], 20), 20).is_ok());
        for (names, size) in [(&[ours] as &[_], 19), (&[ours, "short"], 20), (&[], 0)] {
            let refused = check(&blocks(names, size), 20);
            assert!(matches!(refused, Err(Error::NotSupported { .. })));
        }
    }
}
