//! The access tiers of blobs, and their tags.

use std::fmt::Write as _;

use hyper::{HeaderMap, Response};
use quick_xml::escape::escape;

use crate::bucket::{Attributes, Object};
use crate::tags::{self, Tags};

use super::answer::xml;
use super::failure::{BLOB_NOT_FOUND, Failure, invalid_header};
use super::headers::text;
use super::{Azure, Call, Outcome};

const TIER: &str = "x-ms-access-tier";

/// What the account gives blobs of which nobody says more.
const DEFAULT: &str = "Hot";
const ARCHIVE: &str = "Archive";
const TIERS: [&str; 4] = [DEFAULT, "Cool", "Cold", ARCHIVE];

impl Azure {
    pub(super) fn get_blob_tags(&self, call: &Call) -> Outcome {
        let bucket = self.bucket();
        let object = bucket.objects.get(&call.key).ok_or(BLOB_NOT_FOUND)?;
        Ok(xml(Response::builder(), &written(&object.attributes.tags)))
    }
}

/// The tier that a request names. The default one, named, is another than the one that a blob has by itself.
pub(crate) fn tier_asked(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    match text(headers, TIER)? {
        Some(tier) if !TIERS.contains(&tier) => Err(invalid_header(TIER)),
        tier => Ok(tier.map(str::to_owned)),
    }
}

/// The tags that a request brings.
pub(crate) fn tags_asked(headers: &HeaderMap) -> Result<Tags, Failure> {
    let tags = text(headers, "x-ms-tags")?.unwrap_or_default();
    let tags = tags::read(tags).filter(|tags| tags::fit(tags) && are_plain(tags));
    tags.ok_or(INVALID_TAGS)
}

fn are_plain(tags: &Tags) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " +-./:=_".contains(c);
    let mut texts = tags.iter().flat_map(|(name, value)| [name, value]);
    texts.all(|text| text.chars().all(is_plain))
}

/// What is said of them: the header of a description, the element of a listing, and the value of both.
pub(crate) fn described(attributes: &Attributes) -> Vec<(&'static str, &'static str, String)> {
    let tier = attributes.storage_class.as_deref();
    let told = tier.unwrap_or(DEFAULT).to_owned();
    let mut said = vec![(TIER, "AccessTier", told)];
    if tier.is_none() {
        let inferred = "true".to_owned();
        said.push(("x-ms-access-tier-inferred", "AccessTierInferred", inferred));
    }
    if !attributes.tags.is_empty() {
        let count = attributes.tags.len().to_string();
        said.push(("x-ms-tag-count", "TagCount", count));
    }
    said
}

/// Nobody reads what lies in the archive.
pub(crate) fn check_online(object: &Object) -> Result<(), Failure> {
    if object.attributes.storage_class.as_deref() == Some(ARCHIVE) {
        return Err(BLOB_ARCHIVED);
    }
    Ok(())
}

/// And nobody writes over it.
pub(crate) fn check_target(target: Option<&Object>) -> Result<(), Failure> {
    target.map_or(Ok(()), check_online)
}

fn written(tags: &Tags) -> String {
    let mut text = String::from("<Tags><TagSet>");
    for (name, value) in tags {
        let (name, value) = (escape(name.as_str()), escape(value.as_str()));
        let _ = write!(text, "<Tag><Key>{name}</Key><Value>{value}</Value></Tag>");
    }
    text.push_str("</TagSet></Tags>");
    text
}

const INVALID_TAGS: Failure = Failure::new(
    400,
    "InvalidTags",
    "The tags specified are invalid. There are too many, or they have characters that are not permitted.",
);

const BLOB_ARCHIVED: Failure = Failure::new(
    409,
    "BlobArchived",
    "This operation is not permitted on an archived blob.",
);
