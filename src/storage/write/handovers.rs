//! The uploads of a bucket that any gateway may go on with: a note for each name, under the gateway's own directory.
//!
//! Whoever has the note of an upload has the upload. It is replaced and removed on the condition that it is still the
//! one that was read or written: so of several gateways one goes on, and the others find out.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload, Result, UpdateVersion,
};

use crate::storage::error::StorageError;
use crate::storage::store::body::Body;
use crate::storage::store::description::Description;
use crate::storage::store::keys::Object;
use crate::storage::store::precondition::{Precondition, is_version};
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::{Base, Start};
use crate::storage::store::{RESERVED, Store};
use crate::storage::write::conditions::{Conditions, Operation};
use crate::storage::write::handover::{HandedOver, Holder, MAX_LINE};

/// The directory of the notes, in the gateway's own.
const PLACE: &str = "unfinished";

/// Notes on a page of the sweep.
const PAGE: usize = 1000;

/// So often a change is made again on what was found when it was refused.
const TRIES: usize = 3;

/// What takes the place of a note that the store does not delete. It is no upload's.
const OVER: &[u8] = b"over\n";

/// The notes of one store; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Handovers {
    store: Arc<dyn Store>,
    conditions: Arc<Conditions>,
    place: Path,
    /// The size of each part, if all have to have the same.
    part_size: Option<u64>,
}

/// A note as it was written or read.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    place: Path,
    version: UpdateVersion,
}

/// What was found at a name.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) handed_over: HandedOver,
    pub(crate) note: Note,
    /// Where the bytes begin that are in no part.
    rest: u64,
}

/// Why a note is not as it was to be.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Another session goes on with the upload.
    TakenOver,
    /// The upload's note was removed, or another upload's is there: nobody can go on with this one any more.
    Displaced,
    /// An object is at the name, so nothing is told.
    NotNew,
    /// The store has failed, and may have done it all the same.
    Failed(Error),
}

/// What has become of a note that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removed {
    /// We have removed it: nobody else has the upload.
    Ours,
    /// It was gone before, or another upload's is there. Another session may have gone on with the upload meanwhile.
    Gone,
}

/// What is at the place of a note.
enum There {
    Nothing,
    /// It says nothing that we understand.
    Strange(Note),
    Upload(Box<Found>),
}

impl Handovers {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        conditions: Arc<Conditions>,
        prefix: &Path,
        part_size: Option<u64>,
    ) -> Self {
        let place = prefix.clone().join(RESERVED).join(PLACE);
        Self {
            store,
            conditions,
            place,
            part_size,
        }
    }

    /// The size of each part, if all have to have the same.
    pub(crate) fn part_size(&self) -> Option<u64> {
        self.part_size
    }

    /// Whether uploads outlive their process at all: in buckets they do.
    pub(crate) fn are_possible(&self) -> bool {
        let traits = self.store.traits();
        traits.late_requests && traits.metadata.is_some()
    }

    /// Whether there is no such object.
    pub(crate) async fn is_absent(&self, key: &Path) -> Result<bool> {
        match self.store.objects().head(key).await {
            Ok(_) => Ok(false),
            Err(Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Writes the note of an upload in the place of its `former` one. Without that it is the first, and the note of
    /// any other upload to the name is discarded.
    pub(crate) async fn write(
        &self,
        told: &HandedOver,
        rest: &[Bytes],
        mut former: Option<Note>,
    ) -> std::result::Result<Note, Refused> {
        let place = self.place_of(&told.key);
        let Some(line) = told.line() else {
            return Err(Refused::Displaced);
        };
        let chunks = std::iter::once(line.into()).chain(rest.iter().cloned());
        let body = Body::from(chunks.collect::<PutPayload>());
        for _ in 0..TRIES {
            let error = match self.put(&place, &body, former.as_ref()).await {
                Ok(note) => return Ok(note),
                Err(error) => error,
            };
            former = match (self.look_again(&place, error).await?, former) {
                (There::Upload(found), _) if found.is_of(&told.holder) => Some(found.note),
                (There::Upload(found), _) if found.is_of_upload(&told.holder) => {
                    return Err(Refused::TakenOver);
                }
                (_, Some(_)) => return Err(Refused::Displaced),
                (There::Upload(found), None) => {
                    self.give_up(*found).await;
                    None
                }
                (There::Strange(note), None) => Some(note),
                (There::Nothing, None) => None,
            };
        }
        Err(Refused::Displaced)
    }

    /// Removes the note of an upload that is ours.
    pub(crate) async fn remove(
        &self,
        holder: &Holder,
        note: &Note,
    ) -> std::result::Result<Removed, Refused> {
        let mut note = note.clone();
        for _ in 0..TRIES {
            let error = match self.end(&note).await {
                Ok(()) => return Ok(Removed::Ours),
                Err(error) => error,
            };
            note = match self.look_again(&note.place, error).await? {
                There::Upload(found) if found.is_of(holder) => found.note,
                There::Upload(found) if found.is_of_upload(holder) => {
                    return Err(Refused::TakenOver);
                }
                There::Upload(_) | There::Strange(_) | There::Nothing => return Ok(Removed::Gone),
            };
        }
        Err(Refused::Failed(changes()))
    }

    /// Keeps a note out that may be written yet, and was not found: the store refuses it where something is.
    pub(crate) async fn keep_out(
        &self,
        holder: &Holder,
        key: &Path,
    ) -> std::result::Result<Removed, Refused> {
        let body = Body::from(OVER.to_vec());
        let error = match self.put(&self.place_of(key.as_ref()), &body, None).await {
            Ok(_) => return Ok(Removed::Gone),
            Err(error) if is_condition(&error) => error,
            Err(error) => return Err(Refused::Failed(error)),
        };
        tracing::debug!(%key, %error, "a note was written late");
        match self.find(holder, key).await? {
            Some(note) => self.remove(holder, &note).await,
            None => Ok(Removed::Gone),
        }
    }

    /// Removes the note of an upload that we can't go on with, and which nobody has gone on with.
    pub(crate) async fn drop_note(&self, note: &Note) {
        if let Err(error) = self.end(note).await {
            let place = &note.place;
            tracing::warn!(%place, %error, "can't remove the note of an unfinished upload");
        }
    }

    /// Deletes a note, or else puts something in its place that nobody goes on with.
    async fn end(&self, note: &Note) -> Result<()> {
        match self.delete(note).await {
            Err(error) if !is_condition(&error) => {
                tracing::debug!(place = %note.place, %error, "can't delete a note, replacing it");
                let body = Body::from(OVER.to_vec());
                self.put(&note.place, &body, Some(note)).await.map(drop)
            }
            deleted => deleted,
        }
    }

    /// The note of an upload, of which it is not known whether it was written.
    pub(crate) async fn find(
        &self,
        holder: &Holder,
        key: &Path,
    ) -> std::result::Result<Option<Note>, Refused> {
        match self.at(&self.place_of(key.as_ref())).await {
            Ok(There::Upload(found)) if found.is_of(holder) => Ok(Some(found.note)),
            Ok(There::Upload(found)) if found.is_of_upload(holder) => Err(Refused::TakenOver),
            Ok(_) => Ok(None),
            Err(error) => Err(Refused::Failed(error)),
        }
    }

    /// Whether a note is still there.
    pub(crate) async fn is_there(&self, note: &Note) -> Result<bool> {
        match self.store.objects().head(&note.place).await {
            Ok(found) => Ok(is_version(&note.version, &found)),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What is kept of an upload to this key.
    pub(crate) async fn read(&self, key: &Path) -> Option<Found> {
        if !self.are_possible() {
            return None;
        }
        match self.at(&self.place_of(key.as_ref())).await {
            Ok(There::Upload(found)) => Some(*found),
            Ok(There::Nothing | There::Strange(_)) => None,
            Err(error) => {
                tracing::debug!(%key, %error, "can't look for an upload whose client was lost");
                None
            }
        }
    }

    /// The bytes that are in no part.
    pub(crate) async fn rest_of(&self, found: &Found) -> Result<BoxStream<'static, Result<Bytes>>> {
        let options = GetOptions::new()
            .with_if_match(found.note.version.e_tag.clone())
            .with_range(Some(GetRange::Offset(found.rest)));
        let rest = self.store.objects().get_opts(&found.note.place, options);
        Ok(rest.await?.into_stream())
    }

    /// Removes the notes of uploads whose time has been over for `grace`, with what the store has of them. An upload
    /// that may be running still is left alone for `age`. How many there were.
    pub(crate) async fn sweep(&self, grace: Duration, age: Duration) -> Swept {
        let (mut swept, now) = (Swept::default(), SystemTime::now());
        if !self.are_possible() {
            return swept;
        }
        let is_over = |told: &HandedOver| {
            let longer = if told.is_running { age } else { grace };
            told.is_over(now - longer)
        };
        let mut pages = self.store.pages(&self.place, PAGE);
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    swept.failed(error.into());
                    break;
                }
            };
            // A note that was written lately is not over.
            let old = page
                .objects
                .iter()
                .filter(|note| note.modified < now - grace);
            for note in old {
                match self.sweep_one(note, &is_over, now - age).await {
                    Ok(is_swept) => swept.uploads += usize::from(is_swept),
                    Err(error) => {
                        let place = &note.key;
                        tracing::warn!(place, %error, "can't sweep the note of an upload");
                        swept.failed(error.into());
                    }
                }
            }
        }
        swept
    }

    async fn sweep_one(
        &self,
        object: &Object,
        is_over: impl Fn(&HandedOver) -> bool,
        before: SystemTime,
    ) -> Result<bool> {
        let Ok(place) = Path::parse(&object.key) else {
            return Ok(false);
        };
        match self.at(&place).await? {
            There::Upload(found) if is_over(&found.handed_over) => {
                self.end(&found.note).await?;
                self.forget(&found.handed_over).await;
                Ok(true)
            }
            There::Strange(note) if object.modified < before => {
                self.delete(&note).await?;
                Ok(false)
            }
            There::Upload(_) | There::Strange(_) | There::Nothing => Ok(false),
        }
    }

    /// Discards what another session has kept. An upload that may be running still loses its note and nothing more.
    pub(crate) async fn give_up(&self, mut found: Found) {
        let key = found.handed_over.key.clone();
        for _ in 0..TRIES {
            let error = match self.end(&found.note).await {
                Ok(()) if found.handed_over.is_running => return,
                Ok(()) => return self.forget(&found.handed_over).await,
                Err(error) => error,
            };
            // Its client may be back, and the upload running.
            found = match self.look_again(&found.note.place, error).await {
                Ok(There::Upload(now)) if now.is_of(&found.handed_over.holder) => *now,
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(key, ?error, "can't remove the note of an unfinished upload");
                    return;
                }
            };
        }
    }

    /// Has the store forget an upload whose note we have removed.
    async fn forget(&self, told: &HandedOver) {
        if let Err(error) = self.abort(told).await {
            let key = &told.key;
            tracing::warn!(key, %error, "can't discard an unfinished upload");
        }
    }

    async fn abort(&self, told: &HandedOver) -> Result<()> {
        let Some(upload) = &told.upload else {
            return Ok(());
        };
        let start = Start {
            key: Path::parse(&told.key)?,
            description: Description::default(),
            base: None,
        };
        self.store.resume(start, upload).await?.abort().await
    }

    async fn put(&self, place: &Path, body: &Body, former: Option<&Note>) -> Result<Note> {
        let precondition = former.map_or(Precondition::Absent, |former| {
            Precondition::Unchanged(former.version.clone())
        });
        let terms = Terms::new(precondition);
        let store = &self.store;
        let put = |terms: Terms| {
            let (body, none) = (body.clone(), Description::default());
            async move { store.put(place, body, none, &terms).await }.boxed()
        };
        let (objects, operation) = (self.store.objects(), Operation::Put);
        let stored = self.conditions.make(operation, objects, place, &terms, put);
        Ok(Note {
            place: place.clone(),
            version: stored.await?.version,
        })
    }

    async fn delete(&self, note: &Note) -> Result<()> {
        let terms = Terms::new(Precondition::Unchanged(note.version.clone()));
        let (store, place) = (&self.store, note.place.as_ref());
        let delete = |terms: Terms| async move { store.delete(place, &terms).await }.boxed();
        let (objects, operation) = (self.store.objects(), Operation::Delete);
        let deleted = self
            .conditions
            .make(operation, objects, &note.place, &terms, delete);
        deleted.await
    }

    /// What is there, after a change was refused: by another's change, or by our own, whose answer was lost.
    async fn look_again(&self, place: &Path, error: Error) -> std::result::Result<There, Refused> {
        if !is_condition(&error) {
            return Err(Refused::Failed(error));
        }
        self.at(place).await.map_err(Refused::Failed)
    }

    async fn at(&self, place: &Path) -> Result<There> {
        let object = self.store.objects().get_opts(place, GetOptions::new());
        let object = match object.await {
            Ok(object) => object,
            Err(Error::NotFound { .. }) => return Ok(There::Nothing),
            Err(error) => return Err(error),
        };
        let note = Note {
            place: place.clone(),
            version: Base::of(&object.meta).version,
        };
        let size = object.meta.size;
        let line = first_line(object.into_stream()).await?;
        let told = line.as_deref().and_then(HandedOver::read);
        let rest = line.map_or(0, |line| line.len() as u64 + 1);
        let is_whole = |told: &HandedOver| {
            self.place_of(&told.key) == *place && rest + told.rest.length() == size
        };
        Ok(match told.filter(is_whole) {
            Some(handed_over) => There::Upload(Box::new(Found {
                handed_over,
                note,
                rest,
            })),
            None => There::Strange(note),
        })
    }

    fn place_of(&self, key: &str) -> Path {
        let hash = digest(&SHA256, key.as_bytes());
        let name: String = hash.as_ref().iter().flat_map(|byte| hex(*byte)).collect();
        self.place.clone().join(name)
    }
}

/// What a sweep has done.
#[derive(Debug, Default)]
pub struct Swept {
    /// How many uploads it has removed.
    pub uploads: usize,
    /// The first thing that it could not do.
    pub error: Option<StorageError>,
}

impl Swept {
    pub(crate) fn failed(&mut self, error: StorageError) {
        self.error.get_or_insert(error);
    }
}

impl Found {
    fn is_of(&self, holder: &Holder) -> bool {
        self.handed_over.holder == *holder
    }

    fn is_of_upload(&self, holder: &Holder) -> bool {
        self.handed_over.holder.upload == holder.upload
    }
}

/// All up to the first line break. `None` if there is none in reach.
async fn first_line(mut stream: BoxStream<'_, Result<Bytes>>) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    while let Some(bytes) = stream.next().await {
        let bytes = bytes?;
        if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            line.extend(&bytes[..end]);
            return Ok((line.len() <= MAX_LINE).then_some(line));
        }
        line.extend(&bytes);
        if line.len() > MAX_LINE {
            break;
        }
    }
    Ok(None)
}

/// Whether something else was there than a change was made on.
fn is_condition(error: &Error) -> bool {
    use Error::{AlreadyExists, NotFound, Precondition};
    matches!(
        error,
        AlreadyExists { .. } | Precondition { .. } | NotFound { .. }
    )
}

fn changes() -> Error {
    Error::Generic {
        store: "the store",
        source: "the note of an upload changes again and again".into(),
    }
}

fn hex(byte: u8) -> [char; 2] {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    [digit(byte >> 4), digit(byte & 15)]
}
