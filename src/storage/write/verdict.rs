//! Whether an upload was published, when the store's answer does not say.
//!
//! A connection may break after the store has done what it was asked, and the request that is then
//! sent again is refused, because of what the first one did: 404 for an upload that is complete, 412
//! for a condition that held, 403 because a token has expired since. So every object carries a mark of the upload that
//! it came from, and who is in doubt looks whether the object that is there carries it. Sizes and tags of content could
//! not tell: the same file may come twice, and a store may encrypt.

use std::time::Duration;

use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{Attributes, Error, GetOptions, ObjectStore, UpdateVersion};

use crate::storage::store::http::attempts::Attempts;
use crate::storage::store::mark::Mark;

/// How long looking may take: the client waits for its reply.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// By so much the store's clock and ours may differ. S3 and Azure refuse requests that are further off.
pub(crate) const CLOCK_SKEW: chrono::Duration = chrono::Duration::minutes(15);

/// What has become of an upload whose publication seemed to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its object is there, or was and has been replaced since.
    Published,
    /// It is not, and will not be.
    NotPublished,
    /// It can't be told: the store may have published it, or may be about to.
    Unknown,
}

/// What is at a key.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// An object.
    Object {
        version: UpdateVersion,
        attributes: Attributes,
        modified: DateTime<Utc>,
    },
    /// Nothing.
    Nothing,
}

/// Finds out whether the object at `key` is the one with this mark, or one after it.
///
/// `discarded` says that the store has forgotten the upload at our word, so that it is too late for it
/// to be published, however slow the store may be. Without a mark, or without a try that may have acted, the last
/// answer is believed.
pub(crate) async fn judge(
    store: &dyn ObjectStore,
    key: &Path,
    mark: Option<&Mark>,
    attempts: &Attempts,
    discarded: bool,
) -> Verdict {
    let Some(mark) = mark.filter(|_| attempts.may_have_acted()) else {
        return Verdict::NotPublished;
    };
    let verdict = match look(store, key).await {
        Ok(Found::Object { attributes, .. }) if mark.is_on_or_before(&attributes) => {
            Verdict::Published
        }
        Ok(_) if discarded || !attempts.may_act_later() => Verdict::NotPublished,
        Ok(_) | Err(_) => Verdict::Unknown,
    };
    tracing::debug!(%key, ?verdict, "looked whether an upload was published");
    verdict
}

/// What is at a key, if the store tells in time.
pub(crate) async fn look(store: &dyn ObjectStore, key: &Path) -> object_store::Result<Found> {
    let head = store.get_opts(key, GetOptions::new().with_head(true));
    match tokio::time::timeout(LOOK_TIMEOUT, head).await {
        Ok(Ok(object)) => Ok(Found::Object {
            version: UpdateVersion {
                e_tag: object.meta.e_tag,
                version: object.meta.version,
            },
            attributes: object.attributes,
            modified: object.meta.last_modified,
        }),
        Ok(Err(Error::NotFound { .. })) => Ok(Found::Nothing),
        Ok(Err(error)) => Err(error),
        Err(late) => Err(Error::Generic {
            store: "the store",
            source: Box::new(late),
        }),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use object_store::aws::{AmazonS3, AmazonS3Builder};
    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt, PutOptions, PutPayload, RetryConfig};

    use super::*;
    use crate::storage::store::mark::Lineage;

    const KEY: &str = "a.bin";

    async fn put(store: &InMemory, mark: Option<&Mark>) {
        let mut options = PutOptions::default();
        if let Some(mark) = mark {
            mark.put_on(&mut options.attributes);
        }
        let payload = PutPayload::from_static(b"the same bytes");
        store.put_opts(&KEY.into(), payload, options).await.unwrap();
    }

    fn out_of_reach() -> AmazonS3 {
        let retry = RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        };
        let store = AmazonS3Builder::new()
            .with_bucket_name("b")
            .with_endpoint("http://127.0.0.1:1")
            .with_allow_http(true)
            .with_skip_signature(true)
            .with_retry(retry);
        store.build().unwrap()
    }

    fn failed() -> Attempts {
        let attempts = Attempts::default();
        attempts.failed_with(StatusCode::INTERNAL_SERVER_ERROR);
        attempts
    }

    fn silent() -> Attempts {
        let attempts = Attempts::default();
        attempts.unanswered();
        attempts
    }

    #[tokio::test]
    async fn an_object_is_known_by_its_mark_alone() {
        let (store, mark, attempts) = (InMemory::new(), Mark::new(), failed());
        let judge = async || judge(&store, &KEY.into(), Some(&mark), &attempts, false).await;
        assert_eq!(judge().await, Verdict::NotPublished);
        put(&store, None).await;
        assert_eq!(judge().await, Verdict::NotPublished);
        put(&store, Some(&Mark::new())).await;
        assert_eq!(judge().await, Verdict::NotPublished);
        put(&store, Some(&mark)).await;
        assert_eq!(judge().await, Verdict::Published);
        store.delete(&KEY.into()).await.unwrap();
        assert_eq!(judge().await, Verdict::NotPublished);
    }

    #[tokio::test]
    async fn an_object_that_was_replaced_was_published() {
        let (store, mark) = (InMemory::new(), Mark::new());
        let mut attributes = Attributes::new();
        mark.put_on(&mut attributes);
        let lineage = Lineage::after(&attributes);
        Mark::new().put_on(&mut attributes);
        lineage.put_on(&mut attributes);
        let payload = PutPayload::from_static(b"another");
        let options = attributes.into();
        store.put_opts(&KEY.into(), payload, options).await.unwrap();
        let verdict = judge(&store, &KEY.into(), Some(&mark), &silent(), false).await;
        assert_eq!(verdict, Verdict::Published);
    }

    #[tokio::test]
    async fn what_may_still_come_is_unknown_until_it_is_discarded() {
        let (store, mark, attempts) = (InMemory::new(), Mark::new(), silent());
        let judge =
            async |discarded| judge(&store, &KEY.into(), Some(&mark), &attempts, discarded).await;
        assert_eq!(judge(false).await, Verdict::Unknown);
        assert_eq!(judge(true).await, Verdict::NotPublished);
    }

    #[tokio::test]
    async fn a_store_that_can_not_be_asked_leaves_doubts() {
        let (nowhere, mark) = (out_of_reach(), Mark::new());
        let judge = async |attempts: &Attempts| {
            judge(&nowhere, &KEY.into(), Some(&mark), attempts, false).await
        };
        assert_eq!(judge(&Attempts::default()).await, Verdict::NotPublished);
        assert_eq!(judge(&failed()).await, Verdict::Unknown);
        assert_eq!(judge(&silent()).await, Verdict::Unknown);
    }

    #[tokio::test]
    async fn a_first_refusal_and_a_store_without_marks_are_believed() {
        let (store, mark) = (InMemory::new(), Mark::new());
        put(&store, Some(&mark)).await;
        let key = KEY.into();
        let refused = judge(&store, &key, Some(&mark), &Attempts::default(), false).await;
        assert_eq!(refused, Verdict::NotPublished);
        let unmarked = judge(&store, &key, None, &silent(), false).await;
        assert_eq!(unmarked, Verdict::NotPublished);
    }
}
