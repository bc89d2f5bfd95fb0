//! What the rename of a directory leaves in place of a marker while it runs.

use bytes::Bytes;
use object_store::path::Path;

use crate::storage::error::StorageError;
use crate::storage::store::Store;
use crate::storage::store::keys::{MAX_SMALL_OBJECT, Object, marker};

/// The first line of a note.
const TITLE: &str = "bucketferry: this directory is being renamed";

/// One rename, as it is written down at both directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    id: String,
    pub(crate) from: String,
    pub(crate) to: String,
    /// The directory had a marker, and is to have one.
    pub(crate) kept: bool,
}

impl Note {
    pub(crate) fn new(from: &Path, to: &Path, kept: bool) -> Self {
        Self {
            id: format!("{:032x}", rand::random::<u128>()),
            from: from.to_string(),
            to: to.to_string(),
            kept,
        }
    }

    /// The note in place of a directory's marker, if there is one.
    pub(crate) async fn at(
        store: &dyn Store,
        directory: &Path,
    ) -> Result<Option<Self>, StorageError> {
        match store.read_small(&marker(directory)).await {
            Ok(body) => Ok(Self::read(&body)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn write(&self) -> Bytes {
        let Self { id, from, to, kept } = self;
        format!("{TITLE}\nid {id}\nkept {kept}\nfrom {from}\nto {to}\n").into()
    }

    /// Reads what [`Self::write`] has written, and nothing else.
    fn read(body: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(body).ok()?.lines().skip(1);
        let mut value = |name: &str| {
            let line = lines.next()?;
            Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned())
        };
        let note = Self {
            id: value("id")?,
            kept: value("kept")? == "true",
            from: value("from")?,
            to: value("to")?,
        };
        (note.write() == body).then_some(note)
    }
}

/// Whether an object has a directory's name and content that is not ours.
pub(crate) async fn is_foreign(store: &dyn Store, object: &Object) -> Result<bool, StorageError> {
    if !object.key.ends_with('/') || object.size == 0 {
        return Ok(false);
    }
    if object.size > MAX_SMALL_OBJECT as u64 {
        return Ok(true);
    }
    has_foreign(store, &object.key).await
}

/// Whether what is at a marker's key has content that is not ours.
pub(crate) async fn has_foreign(store: &dyn Store, key: &str) -> Result<bool, StorageError> {
    match store.read_small(key).await {
        Ok(body) => Ok(!body.is_empty() && Note::read(&body).is_none()),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let new = || Note::new(&Path::from("in/a b"), &Path::from("out"), true);
        let note = new();
        let written = note.write();
        assert_eq!(Note::read(&written), Some(note.clone()));
        assert_ne!(new(), note);
        let more = [&written[..], b"and more"].concat();
        let less = &written[..written.len() - 1];
        for other in [b"", &b"\xff"[..], b"\nid 1\nkept true\nfrom a\nto b\n"] {
            assert_eq!(Note::read(other), None);
        }
        assert_eq!((Note::read(&more), Note::read(less)), (None, None));
    }
}
