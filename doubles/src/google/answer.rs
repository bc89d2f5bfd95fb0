//! What answers say about objects, in their headers.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LAST_MODIFIED,
};
use hyper::{HeaderMap, Response};
use s3s::Body;
use s3s::dto::{Timestamp, TimestampFormat};

use crate::bucket::{Attributes, Bucket, Object, STANDARD};
use crate::tags::Tags;

use super::ask::header;
use super::checksums::hashes;
use super::conditions::METAGENERATION;
use super::refusal::{Answered, invalid_argument};

const METADATA: &str = "x-goog-meta-";
const CLASS: &str = "x-goog-storage-class";
const OTHER_CLASSES: [&str; 3] = ["NEARLINE", "COLDLINE", "ARCHIVE"];

/// The answer to a write: no body, and what was made.
pub(crate) fn written(object: &mut Object) -> Response<Body> {
    let mut response = Response::default();
    *response.headers_mut() = identity(object);
    response
}

/// Which object it is, and which bytes.
pub(crate) fn identity(object: &mut Object) -> HeaderMap {
    let encoding = object.attributes.content_encoding.clone();
    let named = [
        ("x-goog-generation", object.generation.to_string()),
        ("x-goog-metageneration", METAGENERATION.to_string()),
        ("x-goog-hash", hashes(object)),
        (
            "x-goog-stored-content-length",
            object.content.len.to_string(),
        ),
        (
            "x-goog-stored-content-encoding",
            encoding.unwrap_or_else(|| "identity".to_owned()),
        ),
        (CLASS, object.attributes.class().to_owned()),
    ];
    let named = named.map(|(name, text)| (HeaderName::from_static(name), value(&text)));
    let mut headers = HeaderMap::from_iter(named);
    headers.insert(ETAG, value(&quoted(&object.etag)));
    headers
}

/// All that a reader gets to know.
pub(crate) fn description(object: &mut Object) -> HeaderMap {
    let mut headers = identity(object);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(LAST_MODIFIED, value(&http_date(object.modified)));
    let attributes = &object.attributes;
    let kind = attributes.content_type.as_deref();
    let named = [
        (CACHE_CONTROL, attributes.cache_control.as_deref()),
        (
            CONTENT_DISPOSITION,
            attributes.content_disposition.as_deref(),
        ),
        (CONTENT_ENCODING, attributes.content_encoding.as_deref()),
        (CONTENT_LANGUAGE, attributes.content_language.as_deref()),
        (CONTENT_TYPE, kind.or(Some("application/octet-stream"))),
    ];
    let named = named
        .into_iter()
        .filter_map(|(name, text)| Some((name, value(text?))));
    headers.extend(named);
    for (name, text) in attributes.metadata.iter().flatten() {
        let name = HeaderName::try_from(format!("{METADATA}{name}")).expect("once a header");
        headers.insert(name, value(text));
    }
    headers
}

/// What the headers of a request say about the object that it makes.
pub(crate) fn attributes(headers: &HeaderMap) -> Answered<Attributes> {
    let read = |name: HeaderName| header(headers, name.as_str()).map(|it| it.map(str::to_owned));
    let metadata = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(METADATA)?.to_owned();
        let text = value.to_str().map_err(|_| invalid_argument(name.clone()));
        Some(text.map(|text| (name, text.to_owned())))
    });
    Ok(Attributes {
        cache_control: read(CACHE_CONTROL)?,
        content_disposition: read(CONTENT_DISPOSITION)?,
        content_encoding: read(CONTENT_ENCODING)?,
        content_language: read(CONTENT_LANGUAGE)?,
        content_type: read(CONTENT_TYPE)?,
        expires: None,
        metadata: Some(metadata.collect::<Answered<_>>()?),
        storage_class: class_asked(headers)?,
        tags: Tags::new(),
    })
}

/// The class that a request names, unless it is the bucket's, which an object gets by itself.
pub(crate) fn class_asked(headers: &HeaderMap) -> Answered<Option<String>> {
    match header(headers, CLASS)? {
        None | Some(STANDARD) => Ok(None),
        Some(other) if OTHER_CLASSES.contains(&other) => Ok(Some(other.to_owned())),
        Some(unknown) => Err(invalid_argument(format!("{CLASS}: {unknown}"))),
    }
}

/// Stores an object that has no MD5. Its tag is of its generation, so it changes with every write.
pub(crate) fn store_without_md5<'b>(
    bucket: &'b mut Bucket,
    key: &str,
    object: Object,
) -> &'b mut Object {
    bucket.store(key, object);
    retag(bucket, key)
}

/// Gives the object at `key`, which was stored just now, a tag that is no MD5.
pub(crate) fn retag<'b>(bucket: &'b mut Bucket, key: &str) -> &'b mut Object {
    let object = stored(bucket, key);
    object.etag = opaque_tag(object.generation);
    object
}

/// The object that was stored just now.
pub(crate) fn stored<'b>(bucket: &'b mut Bucket, key: &str) -> &'b mut Object {
    bucket.objects.get_mut(key).expect("the object just stored")
}

/// A minus, and the generation and metageneration as Google writes them: numbered fields, in base64.
fn opaque_tag(mut generation: u64) -> String {
    let mut bytes = vec![0x08];
    while generation >= 0x80 {
        bytes.push((generation & 0x7f) as u8 | 0x80);
        generation >>= 7;
    }
    bytes.extend([generation as u8, 0x10, METAGENERATION as u8]);
    format!("-{}", BASE64.encode(bytes))
}

pub(crate) fn quoted(tag: &str) -> String {
    format!("\"{tag}\"")
}

pub(crate) fn http_date(time: SystemTime) -> String {
    dated(time, TimestampFormat::HttpDate)
}

/// As in listings: `2013-02-15T00:21:37.000Z`.
pub(crate) fn xml_date(time: SystemTime) -> String {
    dated(time, TimestampFormat::DateTime)
}

fn dated(time: SystemTime, format: TimestampFormat) -> String {
    let mut text = Vec::new();
    let written = Timestamp::from(time).format(format, &mut text);
    written.expect("a date");
    String::from_utf8(text).expect("ASCII")
}

/// A value that was a header once, or that the double made.
pub(crate) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("the value of a header")
}
