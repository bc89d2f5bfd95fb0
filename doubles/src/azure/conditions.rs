//! Conditions on blobs: a tag or a time that must hold, or must not.

use std::time::SystemTime;

use hyper::HeaderMap;

use crate::bucket::Object;

use super::failure::{
    BLOB_ALREADY_EXISTS, CONDITION_NOT_MET, Failure, NOT_MODIFIED, SEVERAL_CONDITIONS,
    SOURCE_CONDITION_NOT_MET, TARGET_CONDITION_NOT_MET, UNSATISFIABLE_CONDITION, invalid_header,
};
use super::headers::{text, time};
use super::ledger::tag;

/// What a request wants to hold.
#[derive(Default)]
#[allow(clippy::struct_field_names, reason = "the headers' own names")]
pub(crate) struct Conditions {
    if_match: Option<Vec<String>>,
    if_none_match: Option<Vec<String>>,
    if_modified_since: Option<SystemTime>,
    if_unmodified_since: Option<SystemTime>,
}

/// What becomes of the blob that the conditions are about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    Create,
    CopyTo,
    Delete,
}

impl Conditions {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        Self::named(headers, "")
    }

    /// Those on the source of a copy.
    pub(crate) fn of_source(headers: &HeaderMap) -> Result<Self, Failure> {
        Self::named(headers, "x-ms-source-")
    }

    fn named(headers: &HeaderMap, prefix: &str) -> Result<Self, Failure> {
        let name = |name| format!("{prefix}{name}");
        Ok(Self {
            if_match: tags(headers, &name("if-match"))?,
            if_none_match: tags(headers, &name("if-none-match"))?,
            if_modified_since: time(headers, &name("if-modified-since"))?,
            if_unmodified_since: time(headers, &name("if-unmodified-since"))?,
        })
    }

    /// Reads may combine conditions: `If-Match && If-Unmodified-Since && (If-None-Match || If-Modified-Since)`.
    pub(crate) fn check_read(&self, object: Option<&Object>) -> Result<(), Failure> {
        if self.if_none_match.as_deref().is_some_and(has_wildcard) {
            return Err(UNSATISFIABLE_CONDITION);
        }
        let Some(object) = object else {
            let is_wanted = self.if_match.is_some();
            return if is_wanted {
                Err(CONDITION_NOT_MET)
            } else {
                Ok(())
            };
        };
        if self.is_mismatch(object) || self.is_too_new(object) {
            return Err(CONDITION_NOT_MET);
        }
        self.is_news(object).then_some(()).ok_or(NOT_MODIFIED)
    }

    fn is_news(&self, object: &Object) -> bool {
        match (&self.if_none_match, self.if_modified_since) {
            (None, None) => true,
            (Some(_), None) => !self.is_known(object),
            (None, Some(_)) => !self.is_too_old(object),
            (Some(_), Some(_)) => !self.is_known(object) || !self.is_too_old(object),
        }
    }

    pub(crate) fn check_write(&self, object: Option<&Object>, write: Write) -> Result<(), Failure> {
        self.check_few()?;
        let unmet = match write {
            Write::CopyTo => TARGET_CONDITION_NOT_MET,
            Write::Create | Write::Delete => CONDITION_NOT_MET,
        };
        let only_new = self.if_none_match.as_deref().is_some_and(has_wildcard);
        if only_new && object.is_some() && write != Write::Delete {
            return Err(BLOB_ALREADY_EXISTS);
        }
        self.holds(object).then_some(()).ok_or(unmet)
    }

    pub(crate) fn check_source(&self, object: &Object) -> Result<(), Failure> {
        self.check_few()?;
        let holds = self.holds(Some(object));
        holds.then_some(()).ok_or(SOURCE_CONDITION_NOT_MET)
    }

    /// Writes may have one tag in one condition, or one that wins over a time.
    fn check_few(&self) -> Result<(), Failure> {
        let several = |tags: &Vec<String>| tags.len() > 1;
        let has_many = [&self.if_match, &self.if_none_match];
        let has_many = has_many.into_iter().flatten().any(several);
        let is_absent = self.if_none_match.is_some() || self.if_modified_since.is_some();
        let is_present = self.if_match.is_some() || self.if_unmodified_since.is_some();
        if has_many || (is_absent && is_present) {
            return Err(SEVERAL_CONDITIONS);
        }
        Ok(())
    }

    fn holds(&self, object: Option<&Object>) -> bool {
        let Some(object) = object else {
            return self.if_match.is_none();
        };
        if self.if_none_match.is_some() {
            return !self.is_known(object);
        }
        if self.if_match.is_some() {
            return !self.is_mismatch(object);
        }
        !self.is_too_new(object) && !self.is_too_old(object)
    }

    fn is_mismatch(&self, object: &Object) -> bool {
        let wanted = self.if_match.as_deref();
        wanted.is_some_and(|tags| !matches(tags, object))
    }

    fn is_known(&self, object: &Object) -> bool {
        let known = self.if_none_match.as_deref();
        known.is_some_and(|tags| matches(tags, object))
    }

    fn is_too_new(&self, object: &Object) -> bool {
        let limit = self.if_unmodified_since;
        limit.is_some_and(|time| object.modified > time)
    }

    fn is_too_old(&self, object: &Object) -> bool {
        let limit = self.if_modified_since;
        limit.is_some_and(|time| object.modified <= time)
    }
}

/// The tags in a header, without their quotes.
fn tags(headers: &HeaderMap, name: &str) -> Result<Option<Vec<String>>, Failure> {
    let Some(tags) = text(headers, name)? else {
        return Ok(None);
    };
    let tags = tags.split(',').map(|tag| tag.trim().trim_matches('"'));
    let tags: Vec<_> = tags.map(str::to_owned).collect();
    if tags.iter().any(String::is_empty) {
        return Err(invalid_header(name));
    }
    Ok(Some(tags))
}

fn has_wildcard(tags: &[String]) -> bool {
    tags.iter().any(|tag| tag == "*")
}

fn matches(tags: &[String], object: &Object) -> bool {
    has_wildcard(tags) || tags.contains(&tag(object.generation))
}
