//! Uploads whose client was lost in the middle, kept for a while for the same client to go on.
//!
//! What is kept is as invisible as what is being sent. It is kept by this process, and a note in the bucket lets others
//! go on with it ([`handovers`](crate::storage::write::handovers)). Where there is a note, nobody goes on with an upload,
//! or gives it up, without having replaced or removed the note first.

mod share;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use object_store::path::Path;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::storage::error::StorageError;
use crate::storage::store::MIN_PART;
use crate::storage::store::mark::Mark;
use crate::storage::write::handover::{Owner, milliseconds};
use crate::storage::write::handovers::{Found, Handovers, Note, Swept};
use crate::storage::write::telling::Telling;
use crate::storage::write::writer::ObjectWriter;

/// How long who asks waits for what the store is still taking.
const PARKING_TIMEOUT: Duration = Duration::from_secs(10);

/// As many are kept: each may hold an open file.
pub(crate) const MAX_KEPT: usize = 128;

/// The uploads that are kept; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Unfinished(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    window: Duration,
    /// What began longer ago is gone on with no more: the sweep, which tells uploads by their age, may find it.
    oldest: Option<Duration>,
    handovers: Handovers,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// By their keys.
    uploads: HashMap<Path, Upload>,
    next: u64,
    /// Bytes that they may hold in memory yet.
    memory: usize,
}

#[derive(Debug)]
struct Upload {
    owner: Owner,
    /// Tells it from another of the same name.
    number: u64,
    /// Changes when the store has taken all that it was sent.
    parked: watch::Receiver<bool>,
    /// When it is discarded.
    until: Instant,
    /// Bytes in memory that it may hold, or does.
    memory: usize,
    writer: Option<Box<ObjectWriter>>,
}

impl Unfinished {
    /// Keeps each upload for `window`, and in memory no more than `memory` bytes. Those that are older than
    /// `sweep_after` are swept.
    pub(crate) fn new(
        window: Duration,
        memory: usize,
        handovers: Handovers,
        sweep_after: Option<Duration>,
    ) -> Self {
        let state = State {
            uploads: HashMap::new(),
            next: 0,
            memory,
        };
        Self(Arc::new(Shared {
            window,
            oldest: sweep_after.map(|age| age.saturating_sub(window)),
            handovers,
            state: Mutex::new(state),
        }))
    }

    /// What more may be held in memory.
    #[cfg(test)]
    pub(crate) fn memory_left(&self) -> usize {
        self.state().memory
    }

    /// Keeps an upload, unless an object of its name is there.
    pub(crate) fn keep(&self, owner: &Owner, mut writer: ObjectWriter) {
        // Whoever comes back at once is to wait for this, and not to be turned away.
        writer.plan.only = None;
        let key = writer.plan.key.clone();
        let (parked, parking) = watch::channel(false);
        let begun = self
            .state()
            .begin(&key, owner.clone(), parking, self.0.window);
        let all = self.clone();
        tokio::spawn(async move {
            let Begun {
                number,
                former,
                given_up,
                memory,
            } = begun;
            if let Some(former) = former {
                discard(*former).await;
            }
            give_up(given_up).await;
            let kept = match number {
                Some(_) => park(&mut writer, memory, &all.0.handovers).await,
                None => false,
            };
            // From here on, the end of the process waits for it no more.
            let running = writer.running.take();
            let unwanted = all.state().put(&key, number, writer, kept);
            if let Some(unwanted) = unwanted {
                discard(*unwanted).await;
                all.state().memory += memory;
            }
            drop(running);
            parked.send_replace(true);
            if let Some(number) = number {
                all.watch_over(&key, number).await;
            }
        });
    }

    /// How many bytes are safely kept, of an upload of this client's to this key. Who asks has another whole window.
    pub(crate) async fn size(&self, owner: &Owner, key: &Path) -> Option<u64> {
        self.wait(key).await;
        self.let_go(key).await;
        if self.is_young(self.state().begun(key))
            && let Some(size) = self.state().size(owner, key, self.0.window)
        {
            return Some(size);
        }
        let found = self.found(owner, key).await?;
        Some(found.handed_over.size())
    }

    /// The upload, to go on with, if it is still of this size: between asking and taking, its time may
    /// end, or another session put its own there. `begin` begins an upload that another process has kept.
    pub(crate) async fn take(
        &self,
        owner: &Owner,
        key: &Path,
        size: u64,
        begin: impl FnOnce() -> ObjectWriter,
    ) -> Option<ObjectWriter> {
        self.wait(key).await;
        let parked = self.state().take_of(owner, key, size);
        match parked {
            Some(parked) => self.claim(key, parked).await,
            None => self.take_over(owner, key, size, begin).await,
        }
    }

    /// Goes on with what this process has kept, unless another session has it.
    async fn claim(&self, key: &Path, mut upload: Upload) -> Option<ObjectWriter> {
        let mut writer = upload.writer.take()?;
        let Err(error) = writer.claim().await else {
            return Some(*writer);
        };
        tracing::info!(%key, %error, "can't go on with an upload that was kept");
        if matches!(error, StorageError::Conflict) {
            writer.let_go();
            return None;
        }
        // The store has failed: the client may come again.
        upload.writer = Some(writer);
        let number = upload.number;
        let PutBack { is_kept, unwanted } = self.state().put_back(key, upload);
        if is_kept {
            let (all, key) = (self.clone(), key.clone());
            tokio::spawn(async move { all.watch_over(&key, number).await });
        }
        give_up(unwanted).await;
        None
    }

    /// Goes on with what another process has kept.
    async fn take_over(
        &self,
        owner: &Owner,
        key: &Path,
        size: u64,
        begin: impl FnOnce() -> ObjectWriter,
    ) -> Option<ObjectWriter> {
        let found = self.found(owner, key).await?;
        if found.handed_over.size() != size {
            return None;
        }
        let (mut writer, note) = (begin(), found.note.clone());
        let Err(error) = writer.take_over(&self.0.handovers, found).await else {
            return Some(writer);
        };
        tracing::info!(%key, %error, "can't go on with an upload that was kept");
        writer.let_go();
        if matches!(
            error,
            StorageError::Corrupt(_) | StorageError::Unsupported(_)
        ) {
            // Its client is to begin anew.
            self.0.handovers.drop_note(&note).await;
        }
        None
    }

    /// What lets others go on with an upload to a key, if they can.
    pub(crate) fn telling(
        &self,
        owner: Owner,
        mark: &Mark,
        key: &Path,
        is_new: bool,
    ) -> Option<Telling> {
        let (handovers, window) = (self.0.handovers.clone(), self.0.window);
        let begin = || {
            Telling::new(
                handovers.clone(),
                owner,
                mark.clone(),
                key.clone(),
                window,
                is_new,
            )
        };
        handovers.are_possible().then(begin)
    }

    /// Discards what this process keeps, whose ever it is, as it begins anew.
    pub(crate) async fn forget(&self, key: &Path) {
        let upload = self.state().take(key);
        if let Some(writer) = upload.and_then(|upload| upload.writer) {
            discard(*writer).await;
        }
    }

    /// Discards what any process keeps, now that the file is there. What began after that is spared.
    pub(crate) async fn forget_everywhere(&self, key: &Path, published: SystemTime) {
        self.forget(key).await;
        if let Some(found) = self.0.handovers.read(key).await
            && found.handed_over.begun <= milliseconds(published)
        {
            self.0.handovers.give_up(found).await;
        }
    }

    /// Removes from the store what nobody came back for, at any gateway.
    pub(crate) async fn sweep(&self, age: Duration) -> Swept {
        self.0.handovers.sweep(self.0.window, age).await
    }

    /// Leaves to other gateways what they can go on with, and discards the rest: the process ends.
    pub(crate) async fn leave_all(&self) {
        let keys: Vec<Path> = self.state().uploads.keys().cloned().collect();
        futures::future::join_all(keys.iter().map(|key| self.wait(key))).await;
        // What is not parked by now is discarded as soon as it is.
        let uploads = std::mem::take(&mut self.state().uploads);
        let writers = uploads.into_values().filter_map(|upload| upload.writer);
        let ends = writers.map(async |writer| match writer.note() {
            Some(_) => {}
            None => discard(*writer).await,
        });
        futures::future::join_all(ends).await;
    }

    /// Discards an upload when its time is over.
    async fn watch_over(&self, key: &Path, number: u64) {
        let upload = loop {
            let until = match self.state().take_expired(key, number) {
                Expired::Gone => return,
                Expired::NotYet(until) => until,
                Expired::Now(upload) => break upload,
            };
            tokio::time::sleep_until(until).await;
        };
        if let Some(writer) = upload.writer {
            let user = upload.owner.user();
            tracing::info!(user, %key, "the client did not come back, discarding its upload");
            discard(*writer).await;
        }
    }

    /// What another process has kept for this client.
    async fn found(&self, owner: &Owner, key: &Path) -> Option<Found> {
        let found = self.0.handovers.read(key).await?;
        let (told, now) = (&found.handed_over, SystemTime::now());
        let is_kept = !told.is_over(now) && self.is_young(Some(told.begun));
        let is_same = told.owner == *owner && told.part_size == self.0.handovers.part_size();
        (is_kept && is_same).then_some(found)
    }

    /// Whether the sweep does not find an upload before its window is over.
    fn is_young(&self, begun: Option<u64>) -> bool {
        let (Some(oldest), Some(begun)) = (self.0.oldest, begun) else {
            return true;
        };
        begun >= milliseconds(SystemTime::now() - oldest)
    }

    /// Lets an upload go that another gateway has taken over.
    async fn let_go(&self, key: &Path) {
        let kept = self.state().note(key);
        if let Some((number, note)) = kept
            && matches!(self.0.handovers.is_there(&note).await, Ok(false))
        {
            self.state().let_go(key, number);
        }
    }

    /// Waits until the upload there, if there is one, is parked.
    async fn wait(&self, key: &Path) {
        let parked = self
            .state()
            .uploads
            .get(key)
            .map(|kept| kept.parked.clone());
        if let Some(mut parked) = parked {
            let parked = parked.wait_for(|parked| *parked);
            let _ = tokio::time::timeout(PARKING_TIMEOUT, parked).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the time of an upload is over.
enum Expired {
    /// It is kept no more.
    Gone,
    NotYet(Instant),
    Now(Upload),
}

/// What was begun for an upload.
struct Begun {
    /// `None` if too many are kept.
    number: Option<u64>,
    /// What was kept there before.
    former: Option<Box<ObjectWriter>>,
    /// What is kept no more, because its user keeps most.
    given_up: Option<Upload>,
    /// Bytes that it may hold in memory.
    memory: usize,
}

/// Whether one more can be kept.
enum Room {
    None,
    /// It can, and this one is kept no more instead.
    Left(Option<Upload>),
}

/// What has become of an upload that was to be kept on.
struct PutBack {
    is_kept: bool,
    /// It, or the one that it has taken the place of.
    unwanted: Option<Upload>,
}

impl State {
    fn begin(
        &mut self,
        key: &Path,
        owner: Owner,
        parked: watch::Receiver<bool>,
        window: Duration,
    ) -> Begun {
        let former = self.take(key).and_then(|former| former.writer);
        let Room::Left(given_up) = self.make_room(&owner) else {
            tracing::warn!(
                most = MAX_KEPT,
                user = owner.user(),
                "too many uploads are kept, discarding one more"
            );
            return Begun {
                number: None,
                former,
                given_up: None,
                memory: 0,
            };
        };
        self.next += 1;
        // The rest of an upload is less than what every store takes as a part.
        let memory = self.memory.min(MIN_PART);
        self.memory -= memory;
        let upload = Upload {
            owner,
            number: self.next,
            parked,
            until: Instant::now() + window,
            memory,
            writer: None,
        };
        self.uploads.insert(key.clone(), upload);
        Begun {
            number: Some(self.next),
            former,
            given_up,
            memory,
        }
    }

    /// Room for one more of this client. Where all is taken, the user who keeps most has the oldest one given up.
    fn make_room(&mut self, owner: &Owner) -> Room {
        if self.uploads.len() < MAX_KEPT {
            return Room::Left(None);
        }
        let kept = self.uploads.iter();
        let kept = kept.map(|(key, upload)| (key, &upload.owner, upload.number));
        let Some(key) = share::to_give_up(kept, owner).cloned() else {
            return Room::None;
        };
        let given_up = self.take(&key);
        if let Some(upload) = &given_up {
            let user = upload.owner.user();
            tracing::warn!(most = MAX_KEPT, user, %key, "too many uploads are kept, discarding one of the user who has most");
        }
        Room::Left(given_up)
    }

    /// Keeps a parked upload under its name. Gives it back if nobody wants it any more; its memory is its caller's then.
    fn put(
        &mut self,
        key: &Path,
        number: Option<u64>,
        writer: ObjectWriter,
        kept: bool,
    ) -> Option<Box<ObjectWriter>> {
        let is_wanted = |upload: &&mut Upload| Some(upload.number) == number;
        let writer = Box::new(writer);
        let Some(upload) = self.uploads.get_mut(key).filter(is_wanted) else {
            return Some(writer);
        };
        if !kept {
            self.take(key);
            return Some(writer);
        }
        self.memory += upload.memory;
        upload.memory = writer.part.in_memory();
        self.memory -= upload.memory;
        let (user, bytes) = (upload.owner.user(), writer.size());
        tracing::info!(user, %key, bytes, "keeping an upload whose client was lost");
        upload.writer = Some(writer);
        None
    }

    /// The size of what is parked for this client.
    fn size(&mut self, owner: &Owner, key: &Path, window: Duration) -> Option<u64> {
        let upload = self.uploads.get_mut(key)?;
        let size = upload.writer.as_ref()?.size();
        if upload.owner != *owner {
            return None;
        }
        upload.until = Instant::now() + window;
        Some(size)
    }

    /// Takes what is parked for this client, if it is of this size.
    fn take_of(&mut self, owner: &Owner, key: &Path, size: u64) -> Option<Upload> {
        let upload = self.uploads.get(key)?;
        let is_that = upload.writer.as_ref()?.size() == size && upload.owner == *owner;
        if !is_that {
            return None;
        }
        self.take(key)
    }

    /// Keeps on what was taken. Gives it back if there is no place for it any more.
    fn put_back(&mut self, key: &Path, upload: Upload) -> PutBack {
        let fits = self.memory >= upload.memory && !self.uploads.contains_key(key);
        let Room::Left(given_up) = (if fits {
            self.make_room(&upload.owner)
        } else {
            Room::None
        }) else {
            return PutBack {
                is_kept: false,
                unwanted: Some(upload),
            };
        };
        self.memory -= upload.memory;
        self.uploads.insert(key.clone(), upload);
        PutBack {
            is_kept: true,
            unwanted: given_up,
        }
    }

    /// When the upload there began; `None` for one that no other gateway can go on with.
    fn begun(&self, key: &Path) -> Option<u64> {
        self.uploads.get(key)?.writer.as_ref()?.begun()
    }

    /// The number of the upload there, and its note.
    fn note(&self, key: &Path) -> Option<(u64, Note)> {
        let upload = self.uploads.get(key)?;
        Some((upload.number, upload.writer.as_ref()?.note()?.clone()))
    }

    /// Lets it go, if it is still there. The store is told nothing: it is another's.
    fn let_go(&mut self, key: &Path, number: u64) {
        if self
            .uploads
            .get(key)
            .is_some_and(|upload| upload.number == number)
        {
            self.take(key);
        }
    }

    /// Takes an upload out. The memory of one that is still being parked is in use until its parking has ended.
    fn take(&mut self, key: &Path) -> Option<Upload> {
        let upload = self.uploads.remove(key)?;
        if upload.writer.is_some() {
            self.memory += upload.memory;
        }
        Some(upload)
    }

    fn take_expired(&mut self, key: &Path, number: u64) -> Expired {
        let until = match self.uploads.get(key) {
            Some(upload) if upload.number == number => upload.until,
            _ => return Expired::Gone,
        };
        if Instant::now() < until {
            return Expired::NotYet(until);
        }
        self.take(key).map_or(Expired::Gone, Expired::Now)
    }
}

/// Waits for the store to take what it was sent, and lets other gateways know of it. Whether it is kept.
async fn park(writer: &mut ObjectWriter, memory: usize, handovers: &Handovers) -> bool {
    let key = writer.plan.key.clone();
    let is_absent = async || handovers.is_absent(&key).await.unwrap_or(false);
    if writer.is_empty() || !is_absent().await {
        return false;
    }
    match settle(writer, memory).await {
        // Whoever has stored the file meanwhile may have looked for the note before it was there.
        Ok(true) => !writer.was_told() || is_absent().await,
        Ok(false) => false,
        Err(error) => {
            tracing::warn!(%key, %error, "an upload whose client was lost can't be kept");
            false
        }
    }
}

async fn settle(writer: &mut ObjectWriter, memory: usize) -> Result<bool, StorageError> {
    if !writer.park(memory).await? {
        return Ok(false);
    }
    let told = writer.tell_all(false).await;
    told.map_err(|_| StorageError::Conflict)?;
    Ok(!writer.is_displaced())
}

/// As at the end of its time. One that is still being parked is discarded by whoever parks it.
async fn give_up(upload: Option<Upload>) {
    if let Some(writer) = upload.and_then(|upload| upload.writer) {
        discard(*writer).await;
    }
}

async fn discard(mut writer: ObjectWriter) {
    // Whether it is forgotten is in the log.
    writer.discard().await;
}
