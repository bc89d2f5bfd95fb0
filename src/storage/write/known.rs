//! The versions of objects that this process has written lately.
//!
//! A file that is replaced all the time is written on the condition of the version before it. Who remembers that one
//! need not ask for it: replacing costs one request, as a new name does.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use object_store::UpdateVersion;
use object_store::path::Path;

use crate::storage::store::mark::Lineage;
use crate::storage::store::precondition::Precondition;
use crate::storage::write::verdict::Found;

/// So many names are remembered; with long names, a few megabytes.
const MAX_NAMES: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// What a write expects at its key.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) precondition: Precondition,
    /// What the new object carries of it.
    pub(crate) lineage: Lineage,
}

/// What was written lately.
#[derive(Debug)]
pub(crate) struct Known(Mutex<LruCache<Path, (UpdateVersion, Lineage)>>);

impl Default for Known {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_NAMES)))
    }
}

impl Known {
    /// What is probably at a key: a name that is not known is probably new.
    pub(crate) fn at(&self, key: &Path) -> Expected {
        match self.names().get(key) {
            Some((version, lineage)) => Expected {
                precondition: Precondition::Unchanged(version.clone()),
                lineage: lineage.clone(),
            },
            None => Expected::nothing(),
        }
    }

    /// Notes what was written. `lineage` is for its successor.
    pub(crate) fn note(&self, key: &Path, version: UpdateVersion, lineage: Lineage) {
        // Without either, no request could name it.
        if version.e_tag.is_some() || version.version.is_some() {
            self.names().put(key.clone(), (version, lineage));
        }
    }

    /// Forgets what has turned out otherwise, or is deleted: the name is probably new again.
    pub(crate) fn forget(&self, key: &Path) {
        self.names().pop(key);
    }

    fn names(&self) -> MutexGuard<'_, LruCache<Path, (UpdateVersion, Lineage)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expected {
    fn nothing() -> Self {
        Self {
            precondition: Precondition::Absent,
            lineage: Lineage::default(),
        }
    }
}

impl From<Found> for Expected {
    fn from(found: Found) -> Self {
        match found {
            Found::Object {
                version,
                attributes,
            } => Self {
                precondition: Precondition::Unchanged(version),
                lineage: Lineage::after(&attributes),
            },
            Found::Nothing => Self::nothing(),
        }
    }
}
