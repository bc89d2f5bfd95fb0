//! A folder on this machine.

pub(crate) mod append;
pub(crate) mod blocking;
pub(crate) mod open;
pub(crate) mod pages;

use std::fs::File;
use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, Result};

use crate::storage::store::keys::{Object, Page, Query, marker};
use crate::storage::store::metered::Metered;
use crate::storage::store::names::SegmentRules;
use crate::storage::store::precondition::{Precondition, look};
use crate::storage::store::upload::{Base, Start, Upload};
use crate::storage::store::{Aborts, Deletes, Keeping, Store, Traits};
use crate::telemetry::Metrics;

use append::LocalAppend;
use blocking::blocking;

/// A folder, and all in it.
#[derive(Debug)]
pub(crate) struct Local {
    objects: Arc<Metered>,
    folder: LocalFileSystem,
}

impl Local {
    pub(crate) fn new(folder: LocalFileSystem, metrics: &Arc<Metrics>) -> Self {
        let objects = Metered::new(Arc::new(folder.clone()), Arc::clone(metrics));
        Self {
            objects: Arc::new(objects),
            folder,
        }
    }

    /// The path of a directory. `path_to_filesystem` refuses the root and names like `x#1`, which are fine for
    /// directories: ask it for a file inside and take the parent.
    fn path_of(&self, directory: &Path) -> Result<PathBuf> {
        let inside = directory.clone().join("file");
        let mut path = self.folder.path_to_filesystem(&inside)?;
        path.pop();
        Ok(path)
    }
}

#[async_trait]
impl Store for Local {
    fn traits(&self) -> Traits {
        Traits {
            max_parts: None,
            names: SegmentRules::FILES,
            metadata: None,
            directories: true,
            deletes: Deletes::Blindly,
            aborts: Aborts::Final,
            parallel_reads: false,
        }
    }

    fn objects(&self) -> &Arc<Metered> {
        &self.objects
    }

    async fn list(&self, query: Query<'_>) -> Result<Page> {
        Err(unsupported(query.prefix))
    }

    fn pages(&self, directory: &Path, limit: usize) -> BoxStream<'_, Result<Page>> {
        match self.path_of(directory) {
            Ok(path) => pages::pages(path, marker(directory), limit),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    fn keeping(&self, _: u64) -> Keeping {
        Keeping::Surely(0)
    }

    async fn begin(&self, start: Start) -> Result<Box<dyn Upload>> {
        if start.base.is_none() {
            return self.objects.begin(start).await;
        }
        let upload = LocalAppend::begin(&self.folder, start).await?;
        Ok(self.objects.measured(upload))
    }

    async fn copy(&self, from: &Base, to: &Path, precondition: &Precondition) -> Result<()> {
        look(&*self.objects, to, precondition).await?;
        self.objects.copy(&from.key, to).await
    }

    async fn delete(&self, key: &str, precondition: &Precondition) -> Result<()> {
        let key = Path::parse(key)?;
        look(&*self.objects, &key, precondition).await?;
        match self.objects.delete(&key).await {
            Err(Error::NotFound { .. }) => Ok(()),
            result => result,
        }
    }

    async fn delete_unchanged(&self, objects: &[Object]) -> Result<usize> {
        for object in objects {
            self.delete(&object.key, &Precondition::None).await?;
        }
        Ok(0)
    }

    async fn write_small(&self, key: &str, _: Bytes, _: &Precondition) -> Result<()> {
        Err(unsupported(key))
    }

    async fn read_small(&self, key: &str) -> Result<Bytes> {
        Err(unsupported(key))
    }

    /// Creates the directory and makes it survive a crash, as uploads do.
    async fn create_directory(&self, directory: &Path) -> Result<()> {
        let path = self.path_of(directory)?;
        blocking(move || {
            std::fs::create_dir_all(&path)?;
            path.parent().map_or(Ok(()), sync)
        })
        .await
    }

    async fn remove_directory(&self, directory: &Path) -> Result<()> {
        let path = self.path_of(directory)?;
        blocking(move || std::fs::remove_dir(path)).await
    }

    async fn has_directory(&self, directory: &Path) -> bool {
        let Ok(path) = self.path_of(directory) else {
            return false;
        };
        let found = blocking(move || std::fs::metadata(path)).await;
        found.is_ok_and(|found| found.is_dir())
    }

    async fn rename(&self, from: &Path, to: &Path, precondition: &Precondition) -> Result<()> {
        look(&*self.objects, to, precondition).await?;
        if !self.has_directory(from).await {
            return self.objects.rename(from, to).await;
        }
        let (from, to) = (self.path_of(from)?, self.path_of(to)?);
        blocking(move || rename_directory(&from, &to)).await
    }

    async fn sweep(&self, _: &Path, _: DateTime<Utc>) -> Result<usize> {
        Ok(0)
    }
}

fn rename_directory(from: &FsPath, to: &FsPath) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::rename(from, to)?;
    for changed in [from.parent(), to.parent()].into_iter().flatten() {
        sync(changed)?;
    }
    Ok(())
}

fn sync(directory: &FsPath) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Flat listings and markers are for buckets.
fn unsupported(key: &str) -> Error {
    Error::NotSupported {
        source: format!("{key}: a folder has directories, and no markers").into(),
    }
}
