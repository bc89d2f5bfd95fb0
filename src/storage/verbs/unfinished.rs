//! Uploads whose client was lost in the middle, kept for a while for the same user to go on.
//!
//! What is kept is as invisible as what is being sent. It is kept by this process, and gone with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::storage::store::MIN_PART;
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
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    uploads: HashMap<Name, Upload>,
    next: u64,
    /// Bytes that they may hold in memory yet.
    memory: usize,
}

/// The name of an upload: its user, and its key.
type Name = (String, Path);

#[derive(Debug)]
struct Upload {
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
    /// Keeps each upload for `window`, and in memory no more than `memory` bytes.
    pub(crate) fn new(window: Duration, memory: usize) -> Self {
        let state = State {
            uploads: HashMap::new(),
            next: 0,
            memory,
        };
        Self(Arc::new(Shared {
            window,
            state: Mutex::new(state),
        }))
    }

    /// Keeps an upload, unless an object of its name is there.
    pub(crate) fn keep(&self, user: &str, mut writer: ObjectWriter) {
        // Whoever comes back at once is to wait for this, and not to be turned away.
        writer.plan.only = None;
        let name = (user.to_owned(), writer.plan.key.clone());
        let (parked, parking) = watch::channel(false);
        let begun = self.state().begin(&name, parking, self.0.window);
        let all = self.clone();
        tokio::spawn(async move {
            let Begun {
                number,
                former,
                memory,
            } = begun;
            if let Some(former) = former {
                discard(*former).await;
            }
            let kept = match number {
                Some(_) => park(&mut writer, memory).await,
                None => false,
            };
            // From here on, the end of the process waits for it no more.
            let running = writer.running.take();
            let unwanted = all.state().put(&name, number, writer, kept);
            if let Some(unwanted) = unwanted {
                discard(unwanted).await;
            }
            drop(running);
            parked.send_replace(true);
            if let Some(number) = number {
                all.watch_over(&name, number).await;
            }
        });
    }

    /// How many bytes are safely kept, of an upload of this user's to this key. Who asks has another
    /// whole window.
    pub(crate) async fn size(&self, user: &str, key: &Path) -> Option<u64> {
        let name = (user.to_owned(), key.clone());
        self.wait(&name).await?;
        let mut state = self.state();
        let upload = state.uploads.get_mut(&name)?;
        let size = upload.writer.as_ref()?.size();
        upload.until = Instant::now() + self.0.window;
        Some(size)
    }

    /// The upload, to go on with, if it is still of this size: between asking and taking, its time may
    /// end, or another session put its own there.
    pub(crate) fn take(&self, user: &str, key: &Path, size: u64) -> Option<ObjectWriter> {
        let name = (user.to_owned(), key.clone());
        let mut state = self.state();
        let writer = state.uploads.get(&name)?.writer.as_ref()?;
        if writer.size() != size {
            return None;
        }
        state.take(&name)?.writer.map(|writer| *writer)
    }

    /// Discards what is kept, as it begins anew.
    pub(crate) async fn forget(&self, user: &str, key: &Path) {
        let name = (user.to_owned(), key.clone());
        let upload = self.state().take(&name);
        if let Some(writer) = upload.and_then(|upload| upload.writer) {
            discard(*writer).await;
        }
    }

    /// Discards all: the process ends.
    pub(crate) async fn forget_all(&self) {
        let uploads = std::mem::take(&mut self.state().uploads);
        let ends = uploads.into_values().map(async |mut upload| {
            if let Some(writer) = upload.writer {
                return discard(*writer).await;
            }
            // Nobody wants it any more, so it is discarded as soon as it is parked.
            let parked = upload.parked.wait_for(|parked| *parked);
            let _ = tokio::time::timeout(PARKING_TIMEOUT, parked).await;
        });
        futures::future::join_all(ends).await;
    }

    /// Discards an upload when its time is over.
    async fn watch_over(&self, name: &Name, number: u64) {
        let upload = loop {
            let until = match self.state().take_expired(name, number) {
                Expired::Gone => return,
                Expired::NotYet(until) => until,
                Expired::Now(upload) => break upload,
            };
            tokio::time::sleep_until(until).await;
        };
        if let Some(writer) = upload.writer {
            let (user, key) = name;
            tracing::info!(user, %key, "the client did not come back, discarding its upload");
            discard(*writer).await;
        }
    }

    /// Waits until the upload there, if there is one, is parked.
    async fn wait(&self, name: &Name) -> Option<()> {
        let mut parked = self.state().uploads.get(name)?.parked.clone();
        let parked = parked.wait_for(|parked| *parked);
        tokio::time::timeout(PARKING_TIMEOUT, parked)
            .await
            .ok()?
            .ok()?;
        Some(())
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
    /// Bytes that it may hold in memory.
    memory: usize,
}

impl State {
    fn begin(&mut self, name: &Name, parked: watch::Receiver<bool>, window: Duration) -> Begun {
        let former = self.take(name).and_then(|former| former.writer);
        if self.uploads.len() >= MAX_KEPT {
            tracing::warn!(
                most = MAX_KEPT,
                "too many uploads are kept, discarding one more"
            );
            return Begun {
                number: None,
                former,
                memory: 0,
            };
        }
        self.next += 1;
        // The rest of an upload is less than what every store takes as a part.
        let memory = self.memory.min(MIN_PART);
        self.memory -= memory;
        let upload = Upload {
            number: self.next,
            parked,
            until: Instant::now() + window,
            memory,
            writer: None,
        };
        self.uploads.insert(name.clone(), upload);
        Begun {
            number: Some(self.next),
            former,
            memory,
        }
    }

    /// Keeps a parked upload under its name. Gives it back if nobody wants it any more.
    fn put(
        &mut self,
        name: &Name,
        number: Option<u64>,
        writer: ObjectWriter,
        kept: bool,
    ) -> Option<ObjectWriter> {
        let is_wanted = |upload: &&mut Upload| Some(upload.number) == number;
        let Some(upload) = self.uploads.get_mut(name).filter(is_wanted) else {
            return Some(writer);
        };
        if !kept {
            self.take(name);
            return Some(writer);
        }
        self.memory += upload.memory;
        upload.memory = writer.part.in_memory();
        self.memory -= upload.memory;
        let ((user, key), bytes) = (name, writer.size());
        tracing::info!(user, %key, bytes, "keeping an upload whose client was lost");
        upload.writer = Some(Box::new(writer));
        None
    }

    fn take(&mut self, name: &Name) -> Option<Upload> {
        let upload = self.uploads.remove(name)?;
        self.memory += upload.memory;
        Some(upload)
    }

    fn take_expired(&mut self, name: &Name, number: u64) -> Expired {
        let until = match self.uploads.get(name) {
            Some(upload) if upload.number == number => upload.until,
            _ => return Expired::Gone,
        };
        if Instant::now() < until {
            return Expired::NotYet(until);
        }
        self.take(name).map_or(Expired::Gone, Expired::Now)
    }
}

/// Waits for the store to take what it was sent. Whether there is anything to keep.
async fn park(writer: &mut ObjectWriter, memory: usize) -> bool {
    if writer.is_empty() {
        return false;
    }
    let exists = writer.store.objects().head(&writer.plan.key).await;
    if !matches!(exists, Err(object_store::Error::NotFound { .. })) {
        return false;
    }
    writer.park(memory).await.unwrap_or_else(|error| {
        let key = &writer.plan.key;
        tracing::warn!(%key, %error, "an upload whose client was lost can't be kept");
        false
    })
}

async fn discard(mut writer: ObjectWriter) {
    // Whether it is forgotten is in the log.
    writer.discard().await;
}
