//! Locks on keys, for what a store does not keep apart itself.

use std::hash::{BuildHasher, RandomState};

use object_store::path::Path;
use tokio::sync::RwLock;

/// So many changes of different keys may run side by side, where each has to be looked at first.
const LOCKS: usize = 256;

/// A lock for every key.
#[derive(Debug)]
pub(crate) struct KeyLocks {
    locks: Vec<RwLock<()>>,
    hasher: RandomState,
}

impl Default for KeyLocks {
    fn default() -> Self {
        Self {
            locks: (0..LOCKS).map(|_| RwLock::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl KeyLocks {
    /// The lock of this key.
    pub(crate) fn lock(&self, key: &Path) -> &RwLock<()> {
        let hash = usize::try_from(self.hasher.hash_one(key)).unwrap_or(usize::MAX);
        &self.locks[hash % LOCKS]
    }
}
