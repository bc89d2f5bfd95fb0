//! An upload in parts: written to one stage, side by side.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{Result, UploadPart};

use crate::storage::store::body::{Body, Crc64};
use crate::storage::store::local::blocking::{Changed, blocking};
use crate::storage::store::local::changes;
use crate::storage::store::local::files::{Opened, change};
use crate::storage::store::local::root::Root;
use crate::storage::store::local::stage::Stage;
use crate::storage::store::stored::Stored;
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::{Base, Start, Upload};

/// A file in the making, and where it will be.
#[derive(Debug)]
pub(crate) struct LocalUpload {
    root: Arc<Root>,
    key: Path,
    /// `None` once it is given up.
    stage: Option<Arc<Stage>>,
    /// Where the next part begins.
    next: u64,
}

impl LocalUpload {
    /// Begins an upload, with a copy of the base.
    pub(crate) async fn begin(root: Arc<Root>, start: Start) -> Result<Self> {
        let Start { key, base, .. } = start;
        blocking(move || {
            let (stage, next) = stage(&root, &key, base.as_ref())?;
            Ok(Self {
                root,
                key,
                stage: Some(Arc::new(stage)),
                next,
            })
        })
        .await
    }
}

/// A stage for this key that begins with the base, and how long it is.
pub(crate) fn stage(root: &Root, key: &Path, base: Option<&Base>) -> io::Result<(Stage, u64)> {
    let root = root.dir()?;
    let stage = Stage::for_key(&root, key)?;
    let Some(base) = base else {
        return Ok((stage, 0));
    };
    let opened = Opened::at(&root, &base.key)?;
    if opened.meta.e_tag != base.version.e_tag {
        return Err(io::Error::other(Changed));
    }
    stage.begin_with(&opened.file, base.size)?;
    Ok((stage, base.size))
}

fn given_up() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the upload was given up")
}

#[async_trait]
impl Upload for LocalUpload {
    fn put_part(&mut self, body: Body) -> UploadPart {
        let at = self.next;
        self.next += body.length() as u64;
        let stage = self.stage.clone();
        Box::pin(blocking(move || {
            stage.ok_or_else(given_up)?.write(at, &body.payload)
        }))
    }

    async fn publish(&mut self, terms: &Terms, _: Option<Crc64>) -> Result<Stored> {
        let (root, key, stage) = (Arc::clone(&self.root), self.key.clone(), self.stage.clone());
        let precondition = terms.precondition.clone();
        let version = change(&self.root, move || {
            let stage = stage.ok_or_else(given_up)?;
            changes::publish(&root, &stage, &key, &precondition)
        })
        .await?;
        Ok(Stored::uncompared(version))
    }

    /// What has no name is gone with its last handle.
    async fn abort(&mut self) -> Result<()> {
        let stage = self.stage.take();
        blocking(move || {
            drop(stage);
            Ok(())
        })
        .await
    }
}
