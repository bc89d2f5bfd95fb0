//! The end of an upload: published or discarded.

use std::time::Duration;

use object_store::{
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
};

use crate::storage::StorageError;
use crate::storage::write::multipart::Multipart;
use crate::storage::write::part::FullPart;
use crate::storage::write::sink::{Condition, Sink};
use crate::storage::write::verdict::{self, Verdict};

/// How long the client's reply waits for discarding.
const DISCARD_PATIENCE: Duration = Duration::from_secs(2);

impl Sink {
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
        result.map_err(|error| match (error, &self.plan.condition) {
            (StorageError::Exists, Condition::StillAbsent)
            | (StorageError::NotFound, Condition::Unchanged(_)) => StorageError::Conflict,
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
        let mode = match &self.plan.condition {
            Condition::None => PutMode::Overwrite,
            Condition::Absent | Condition::StillAbsent => PutMode::Create,
            Condition::Unchanged(version) => PutMode::Update(version.clone()),
        };
        match self.put_as(payload.clone(), mode).await {
            // Not every store has conditions: look, then write.
            Err(
                object_store::Error::NotImplemented { .. }
                | object_store::Error::NotSupported { .. },
            ) => {
                self.check_condition().await?;
                let result = self.put_as(payload, PutMode::Overwrite).await;
                self.judge_put(result).await
            }
            result => self.judge_put(result).await,
        }
    }

    async fn put_as(&mut self, payload: PutPayload, mode: PutMode) -> object_store::Result<()> {
        let mut options = PutOptions::from(mode);
        options.attributes = self.attributes.clone();
        self.store
            .put_opts(&self.plan.key, payload, options)
            .await?;
        Ok(())
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
        self.check_condition().await?;
        match self.multipart.begun().await?.complete().await {
            Ok(_) => {
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
        let (store, key) = (self.store.as_ref(), &self.plan.key);
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

    /// Looks whether the condition holds, where the store can't be told to.
    async fn check_condition(&mut self) -> Result<(), StorageError> {
        if matches!(self.plan.condition, Condition::None) {
            return Ok(());
        }
        let found = match self.store.head(&self.plan.key).await {
            Ok(meta) => Some(meta),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        match (&self.plan.condition, found) {
            (Condition::None, _) | (Condition::Absent | Condition::StillAbsent, None) => Ok(()),
            (Condition::Absent | Condition::StillAbsent, Some(_)) => Err(StorageError::Exists),
            (Condition::Unchanged(read), Some(meta)) if is_version(read, &meta) => Ok(()),
            (Condition::Unchanged(_), _) => Err(StorageError::Conflict),
        }
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

/// Whether an object is of a version. One that says of itself neither tag nor version can't be told.
fn is_version(version: &UpdateVersion, meta: &ObjectMeta) -> bool {
    match &version.e_tag {
        Some(e_tag) => meta.e_tag.as_ref() == Some(e_tag),
        None => version.version.is_some() && version.version == meta.version,
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
