//! What another gateway needs to go on with an upload whose client was lost.
//!
//! It is one object for each name, under the gateway's own directory: a line that tells of the upload, and then those of
//! its bytes that are in no part yet. Whoever goes on with the upload, or gives it up, deletes the object first, on the
//! condition that it is still the one that was read: so of several gateways one does.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{
    Attributes, Error, GetOptions, ObjectStore, ObjectStoreExt, PutPayload, UpdateVersion,
};
use serde::{Deserialize, Serialize};

use crate::storage::error::StorageError;
use crate::storage::store::body::Crc64;
use crate::storage::store::mark::Mark;
use crate::storage::store::precondition::{Precondition, is_version};
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::Start;
use crate::storage::store::{RESERVED, Store};
use crate::storage::write::multipart::Multipart;
use crate::storage::write::writer::ObjectWriter;

/// The directory of these objects, in the gateway's own.
const PLACE: &str = "unfinished";

/// No such object is larger: what is in no part yet is less than a part, and there are ten thousand parts at most.
const LARGEST: u64 = 64 << 20;

/// Objects of a page.
const PAGE: usize = 100;

/// Who may go on with an upload: the same user, from the same address. Two devices may share a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) user: String,
    pub(crate) peer: IpAddr,
}

/// An upload as one process hands it over to another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HandedOver {
    pub(crate) owner: Owner,
    key: String,
    /// Until when it is kept, in seconds since 1970.
    until: u64,
    mark: Option<Mark>,
    /// How many parts there are, the bytes in them, and their checksum.
    parts: usize,
    sent: u64,
    sum: Crc64,
    /// How the store knows the upload; `None` before its first part.
    upload: Option<String>,
    /// How many bytes come after this line.
    rest: u64,
}

/// The object that tells of an upload, as it was written or read.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    key: Path,
    version: UpdateVersion,
}

/// What was found at a name.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) handed_over: HandedOver,
    rest: Bytes,
    note: Note,
}

/// The uploads of a bucket that any gateway may go on with.
#[derive(Debug, Clone)]
pub(crate) struct Handovers {
    store: Arc<dyn Store>,
    place: Path,
}

impl HandedOver {
    /// How many bytes are kept.
    pub(crate) fn size(&self) -> u64 {
        self.sent.saturating_add(self.rest)
    }

    /// Whether its time was over by then.
    pub(crate) fn is_over(&self, at: SystemTime) -> bool {
        seconds(at) > self.until
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

impl Handovers {
    pub(crate) fn new(store: Arc<dyn Store>, prefix: &Path) -> Self {
        let place = prefix.clone().join(RESERVED).join(PLACE);
        Self { store, place }
    }

    /// Tells of a parked upload. `None` if no other process could go on with it.
    pub(crate) async fn write(
        &self,
        writer: &mut ObjectWriter,
        owner: &Owner,
        window: Duration,
    ) -> Option<Note> {
        if !self.is_shared() {
            return None;
        }
        let (handed_over, rest) = writer.hand_over(owner, SystemTime::now() + window)?;
        let mut line = serde_json::to_vec(&handed_over).ok()?;
        line.push(b'\n');
        let chunks = std::iter::once(Bytes::from(line)).chain(rest);
        let payload: PutPayload = chunks.collect();
        let key = self.key(&writer.plan.key);
        let (terms, none) = (Terms::none(), Attributes::new());
        match self.store.put(&key, payload.into(), none, &terms).await {
            Ok(stored) => Some(Note {
                key,
                version: stored.version,
            }),
            Err(error) => {
                tracing::warn!(%key, %error, "can't let other gateways know of an upload whose client was lost");
                None
            }
        }
    }

    /// Whether uploads outlive their process at all: in buckets they do.
    fn is_shared(&self) -> bool {
        self.store.traits().late_requests
    }

    /// Whether a note is still there: the upload is ours as long as it is.
    pub(crate) async fn is_there(&self, note: &Note) -> bool {
        let found = self.store.objects().head(&note.key).await;
        found.is_ok_and(|found| is_version(&note.version, &found))
    }

    /// What is kept of an upload to this key.
    pub(crate) async fn read(&self, key: &Path) -> Option<Found> {
        if !self.is_shared() {
            return None;
        }
        match self.read_at(&self.key(key)).await {
            Ok(found) => found.filter(|found| found.handed_over.key == key.as_ref()),
            Err(error) => {
                tracing::debug!(%key, %error, "can't look for an upload whose client was lost");
                None
            }
        }
    }

    async fn read_at(&self, place: &Path) -> object_store::Result<Option<Found>> {
        let options = GetOptions::default();
        let object = match self.store.objects().get_opts(place, options).await {
            Ok(object) if object.meta.size <= LARGEST => object,
            Ok(_) | Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let version = UpdateVersion {
            e_tag: object.meta.e_tag.clone(),
            version: object.meta.version.clone(),
        };
        let chunks: Vec<Bytes> = object.into_stream().try_collect().await?;
        let note = Note {
            key: place.clone(),
            version,
        };
        Ok(
            read(&chunks.concat().into()).map(|(handed_over, rest)| Found {
                handed_over,
                rest,
                note,
            }),
        )
    }

    /// Deletes the note, if it is still there. Whether it was: then the upload is ours.
    pub(crate) async fn claim(&self, note: &Note) -> bool {
        let terms = Terms::new(Precondition::Unchanged(note.version.clone()));
        let claimed = match self.store.delete(note.key.as_ref(), &terms).await {
            // A store without conditions. Two that go on with one upload can't both publish it: parts are named.
            Err(Error::NotSupported { .. } | Error::NotImplemented { .. }) => {
                let none = Terms::none();
                self.store.delete(note.key.as_ref(), &none).await
            }
            claimed => claimed,
        };
        claimed.is_ok()
    }

    /// Removes those whose time has been over for long, with what is in the store of them. How many.
    pub(crate) async fn sweep(&self, age: Duration) -> Result<usize, StorageError> {
        if !self.is_shared() {
            return Ok(0);
        }
        let (mut removed, then) = (0, SystemTime::now() - age);
        let mut pages = self.store.pages(&self.place, PAGE);
        while let Some(page) = pages.try_next().await? {
            for object in page.objects {
                let Ok(place) = Path::parse(&object.key) else {
                    continue;
                };
                match self.read_at(&place).await? {
                    Some(found) if found.handed_over.is_over(then) => {
                        removed += usize::from(self.give_up(found).await);
                    }
                    None if object.modified < then => {
                        self.store.delete(&object.key, &Terms::none()).await?;
                    }
                    Some(_) | None => {}
                }
            }
        }
        Ok(removed)
    }

    /// Has the store forget what another process has handed over. Whether it was ours to give up.
    pub(crate) async fn give_up(&self, found: Found) -> bool {
        if !self.claim(&found.note).await {
            return false;
        }
        if let Some((upload, key)) = found.upload() {
            let start = Start {
                key,
                attributes: Attributes::new(),
                base: None,
            };
            let aborted = match self.store.resume(start, upload).await {
                Ok(mut upload) => upload.abort().await,
                Err(error) => Err(error),
            };
            if let Err(error) = aborted {
                let key = &found.handed_over.key;
                tracing::warn!(key, %error, "can't discard an unfinished upload");
            }
        }
        true
    }

    fn key(&self, key: &Path) -> Path {
        let hash = digest(&SHA256, key.as_ref().as_bytes());
        self.place.clone().join(hex(hash.as_ref()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Found {
    /// The note that tells of it.
    pub(crate) fn note(&self) -> &Note {
        &self.note
    }

    fn upload(&self) -> Option<(&str, Path)> {
        let upload = self.handed_over.upload.as_deref()?;
        Some((upload, Path::parse(&self.handed_over.key).ok()?))
    }
}

/// The line, and what comes after it.
fn read(object: &Bytes) -> Option<(HandedOver, Bytes)> {
    let end = object.iter().position(|byte| *byte == b'\n')?;
    let handed_over: HandedOver = serde_json::from_slice(&object[..end]).ok()?;
    let rest = object.slice(end + 1..);
    (rest.len() as u64 == handed_over.rest).then_some((handed_over, rest))
}

impl ObjectWriter {
    /// What another process needs to go on with what was parked, and the bytes that are in no part.
    fn hand_over(&self, owner: &Owner, until: SystemTime) -> Option<(HandedOver, Vec<Bytes>)> {
        let upload = match &self.multipart {
            Multipart::None => None,
            Multipart::Begun(upload) => Some(upload.hand_over()?),
            Multipart::Beginning(_) => return None,
        };
        // What is on disk stays there: others begin where the parts end.
        let rest = self.part.chunks_in_memory().unwrap_or_default();
        let length = rest.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        let (parts, sent) = self.progress();
        let handed_over = HandedOver {
            owner: owner.clone(),
            key: self.plan.key.to_string(),
            until: seconds(until),
            mark: self.mark.clone(),
            parts,
            sent,
            sum: self.sum,
            upload,
            rest: length,
        };
        (handed_over.size() > 0).then_some((handed_over, rest))
    }

    /// Goes on with what another process has handed over. It has been begun for the same key, and has taken nothing.
    pub(crate) async fn take_over(&mut self, found: Found) -> Result<(), StorageError> {
        let Found {
            handed_over, rest, ..
        } = found;
        if let Some(mark) = handed_over.mark {
            mark.put_on(&mut self.attributes);
            self.mark = Some(mark);
        }
        if let Some(upload) = handed_over.upload {
            let start = Start {
                key: self.plan.key.clone(),
                attributes: self.attributes.clone(),
                base: None,
            };
            let upload = self.store.resume(start, &upload).await?;
            self.multipart = Multipart::Begun(upload);
        }
        self.go_on_after(handed_over.parts, handed_over.sent, handed_over.sum);
        self.take_rest(rest).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_is_read_whole_or_not_at_all() {
        let handed_over = HandedOver {
            owner: Owner {
                user: "ferry".to_owned(),
                peer: "203.0.113.7".parse().unwrap(),
            },
            key: "a".to_owned(),
            until: 10,
            mark: Some(Mark::new()),
            parts: 2,
            sent: 7,
            sum: Crc64::told(1, 7),
            upload: Some("{\"id\":\"\\n\"}".to_owned()),
            rest: 3,
        };
        assert_eq!(handed_over.size(), 10);
        let mut object = serde_json::to_vec(&handed_over).unwrap();
        object.extend(b"\nab\n");
        let (found, rest) = read(&Bytes::from(object.clone())).unwrap();
        assert_eq!(format!("{found:?}"), format!("{handed_over:?}"));
        assert_eq!(rest, "ab\n");
        for wrong in [
            &object[..object.len() - 1],
            b"",
            b"{}\n",
            b"\n",
            &object[..20],
        ] {
            assert!(read(&Bytes::copy_from_slice(wrong)).is_none());
        }
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!found.is_over(at(10)) && found.is_over(at(11)));
    }
}
