//! What Azure keeps of a blob besides what every store does, and the copies that are under way.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::bucket::{Bucket, Content, Object, now};

use super::copies::{Background, Copy};
use super::failure::{Failure, PENDING_COPY};

/// Notes on blobs, by key.
#[derive(Default)]
pub(crate) struct Ledger {
    notes: BTreeMap<String, Note>,
    pub(crate) background: Option<Background>,
    pub(crate) copies_begun: u64,
}

/// What is kept of one blob.
pub(crate) struct Note {
    /// The blob that it is about: another one may have come to its key since.
    generation: u64,
    created: SystemTime,
    /// In base64.
    pub(crate) md5: Option<String>,
    /// How the blob was copied, if it was.
    pub(crate) copy: Option<Copy>,
}

/// What a write says of its blob besides.
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) md5: Option<String>,
    pub(crate) copy: Option<Copy>,
}

impl Bucket {
    /// Puts a blob at `key`, and drops the blocks that were waiting there. Gives its generation.
    pub(crate) fn write_blob(&mut self, key: &str, object: Object, extras: Extras) -> u64 {
        let created = self.created(key).unwrap_or_else(now);
        self.drop_staged(key);
        let generation = self.store(key, object);
        let object = self.objects.get_mut(key).expect("the blob just written");
        object.etag = tag(generation);
        let note = Note {
            generation,
            created,
            md5: extras.md5,
            copy: extras.copy,
        };
        self.azure.notes.insert(key.to_owned(), note);
        generation
    }

    pub(crate) fn remove_blob(&mut self, key: &str) {
        self.objects.remove(key);
        self.azure.notes.remove(key);
        self.drop_staged(key);
    }

    /// What is kept of the blob at `key`, unless another client has put it there.
    pub(crate) fn note(&self, key: &str) -> Option<&Note> {
        let object = self.objects.get(key)?;
        let note = self.azure.notes.get(key);
        note.filter(|note| note.generation == object.generation)
    }

    pub(crate) fn note_mut(&mut self, key: &str) -> Option<&mut Note> {
        let object = self.objects.get(key)?;
        let note = self.azure.notes.get_mut(key);
        note.filter(|note| note.generation == object.generation)
    }

    /// When there was first a blob at `key`: writing over it changes nothing about that.
    pub(crate) fn created(&self, key: &str) -> Option<SystemTime> {
        let object = self.objects.get(key)?;
        Some(self.note(key).map_or(object.modified, |note| note.created))
    }

    /// While a copy is under way, nobody may change the blob.
    pub(crate) fn check_no_copy(&self, key: &str) -> Result<(), Failure> {
        let copy = self.note(key).and_then(|note| note.copy.as_ref());
        let is_pending = copy.is_some_and(Copy::is_pending);
        if is_pending {
            Err(PENDING_COPY)
        } else {
            Ok(())
        }
    }

    /// The blocks that wait for `key`, by their ids.
    pub(crate) fn waiting<'b>(
        &'b self,
        key: &'b str,
    ) -> impl Iterator<Item = (&'b String, &'b Content)> {
        let first = (key.to_owned(), String::new());
        let waiting = self.staged.range(first..);
        let of_key = waiting.take_while(move |((of, _), _)| of == key);
        of_key.map(|((_, id), content)| (id, content))
    }

    fn drop_staged(&mut self, key: &str) {
        let ids: Vec<_> = self.waiting(key).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.staged.remove(&(key.to_owned(), id));
        }
    }
}

/// The tag of a blob, without quotes. No two writes have the same.
pub(crate) fn tag(generation: u64) -> String {
    format!("0x{generation:X}")
}
