//! A folder on this machine, or one that is mounted.

pub(crate) mod blocking;
pub(crate) mod changes;
pub(crate) mod files;
pub(crate) mod modes;
pub(crate) mod names;
pub(crate) mod open;
pub(crate) mod pages;
pub(crate) mod root;
pub(crate) mod stage;
pub(crate) mod upload;
pub(crate) mod version;

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use cap_std::fs::{Dir, Metadata};
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{Error, Result};

use crate::storage::store::keys::{Marker, Object, Page, Query};
use crate::storage::store::metered::Metered;
use crate::storage::store::names::SegmentRules;
use crate::storage::store::precondition::{Precondition, is_version};
use crate::storage::store::stored::Comparison;
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::{Base, Start, Upload};
use crate::storage::store::{Aborts, Deletes, Keeping, Store, Traits};
use crate::telemetry::StoreMetrics;

use blocking::{Changed, blocking};
use files::{Files, Opened, change};
use root::Root;
use stage::Stage;
use upload::LocalUpload;
use version::meta;

/// A folder, and all in it.
#[derive(Debug)]
pub(crate) struct Local {
    objects: Arc<Metered>,
    root: Arc<Root>,
}

impl Local {
    pub(crate) fn new(root: Root, metrics: &Arc<StoreMetrics>) -> Self {
        let root = Arc::new(root);
        let objects = Metered::new(Arc::new(Files(Arc::clone(&root))), Arc::clone(metrics));
        Self {
            objects: Arc::new(objects),
            root,
        }
    }

    /// Does the work in the folder. What is done to directories is no request, and not counted.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Dir) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = Arc::clone(&self.root);
        blocking(move || work(&*root.dir()?)).await
    }

    /// Changes names in the folder.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = Arc::clone(&self.root);
        change(&self.root, move || work(&root)).await
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
            deletes: Deletes::ByTag,
            aborts: Aborts::Final,
            parallel_reads: false,
            conditions: true,
            late_requests: false,
        }
    }

    fn objects(&self) -> &Arc<Metered> {
        &self.objects
    }

    fn comparison(&self) -> Comparison {
        Comparison::NotNeeded
    }

    async fn notes(&self) -> Vec<String> {
        let named = self.work(|root| Ok(Stage::for_key(root, &Path::default())?.has_name()));
        match named.await {
            Ok(false) => Vec::new(),
            Ok(true) => vec![
                "The file system has no files without a name: what a killed process leaves is in .bucketferry/stages, \
                 until it is swept."
                    .to_owned(),
            ],
            Err(error) => vec![format!("No file can be stored: {error}.")],
        }
    }

    async fn list(&self, query: Query<'_>) -> Result<Page> {
        Err(unsupported(query.prefix))
    }

    fn pages(&self, directory: &Path, limit: usize) -> BoxStream<'_, Result<Page>> {
        pages::pages(Arc::clone(&self.root), directory, limit)
    }

    fn keeping(&self, _: &Base) -> Keeping {
        Keeping::Surely(0)
    }

    async fn begin(&self, start: Start) -> Result<Box<dyn Upload>> {
        let begin = LocalUpload::begin(Arc::clone(&self.root), start);
        let upload = self.objects.measure("create_multipart", begin).await?;
        Ok(self.objects.measured(upload))
    }

    async fn copy(&self, from: &Base, to: &Path, terms: &Terms) -> Result<()> {
        let (from, to, precondition) = (from.clone(), to.clone(), terms.precondition.clone());
        let copy = self.change(move |root| {
            let (stage, _) = upload::stage(root, &to, Some(&from))?;
            changes::publish(root, &stage, &to, &precondition).map(drop)
        });
        self.objects.measure("copy", copy).await
    }

    async fn delete(&self, key: &str, terms: &Terms) -> Result<()> {
        let (key, precondition) = (Path::parse(key)?, terms.precondition.clone());
        let delete = self.change(move |root| changes::delete(root, &key, &precondition));
        self.objects.measure("delete", delete).await
    }

    async fn delete_unchanged(&self, objects: &[Object]) -> Result<usize> {
        let mut left = 0;
        for object in objects {
            let unchanged = Terms::new(Precondition::Unchanged(object.version()));
            match self.delete(&object.key, &unchanged).await {
                Ok(()) => {}
                Err(Error::Precondition { .. }) => left += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(left)
    }

    async fn write_marker(&self, key: &str, _: Option<&str>, _: &Precondition) -> Result<()> {
        Err(unsupported(key))
    }

    async fn read_marker(&self, key: &str) -> Result<Option<Marker>> {
        Err(unsupported(key))
    }

    async fn create_directory(&self, directory: &Path) -> Result<()> {
        let directory = directory.clone();
        self.change(move |root| changes::create_directory(root, &directory))
            .await
    }

    async fn remove_directory(&self, directory: &Path) -> Result<()> {
        let directory = directory.clone();
        self.change(move |root| changes::remove_directory(root, &directory))
            .await
    }

    async fn directory_changed(&self, directory: &Path) -> Option<SystemTime> {
        let directory = directory.clone();
        let found = self.work(move |root| match directory.as_ref() {
            "" => root.dir_metadata(),
            directory => root.metadata(directory),
        });
        let found = found.await.ok().filter(Metadata::is_dir)?;
        Some(meta(&Path::default(), &found).last_modified.into())
    }

    async fn rename(&self, from: &Path, to: &Path, names: [&Precondition; 2]) -> Result<()> {
        let (from, to, names) = (from.clone(), to.clone(), names.map(Precondition::clone));
        let rename = self.change(move |root| {
            if root.dir()?.metadata(from.as_ref())?.is_dir() {
                if matches!(names[0], Precondition::Unchanged(_)) {
                    return Err(io::Error::other(Changed));
                }
                return changes::rename_directory(root, &from, &to);
            }
            match changes::rename(root, &from, &to, &names) {
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                    move_by_copy(root, &from, &to, &names)
                }
                renamed => renamed,
            }
        });
        self.objects.measure("rename", rename).await
    }

    /// Stages with names, on file systems that have no others.
    async fn sweep(&self, _: &Path, before: DateTime<Utc>) -> Result<usize> {
        self.work(move |root| stage::sweep(root, before.into()))
            .await
    }
}

/// To another file system, which is mounted below the root.
fn move_by_copy(
    root: &Root,
    from: &Path,
    to: &Path,
    [taken, given]: &[Precondition; 2],
) -> io::Result<()> {
    let opened = Opened::at(&*root.dir()?, from)?;
    let source = Base::of(&opened.meta);
    if let Precondition::Unchanged(version) = taken
        && !is_version(version, &opened.meta)
    {
        return Err(io::Error::other(Changed));
    }
    let (stage, _) = upload::stage(root, to, Some(&source))?;
    changes::publish(root, &stage, to, given)?;
    changes::delete(root, from, &Precondition::Unchanged(source.version))
}

/// Flat listings and markers are for buckets.
fn unsupported(key: &str) -> Error {
    Error::NotSupported {
        source: format!("{key}: a folder has directories, and no markers").into(),
    }
}
