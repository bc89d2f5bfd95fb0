//! The versions of objects that this process has written lately.
//!
//! A file that is replaced all the time is written on the condition of the version before it. Who remembers that one
//! need not ask for it: replacing costs one request, as a new name does.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use object_store::UpdateVersion;
use object_store::path::Path;

use crate::storage::store::mark::Lineage;
use crate::storage::store::precondition::Precondition;
use crate::storage::write::verdict::Found;

/// So many names are remembered, in less than two megabytes.
const MAX_NAMES: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// What a write expects at its key.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    pub(crate) precondition: Precondition,
    /// What the new object carries of it.
    pub(crate) lineage: Lineage,
}

/// What was written lately, by the hash of its name: two names of one hash cost each other a request, and nothing else.
#[derive(Debug)]
pub(crate) struct Known {
    names: Mutex<LruCache<u64, Remembered>>,
    hasher: RandomState,
}

/// A version and the lineage of its successor, in one piece of memory: there are thousands.
#[derive(Debug)]
struct Remembered(Box<str>);

impl Remembered {
    fn new(version: &UpdateVersion, lineage: &Lineage) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (tag, number) = (text(&version.e_tag), text(&version.version));
        Self([&tag, &number, lineage.as_str()].join("\n").into())
    }

    fn expected(&self) -> Expected {
        let mut fields = self.0.splitn(3, '\n');
        let mut next = || fields.next().unwrap_or_default();
        let named = |field: &str| (!field.is_empty()).then(|| field.to_owned());
        let version = UpdateVersion {
            e_tag: named(next()),
            version: named(next()),
        };
        Expected {
            precondition: Precondition::Unchanged(version),
            lineage: Lineage::read(next()),
        }
    }
}

impl Default for Known {
    fn default() -> Self {
        Self {
            names: Mutex::new(LruCache::new(MAX_NAMES)),
            hasher: RandomState::new(),
        }
    }
}

impl Known {
    /// What is probably at a key: a name that is not known is probably new.
    pub(crate) fn at(&self, key: &Path) -> Expected {
        let hash = self.hasher.hash_one(key);
        match self.names().get(&hash) {
            Some(remembered) => remembered.expected(),
            None => Expected::nothing(),
        }
    }

    /// Notes what was written. `lineage` is for its successor.
    pub(crate) fn note(&self, key: &Path, version: &UpdateVersion, lineage: &Lineage) {
        // Without either, no request could name it.
        if version.e_tag.is_some() || version.version.is_some() {
            let remembered = Remembered::new(version, lineage);
            self.names().put(self.hasher.hash_one(key), remembered);
        }
    }

    /// Forgets what has turned out otherwise, or is deleted: the name is probably new again.
    pub(crate) fn forget(&self, key: &Path) {
        self.names().pop(&self.hasher.hash_one(key));
    }

    fn names(&self) -> MutexGuard<'_, LruCache<u64, Remembered>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
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
                ..
            } => Self {
                precondition: Precondition::Unchanged(version),
                lineage: Lineage::after(&attributes),
            },
            Found::Nothing => Self::nothing(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_expected_until_it_is_forgotten() {
        let (known, key) = (Known::default(), Path::from("a"));
        for (e_tag, number, lineage) in [
            (
                Some("\"1\""),
                Some("7"),
                "0123456789abcdef,0123456789abcde0",
            ),
            (None, Some("7"), ""),
            (Some("W/\"\""), None, ""),
        ] {
            let version = UpdateVersion {
                e_tag: e_tag.map(str::to_owned),
                version: number.map(str::to_owned),
            };
            known.note(&key, &version, &Lineage::read(lineage));
            let expected = known.at(&key);
            assert_eq!(expected.precondition, Precondition::Unchanged(version));
            assert_eq!(expected.lineage.as_str(), lineage);
            assert_eq!(
                known.at(&Path::from("b")).precondition,
                Precondition::Absent
            );
            known.forget(&key);
            assert_eq!(known.at(&key).precondition, Precondition::Absent);
        }
    }
}
