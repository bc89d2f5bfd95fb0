//! A store in memory, for trying out. `object_store`'s paths end with no slash: markers are kept beside its objects.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, Result, UpdateVersion, UploadPart};
use tokio::sync::Mutex as AsyncMutex;

use crate::storage::store::body::{Body, Crc64};
use crate::storage::store::description::{Carries, Description};
use crate::storage::store::keys::{Marker, Object, Page, Query, bare, if_any};
use crate::storage::store::metered::Metered;
use crate::storage::store::names::SegmentRules;
use crate::storage::store::precondition::{Precondition, look};
use crate::storage::store::stored::{Comparison, Stored};
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::{Base, Start, Upload};
use crate::storage::store::{
    Aborts, Deletes, Keeping, MetadataNames, Store, Traits, put_by_library,
};
use crate::telemetry::StoreMetrics;

/// The markers by their keys: the note on each, and since when it is there.
type Markers = BTreeMap<String, (Option<String>, SystemTime)>;

/// Only this process knows the store, and keeps its renames apart itself.
const NO_VERSION: UpdateVersion = UpdateVersion {
    e_tag: None,
    version: None,
};

/// Objects until the process ends.
#[derive(Debug)]
pub(crate) struct Memory {
    objects: Arc<Metered>,
    markers: Mutex<Markers>,
    /// Held while it is looked whether a precondition holds, and the change is made.
    changes: Arc<AsyncMutex<()>>,
}

impl Memory {
    pub(crate) fn open(metrics: &Arc<StoreMetrics>) -> Self {
        let objects = Metered::new(Arc::new(InMemory::new()), Arc::clone(metrics));
        Self {
            objects: Arc::new(objects),
            markers: Mutex::default(),
            changes: Arc::default(),
        }
    }

    fn markers(&self) -> MutexGuard<'_, Markers> {
        self.markers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All keys that begin with a prefix, in order.
    async fn all(&self, prefix: &str) -> Result<Vec<Object>> {
        let directory = prefix.rsplit_once('/').map(|(directory, _)| directory);
        let directory = directory.map(Path::parse).transpose()?;
        let stored = self.objects.list(directory.as_ref()).map_ok(|meta| Object {
            key: meta.location.to_string(),
            size: meta.size,
            modified: meta.last_modified.into(),
            e_tag: meta.e_tag.map(|e_tag| bare(&e_tag).to_owned()),
            generation: None,
            carries: Carries::default(),
        });
        let mut objects: Vec<_> = stored.try_collect().await?;
        objects.extend(self.markers().iter().map(|(key, (_, since))| Object {
            key: key.clone(),
            size: 0,
            modified: *since,
            e_tag: None,
            generation: None,
            carries: Carries::default(),
        }));
        objects.retain(|object| object.key.starts_with(prefix));
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }
}

#[async_trait]
impl Store for Memory {
    fn traits(&self) -> Traits {
        Traits {
            max_parts: None,
            names: SegmentRules::NONE,
            metadata: Some(MetadataNames::HYPHENED),
            directories: false,
            deletes: Deletes::Blindly,
            aborts: Aborts::Final,
            parallel_reads: true,
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

    async fn list(&self, query: Query<'_>) -> Result<Page> {
        let mut page = Page::default();
        for object in self.all(query.prefix).await? {
            let rest = &object.key[query.prefix.len()..];
            let group = rest.find('/').filter(|_| query.grouped);
            let group = group.map(|at| object.key[..=query.prefix.len() + at].to_owned());
            let entry = group.as_ref().unwrap_or(&object.key);
            if query.token.is_some_and(|token| entry.as_str() <= token)
                || page.prefixes.last() == Some(entry)
            {
                continue;
            }
            if page.objects.len() + page.prefixes.len() == query.limit {
                let last = page.objects.last().map(|object| &object.key);
                page.next = last.max(page.prefixes.last()).cloned();
                break;
            }
            match group {
                Some(group) => page.prefixes.push(group),
                None => page.objects.push(object),
            }
        }
        Ok(page)
    }

    fn keeping(&self, _: &Base) -> Keeping {
        Keeping::Never
    }

    async fn begin(&self, start: Start) -> Result<Box<dyn Upload>> {
        Ok(Box::new(MemoryUpload {
            key: start.key.clone(),
            inner: self.objects.begin(start).await?,
            objects: Arc::clone(&self.objects),
            changes: Arc::clone(&self.changes),
        }))
    }

    async fn put(
        &self,
        key: &Path,
        body: Body,
        description: Description,
        terms: &Terms,
    ) -> Result<Stored> {
        let _changes = self.changes.lock().await;
        put_by_library(&self.objects, key, body, description, terms).await
    }

    async fn copy(&self, from: &Base, to: &Path, terms: &Terms) -> Result<()> {
        let _changes = self.changes.lock().await;
        look(&*self.objects, to, &terms.precondition).await?;
        self.objects.copy(&from.key, to).await
    }

    async fn delete(&self, key: &str, terms: &Terms) -> Result<()> {
        if key.ends_with('/') {
            self.markers().remove(key);
            return Ok(());
        }
        let key = Path::parse(key)?;
        let _changes = self.changes.lock().await;
        look(&*self.objects, &key, &terms.precondition).await?;
        self.objects.delete(&key).await
    }

    async fn delete_unchanged(&self, objects: &[Object]) -> Result<usize> {
        for object in objects {
            if_any(self.delete(&object.key, &Terms::none()).await)?;
        }
        Ok(0)
    }

    async fn write_marker(
        &self,
        key: &str,
        note: Option<&str>,
        precondition: &Precondition,
    ) -> Result<()> {
        let mut markers = self.markers();
        if *precondition == Precondition::Absent && markers.contains_key(key) {
            return Err(Error::AlreadyExists {
                path: key.to_owned(),
                source: "there is one".into(),
            });
        }
        let marker = (note.map(str::to_owned), SystemTime::now());
        markers.insert(key.to_owned(), marker);
        Ok(())
    }

    async fn read_marker(&self, key: &str) -> Result<Option<Marker>> {
        let note = self.markers().get(key).map(|(note, _)| note.clone());
        Ok(note.map(|note| Marker {
            size: 0,
            version: NO_VERSION,
            note,
        }))
    }

    async fn sweep(&self, _: &Path, _: DateTime<Utc>) -> Result<usize> {
        Ok(0)
    }
}

/// An upload whose precondition is looked at where nothing can come in between.
#[derive(Debug)]
struct MemoryUpload {
    key: Path,
    inner: Box<dyn Upload>,
    objects: Arc<Metered>,
    changes: Arc<AsyncMutex<()>>,
}

#[async_trait]
impl Upload for MemoryUpload {
    fn put_part(&mut self, body: Body) -> UploadPart {
        self.inner.put_part(body)
    }

    async fn publish(&mut self, terms: &Terms, whole: Option<Crc64>) -> Result<Stored> {
        let _changes = self.changes.lock().await;
        look(&*self.objects, &self.key, &terms.precondition).await?;
        self.inner.publish(terms, whole).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
