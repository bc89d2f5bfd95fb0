//! The end of an upload: published or discarded.

use std::time::Duration;

use crate::storage::error::StorageError;
use crate::storage::store::precondition::{self, Precondition};
use crate::storage::write::multipart::Multipart;
use crate::storage::write::part::FullPart;
use crate::storage::write::verdict::{self, Verdict};
use crate::storage::write::writer::ObjectWriter;

/// How long the client's reply waits for discarding.
const DISCARD_PATIENCE: Duration = Duration::from_secs(2);

impl ObjectWriter {
    /// Makes the object visible. On failure everything is discarded.
    pub(crate) async fn publish(mut self) -> Result<(), StorageError> {
        if self.adds_nothing() {
            // What is there is what it would become.
            self.discard().await;
            return Ok(());
        }
        let result = match self.multipart {
            Multipart::None => self.put().await,
            _ => self.complete().await,
        };
        if result.is_err() {
            self.discard().await;
        }
        let appends = self.plan.only.is_some();
        result.map_err(|error| match (error, &self.plan.precondition) {
            // The next try of an append will add to what has come meanwhile.
            (StorageError::Exists, Precondition::Absent) if appends => StorageError::Conflict,
            (StorageError::NotFound, Precondition::Unchanged(_)) => StorageError::Conflict,
            (error, _) => without_bucket(error),
        })
    }

    /// Smaller than a part: one request.
    async fn put(&mut self) -> Result<(), StorageError> {
        self.check_sent()?;
        // The claim is held until the store has it.
        self.part.fetch().await.map_err(StorageError::Local)?;
        let FullPart {
            payload,
            claim: _claim,
        } = self.take_part();
        let (key, attributes) = (&self.plan.key, self.attributes.clone());
        let put = self
            .store
            .put(key, payload, attributes, &self.plan.precondition);
        let result = put.await;
        self.judge_put(result).await
    }

    /// What a put has done.
    async fn judge_put(&mut self, result: object_store::Result<()>) -> Result<(), StorageError> {
        let Err(error) = result else { return Ok(()) };
        let verdict = self.verdict(&error, false).await;
        self.conclude(verdict, error, StorageError::from)
    }

    async fn complete(&mut self) -> Result<(), StorageError> {
        self.send_rest().await?;
        self.check_sent()?;
        self.look().await?;
        let precondition = &self.plan.precondition;
        match self.multipart.begun().await?.publish(precondition).await {
            Ok(()) => {
                self.multipart = Multipart::None;
                Ok(())
            }
            Err(error) => self.judge_complete(error).await,
        }
    }

    /// What a completion has done that looks like a failure.
    async fn judge_complete(&mut self, error: object_store::Error) -> Result<(), StorageError> {
        if self.verdict(&error, false).await == Verdict::Published {
            self.multipart = Multipart::None;
            return Ok(());
        }
        let discarded = self.discard().await;
        let verdict = self.verdict(&error, discarded).await;
        self.conclude(verdict, error, failed_completion)
    }

    async fn verdict(&mut self, error: &object_store::Error, discarded: bool) -> Verdict {
        let (store, key) = (self.store.objects().as_ref(), &self.plan.key);
        verdict::judge(store, key, self.mark.as_ref(), error, discarded).await
    }

    fn conclude(
        &mut self,
        verdict: Verdict,
        error: object_store::Error,
        failure: fn(object_store::Error) -> StorageError,
    ) -> Result<(), StorageError> {
        match verdict {
            Verdict::Published => Ok(()),
            Verdict::NotPublished => Err(failure(error)),
            Verdict::Unlikely => {
                let key = &self.plan.key;
                tracing::warn!(%key, %error, "if an earlier try got through, the object may have been published");
                Err(failure(error))
            }
            Verdict::Unknown => Err(StorageError::Unresolved(error)),
        }
    }

    /// Looks whether the precondition holds, where the store can't be told to.
    async fn look(&mut self) -> Result<(), StorageError> {
        let store = self.store.objects().as_ref();
        Ok(precondition::look(store, &self.plan.key, &self.plan.precondition).await?)
    }

    /// Takes back what has gone up; what can't be taken back no reader sees. The client does not
    /// wait for a store that is slow to forget, but the gateway's end does.
    ///
    /// Whether the store has said that it has forgotten it.
    pub(crate) async fn discard(&mut self) -> bool {
        self.parts_in_flight.shutdown().await;
        let multipart = std::mem::replace(&mut self.multipart, Multipart::None);
        if matches!(multipart, Multipart::None) {
            return true;
        }
        let (key, running) = (self.plan.key.clone(), self.running.clone());
        let forgetting = tokio::spawn(async move {
            let forgotten = multipart.forget(&key).await;
            drop(running);
            forgotten
        });
        // Whether it is done by then or not, and however it ends, is in the log.
        let forgotten = tokio::time::timeout(DISCARD_PATIENCE, forgetting).await;
        matches!(forgotten, Ok(Ok(true))) && self.can_be_forgotten()
    }
}

/// A completion that finds nothing has not found its upload: the bucket has taken parts before.
fn failed_completion(error: object_store::Error) -> StorageError {
    match error {
        error @ object_store::Error::NotFound { .. } => StorageError::Store(error),
        error => error.into(),
    }
}

/// A write that finds nothing has found no bucket.
pub(crate) fn without_bucket(error: StorageError) -> StorageError {
    match error {
        StorageError::NotFound => StorageError::NoBucket,
        error => error,
    }
}
