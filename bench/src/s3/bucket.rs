//! What is in the bucket: of each object its size and, if wanted, its bytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::synthetic;

/// The one bucket there is, whatever its name.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Whether bytes are kept.
    pub(super) keep: bool,
    state: Mutex<State>,
    numbers: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Object>,
    uploads: HashMap<String, Upload>,
}

/// An object, or a part of one.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) size: u64,
    /// Its bytes; none where they are not kept.
    pub(super) chunks: Vec<Bytes>,
    pub(super) tag: u64,
}

#[derive(Debug)]
struct Upload {
    key: String,
    parts: BTreeMap<u32, Object>,
}

/// What has to hold for an object to be put.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// There is none yet.
    pub(super) absent: bool,
    /// The one there has this tag.
    pub(super) tag: Option<String>,
}

/// Why something was not done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refused {
    NoSuchKey,
    NoSuchUpload,
    Precondition,
}

impl Bucket {
    pub(super) fn new(keep: bool) -> Self {
        Self {
            keep,
            state: Mutex::default(),
            numbers: AtomicU64::new(1),
        }
    }

    /// A new object or part, not yet in the bucket.
    pub(super) fn object(&self, size: u64, chunks: Vec<Bytes>) -> Object {
        let tag = self.number();
        Object { size, chunks, tag }
    }

    pub(super) fn get(&self, key: &str) -> Result<Object, Refused> {
        self.state().get(key).ok_or(Refused::NoSuchKey)
    }

    pub(super) fn put(
        &self,
        key: &str,
        object: Object,
        condition: &Condition,
    ) -> Result<(), Refused> {
        let mut state = self.state();
        state.check(key, condition)?;
        state.objects.insert(key.to_owned(), object);
        Ok(())
    }

    pub(super) fn delete(&self, key: &str) {
        self.state().objects.remove(key);
    }

    /// Begins a multipart upload and names it.
    pub(super) fn begin(&self, key: &str) -> String {
        let id = format!("upload-{}", self.number());
        let upload = Upload {
            key: key.to_owned(),
            parts: BTreeMap::new(),
        };
        self.state().uploads.insert(id.clone(), upload);
        id
    }

    pub(super) fn add(&self, id: &str, number: u32, part: Object) -> Result<(), Refused> {
        let mut state = self.state();
        let upload = state.uploads.get_mut(id).ok_or(Refused::NoSuchUpload)?;
        upload.parts.insert(number, part);
        Ok(())
    }

    /// Makes an object of the parts. Returns its tag.
    pub(super) fn complete(&self, id: &str, condition: &Condition) -> Result<u64, Refused> {
        let tag = self.number();
        let mut state = self.state();
        let upload = state.uploads.get(id).ok_or(Refused::NoSuchUpload)?;
        state.check(&upload.key, condition)?;
        let upload = state.uploads.remove(id).ok_or(Refused::NoSuchUpload)?;
        let parts = upload.parts.into_values();
        let mut object = Object {
            size: 0,
            chunks: Vec::new(),
            tag,
        };
        for part in parts {
            object.size += part.size;
            object.chunks.extend(part.chunks);
        }
        state.objects.insert(upload.key, object);
        Ok(tag)
    }

    pub(super) fn abort(&self, id: &str) -> Result<(), Refused> {
        let removed = self.state().uploads.remove(id);
        removed.map(|_| ()).ok_or(Refused::NoSuchUpload)
    }

    /// Multipart uploads that are neither completed nor aborted: keys and names.
    pub(super) fn unfinished(&self) -> Vec<(String, String)> {
        let state = self.state();
        let uploads = state.uploads.iter();
        uploads
            .map(|(id, upload)| (upload.key.clone(), id.clone()))
            .collect()
    }

    /// Keys and sizes from this key on, in order, until `take` has had enough.
    pub(super) fn walk(&self, start: &str, mut take: impl FnMut(&str, u64) -> bool) {
        let state = self.state();
        for (key, object) in state.objects.range(start.to_owned()..) {
            if !take(key, object.size) {
                return;
            }
        }
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn get(&self, key: &str) -> Option<Object> {
        let synthetic = || {
            let size = synthetic::size(key)?;
            let chunks = Vec::new();
            Some(Object {
                size,
                chunks,
                tag: 0,
            })
        };
        self.objects.get(key).cloned().or_else(synthetic)
    }

    fn check(&self, key: &str, condition: &Condition) -> Result<(), Refused> {
        let there = self.objects.get(key);
        if condition.absent && there.is_some() {
            return Err(Refused::Precondition);
        }
        match &condition.tag {
            Some(tag) if there.is_none_or(|object| object.quoted_tag() != *tag) => {
                Err(Refused::Precondition)
            }
            _ => Ok(()),
        }
    }
}

impl Object {
    /// The `ETag`, in its quotes.
    pub(super) fn quoted_tag(&self) -> String {
        quoted(self.tag)
    }

    /// The chunks of a range of it.
    pub(super) fn slice(&self, start: u64, end: u64) -> Vec<Bytes> {
        let mut chunks = Vec::new();
        let mut offset = 0;
        for chunk in &self.chunks {
            let length = chunk.len() as u64;
            let from = start.saturating_sub(offset).min(length);
            let to = end.saturating_sub(offset).min(length);
            if from < to {
                chunks.push(chunk.slice(index(from)..index(to)));
            }
            offset += length;
        }
        chunks
    }
}

/// An `ETag` of this number.
pub(super) fn quoted(tag: u64) -> String {
    format!("\"{tag:032x}\"")
}

/// What lies within a chunk fits.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_out_of_chunks() {
        let bucket = Bucket::new(true);
        let chunks = vec![Bytes::from_static(b"abc"), Bytes::from_static(b"defg")];
        let object = bucket.object(7, chunks);
        assert_eq!(object.slice(2, 5).concat(), b"cde");
        assert_eq!(object.slice(0, 7).concat(), b"abcdefg");
        assert!(object.slice(7, 9).is_empty());
    }

    #[test]
    fn conditions_hold_for_multiparts_too() {
        let bucket = Bucket::new(false);
        let absent = Condition {
            absent: true,
            tag: None,
        };
        let id = bucket.begin("a");
        bucket.add(&id, 2, bucket.object(2, Vec::new())).unwrap();
        bucket.add(&id, 1, bucket.object(5, Vec::new())).unwrap();
        bucket.complete(&id, &absent).unwrap();
        assert_eq!(bucket.get("a").unwrap().size, 7);
        let again = bucket.begin("a");
        assert!(bucket.complete(&again, &absent).is_err());
        bucket.abort(&again).unwrap();
        assert!(bucket.unfinished().is_empty());
    }
}
