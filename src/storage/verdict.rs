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
use object_store::{Attribute, Attributes, Error, GetOptions, ObjectStore};

use super::error::find;

/// The user metadata that holds the mark. No hyphen, which Azure would refuse; no underscore, which
/// some proxies drop.
const NAME: &str = "ferryupload";

/// How long looking may take: the client waits for its reply.
const PATIENCE: Duration = Duration::from_secs(10);

/// What tells the object of one upload from that of any other.
#[derive(Debug, Clone)]
pub(super) struct Mark(String);

/// What is at the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The object of this upload.
    Published,
    /// Nothing, or another object.
    NotThere,
    /// It can't be told.
    Unknown,
}

impl Mark {
    /// A mark that no other upload has.
    pub(super) fn new() -> Self {
        let random: u128 = rand::random();
        Self(format!("{random:032x}"))
    }

    /// Has the object carry it.
    pub(super) fn put_on(&self, attributes: &mut Attributes) {
        attributes.insert(Attribute::Metadata(NAME.into()), self.0.clone().into());
    }

    fn is_on(&self, attributes: &Attributes) -> bool {
        let found = attributes.get(&Attribute::Metadata(NAME.into()));
        found.is_some_and(|found| found.as_ref() == self.0)
    }
}

/// Looks whether the object at `key` is the one with this mark.
pub(super) async fn look(store: &dyn ObjectStore, key: &Path, mark: &Mark) -> Verdict {
    let head = GetOptions {
        head: true,
        ..GetOptions::default()
    };
    match tokio::time::timeout(PATIENCE, store.get_opts(key, head)).await {
        Ok(Ok(object)) if mark.is_on(&object.attributes) => Verdict::Published,
        Ok(Ok(_) | Err(Error::NotFound { .. })) => Verdict::NotThere,
        Ok(Err(_)) | Err(_) => Verdict::Unknown,
    }
}

/// Whether the store has turned the request down before it did anything, however often it was sent.
pub(super) fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::NotImplemented { .. }
            | Error::NotSupported { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::InvalidPath { .. }
    )
}

/// Whether the request went out and nothing came back: the store may be at it still.
pub(super) fn is_silence(error: &Error) -> bool {
    find::<HttpError>(error).is_some_and(|error| error.kind() != HttpErrorKind::Connect)
}

#[cfg(test)]
mod tests {
    use std::io;

    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt, PutOptions, PutPayload};

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

    #[tokio::test]
    async fn an_object_is_known_by_its_mark_alone() {
        let (store, mark) = (InMemory::new(), Mark::new());
        let look = async || look(&store, &KEY.into(), &mark).await;
        assert_eq!(look().await, Verdict::NotThere);
        put(&store, None).await;
        assert_eq!(look().await, Verdict::NotThere);
        put(&store, Some(&Mark::new())).await;
        assert_eq!(look().await, Verdict::NotThere);
        put(&store, Some(&mark)).await;
        assert_eq!(look().await, Verdict::Published);
        store.delete(&KEY.into()).await.unwrap();
        assert_eq!(look().await, Verdict::NotThere);
    }

    #[test]
    fn a_store_that_could_not_be_reached_has_done_nothing() {
        assert!(!is_silence(&http(HttpErrorKind::Connect)));
        assert!(is_silence(&http(HttpErrorKind::Timeout)));
        assert!(is_silence(&http(HttpErrorKind::Request)));
    }

    #[test]
    fn a_failed_condition_is_no_refusal() {
        let (path, source) = (KEY.to_owned(), "412".into());
        assert!(!is_refusal(&Error::Precondition { path, source }));
        let (path, source) = (KEY.to_owned(), "403".into());
        assert!(is_refusal(&Error::PermissionDenied { path, source }));
    }
}
