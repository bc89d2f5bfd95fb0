//! What the headers of a request say: attributes, metadata, times and ranges.

use std::ops::Range;
use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chrono::{DateTime, Utc};
use hyper::HeaderMap;
use s3s::dto::Metadata;

use crate::bucket::Attributes;

use super::failure::{Failure, invalid_header, invalid_range};
use super::tiers::{tags_asked, tier_asked};

/// Names and values together.
const MOST_METADATA: usize = 8 * 1024;

pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Failure> {
    let value = headers.get(name).map(|value| value.to_str());
    value.transpose().map_err(|_| invalid_header(name))
}

fn owned(headers: &HeaderMap, name: &str) -> Result<Option<String>, Failure> {
    Ok(text(headers, name)?.map(str::to_owned))
}

/// What Put Blob says of a blob. Azure's headers win over HTTP's, which say the same of the request itself.
pub(crate) fn attributes_of_whole(headers: &HeaderMap) -> Result<Attributes, Failure> {
    let of_blob = attributes_of_blob(headers)?;
    let or_general = |value: Option<String>, name| match value {
        Some(value) => Ok(Some(value)),
        None => owned(headers, name),
    };
    Ok(Attributes {
        cache_control: or_general(of_blob.cache_control, "cache-control")?,
        content_encoding: or_general(of_blob.content_encoding, "content-encoding")?,
        content_language: or_general(of_blob.content_language, "content-language")?,
        content_type: or_general(of_blob.content_type, "content-type")?,
        ..of_blob
    })
}

/// What Put Block List says of a blob: HTTP's own headers are about the list.
pub(crate) fn attributes_of_blob(headers: &HeaderMap) -> Result<Attributes, Failure> {
    Ok(Attributes {
        cache_control: owned(headers, "x-ms-blob-cache-control")?,
        content_disposition: owned(headers, "x-ms-blob-content-disposition")?,
        content_encoding: owned(headers, "x-ms-blob-content-encoding")?,
        content_language: owned(headers, "x-ms-blob-content-language")?,
        content_type: owned(headers, "x-ms-blob-content-type")?,
        expires: None,
        metadata: metadata(headers)?,
        storage_class: tier_asked(headers)?,
        tags: tags_asked(headers)?,
    })
}

pub(crate) fn metadata(headers: &HeaderMap) -> Result<Option<Metadata>, Failure> {
    let mut metadata = Metadata::default();
    for header in headers.keys() {
        let Some(name) = header.as_str().strip_prefix("x-ms-meta-") else {
            continue;
        };
        check_metadata_name(name)?;
        let value = owned(headers, header.as_str())?.unwrap_or_default();
        metadata.insert(name.to_owned(), value);
    }
    let sizes = metadata
        .iter()
        .map(|(name, value)| name.len() + value.len());
    if sizes.sum::<usize>() > MOST_METADATA {
        let message = "The size of the specified metadata exceeds the maximum size permitted.";
        return Err(Failure::new(400, "MetadataTooLarge", message));
    }
    Ok((!metadata.is_empty()).then_some(metadata))
}

/// Names of metadata are identifiers of C#.
fn check_metadata_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() {
        let message = "The key for one of the metadata key-value pairs is empty.";
        return Err(Failure::new(400, "EmptyMetadataKey", message));
    }
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_part = |c: char| is_letter(c) || c.is_ascii_digit();
    if name.starts_with(is_letter) && name.chars().all(is_part) {
        return Ok(());
    }
    let message = "The metadata specified is invalid. It has characters that are not permitted.";
    Err(Failure::new(400, "InvalidMetadata", message).with("HeaderName", name))
}

/// The MD5 that a blob is to have from now on, whatever its bytes.
pub(crate) fn given_md5(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let md5 = owned(headers, "x-ms-blob-content-md5")?;
    md5.as_deref().map_or(Ok(()), check_md5)?;
    Ok(md5)
}

pub(crate) fn check_md5(md5: &str) -> Result<(), Failure> {
    let message = "The MD5 value specified in the request is invalid. MD5 value must be 128 bits \
                   and base64 encoded.";
    let is_one = BASE64.decode(md5).is_ok_and(|md5| md5.len() == 16);
    is_one
        .then_some(())
        .ok_or(Failure::new(400, "InvalidMd5", message))
}

pub(crate) fn time(headers: &HeaderMap, name: &str) -> Result<Option<SystemTime>, Failure> {
    let Some(time) = text(headers, name)? else {
        return Ok(None);
    };
    let time = DateTime::parse_from_rfc2822(time).map_err(|_| invalid_header(name))?;
    Ok(Some(time.into()))
}

pub(crate) fn written(time: SystemTime) -> String {
    let time = DateTime::<Utc>::from(time);
    time.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// The bytes that a reader wants of `len`, if not all. Azure's header wins over HTTP's.
pub(crate) fn range(headers: &HeaderMap, len: u64) -> Result<Option<Range<u64>>, Failure> {
    let own = text(headers, "x-ms-range")?.map(|range| ("x-ms-range", range));
    let general = text(headers, "range")?.map(|range| ("range", range));
    let Some((name, range)) = own.or(general) else {
        return Ok(None);
    };
    // Azure knows no range that counts from the end.
    let (first, last) = bounds(range).ok_or_else(|| invalid_header(name))?;
    if first >= len || last < first {
        return Err(invalid_range(len));
    }
    Ok(Some(first..last.saturating_add(1).min(len)))
}

/// `bytes=first-last` or `bytes=first-`.
fn bounds(range: &str) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let last = if last.is_empty() {
        u64::MAX
    } else {
        last.parse().ok()?
    };
    Some((first.parse().ok()?, last))
}
