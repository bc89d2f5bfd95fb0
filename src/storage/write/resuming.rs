//! How an upload is handed over to another gateway, and taken over from one.

use bytes::Bytes;
use futures::TryStreamExt;

use crate::storage::error::StorageError;
use crate::storage::store::body::{Body, Crc64, Summing};
use crate::storage::write::handovers::{Found, Handovers, Note, Refused};
use crate::storage::write::multipart::Multipart;
use crate::storage::write::telling::{TakenOver, Telling};
use crate::storage::write::writer::ObjectWriter;

impl ObjectWriter {
    /// Tells other gateways how far it is, if it is time to.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if another session goes on with this upload.
    pub(crate) fn tell(&mut self) -> Result<(), StorageError> {
        let taken = self.size();
        let Some(telling) = &mut self.telling else {
            return Ok(());
        };
        let due = telling.due(taken).map_err(|_| StorageError::Conflict)?;
        if let (Some(progress), Multipart::Begun(upload)) = (due, &self.multipart)
            && let Some(upload) = upload.hand_over(progress.parts)
        {
            telling.tell(progress, upload);
        }
        Ok(())
    }

    /// Tells other gateways of an upload that is parked, or gone on with. Nothing, if no other can go on with it.
    pub(crate) async fn tell_all(&mut self, is_running: bool) -> Result<(), TakenOver> {
        let progress = self.progress();
        let upload = match &self.multipart {
            Multipart::None if progress.parts == 0 => None,
            Multipart::Begun(upload) => upload.hand_over(progress.parts),
            Multipart::None | Multipart::Beginning(_) => return Ok(()),
        };
        if upload.is_none() && progress.parts > 0 {
            return Ok(());
        }
        let rest = self.rest_to_tell(is_running);
        let mut sum = Summing::default();
        for chunk in &rest {
            sum.add(chunk);
        }
        match &mut self.telling {
            Some(telling) => {
                let rest = (sum.sum(), rest);
                telling.tell_all(progress, upload, rest, is_running).await
            }
            None => Ok(()),
        }
    }

    /// Those bytes in no part that others are told. What is on disk stays there: others begin where the parts end. Of an
    /// upload that goes on, they are soon in a part, and are not sent twice for that.
    fn rest_to_tell(&self, is_running: bool) -> Vec<Bytes> {
        if is_running && self.progress().parts > 0 {
            return Vec::new();
        }
        self.part.chunks_in_memory().unwrap_or_default()
    }

    /// Others can't go on with it from here on.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if another session goes on with this upload, or the store's, which leaves the note to
    /// others.
    pub(crate) async fn tell_no_more(&mut self) -> Result<(), StorageError> {
        let Some(telling) = &mut self.telling else {
            return Ok(());
        };
        let removed = telling.remove().await.map_err(refusal)?;
        self.is_shared = telling.is_shared(removed);
        Ok(())
    }

    /// Whether the upload is this session's still. It is asked before something goes up that another session may have
    /// sent otherwise: a part that is not full has the same number there.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if another session goes on with this upload.
    pub(crate) async fn is_held(&mut self) -> Result<bool, StorageError> {
        match &mut self.telling {
            Some(telling) => telling.is_held().await.map_err(refusal),
            None => Ok(true),
        }
    }

    /// Whether another has removed its note, so that nobody knows who has it.
    pub(crate) fn is_displaced(&self) -> bool {
        self.telling.as_ref().is_some_and(Telling::is_displaced)
    }

    /// When it began; `None` for one that no other gateway can go on with.
    pub(crate) fn begun(&self) -> Option<u64> {
        self.telling.as_ref().map(Telling::begun)
    }

    /// Whether there may have been a note of it.
    pub(crate) fn was_told(&self) -> bool {
        self.telling.as_ref().is_some_and(Telling::was_told)
    }

    /// Goes on with what another session has handed over. This upload was begun for the same key, and has taken
    /// nothing. It is ours only in the end: until then nothing is sent.
    pub(crate) async fn take_over(
        &mut self,
        handovers: &Handovers,
        found: Found,
    ) -> Result<(), StorageError> {
        let told = &found.handed_over;
        let mark = told.holder.upload.clone();
        mark.put_on(&mut self.description.attributes);
        self.mark = Some(mark.clone());
        if let Some(upload) = &told.upload {
            let resumed = self.store.resume(self.start(None), upload).await?;
            if resumed.hand_over(told.progress.parts).is_none() {
                return Err(StorageError::Corrupt("an unfinished upload".to_owned()));
            }
            self.multipart = Multipart::Begun(resumed);
        }
        self.go_on_after(told.progress);
        self.take_rest(handovers, &found).await?;
        if let Some(telling) = &mut self.telling {
            telling.takes_over(mark, found.note, found.handed_over.begun);
        }
        self.claim().await
    }

    /// Makes an upload ours that was kept: whoever else wants it finds that it has been taken.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if another has it. After any other it may be claimed again.
    pub(crate) async fn claim(&mut self) -> Result<(), StorageError> {
        let has_note = |writer: &Self| {
            let telling = writer.telling.as_ref();
            telling.is_some_and(|telling| !telling.is_ours_alone())
        };
        if !has_note(self) {
            return Ok(());
        }
        match self.tell_all(true).await {
            Ok(()) if self.note().is_some() => Ok(()),
            Ok(()) if !self.is_displaced() => {
                Err(StorageError::Store(object_store::Error::Generic {
                    store: "the store",
                    source: "it does not tell whose the upload is".into(),
                }))
            }
            Ok(()) | Err(TakenOver) => Err(StorageError::Conflict),
        }
    }

    /// Its note, if it is there for certain.
    pub(crate) fn note(&self) -> Option<&Note> {
        self.telling.as_ref()?.note()
    }

    /// Leaves it to whoever has it now.
    pub(crate) fn let_go(&mut self) {
        self.telling = None;
        self.parts_in_flight.abort_all();
        self.multipart = Multipart::None;
    }

    async fn take_rest(
        &mut self,
        handovers: &Handovers,
        found: &Found,
    ) -> Result<(), StorageError> {
        let told = found.handed_over.rest;
        if told.length() > 0 {
            let mut stream = handovers.rest_of(found).await?;
            let mut sum = Crc64::empty();
            while let Some(bytes) = stream.try_next().await? {
                sum = sum.then(Body::from(bytes.clone()).crc64);
                if sum.length() > told.length() {
                    break;
                }
                self.write_all(bytes).await?;
            }
            if sum != told {
                return Err(StorageError::Corrupt("an unfinished upload".to_owned()));
            }
        }
        self.is_known();
        Ok(())
    }
}

/// What a note that is not as it was to be says of its upload.
fn refusal(refused: Refused) -> StorageError {
    match refused {
        Refused::Failed(error) => StorageError::Store(error),
        Refused::TakenOver | Refused::Displaced | Refused::NotNew => StorageError::Conflict,
    }
}
