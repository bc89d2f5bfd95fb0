//! Whether an upload was published, when the store's answer does not say.
//!
//! A connection may break after the store has done what it was asked, and the request that is then
//! sent again is refused, because of what the first one did: 404 for an upload that is complete, 412
//! for a condition that held. So every object carries a mark of the upload that it came from, and
//! who is in doubt looks whether the object that is there carries it. Sizes and tags of content could
//! not tell: the same file may come twice, and a store may encrypt.

use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectStore};

use crate::storage::store::causes::find;
use crate::storage::store::mark::Mark;

/// How long looking may take: the client waits for its reply.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// What has become of an upload whose publication seemed to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its object is there.
    Published,
    /// It is not, and will not be.
    NotPublished,
    /// The last try has failed for certain; of those before it nothing could be learnt.
    Unlikely,
    /// It can't be told: the store may have published it, or may be about to.
    Unknown,
}

/// Finds out whether the object at `key` is the one with this mark, after `error`.
///
/// `discarded` says that the store has forgotten the upload at our word, so that it is too late for it
/// to be published, however slow the store may be. Without a mark, the error is believed.
pub(crate) async fn judge(
    store: &dyn ObjectStore,
    key: &Path,
    mark: Option<&Mark>,
    error: &Error,
    discarded: bool,
) -> Verdict {
    let Some(mark) = mark.filter(|_| !is_refusal(error)) else {
        return Verdict::NotPublished;
    };
    let verdict = match look(store, key, mark).await {
        Some(true) => Verdict::Published,
        Some(false) if discarded || !is_silence(error) => Verdict::NotPublished,
        None if discarded || is_failure(error) => Verdict::Unlikely,
        Some(false) | None => Verdict::Unknown,
    };
    tracing::debug!(%key, %error, ?verdict, "looked whether an upload was published");
    verdict
}

/// Whether the object is there, if that can be learnt.
async fn look(store: &dyn ObjectStore, key: &Path, mark: &Mark) -> Option<bool> {
    let head = GetOptions {
        head: true,
        ..GetOptions::default()
    };
    match tokio::time::timeout(LOOK_TIMEOUT, store.get_opts(key, head)).await {
        Ok(Ok(object)) => Some(mark.is_on(&object.attributes)),
        Ok(Err(Error::NotFound { .. })) => Some(false),
        Ok(Err(_)) | Err(_) => None,
    }
}

/// Whether the store turns such a request down before it does anything, however often it is sent.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::NotImplemented { .. }
            | Error::NotSupported { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::InvalidPath { .. }
    )
}

/// Whether the try went out and nothing came back: the store may be at it still.
fn is_silence(error: &Error) -> bool {
    find::<HttpError>(error).is_some_and(|error| error.kind() != HttpErrorKind::Connect)
}

/// Whether the try has done nothing: the store could not be reached, or has failed. A failed condition
/// has done nothing either, but it may have failed because an earlier try did.
fn is_failure(error: &Error) -> bool {
    matches!(error, Error::Generic { .. }) && !is_silence(error)
}

#[cfg(test)]
mod tests {
    use std::io;

    use object_store::aws::{AmazonS3, AmazonS3Builder};
    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt, PutOptions, PutPayload, RetryConfig};

    use super::*;

    const KEY: &str = "a.bin";

    async fn put(store: &InMemory, mark: Option<&Mark>) {
        let mut options = PutOptions::default();
        if let Some(mark) = mark {
            mark.put_on(&mut options.attributes);
        }
        let payload = PutPayload::from_static(b"the same bytes");
        store.put_opts(&KEY.into(), payload, options).await.unwrap();
    }

    fn http(kind: HttpErrorKind) -> Error {
        Error::Generic {
            store: "test",
            source: Box::new(HttpError::new(kind, io::Error::other("broken"))),
        }
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

    fn condition() -> Error {
        Error::Precondition {
            path: KEY.to_owned(),
            source: "412".into(),
        }
    }

    #[tokio::test]
    async fn an_object_is_known_by_its_mark_alone() {
        let (store, mark, error) = (InMemory::new(), Mark::new(), condition());
        let judge = async || judge(&store, &KEY.into(), Some(&mark), &error, false).await;
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
    async fn what_may_still_come_is_unknown_until_it_is_discarded() {
        let (store, mark) = (InMemory::new(), Mark::new());
        let judge = async |kind, discarded| {
            judge(&store, &KEY.into(), Some(&mark), &http(kind), discarded).await
        };
        for silence in [HttpErrorKind::Timeout, HttpErrorKind::Request] {
            assert_eq!(judge(silence, false).await, Verdict::Unknown);
            assert_eq!(judge(silence, true).await, Verdict::NotPublished);
        }
        let unreachable = judge(HttpErrorKind::Connect, false).await;
        assert_eq!(unreachable, Verdict::NotPublished);
    }

    #[tokio::test]
    async fn a_store_that_can_not_be_asked_leaves_doubts() {
        let (nowhere, mark) = (out_of_reach(), Mark::new());
        let judge =
            async |error: &Error| judge(&nowhere, &KEY.into(), Some(&mark), error, false).await;
        let unreachable = http(HttpErrorKind::Connect);
        assert_eq!(judge(&unreachable).await, Verdict::Unlikely);
        assert_eq!(judge(&http(HttpErrorKind::Timeout)).await, Verdict::Unknown);
        assert_eq!(judge(&condition()).await, Verdict::Unknown);
    }

    #[tokio::test]
    async fn a_refusal_and_a_store_without_marks_are_believed() {
        let (store, mark) = (InMemory::new(), Mark::new());
        put(&store, Some(&mark)).await;
        let (path, source) = (KEY.to_owned(), "403".into());
        let refusal = Error::PermissionDenied { path, source };
        let key = KEY.into();
        let refused = judge(&store, &key, Some(&mark), &refusal, false).await;
        assert_eq!(refused, Verdict::NotPublished);
        let unmarked = judge(&store, &key, None, &condition(), false).await;
        assert_eq!(unmarked, Verdict::NotPublished);
    }
}
