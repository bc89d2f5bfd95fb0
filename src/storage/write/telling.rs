//! Tells other gateways how far an upload is, so that one of them can go on with it if this one is killed.
//!
//! That costs a request, so it is done at the end of a part, and now and then. What is told is what the store has: whole
//! parts from the first on, and only once the client has sent more than that. A client that has sent all, and finds as
//! much kept, would think that its file is there.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::FutureExt;
use object_store::Error;
use object_store::path::Path;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::storage::store::body::Crc64;
use crate::storage::store::mark::Mark;
use crate::storage::write::handover::{
    HandedOver, Holder, Owner, Progress, ends_after, milliseconds,
};
use crate::storage::write::handovers::{Handovers, Note, Refused, Removed};

/// An upload writes a note no more often. A shorter one is sent again in as long.
const INTERVAL: Duration = Duration::from_secs(2);

/// For so long an upload that is to be published or discarded waits for its note to be written.
const PATIENCE: Duration = Duration::from_secs(2);

/// A note costs at most this share of the bytes that are sent before it: those of many parts are long.
const SHARE_OF_NOTES: u64 = 100;

/// What a note takes besides its parts.
const NOTE_WITHOUT_PARTS: u64 = 512;

/// The note of one upload: what it says, and what is known of it.
#[derive(Debug)]
pub(crate) struct Telling {
    handovers: Handovers,
    owner: Owner,
    holder: Holder,
    key: Path,
    window: Duration,
    /// Whether nothing is at the name, as far as it was looked for.
    is_new: bool,
    told: Told,
    writing: Option<JoinHandle<Result<Note, Refused>>>,
    /// What is told as soon as the store has it.
    next: Option<Progress>,
    /// When something was told, or the upload began.
    last: Instant,
    /// Whether there may have been a note of it.
    was_told: bool,
    /// A note that nobody waits for any more may be written yet.
    is_late: bool,
    /// When the upload began, in milliseconds since 1970.
    begun: u64,
    /// How far the upload has to be for the next note.
    next_from: u64,
    /// Another session had the upload before.
    is_taken_over: bool,
    state: State,
}

/// What is known of the note.
#[derive(Debug)]
enum Told {
    Nothing,
    /// It is there.
    Note(Note),
    /// The store has failed. It may be there, or this one before it.
    Unsure(Option<Note>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Nobody else may go on with the upload, so nothing is told.
    Closed,
    /// Its note was removed by another: whoever had gone on with it before that may be at it still.
    Displaced,
    /// Another session goes on with the upload: it is not ours any more.
    TakenOver,
}

/// Another session goes on with the upload.
#[derive(Debug)]
pub(crate) struct TakenOver;

impl Telling {
    /// An upload that begins. `is_new` says that nothing was found at its name.
    pub(crate) fn new(
        handovers: Handovers,
        owner: Owner,
        mark: Mark,
        key: Path,
        window: Duration,
        is_new: bool,
    ) -> Self {
        Self {
            handovers,
            owner,
            holder: Holder::of(mark),
            key,
            window,
            is_new,
            told: Told::Nothing,
            writing: None,
            next: None,
            last: Instant::now(),
            was_told: false,
            is_late: false,
            begun: milliseconds(SystemTime::now()),
            next_from: 0,
            is_taken_over: false,
            state: State::Open,
        }
    }

    /// Goes on with another session's upload, of which there is this note.
    pub(crate) fn takes_over(&mut self, mark: Mark, note: Note, begun: u64) {
        self.begun = begun;
        (self.holder, self.told) = (Holder::of(mark), Told::Note(note));
        (self.was_told, self.is_taken_over) = (true, true);
    }

    /// A client has come back.
    pub(crate) fn goes_on(&mut self) {
        // It is gone on with only where nothing was found.
        (self.is_new, self.last) = (true, Instant::now());
    }

    /// When the upload began, in milliseconds since 1970.
    pub(crate) fn begun(&self) -> u64 {
        self.begun
    }

    /// Whether there may have been a note of it.
    pub(crate) fn was_told(&self) -> bool {
        self.was_told
    }

    /// Whether nobody but this session can have the upload: there is no note, and no other has removed one.
    pub(crate) fn is_ours_alone(&self) -> bool {
        let has_lost_it = matches!(self.state, State::Displaced | State::TakenOver);
        self.writing.is_none() && matches!(self.told, Told::Nothing) && !has_lost_it
    }

    /// Whether another has removed its note.
    pub(crate) fn is_displaced(&self) -> bool {
        self.state == State::Displaced
    }

    /// Whether an object with the mark of this upload may be another session's, after its note has been removed so.
    pub(crate) fn is_shared(&self, removed: Removed) -> bool {
        self.is_taken_over || self.was_told && removed == Removed::Gone
    }

    /// A part has gone up.
    pub(crate) fn sent(&mut self, progress: Progress) {
        let is_time = self.last.elapsed() >= INTERVAL && progress.sum.length() >= self.next_from;
        if self.state == State::Open && self.next.is_none() && is_time {
            self.next = Some(progress);
        }
    }

    /// What is to be told now, of an upload that has taken so many bytes.
    pub(crate) fn due(&mut self, taken: u64) -> Result<Option<Progress>, TakenOver> {
        self.look();
        match self.state {
            State::TakenOver => Err(TakenOver),
            State::Closed | State::Displaced => Ok(None),
            State::Open if self.writing.is_some() => Ok(None),
            State::Open => Ok(self.next.filter(|next| next.sum.length() < taken)),
        }
    }

    /// Tells it while the upload goes on.
    pub(crate) fn tell(&mut self, progress: Progress, upload: String) {
        let cost = NOTE_WITHOUT_PARTS + upload.len() as u64;
        self.next_from = progress.sum.length() + cost * SHARE_OF_NOTES;
        let told = self.handed_over(progress, Some(upload), Crc64::empty(), true);
        let (former, may_write) = (self.former(), self.is_new);
        (self.next, self.last) = (None, Instant::now());
        let (handovers, key) = (self.handovers.clone(), self.key.clone());
        self.told = Told::Unsure(former.clone());
        self.was_told |= may_write;
        self.writing = Some(tokio::spawn(async move {
            if !may_write && !handovers.is_absent(&key).await.map_err(Refused::Failed)? {
                return Err(Refused::NotNew);
            }
            handovers.write(&told, &[], former).await
        }));
    }

    /// Tells all, of an upload that is kept or gone on with, and waits for it.
    pub(crate) async fn tell_all(
        &mut self,
        progress: Progress,
        upload: Option<String>,
        rest: (Crc64, Vec<Bytes>),
        is_running: bool,
    ) -> Result<(), TakenOver> {
        self.settle().await?;
        let told = self.handed_over(progress, upload, rest.0, is_running);
        if self.state == State::Open && told.size() > 0 {
            self.was_told = true;
            let written = self.handovers.write(&told, &rest.1, self.former()).await;
            self.take(written);
        }
        self.settle().await
    }

    /// Removes the note. Where that fails, others may go on with the upload still.
    pub(crate) async fn remove(&mut self) -> Result<Removed, Refused> {
        self.settle_soon().await?;
        let removed = self.remove_told().await;
        match &removed {
            Ok(Removed::Ours) => (self.state, self.told) = (State::Closed, Told::Nothing),
            Ok(Removed::Gone) | Err(Refused::Displaced | Refused::NotNew) => {
                (self.state, self.told) = (State::Displaced, Told::Nothing);
            }
            Err(Refused::TakenOver) => self.state = State::TakenOver,
            Err(Refused::Failed(error)) => {
                let key = &self.key;
                tracing::warn!(%key, %error, "can't remove the note of an upload");
            }
        }
        removed
    }

    async fn remove_told(&self) -> Result<Removed, Refused> {
        let note = match &self.told {
            Told::Nothing if self.state == State::Displaced => None,
            Told::Nothing => return Ok(Removed::Ours),
            Told::Note(note) => Some(note.clone()),
            Told::Unsure(_) => self.handovers.find(&self.holder, &self.key).await?,
        };
        match note {
            Some(note) => self.handovers.remove(&self.holder, &note).await,
            None if self.is_late => self.handovers.keep_out(&self.holder, &self.key).await,
            None => Ok(Removed::Gone),
        }
    }

    /// Whether the upload is this session's still: the store is asked for the note. Nobody has gone on with an upload
    /// that was told to nobody.
    pub(crate) async fn is_held(&mut self) -> Result<bool, Refused> {
        self.settle_soon().await?;
        let was_there = match &self.told {
            Told::Nothing => return Ok(self.state != State::Displaced),
            Told::Note(note) if self.is_there(note).await? => return Ok(true),
            Told::Note(_) | Told::Unsure(Some(_)) => true,
            Told::Unsure(None) => false,
        };
        match self.handovers.find(&self.holder, &self.key).await {
            Ok(Some(note)) => self.told = Told::Note(note),
            Ok(None) if was_there => {
                (self.state, self.told) = (State::Displaced, Told::Nothing);
                return Ok(false);
            }
            Ok(None) => {}
            Err(refused) => {
                if matches!(refused, Refused::TakenOver) {
                    self.state = State::TakenOver;
                }
                return Err(refused);
            }
        }
        Ok(true)
    }

    async fn is_there(&self, note: &Note) -> Result<bool, Refused> {
        self.handovers.is_there(note).await.map_err(Refused::Failed)
    }

    /// The note, if it is there for certain.
    pub(crate) fn note(&self) -> Option<&Note> {
        match &self.told {
            Told::Note(note) => Some(note),
            Told::Nothing | Told::Unsure(_) => None,
        }
    }

    /// Waits until it is known what others have been told.
    async fn settle(&mut self) -> Result<(), TakenOver> {
        if let Some(writing) = self.writing.take() {
            let written = writing.await;
            self.ended(written);
        }
        match self.state {
            State::TakenOver => Err(TakenOver),
            State::Open | State::Closed | State::Displaced => Ok(()),
        }
    }

    /// The same, of an upload whose client waits.
    async fn settle_soon(&mut self) -> Result<(), Refused> {
        if let Some(writing) = &mut self.writing
            && let Ok(written) = tokio::time::timeout(PATIENCE, &mut *writing).await
        {
            self.writing = None;
            self.ended(written);
        }
        if let Some(writing) = self.writing.take() {
            writing.abort();
            self.is_late = true;
        }
        self.settle().await.map_err(|_| Refused::TakenOver)
    }

    /// The same without waiting.
    fn look(&mut self) {
        if let Some(writing) = &mut self.writing
            && let Some(written) = writing.now_or_never()
        {
            self.writing = None;
            self.ended(written);
        }
    }

    fn ended(&mut self, written: Result<Result<Note, Refused>, tokio::task::JoinError>) {
        if let Ok(written) = written {
            self.take(written);
        }
    }

    fn take(&mut self, written: Result<Note, Refused>) {
        match written {
            // What is found from now on may be there for a moment only.
            Ok(note) => (self.told, self.was_told, self.is_new) = (Told::Note(note), true, true),
            Err(Refused::TakenOver) => self.state = State::TakenOver,
            Err(Refused::Displaced) => (self.state, self.told) = (State::Displaced, Told::Nothing),
            Err(Refused::NotNew) => {
                self.state = State::Closed;
                if !self.was_told {
                    self.told = Told::Nothing;
                }
            }
            Err(Refused::Failed(error)) => {
                self.was_told = true;
                let (key, former) = (&self.key, self.former());
                tracing::warn!(%key, %error, "can't let other gateways know of an upload");
                if former.is_none() && matches!(error, Error::PermissionDenied { .. }) {
                    (self.state, self.told) = (State::Closed, Told::Nothing);
                } else {
                    self.told = Told::Unsure(former);
                }
            }
        }
    }

    fn former(&self) -> Option<Note> {
        match &self.told {
            Told::Nothing => None,
            Told::Note(note) => Some(note.clone()),
            Told::Unsure(former) => former.clone(),
        }
    }

    fn handed_over(
        &self,
        progress: Progress,
        upload: Option<String>,
        rest: Crc64,
        is_running: bool,
    ) -> HandedOver {
        HandedOver {
            owner: self.owner.clone(),
            key: self.key.to_string(),
            begun: self.begun,
            part_size: self.handovers.part_size(),
            until: ends_after(self.window),
            holder: self.holder.clone(),
            is_running,
            progress,
            upload,
            rest,
        }
    }
}
