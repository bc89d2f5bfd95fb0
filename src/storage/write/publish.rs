//! The end of an upload: published or discarded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use object_store::{Attributes, UpdateVersion};

use crate::storage::error::StorageError;
use crate::storage::store::Aborts;
use crate::storage::store::body::{Body, Crc64};
use crate::storage::store::causes::{Unsure, find};
use crate::storage::store::http::attempts::Attempts;
use crate::storage::store::http::command;
use crate::storage::store::mark::{Lineage, Mark};
use crate::storage::store::precondition::Precondition;
use crate::storage::store::stored::{Carried, Stored};
use crate::storage::store::terms::Terms;
use crate::storage::write::budget::Claim;
use crate::storage::write::conditions::Operation;
use crate::storage::write::handovers::Removed;
use crate::storage::write::known::Expected;
use crate::storage::write::multipart::Multipart;
use crate::storage::write::part::FullPart;
use crate::storage::write::verdict::{self, CLOCK_SKEW, Found, Verdict};
use crate::storage::write::writer::ObjectWriter;

/// For so long an upload is tried again that others keep getting ahead of.
const REPLACE_PATIENCE: Duration = Duration::from_secs(30);

/// How long the client's reply waits for discarding.
pub(crate) const DISCARD_PATIENCE: Duration = Duration::from_secs(2);

/// So often something may be at a new name that is gone at the next look. A store that says so again and again is not
/// believed: some take the mark of a deletion for an object.
const MAX_VANISHED: u32 = 3;

/// The content that is published.
enum Content {
    /// Smaller than a part: one request. The claim is held until the store has it.
    Whole { body: Body, _claim: Claim },
    /// Parts that are there.
    Parts,
}

impl Content {
    fn operation(&self) -> Operation {
        match self {
            Self::Whole { .. } => Operation::Put,
            Self::Parts => Operation::Complete,
        }
    }

    /// What an error says that is the answer to the whole change.
    fn failure(&self, error: object_store::Error) -> StorageError {
        match self {
            Self::Whole { .. } => error.into(),
            Self::Parts => failed_completion(error),
        }
    }
}

/// An upload that was published.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// Its checksum, if it is known.
    pub(crate) crc64nvme: Option<u64>,
    /// What its object carries, where the store keeps metadata.
    pub(crate) mark: Option<Mark>,
    /// Which version it is, if the store has said so.
    pub(crate) version: Option<UpdateVersion>,
}

impl ObjectWriter {
    /// Makes the object visible. On failure everything is discarded.
    pub(crate) async fn publish(mut self) -> Result<Published, StorageError> {
        if self.adds_nothing() {
            // What is there is what it would become.
            self.discard().await;
            return Ok(Published::default());
        }
        let result = self.commit().await;
        if result.is_err() {
            self.discard().await;
        }
        let appends = self.plan.only.is_some();
        let published = Published {
            crc64nvme: self.whole().map(Crc64::value),
            mark: self.mark.clone(),
            version: self.published.take(),
        };
        result
            .map(|()| published)
            .map_err(|error| match (error, &self.plan.precondition) {
                // The next try of an append will add to what has come meanwhile.
                (StorageError::Exists, Precondition::Absent) if appends => StorageError::Conflict,
                (StorageError::NotFound, Precondition::Unchanged(_)) => StorageError::Conflict,
                (error, _) => without_bucket(error),
            })
    }

    async fn commit(&mut self) -> Result<(), StorageError> {
        let content = self.last_of_ours().await?;
        let (mut expected, replaces) = (self.expected(&content).await?, self.replaces());
        let attempts = Arc::<Attempts>::default();
        let (began, give_up) = (Utc::now(), Instant::now() + REPLACE_PATIENCE);
        let mut vanished = 0;
        loop {
            let terms = Terms {
                precondition: expected.precondition.clone(),
                attempts: Arc::clone(&attempts),
            };
            let is_new = expected.precondition == Precondition::Absent;
            let error = match self.change(&content, &expected, &terms).await {
                Ok(stored) => {
                    self.remember(&stored.version, &expected);
                    return self.compare(stored, is_new).await;
                }
                Err(error) => error,
            };
            self.known.forget(&self.plan.key);
            // What is found there now is no other's.
            if !replaces && find::<Unsure>(&error).is_some() {
                return Err(StorageError::Unresolved(error));
            }
            let in_doubt = attempts.may_have_acted();
            let is_overtaken = replaces && is_condition(&error);
            if !in_doubt && !is_overtaken {
                return Err(content.failure(error));
            }
            let (again, is_older) = self.look_again(began).await;
            let has_vanished = is_new && is_condition(&error) && again.is_nothing();
            vanished += u32::from(has_vanished);
            match again {
                Again::Published => return self.compare_unseen(is_new).await,
                // Nothing has changed: the store may be at it still.
                Again::On(now)
                    if now.precondition == expected.precondition
                        && !(has_vanished && vanished <= MAX_VANISHED) =>
                {
                    // Where nothing was before either, it may have come and gone.
                    return self.conclude(error, &attempts, is_new, is_new).await;
                }
                Again::On(now)
                    if in_doubt && !is_older && self.may_have_been_there(&now, &expected) =>
                {
                    return Err(StorageError::Unresolved(error));
                }
                Again::On(_) if !replaces => return self.overtaken(error, &attempts).await,
                Again::On(_) if command::is_given_up() => return Err(StorageError::GivenUp),
                Again::On(_) if Instant::now() > give_up => return Err(StorageError::Conflict),
                Again::On(now) => expected = now,
                Again::Unknown(_) if in_doubt => {
                    return self.conclude(error, &attempts, is_new, true).await;
                }
                Again::Unknown(error) => return Err(error.into()),
            }
        }
    }

    /// Whether a try that nobody has heard of may have got through, and others have taken its object away since: then
    /// one more would undo what they did after it.
    fn may_have_been_there(&self, now: &Expected, before: &Expected) -> bool {
        let is_known = now.precondition != Precondition::None;
        self.mark.is_some()
            && self.store.traits().late_requests
            && is_known
            && !now.lineage.goes_on_from(&before.lineage)
    }

    /// What has become of a change that others got ahead of: no try can get through any more.
    async fn overtaken(
        &mut self,
        error: object_store::Error,
        attempts: &Attempts,
    ) -> Result<(), StorageError> {
        match self.plan.precondition {
            Precondition::Absent => Err(StorageError::Exists),
            Precondition::Unchanged(_) => Err(StorageError::Conflict),
            Precondition::None => self.conclude(error, attempts, false, false).await,
        }
    }

    /// The content of an upload that no other session has, and that none can go on with from here on.
    async fn last_of_ours(&mut self) -> Result<Content, StorageError> {
        self.is_held().await?;
        let content = self.content().await?;
        self.tell_no_more().await?;
        Ok(content)
    }

    async fn content(&mut self) -> Result<Content, StorageError> {
        if !matches!(self.multipart, Multipart::None) {
            self.send_rest().await?;
            self.check_sent()?;
            return Ok(Content::Parts);
        }
        self.check_sent()?;
        self.part.fetch().await.map_err(StorageError::Local)?;
        let FullPart { body, claim } = self.take_part();
        Ok(Content::Whole {
            body,
            _claim: claim,
        })
    }

    /// What has to be at the key.
    async fn expected(&mut self, content: &Content) -> Result<Expected, StorageError> {
        let planned = Expected {
            precondition: self.plan.precondition.clone(),
            lineage: self.plan.lineage.clone(),
        };
        Ok(match content {
            Content::Whole { .. } if self.replaces() => self.known.at(&self.plan.key),
            // Next to the requests of the parts one more is little, and a completion that is refused is dear.
            Content::Parts if self.replaces() => match self.look_again(Utc::now()).await.0 {
                Again::On(expected) => expected,
                Again::Published | Again::Unknown(_) => planned,
            },
            Content::Parts | Content::Whole { .. } => planned,
        })
    }

    async fn change(
        &mut self,
        content: &Content,
        expected: &Expected,
        terms: &Terms,
    ) -> object_store::Result<Stored> {
        let (conditions, objects) = (
            Arc::clone(&self.conditions),
            Arc::clone(self.store.objects()),
        );
        let (key, operation) = (self.plan.key.clone(), content.operation());
        let ready = conditions.ready(operation, &objects, &key, terms).await?;
        let mut changed = self.change_on(content, expected, &ready.terms).await;
        if conditions.may_be_refused(operation, &ready.terms, &changed) {
            // A store that knows no conditions says so again.
            changed = self.change_on(content, expected, &ready.terms).await;
        }
        if !conditions.may_be_refused(operation, &ready.terms, &changed) {
            return changed;
        }
        drop(ready);
        let _held = conditions.look(&objects, &key, terms).await?;
        let without = terms.without_precondition();
        let changed = self.change_on(content, expected, &without).await;
        conditions.are_refused(operation, changed)
    }

    async fn change_on(
        &mut self,
        content: &Content,
        expected: &Expected,
        terms: &Terms,
    ) -> object_store::Result<Stored> {
        let whole = self.whole();
        let Content::Whole { body, .. } = content else {
            return match self.multipart.begun().await {
                Ok(upload) => upload.publish(terms, whole).await,
                Err(_) => Err(gone()),
            };
        };
        let mut description = self.description.clone();
        if self.mark.is_some() {
            expected.lineage.put_on(&mut description.attributes);
            Carried::put_on(body.crc64, &mut description.attributes);
        }
        let (key, body) = (&self.plan.key, body.clone());
        self.store.put(key, body, description, terms).await
    }

    fn remember(&mut self, version: &UpdateVersion, expected: &Expected) {
        self.multipart = Multipart::None;
        self.published = Some(version.clone());
        if let Some(mark) = &self.mark {
            let lineage = expected.lineage.then(mark);
            self.known.note(&self.plan.key, version, &lineage);
        }
    }

    /// What is at the key, after something else was found there than expected, and whether that has been there since
    /// before a change of ours `began`: then no try of it was ever there.
    async fn look_again(&mut self, began: DateTime<Utc>) -> (Again, bool) {
        let store = self.store.objects().as_ref();
        let found = verdict::look(store, &self.plan.key).await;
        let is_older =
            matches!(&found, Ok(Found::Object { modified, .. }) if *modified < began - CLOCK_SKEW);
        let again = match found {
            Ok(Found::Object {
                version,
                attributes,
                ..
            }) if self.is_ours(&attributes) => {
                if self
                    .mark
                    .as_ref()
                    .is_some_and(|mark| mark.is_on(&attributes))
                {
                    self.published = Some(version.clone());
                }
                // Who replaces it next need not be in doubt again.
                let lineage = Lineage::after(&attributes);
                self.known.note(&self.plan.key, &version, &lineage);
                Again::Published
            }
            Ok(found) => Again::On(found.into()),
            // Credentials that may only write: it is replaced whatever it is.
            Err(object_store::Error::PermissionDenied { .. }) => Again::On(Expected {
                precondition: Precondition::None,
                lineage: Lineage::default(),
            }),
            Err(error) => Again::Unknown(error),
        };
        (again, is_older)
    }

    fn is_ours(&self, attributes: &Attributes) -> bool {
        let mark = self.mark.as_ref();
        mark.is_some_and(|mark| mark.is_on_or_before(attributes))
    }

    /// What a publication has done that looks like a failure. `may_be_gone` says that a try may have got through, and
    /// others have taken its object away since: then nothing at the key means nothing.
    async fn conclude(
        &mut self,
        error: object_store::Error,
        attempts: &Attempts,
        is_new: bool,
        may_be_gone: bool,
    ) -> Result<(), StorageError> {
        let in_parts = !matches!(self.multipart, Multipart::None);
        let mut verdict = self.verdict(attempts, false).await;
        let mut discarded = false;
        if verdict != Verdict::Published && in_parts {
            discarded = self.discard().await;
            verdict = self.verdict(attempts, discarded).await;
        }
        match verdict {
            Verdict::Published => {
                self.multipart = Multipart::None;
                // For the version, which nothing else depends on.
                let _ = self.look_again(Utc::now()).await;
                self.compare_unseen(is_new).await
            }
            Verdict::NotPublished
                if may_be_gone
                    && !discarded
                    && attempts.may_have_acted()
                    && self.store.traits().late_requests =>
            {
                Err(StorageError::Unresolved(error))
            }
            Verdict::NotPublished if in_parts => Err(failed_completion(error)),
            Verdict::NotPublished => Err(error.into()),
            Verdict::Unknown => Err(StorageError::Unresolved(error)),
        }
    }

    async fn verdict(&mut self, attempts: &Attempts, discarded: bool) -> Verdict {
        let (store, key) = (self.store.objects().as_ref(), &self.plan.key);
        verdict::judge(store, key, self.mark.as_ref(), attempts, discarded).await
    }

    /// Takes back what has gone up; what can't be taken back no reader sees. The client does not
    /// wait for a store that is slow to forget, but the gateway's end does.
    ///
    /// Whether the store has said that it has forgotten it.
    pub(crate) async fn discard(&mut self) -> bool {
        self.parts_in_flight.shutdown().await;
        let multipart = std::mem::replace(&mut self.multipart, Multipart::None);
        let telling = self.telling.take();
        let telling = telling.filter(|telling| !telling.is_ours_alone());
        self.is_shared |= telling.is_some();
        if matches!(multipart, Multipart::None) && telling.is_none() {
            return true;
        }
        let (key, running) = (self.plan.key.clone(), self.running.clone());
        let forgetting = tokio::spawn(async move {
            let is_ours = match telling {
                Some(mut telling) => matches!(telling.remove().await, Ok(Removed::Ours)),
                None => true,
            };
            // Whoever has it now needs its parts.
            let forgotten = is_ours && multipart.forget(&key).await;
            drop(running);
            forgotten
        });
        // Whether it is done by then or not, and however it ends, is in the log.
        let forgotten = tokio::time::timeout(DISCARD_PATIENCE, forgetting).await;
        matches!(forgotten, Ok(Ok(true))) && self.store.traits().aborts == Aborts::Final
    }
}

/// What a look at the key of an upload has found that wants to replace it.
enum Again {
    /// The upload's own object: an earlier try got through.
    Published,
    /// Something else.
    On(Expected),
    /// The store does not tell.
    Unknown(object_store::Error),
}

impl Again {
    fn is_nothing(&self) -> bool {
        matches!(self, Self::On(now) if now.precondition == Precondition::Absent)
    }
}

fn is_condition(error: &object_store::Error) -> bool {
    use object_store::Error::{AlreadyExists, Precondition};
    matches!(error, AlreadyExists { .. } | Precondition { .. })
}

fn gone() -> object_store::Error {
    object_store::Error::Generic {
        store: "the store",
        source: "the upload did not begin".into(),
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
