//! Which objects are being appended to: one append at a time.
//!
//! Between processes, the store's conditions see to that. But those tell only at the end, when all
//! has been sent.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use object_store::path::Path;

/// The objects that are being appended to; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Appending(Arc<Mutex<HashSet<Path>>>);

/// The only append to one object, until it is dropped.
#[derive(Debug)]
pub(crate) struct OnlyAppend {
    all: Appending,
    key: Path,
}

impl Appending {
    /// Begins an append, if there is none to the same object.
    pub(crate) fn begin(&self, key: &Path) -> Option<OnlyAppend> {
        self.keys().insert(key.clone()).then(|| OnlyAppend {
            all: self.clone(),
            key: key.clone(),
        })
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<Path>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OnlyAppend {
    fn drop(&mut self) {
        self.all.keys().remove(&self.key);
    }
}
