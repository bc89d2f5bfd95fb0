//! Which directories are being renamed: one rename at a time in any tree.
//!
//! A client that has lost its patience asks again while the first rename still runs, and the second would
//! take it for the remains of one that has ended. Between processes nothing keeps two renames apart.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use object_store::path::Path;

/// From which directory to which.
type Way = [Path; 2];

/// The renames of directories that run; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Renaming(Arc<Mutex<Vec<Way>>>);

/// The only rename in two trees, until it is dropped.
#[derive(Debug)]
pub(crate) struct OnlyRename {
    all: Renaming,
    way: Way,
}

impl Renaming {
    /// Begins a rename, if none runs that touches any of the same keys.
    pub(crate) fn begin(&self, from: &Path, to: &Path) -> Option<OnlyRename> {
        let way = [from.clone(), to.clone()];
        let mut running = self.ways();
        if running.iter().flatten().any(|one| touches(one, &way)) {
            return None;
        }
        running.push(way.clone());
        drop(running);
        Some(OnlyRename {
            all: self.clone(),
            way,
        })
    }

    fn ways(&self) -> MutexGuard<'_, Vec<Way>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OnlyRename {
    fn drop(&mut self) {
        // No two are the same.
        self.all.ways().retain(|way| *way != self.way);
    }
}

fn touches(tree: &Path, way: &Way) -> bool {
    way.iter()
        .any(|other| tree.prefix_matches(other) || other.prefix_matches(tree))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rename_at_a_time_in_a_tree() {
        let renaming = Renaming::default();
        let begin = |from: &str, to: &str| renaming.begin(&Path::from(from), &Path::from(to));
        let first = begin("in/a", "out/a").unwrap();
        for (from, to) in [
            ("in/a", "out/a"),
            ("in/a", "else"),
            ("else", "out/a"),
            ("in/a/sub", "else"),
            ("in", "else"),
            ("else", "out/a/sub"),
        ] {
            assert!(begin(from, to).is_none(), "{from} to {to}");
        }
        assert!(begin("in/ab", "out/ab").is_some());
        drop(first);
        assert!(begin("in/a", "out/a").is_some());
    }
}
