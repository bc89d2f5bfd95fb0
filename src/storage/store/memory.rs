//! Any key of the store in memory, whose paths end with no slash: markers are kept beside the objects.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, Result};

use crate::storage::store::raw::{Query, Raw, RawObject, RawPage, bare};

/// The store in memory by its keys.
#[derive(Debug)]
pub(crate) struct MemoryKeys {
    store: Arc<InMemory>,
    markers: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryKeys {
    pub(crate) fn new(store: Arc<InMemory>) -> Self {
        Self {
            store,
            markers: Mutex::default(),
        }
    }

    fn markers(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.markers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All keys that begin with a prefix, in order.
    async fn all(&self, prefix: &str) -> Result<Vec<RawObject>> {
        let directory = prefix.rsplit_once('/').map(|(directory, _)| directory);
        let directory = directory.map(Path::parse).transpose()?;
        let stored = self
            .store
            .list(directory.as_ref())
            .map_ok(|meta| RawObject {
                key: meta.location.to_string(),
                size: meta.size,
                modified: meta.last_modified.into(),
                e_tag: meta.e_tag.map(|e_tag| bare(&e_tag).to_owned()),
                generation: None,
            });
        let mut objects: Vec<_> = stored.try_collect().await?;
        objects.extend(self.markers().iter().map(|(key, body)| RawObject {
            key: key.clone(),
            size: body.len() as u64,
            modified: SystemTime::UNIX_EPOCH,
            e_tag: None,
            generation: None,
        }));
        objects.retain(|object| object.key.starts_with(prefix));
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }
}

#[async_trait]
impl Raw for MemoryKeys {
    async fn list(&self, query: Query<'_>) -> Result<RawPage> {
        let mut page = RawPage::default();
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

    async fn put(&self, key: &str, body: Bytes, create: bool) -> Result<()> {
        let mut markers = self.markers();
        if create && markers.contains_key(key) {
            return Err(Error::AlreadyExists {
                path: key.to_owned(),
                source: "there is one".into(),
            });
        }
        markers.insert(key.to_owned(), body);
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        let body = self.markers().get(key).cloned();
        body.ok_or_else(|| Error::NotFound {
            path: key.to_owned(),
            source: "there is none".into(),
        })
    }

    async fn delete(&self, key: &str) -> Result<()> {
        if key.ends_with('/') {
            self.markers().remove(key);
            return Ok(());
        }
        match self.store.delete(&Path::parse(key)?).await {
            Err(Error::NotFound { .. }) => Ok(()),
            result => result,
        }
    }

    async fn delete_unchanged(&self, objects: &[RawObject]) -> Result<usize> {
        for object in objects {
            self.delete(&object.key).await?;
        }
        Ok(0)
    }

    fn deletes_only(&self, _: &RawObject) -> bool {
        false
    }
}
