//! The note that the rename of a directory leaves on both markers while it runs.
//!
//! It is metadata of empty objects: some stores refuse content under a key that ends with a slash. Its place on the
//! directories themselves ties it to them: a directory that is removed and made anew has none, and nothing has to be swept.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use object_store::path::Path;

use crate::storage::error::StorageError;
use crate::storage::store::Store;
use crate::storage::store::keys::{Marker, Object, marker};

/// One rename, as it is noted on both directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// No other rename has it.
    id: String,
    /// The hash of both names, which together may be longer than metadata can be.
    names: String,
    /// The directory had a marker, and is to have one.
    pub(crate) kept: bool,
}

impl Note {
    pub(crate) fn new(from: &Path, to: &Path, kept: bool) -> Self {
        Self {
            id: format!("{:032x}", rand::random::<u128>()),
            names: hash(from, to),
            kept,
        }
    }

    /// The note on a directory's marker, if there is one.
    pub(crate) async fn at(
        store: &dyn Store,
        directory: &Path,
    ) -> Result<Option<Self>, StorageError> {
        let marker = store.read_marker(&marker(directory)).await?;
        Ok(marker.and_then(|marker| Self::of(&marker)))
    }

    /// The note on a marker.
    pub(crate) fn of(marker: &Marker) -> Option<Self> {
        Self::read(marker.note.as_deref()?)
    }

    /// Whether a marker carries it.
    pub(crate) fn is_on(&self, marker: &Marker) -> bool {
        Self::of(marker).as_ref() == Some(self)
    }

    /// Whether it is of a rename between these directories.
    pub(crate) fn is_of(&self, from: &Path, to: &Path) -> bool {
        self.names == hash(from, to)
    }

    /// Reads what [`fmt::Display`] has written, and nothing else.
    fn read(text: &str) -> Option<Self> {
        let mut words = text.split('-');
        let note = Self {
            id: words.next()?.to_owned(),
            names: words.next()?.to_owned(),
            kept: words.next()? == "kept",
        };
        (note.to_string() == text).then_some(note)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, names, kept } = self;
        write!(f, "{id}-{names}-{}", if *kept { "kept" } else { "bare" })
    }
}

/// Whether an object has a directory's name and content: markers are empty, so it is another program's.
pub(crate) fn is_foreign(object: &Object) -> bool {
    object.key.ends_with('/') && object.size > 0
}

fn hash(from: &Path, to: &Path) -> String {
    let mut context = Context::new(&SHA256);
    context.update(from.as_ref().as_bytes());
    // No path has a line break in it.
    context.update(b"\n");
    context.update(to.as_ref().as_bytes());
    let bytes = context.finish();
    let hex = bytes.as_ref().iter().map(|byte| format!("{byte:02x}"));
    hex.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let [from, to] = ["in/a b", "out"].map(Path::from);
        for kept in [true, false] {
            let note = Note::new(&from, &to, kept);
            let text = note.to_string();
            assert_eq!(Note::read(&text), Some(note.clone()));
            assert_ne!(Note::new(&from, &to, kept), note);
            assert!(note.is_of(&from, &to) && !note.is_of(&to, &from));
            let less = &text[..text.len() - 1];
            for other in ["", "a-b", less, &format!("{text}-more")] {
                assert_eq!(Note::read(other), None, "{other}");
            }
        }
    }

    #[test]
    fn a_note_fits_into_metadata_however_long_the_names_are() {
        let long = Path::from("d/".repeat(511));
        let note = Note::new(&long, &long.clone().join("e"), true).to_string();
        assert!(note.len() < 128, "{note}");
    }
}
