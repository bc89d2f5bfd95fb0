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

use crate::storage::store::LEAST_PART;
use crate::storage::write::sink::Sink;

/// How long who asks waits for what the store is still taking.
const SETTLING: Duration = Duration::from_secs(10);

/// As many are kept: each may hold an open file.
pub(crate) const MOST: usize = 128;

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
    uploads: HashMap<Place, Upload>,
    next: u64,
    /// Bytes that they may hold in memory yet.
    memory: usize,
}

/// Whose upload, and to which key.
type Place = (String, Path);

#[derive(Debug)]
struct Upload {
    /// Tells it from another at the same place.
    number: u64,
    /// Changes when the store has taken all that it was sent.
    settled: watch::Receiver<bool>,
    /// When it is discarded.
    until: Instant,
    /// Bytes in memory that it may hold, or does.
    memory: usize,
    sink: Option<Box<Sink>>,
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
    pub(crate) fn keep(&self, user: &str, mut sink: Sink) {
        // Whoever comes back at once is to wait for this, and not to be turned away.
        sink.plan.only = None;
        let place = (user.to_owned(), sink.plan.key.clone());
        let (settled, settling) = watch::channel(false);
        let begun = self.state().begin(&place, settling, self.0.window);
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
                Some(_) => settle(&mut sink, memory).await,
                None => false,
            };
            // From here on, the end of the process waits for it no more.
            let running = sink.running.take();
            let unwanted = all.state().put(&place, number, sink, kept);
            if let Some(unwanted) = unwanted {
                discard(unwanted).await;
            }
            drop(running);
            settled.send_replace(true);
            if let Some(number) = number {
                all.watch_over(&place, number).await;
            }
        });
    }

    /// How many bytes are safely kept, of an upload of this user's to this key. Who asks has another
    /// whole window.
    pub(crate) async fn size(&self, user: &str, key: &Path) -> Option<u64> {
        let place = (user.to_owned(), key.clone());
        self.wait(&place).await?;
        let mut state = self.state();
        let upload = state.uploads.get_mut(&place)?;
        let size = upload.sink.as_ref()?.size();
        upload.until = Instant::now() + self.0.window;
        Some(size)
    }

    /// The upload, to go on with, if it is still of this size: between asking and taking, its time may
    /// end, or another session put its own there.
    pub(crate) fn take(&self, user: &str, key: &Path, size: u64) -> Option<Sink> {
        let place = (user.to_owned(), key.clone());
        let mut state = self.state();
        let sink = state.uploads.get(&place)?.sink.as_ref()?;
        if sink.size() != size {
            return None;
        }
        state.take(&place)?.sink.map(|sink| *sink)
    }

    /// Discards what is kept, as it begins anew.
    pub(crate) async fn forget(&self, user: &str, key: &Path) {
        let place = (user.to_owned(), key.clone());
        let upload = self.state().take(&place);
        if let Some(sink) = upload.and_then(|upload| upload.sink) {
            discard(*sink).await;
        }
    }

    /// Discards all: the process ends.
    pub(crate) async fn forget_all(&self) {
        let uploads = std::mem::take(&mut self.state().uploads);
        let ends = uploads.into_values().map(async |mut upload| {
            if let Some(sink) = upload.sink {
                return discard(*sink).await;
            }
            // Nobody wants it any more, so it is discarded when it has settled.
            let settled = upload.settled.wait_for(|settled| *settled);
            let _ = tokio::time::timeout(SETTLING, settled).await;
        });
        futures::future::join_all(ends).await;
    }

    /// Discards an upload when its time is over.
    async fn watch_over(&self, place: &Place, number: u64) {
        let upload = loop {
            let until = match self.state().take_expired(place, number) {
                Expired::Gone => return,
                Expired::NotYet(until) => until,
                Expired::Now(upload) => break upload,
            };
            tokio::time::sleep_until(until).await;
        };
        if let Some(sink) = upload.sink {
            let (user, key) = place;
            tracing::info!(user, %key, "the client did not come back, discarding its upload");
            discard(*sink).await;
        }
    }

    /// Waits until the upload there, if there is one, is settled.
    async fn wait(&self, place: &Place) -> Option<()> {
        let mut settled = self.state().uploads.get(place)?.settled.clone();
        let settled = settled.wait_for(|settled| *settled);
        tokio::time::timeout(SETTLING, settled).await.ok()?.ok()?;
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

/// A place that was made for an upload.
struct Begun {
    /// `None` if too many are kept.
    number: Option<u64>,
    /// What was kept there before.
    former: Option<Box<Sink>>,
    /// Bytes that it may hold in memory.
    memory: usize,
}

impl State {
    fn begin(&mut self, place: &Place, settled: watch::Receiver<bool>, window: Duration) -> Begun {
        let former = self.take(place).and_then(|former| former.sink);
        if self.uploads.len() >= MOST {
            tracing::warn!(
                most = MOST,
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
        let memory = self.memory.min(LEAST_PART);
        self.memory -= memory;
        let upload = Upload {
            number: self.next,
            settled,
            until: Instant::now() + window,
            memory,
            sink: None,
        };
        self.uploads.insert(place.clone(), upload);
        Begun {
            number: Some(self.next),
            former,
            memory,
        }
    }

    /// Puts a settled upload into its place. Gives it back if nobody wants it any more.
    fn put(&mut self, place: &Place, number: Option<u64>, sink: Sink, kept: bool) -> Option<Sink> {
        let is_wanted = |upload: &&mut Upload| Some(upload.number) == number;
        let Some(upload) = self.uploads.get_mut(place).filter(is_wanted) else {
            return Some(sink);
        };
        if !kept {
            self.take(place);
            return Some(sink);
        }
        self.memory += upload.memory;
        upload.memory = sink.part.in_memory();
        self.memory -= upload.memory;
        let ((user, key), bytes) = (place, sink.size());
        tracing::info!(user, %key, bytes, "keeping an upload whose client was lost");
        upload.sink = Some(Box::new(sink));
        None
    }

    fn take(&mut self, place: &Place) -> Option<Upload> {
        let upload = self.uploads.remove(place)?;
        self.memory += upload.memory;
        Some(upload)
    }

    fn take_expired(&mut self, place: &Place, number: u64) -> Expired {
        let until = match self.uploads.get(place) {
            Some(upload) if upload.number == number => upload.until,
            _ => return Expired::Gone,
        };
        if Instant::now() < until {
            return Expired::NotYet(until);
        }
        self.take(place).map_or(Expired::Gone, Expired::Now)
    }
}

/// Waits for the store to take what it was sent. Whether there is anything to keep.
async fn settle(sink: &mut Sink, memory: usize) -> bool {
    if sink.is_empty() {
        return false;
    }
    let exists = sink.store.objects().head(&sink.plan.key).await;
    if !matches!(exists, Err(object_store::Error::NotFound { .. })) {
        return false;
    }
    sink.settle(memory).await.unwrap_or_else(|error| {
        let key = &sink.plan.key;
        tracing::warn!(%key, %error, "an upload whose client was lost can't be kept");
        false
    })
}

async fn discard(mut sink: Sink) {
    // Whether it is forgotten is in the log.
    sink.discard().await;
}
