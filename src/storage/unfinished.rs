//! Uploads whose client was lost in the middle, kept for a while for the same user to go on.
//!
//! What is kept is as invisible as what is being sent. It is kept by this process, and gone with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::sync::watch;

use super::sink::Sink;

/// How long who asks waits for what the store is still taking.
const SETTLING: Duration = Duration::from_secs(10);

/// The uploads that are kept; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Unfinished(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    window: Duration,
    /// Bytes that all of them may hold in memory.
    memory: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    uploads: HashMap<Place, Upload>,
    next: u64,
}

/// Whose upload, and to which key.
type Place = (String, Path);

#[derive(Debug)]
struct Upload {
    /// Tells it from another at the same place.
    number: u64,
    /// Changes when the store has taken all that it was sent.
    settled: watch::Receiver<bool>,
    sink: Option<Box<Sink>>,
}

impl Unfinished {
    /// Keeps each upload for `window`, and in memory no more than `memory` bytes.
    pub(super) fn new(window: Duration, memory: usize) -> Self {
        Self(Arc::new(Shared {
            window,
            memory,
            state: Mutex::default(),
        }))
    }

    /// Keeps an upload, unless an object of its name is there.
    pub(super) fn keep(&self, user: &str, mut sink: Sink) {
        let place = (user.to_owned(), sink.plan.key.clone());
        let (settled, settling) = watch::channel(false);
        let number = self.begin(&place, settling);
        let all = self.clone();
        tokio::spawn(async move {
            let kept = all.settle(&mut sink).await;
            if let Some(unwanted) = all.put(&place, number, sink, kept) {
                discard(unwanted).await;
            }
            settled.send_replace(true);
            if kept {
                tokio::time::sleep(all.0.window).await;
                all.forget_number(&place, number).await;
            }
        });
    }

    /// How many bytes are safely kept, of an upload of this user's to this key.
    pub(super) async fn size(&self, user: &str, key: &Path) -> Option<u64> {
        let place = (user.to_owned(), key.clone());
        self.wait(&place).await?;
        let state = self.state();
        Some(state.uploads.get(&place)?.sink.as_ref()?.size())
    }

    /// The upload, to go on with.
    pub(super) fn take(&self, user: &str, key: &Path) -> Option<Sink> {
        let place = (user.to_owned(), key.clone());
        let sink = self.state().uploads.remove(&place)?.sink?;
        Some(*sink)
    }

    /// Discards what is kept, as it begins anew.
    pub(super) async fn forget(&self, user: &str, key: &Path) {
        if let Some(sink) = self.take(user, key) {
            discard(sink).await;
        }
    }

    /// Discards all: the process ends.
    pub(super) async fn forget_all(&self) {
        let uploads = std::mem::take(&mut self.state().uploads);
        let sinks = uploads.into_values().filter_map(|upload| upload.sink);
        futures::future::join_all(sinks.map(|sink| discard(*sink))).await;
    }

    fn begin(&self, place: &Place, settled: watch::Receiver<bool>) -> u64 {
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        let upload = Upload {
            number,
            settled,
            sink: None,
        };
        let former = state.uploads.insert(place.clone(), upload);
        drop(state);
        if let Some(sink) = former.and_then(|former| former.sink) {
            tokio::spawn(discard(*sink));
        }
        number
    }

    /// Waits for the store to take what it was sent. Whether there is anything to keep.
    async fn settle(&self, sink: &mut Sink) -> bool {
        if sink.is_empty() {
            return false;
        }
        let exists = sink.store.head(&sink.plan.key).await;
        if !matches!(exists, Err(object_store::Error::NotFound { .. })) {
            return false;
        }
        let memory = self.0.memory.saturating_sub(self.in_memory());
        match sink.settle(memory).await {
            Ok(()) => sink.size() > 0,
            Err(error) => {
                let key = &sink.plan.key;
                tracing::warn!(%key, %error, "an upload whose client was lost can't be kept");
                false
            }
        }
    }

    fn in_memory(&self) -> usize {
        let state = self.state();
        let sinks = state
            .uploads
            .values()
            .filter_map(|upload| upload.sink.as_ref());
        sinks.map(|sink| sink.part.in_memory()).sum()
    }

    /// Puts a settled upload into its place. Gives it back if nobody wants it any more.
    fn put(&self, place: &Place, number: u64, sink: Sink, kept: bool) -> Option<Sink> {
        let mut state = self.state();
        let is_wanted = |upload: &&mut Upload| upload.number == number;
        let Some(upload) = state.uploads.get_mut(place).filter(is_wanted) else {
            return Some(sink);
        };
        if !kept {
            state.uploads.remove(place);
            return Some(sink);
        }
        let (user, key) = place;
        let bytes = sink.size();
        tracing::info!(user, %key, bytes, window = ?self.0.window, "keeping an upload whose client was lost");
        upload.sink = Some(Box::new(sink));
        None
    }

    async fn forget_number(&self, place: &Place, number: u64) {
        let is_it = |state: &State| {
            let upload = state.uploads.get(place);
            upload.is_some_and(|upload| upload.number == number)
        };
        let upload = {
            let mut state = self.state();
            is_it(&state).then(|| state.uploads.remove(place)).flatten()
        };
        if let Some(sink) = upload.and_then(|upload| upload.sink) {
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

async fn discard(mut sink: Sink) {
    // Whether it is forgotten is in the log.
    sink.discard().await;
}
