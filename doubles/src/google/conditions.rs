//! What must hold of an object for a request to be done.

use hyper::HeaderMap;
use s3s::dto::{ETagCondition, Timestamp, TimestampFormat};

use crate::bucket::Object;

use super::ask::{header, number_in_header};
use super::refusal::{Answered, invalid_argument, precondition_failed};

/// Google counts changes of what is said about an object. Nothing here changes that without a new object.
pub(crate) const METAGENERATION: u64 = 1;

/// Conditions on the generation that is there; 0 is none.
pub(crate) struct Generations {
    prefix: &'static str,
    generation: Option<u64>,
    metageneration: Option<u64>,
}

impl Generations {
    pub(crate) fn of_target(headers: &HeaderMap) -> Answered<Self> {
        Self::read(headers, "x-goog-if-")
    }

    pub(crate) fn of_source(headers: &HeaderMap) -> Answered<Self> {
        Self::read(headers, "x-goog-copy-source-if-")
    }

    fn read(headers: &HeaderMap, prefix: &'static str) -> Answered<Self> {
        let read = |what| number_in_header(headers, &format!("{prefix}{what}-match"));
        Ok(Self {
            prefix,
            generation: read("generation")?,
            metageneration: read("metageneration")?,
        })
    }

    pub(crate) fn check(&self, object: Option<&Object>) -> Answered<()> {
        let there = object.map_or(0, |object| object.generation);
        self.compare("generation", self.generation, there)?;
        let there = object.map_or(0, |_| METAGENERATION);
        self.compare("metageneration", self.metageneration, there)
    }

    fn compare(&self, what: &str, wanted: Option<u64>, there: u64) -> Answered<()> {
        if wanted.is_none_or(|wanted| wanted == there) {
            return Ok(());
        }
        let condition = format!("{}{what}-match", self.prefix);
        Err(precondition_failed(&condition))
    }
}

/// Conditions by tag and by time. A tag says more than a time, and wins over it.
#[allow(clippy::struct_field_names, reason = "the headers' own names")]
pub(crate) struct Validators {
    if_match: Option<Vec<ETagCondition>>,
    if_none_match: Option<Vec<ETagCondition>>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
}

impl Validators {
    pub(crate) fn of_target(headers: &HeaderMap) -> Answered<Self> {
        Self::read(headers, "")
    }

    pub(crate) fn of_source(headers: &HeaderMap) -> Answered<Self> {
        Self::read(headers, "x-goog-copy-source-")
    }

    fn read(headers: &HeaderMap, prefix: &str) -> Answered<Self> {
        let name = |name: &str| format!("{prefix}{name}");
        Ok(Self {
            if_match: tags(headers, &name("if-match"))?,
            if_none_match: tags(headers, &name("if-none-match"))?,
            if_modified_since: time(headers, &name("if-modified-since"))?,
            if_unmodified_since: time(headers, &name("if-unmodified-since"))?,
        })
    }

    pub(crate) fn check_wanted(&self, object: &Object) -> Answered<()> {
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(tags), _) if !is_any(tags, object) => Err(precondition_failed("If-Match")),
            (None, Some(time)) if Timestamp::from(object.modified) > *time => {
                Err(precondition_failed("If-Unmodified-Since"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a reader has something else than the object.
    pub(crate) fn is_news(&self, object: &Object) -> bool {
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(tags), _) => !is_any(tags, object),
            (None, Some(time)) => Timestamp::from(object.modified) > *time,
            (None, None) => true,
        }
    }

    /// A copy has no reader who could have it already: both kinds fail alike.
    pub(crate) fn check_source(&self, object: &Object) -> Answered<()> {
        self.check_wanted(object)?;
        let failed = || precondition_failed("x-goog-copy-source-if");
        self.is_news(object).then_some(()).ok_or_else(failed)
    }
}

fn is_any(tags: &[ETagCondition], object: &Object) -> bool {
    tags.iter().any(|tag| object.matches(tag))
}

fn tags(headers: &HeaderMap, name: &str) -> Answered<Option<Vec<ETagCondition>>> {
    let Some(text) = header(headers, name)? else {
        return Ok(None);
    };
    let tags = text
        .split(',')
        .map(|tag| ETagCondition::parse_http_header(tag.trim().as_bytes()));
    let tags: Result<Vec<_>, _> = tags.collect();
    tags.map(Some)
        .map_err(|_| invalid_argument(format!("{name}: {text}")))
}

/// A date that is none is ignored, as HTTP has it.
fn time(headers: &HeaderMap, name: &str) -> Answered<Option<Timestamp>> {
    let text = header(headers, name)?;
    Ok(text.and_then(|text| Timestamp::parse(TimestampFormat::HttpDate, text).ok()))
}
