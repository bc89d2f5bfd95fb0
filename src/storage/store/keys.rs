//! Keys as the store has them, beyond what `object_store`'s paths can say.
//!
//! Real buckets hold keys that end with a slash (the markers of directories), keys with empty segments,
//! and keys with control characters. Listings and markers are asked for by requests of our own, which take
//! and give them all: they are signed with `object_store`'s own credentials, and counted as its requests are.

use std::time::SystemTime;

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, HeaderMap};
use object_store::path::Path;
use object_store::{Attribute, Attributes, Error, ObjectMeta, Result, UpdateVersion};

use crate::storage::store::description::{Carries, Description};
use crate::storage::store::http::requests::Ask;
use crate::storage::store::precondition::Precondition;

/// Requests of one operation that are under way at once.
pub(crate) const PARALLEL: usize = 16;

/// Entries of a page; as many as S3 gives at once.
pub(crate) const MAX_PAGE: usize = 1000;

/// The user metadata of a marker that holds a note of the gateway's own.
const NOTE: &str = "ferryrename";

/// In the place of a note that is over. Some stores keep the metadata of a marker that is written anew without
/// (versitygw 1.8.0), so that no note would leave the old one there.
const OVER: &str = "over";

/// What a listing is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<'a> {
    /// What all keys begin with.
    pub(crate) prefix: &'a str,
    /// Whether keys with a further slash are told by what comes up to it.
    pub(crate) grouped: bool,
    /// Where the page before has ended.
    pub(crate) token: Option<&'a str>,
    /// How many entries are enough.
    pub(crate) limit: usize,
}

/// One page of keys, in order.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Object>,
    /// What grouped keys begin with, each with its slash.
    pub(crate) prefixes: Vec<String>,
    /// How many names are no text, so that no key can be made of them.
    pub(crate) unnamable: usize,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<String>,
}

/// One object of a listing.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) key: String,
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
    /// Without quotes.
    pub(crate) e_tag: Option<String>,
    /// What Google tells versions by.
    pub(crate) generation: Option<String>,
    pub(crate) carries: Carries,
}

/// What is at the key of a directory's marker.
#[derive(Debug, Clone)]
pub(crate) struct Marker {
    /// A marker is empty; anything else is another program's object.
    pub(crate) size: u64,
    pub(crate) version: UpdateVersion,
    /// What the gateway has noted on it.
    pub(crate) note: Option<String>,
}

impl Marker {
    /// Reads the answer to a `HEAD`. `prefix` is what headers of metadata begin with.
    pub(crate) fn read(
        headers: &HeaderMap,
        prefix: &str,
        version: fn(&HeaderMap) -> UpdateVersion,
    ) -> Self {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let size = text(CONTENT_LENGTH.as_str()).and_then(|size| size.parse().ok());
        Self {
            size: size.unwrap_or_default(),
            version: version(headers),
            note: text(&format!("{prefix}{NOTE}"))
                .filter(|note| *note != OVER)
                .map(str::to_owned),
        }
    }

    /// As a deletion names it.
    pub(crate) fn object(&self, key: &str) -> Object {
        let Self { size, version, .. } = self;
        Object {
            key: key.to_owned(),
            size: *size,
            modified: SystemTime::UNIX_EPOCH,
            e_tag: version.e_tag.as_deref().map(|e_tag| bare(e_tag).to_owned()),
            generation: version.version.clone(),
            carries: Carries::default(),
        }
    }
}

/// What a marker with a note says of itself. One that may replace another says it of no note as well.
pub(crate) fn with_note(note: Option<&str>, precondition: &Precondition) -> Description {
    let mut attributes = Attributes::new();
    let is_new = *precondition == Precondition::Absent;
    if let Some(note) = note.or((!is_new).then_some(OVER)) {
        attributes.insert(Attribute::Metadata(NOTE.into()), note.to_owned().into());
    }
    attributes.into()
}

/// The answer of a store, where nothing is no error.
pub(crate) fn if_any<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Page {
    /// Whether nothing is on it.
    pub(crate) fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.prefixes.is_empty() && self.unnamable == 0
    }
}

/// The key of a directory's marker, which all keys in it begin with; nothing for the bucket's root.
pub(crate) fn marker(directory: &Path) -> String {
    match directory.as_ref() {
        "" => String::new(),
        directory => format!("{directory}/"),
    }
}

impl Object {
    /// Which version of the object it is.
    pub(crate) fn version(&self) -> UpdateVersion {
        UpdateVersion {
            e_tag: self.e_tag.as_ref().map(|e_tag| format!("\"{e_tag}\"")),
            version: self.generation.clone(),
        }
    }
}

impl From<&ObjectMeta> for Object {
    fn from(meta: &ObjectMeta) -> Self {
        Self {
            key: meta.location.to_string(),
            size: meta.size,
            modified: meta.last_modified.into(),
            e_tag: meta.e_tag.as_deref().map(|e_tag| bare(e_tag).to_owned()),
            generation: meta.version.clone(),
            carries: Carries::default(),
        }
    }
}

/// A request with a condition. One that no header can hold is an error: without it, more would be done
/// than was meant.
pub(crate) fn only_if(mut ask: Ask, name: &'static str, value: &str) -> Result<Ask> {
    // The library can't sign others, though headers can hold them.
    let header = value.parse::<HeaderValue>().ok();
    let header = header.filter(|header| header.to_str().is_ok());
    let header = header.ok_or_else(|| Error::Generic {
        store: "store",
        source: format!(
            "{}: no request can hold the condition {name}: {value:?}",
            ask.key
        )
        .into(),
    })?;
    ask.headers.insert(name, header);
    Ok(ask)
}

/// An `ETag` as listings and headers both give it.
pub(crate) fn bare(e_tag: &str) -> &str {
    e_tag.trim_matches('"')
}

/// Deletes on stores that take one key at a time. How many have stayed because they have changed.
pub(crate) async fn one_by_one<'a>(
    deletes: impl Iterator<Item = BoxFuture<'a, Result<()>>> + Send,
) -> Result<usize> {
    let mut deletes = stream::iter(deletes).buffer_unordered(PARALLEL);
    let mut left = 0;
    while let Some(deleted) = deletes.next().await {
        match deleted {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(Error::Precondition { .. }) => left += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn a_condition_is_never_left_out() {
        let ask = || Ask::new(Method::DELETE, "http://store/a".parse().unwrap(), "a");
        let only = only_if(ask(), "if-match", "\"ab\"").unwrap();
        assert_eq!(only.headers["if-match"], "\"ab\"");
        assert!(only_if(ask(), "if-match", "\"ä\"").is_err());
        let error = only_if(ask(), "if-match", "\"a\nb\"").unwrap_err();
        assert!(error.to_string().contains("if-match"), "{error}");
    }
}
