//! What a session has stored itself: it may rename these files away where others may not.
//!
//! Promises: a name counts only together with the upload that the session stored there; memory is bounded.
//! Must not: know what tells one upload from another. To the session it is a text.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many uploads of a session are remembered, in 2 KiB.
pub const MAX_OWN_UPLOADS: usize = 256;

/// The uploads that a session has made last, as keyed hashes of name and upload. The key is random for each session, so
/// a client can't look for two that are equal.
#[derive(Debug, Default)]
pub struct OwnUploads {
    hasher: RandomState,
    last: Mutex<VecDeque<u64>>,
}

impl OwnUploads {
    /// Notes what was stored. The oldest is forgotten beyond [`MAX_OWN_UPLOADS`].
    pub fn note(&self, key: &str, upload: &str) {
        let hash = self.hasher.hash_one((key, upload));
        let mut last = self.last();
        if last.len() >= MAX_OWN_UPLOADS {
            last.pop_front();
        }
        last.push_back(hash);
    }

    /// Whether this upload was stored at this key by the session.
    pub fn contain(&self, key: &str, upload: &str) -> bool {
        let hash = self.hasher.hash_one((key, upload));
        self.last().contains(&hash)
    }

    /// Forgets all, as before another user's login.
    pub fn clear(&self) {
        *self.last() = VecDeque::new();
    }

    fn last(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_with_its_upload_only() {
        let own = OwnUploads::default();
        own.note("in/a", "1");
        assert!(own.contain("in/a", "1"));
        assert!(!own.contain("in/a", "2"));
        assert!(!own.contain("in/b", "1"));
        own.clear();
        assert!(!own.contain("in/a", "1"));
    }

    #[test]
    fn only_the_last_are_remembered() {
        let own = OwnUploads::default();
        for number in 0..=MAX_OWN_UPLOADS {
            own.note(&number.to_string(), "1");
        }
        assert!(!own.contain("0", "1"));
        assert!(own.contain("1", "1"));
        assert!(own.contain(&MAX_OWN_UPLOADS.to_string(), "1"));
        assert_eq!(own.last().len(), MAX_OWN_UPLOADS);
    }
}
