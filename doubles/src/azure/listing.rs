//! Listings of the container, page by page, and what can be said of the container itself.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use hyper::Response;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use quick_xml::escape::escape;
use s3s::Body;

use crate::bucket::{Bucket, Object, Page, Query as Wanted};

use super::answer::{DEFAULT_TYPE, finish, xml};
use super::copies::Copy;
use super::failure::{Failure, invalid_parameter, not_implemented};
use super::headers::{text, written};
use super::ledger::tag;
use super::target::Query;
use super::tiers::described;
use super::{Azure, Call, Outcome};

/// Entries on a page, unless fewer are asked for.
const PAGE: usize = 5000;

/// What every marker begins with, so that others are known for what they are.
const MARKER: &str = "2!";

/// How names are written that XML can't hold.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// What a listing says besides.
#[derive(Default)]
struct Include {
    metadata: bool,
    copies: bool,
}

pub(super) fn container_properties() -> Response<Body> {
    let builder = Response::builder()
        .header("etag", "\"0x8DDFB1C2D3E4F50\"")
        .header("last-modified", "Fri, 02 Jan 2026 03:04:05 GMT")
        .header("x-ms-lease-state", "available")
        .header("x-ms-lease-status", "unlocked")
        .header("x-ms-has-immutability-policy", "false")
        .header("x-ms-has-legal-hold", "false");
    finish(builder, Body::empty())
}

impl Azure {
    pub(super) fn list_blobs(&self, call: &Call) -> Outcome {
        let include = include(call.query.get("include"))?;
        let limit = limit(call.query.get("maxresults"))?;
        let marker = call.query.get("marker").filter(|marker| !marker.is_empty());
        let resume_after = marker.map(read_marker).transpose()?;
        let start = call.query.get("startfrom").map(just_before);
        let bucket = self.bucket();
        let page = bucket.list(&Wanted {
            prefix: call.query.get("prefix").unwrap_or_default(),
            delimiter: call.query.get("delimiter"),
            start_after: start.as_deref().unwrap_or_default(),
            resume_after: resume_after.as_deref(),
            limit,
        });
        let host = text(&call.headers, "host")?.unwrap_or_default();
        let mut text = format!(
            "<EnumerationResults ServiceEndpoint=\"http://{}/\" ContainerName=\"{}\">",
            escape(host),
            self.name
        );
        write_question(&mut text, &call.query);
        write_blobs(&mut text, &bucket, &page, &include);
        let next = page.resume_after.as_deref().map(marker_after);
        element(&mut text, "NextMarker", &next.unwrap_or_default());
        text.push_str("</EnumerationResults>");
        Ok(xml(Response::builder(), &text))
    }
}

fn include(include: Option<&str>) -> Result<Include, Failure> {
    let mut wanted = Include::default();
    let names = include.unwrap_or_default().split(',');
    for name in names.filter(|name| !name.is_empty()) {
        match name {
            "metadata" => wanted.metadata = true,
            "copy" => wanted.copies = true,
            // Nothing of these kinds is ever here.
            "snapshots" | "deleted" | "versions" | "deletedwithversions" => {}
            "uncommittedblobs" | "tags" | "immutabilitypolicy" | "legalhold" | "permissions" => {
                return Err(not_implemented(&format!("include={name}")));
            }
            _ => return Err(invalid_parameter("include")),
        }
    }
    Ok(wanted)
}

fn limit(limit: Option<&str>) -> Result<usize, Failure> {
    let Some(limit) = limit else { return Ok(PAGE) };
    let limit: i64 = limit.parse().map_err(|_| invalid_parameter("maxresults"))?;
    if limit < 1 {
        return Err(OUT_OF_RANGE.with("QueryParameterName", "maxresults"));
    }
    Ok(usize::try_from(limit).map_or(PAGE, |limit| limit.min(PAGE)))
}

fn marker_after(entry: &str) -> String {
    format!("{MARKER}{}", BASE64.encode(entry))
}

fn read_marker(marker: &str) -> Result<String, Failure> {
    let entry = marker.strip_prefix(MARKER);
    let entry = entry.and_then(|entry| BASE64.decode(entry).ok());
    let entry = entry.and_then(|entry| String::from_utf8(entry).ok());
    entry.ok_or_else(|| invalid_parameter("marker"))
}

/// The last key before `key`, which is to be listed itself, as far as anybody would make such keys.
fn just_before(key: &str) -> String {
    let mut before = key.to_owned();
    match before.pop() {
        None | Some('\0') => {}
        // There are no characters between these.
        Some('\u{e000}') => before.extend(['\u{d7ff}', char::MAX]),
        Some(last) => {
            let less = char::from_u32(u32::from(last) - 1);
            before.extend(less.into_iter().chain([char::MAX]));
        }
    }
    before
}

/// What was asked for.
fn write_question(text: &mut String, query: &Query) {
    let asked = [
        ("Prefix", "prefix"),
        ("Marker", "marker"),
        ("MaxResults", "maxresults"),
        ("Delimiter", "delimiter"),
    ];
    for (name, parameter) in asked {
        if let Some(value) = query.get(parameter) {
            name_element(text, name, value);
        }
    }
}

/// Blobs and prefixes in one order.
fn write_blobs(text: &mut String, bucket: &Bucket, page: &Page, include: &Include) {
    let blobs = page.objects.iter().map(|(key, object)| (key, Some(object)));
    let prefixes = page.prefixes.iter().map(|prefix| (prefix, None));
    let mut entries: Vec<_> = blobs.chain(prefixes).collect();
    entries.sort_by_key(|(name, _)| *name);
    text.push_str("<Blobs>");
    for (name, object) in entries {
        match object {
            Some(object) => write_blob(text, bucket, name, object, include),
            None => write_prefix(text, name),
        }
    }
    text.push_str("</Blobs>");
}

fn write_prefix(text: &mut String, prefix: &str) {
    text.push_str("<BlobPrefix>");
    name_element(text, "Name", prefix);
    text.push_str("</BlobPrefix>");
}

fn write_blob(text: &mut String, bucket: &Bucket, key: &str, object: &Object, include: &Include) {
    text.push_str("<Blob>");
    name_element(text, "Name", key);
    text.push_str("<Properties>");
    write_properties(text, bucket, key, object);
    if include.copies {
        write_copy(text, bucket, key);
    }
    text.push_str("</Properties>");
    if include.metadata {
        write_metadata(text, object);
    }
    text.push_str("<OrMetadata /></Blob>");
}

fn write_properties(text: &mut String, bucket: &Bucket, key: &str, object: &Object) {
    let attributes = &object.attributes;
    let or_nothing = |value: &Option<String>| value.clone().unwrap_or_default();
    let kind = attributes.content_type.as_deref().unwrap_or(DEFAULT_TYPE);
    let md5 = bucket.note(key).and_then(|note| note.md5.clone());
    let created = bucket.created(key).unwrap_or(object.modified);
    let properties = [
        ("Creation-Time", written(created)),
        ("Last-Modified", written(object.modified)),
        ("Etag", tag(object.generation)),
        ("Content-Length", object.content.len.to_string()),
        ("Content-Type", kind.to_owned()),
        ("Content-Encoding", or_nothing(&attributes.content_encoding)),
        ("Content-Language", or_nothing(&attributes.content_language)),
        ("Content-CRC64", String::new()),
        ("Content-MD5", md5.unwrap_or_default()),
        ("Cache-Control", or_nothing(&attributes.cache_control)),
        (
            "Content-Disposition",
            or_nothing(&attributes.content_disposition),
        ),
        ("BlobType", "BlockBlob".to_owned()),
        ("LeaseStatus", "unlocked".to_owned()),
        ("LeaseState", "available".to_owned()),
        ("ServerEncrypted", "true".to_owned()),
    ];
    for (name, value) in properties {
        element(text, name, &value);
    }
    for (_, name, value) in described(attributes) {
        element(text, name, &value);
    }
}

fn write_copy(text: &mut String, bucket: &Bucket, key: &str) {
    let copy = bucket.note(key).and_then(|note| note.copy.as_ref());
    for (header, value) in copy.map(Copy::description).unwrap_or_default() {
        let name = match header {
            "x-ms-copy-id" => "CopyId",
            "x-ms-copy-source" => "CopySource",
            "x-ms-copy-status" => "CopyStatus",
            "x-ms-copy-progress" => "CopyProgress",
            "x-ms-copy-completion-time" => "CopyCompletionTime",
            _ => "CopyStatusDescription",
        };
        element(text, name, &value);
    }
}

fn write_metadata(text: &mut String, object: &Object) {
    text.push_str("<Metadata>");
    for (name, value) in object.attributes.metadata.iter().flatten() {
        element(text, name, value);
    }
    text.push_str("</Metadata>");
}

fn element(text: &mut String, name: &str, value: &str) {
    let _ = match value {
        "" => write!(text, "<{name} />"),
        _ => write!(text, "<{name}>{}</{name}>", escape(value)),
    };
}

/// An element that holds a name, which can have any characters.
fn name_element(text: &mut String, element_name: &str, name: &str) {
    if name.contains(is_unwritable) {
        let name = utf8_percent_encode(name, ESCAPED);
        let _ = write!(
            text,
            "<{element_name} Encoded=\"true\">{name}</{element_name}>"
        );
    } else {
        element(text, element_name, name);
    }
}

/// Characters that XML can't hold, and those that its readers change.
fn is_unwritable(c: char) -> bool {
    c < ' ' || c == '\u{fffe}' || c == '\u{ffff}'
}

const OUT_OF_RANGE: Failure = Failure::new(
    400,
    "OutOfRangeQueryParameterValue",
    "One of the query parameters specified in the request URI is outside the permissible range.",
);
