//! Answers: what each has, what says that a blob was written, and what describes one.

use futures::stream;
use hyper::http::response::Builder;
use hyper::{HeaderMap, Method, Request, Response};
use s3s::Body;
use s3s::dto::StreamingBlob;

use crate::bucket::{Attributes, Bucket, Content, Object};

use super::Outcome;
use super::copies::Copy;
use super::failure::Failure;
use super::headers::written;
use super::ledger::tag;
use super::tiers::described;

/// What a blob is of which nobody has said.
pub(crate) const DEFAULT_TYPE: &str = "application/octet-stream";

/// XML from Azure begins with it.
pub(crate) const BYTE_ORDER_MARK: char = '\u{feff}';

/// What every answer to one request has.
pub(crate) struct Marks {
    id: String,
    is_head: bool,
    repeated: HeaderMap,
}

impl Marks {
    pub(crate) fn new(request: &Request<Body>, number: u64) -> Self {
        let mut repeated = HeaderMap::new();
        for name in ["x-ms-version", "x-ms-client-request-id"] {
            if let Some(value) = request.headers().get(name) {
                repeated.insert(name, value.clone());
            }
        }
        Self {
            id: request_id(number),
            is_head: request.method() == Method::HEAD,
            repeated,
        }
    }

    pub(crate) fn put_on(self, outcome: Outcome) -> Response<Body> {
        let mut response = outcome.unwrap_or_else(|failure| self.refusal(&failure));
        let headers = response.headers_mut();
        headers.extend(self.repeated);
        headers.insert("x-ms-request-id", self.id.parse().expect("an id"));
        let server = "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0";
        headers.insert("server", server.parse().expect("a name"));
        response
    }

    fn refusal(&self, failure: &Failure) -> Response<Body> {
        let mut builder = Response::builder()
            .status(failure.status)
            .header("x-ms-error-code", failure.code);
        if let Some(length) = failure.length {
            builder = builder.header("content-range", format!("bytes */{length}"));
        }
        if failure.status == 401 {
            builder = builder.header("www-authenticate", "SharedKey");
        }
        if self.is_head || failure.status == 304 {
            return finish(builder, Body::empty());
        }
        let builder = builder.header("content-type", "application/xml");
        finish(builder, failure.body(&self.id).into())
    }
}

/// In the form of a GUID.
fn request_id(number: u64) -> String {
    format!("{:08x}-001e-0000-0000-{number:012x}", number + 1)
}

pub(crate) fn finish(builder: Builder, body: Body) -> Response<Body> {
    builder.body(body).expect("an answer of valid headers")
}

pub(crate) fn xml(builder: Builder, text: &str) -> Response<Body> {
    let body = format!("{BYTE_ORDER_MARK}<?xml version=\"1.0\" encoding=\"utf-8\"?>{text}");
    finish(
        builder.header("content-type", "application/xml"),
        body.into(),
    )
}

/// What says that there is a blob, and which.
pub(crate) fn identified(builder: Builder, object: &Object) -> Builder {
    builder
        .header("etag", format!("\"{}\"", tag(object.generation)))
        .header("last-modified", written(object.modified))
}

/// The answer to a write of a blob.
pub(crate) fn created(bucket: &Bucket, key: &str, checked: (&str, String)) -> Response<Body> {
    let object = &bucket.objects[key];
    let builder = identified(Response::builder().status(201), object)
        .header(checked.0, checked.1)
        .header("x-ms-request-server-encrypted", "true");
    finish(builder, Body::empty())
}

/// What a read of any kind says of the blob at `key`, but for its length and MD5.
pub(crate) fn description(bucket: &Bucket, key: &str, status: u16) -> Builder {
    let object = &bucket.objects[key];
    let mut builder = identified(Response::builder().status(status), object)
        .header("accept-ranges", "bytes")
        .header("x-ms-blob-type", "BlockBlob")
        .header("x-ms-lease-state", "available")
        .header("x-ms-lease-status", "unlocked")
        .header("x-ms-server-encrypted", "true");
    if let Some(created) = bucket.created(key) {
        builder = builder.header("x-ms-creation-time", written(created));
    }
    for (name, value) in attributes(&object.attributes) {
        builder = builder.header(name, value);
    }
    for (header, _, value) in described(&object.attributes) {
        builder = builder.header(header, value);
    }
    let copy = bucket.note(key).and_then(|note| note.copy.as_ref());
    for (name, value) in copy.map(Copy::description).unwrap_or_default() {
        builder = builder.header(name, value);
    }
    builder
}

fn attributes(attributes: &Attributes) -> Vec<(String, String)> {
    let content_type = attributes.content_type.as_deref();
    let named = [
        ("cache-control", &attributes.cache_control),
        ("content-disposition", &attributes.content_disposition),
        ("content-encoding", &attributes.content_encoding),
        ("content-language", &attributes.content_language),
    ];
    let named = named
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
    let metadata = attributes.metadata.iter().flatten();
    let metadata = metadata.map(|(name, value)| (format!("x-ms-meta-{name}"), value.clone()));
    let kind = content_type.unwrap_or(DEFAULT_TYPE).to_owned();
    let kind = ("content-type".to_owned(), kind);
    named.chain(metadata).chain([kind]).collect()
}

/// A body of these bytes, in the memory where they are.
pub(crate) fn sent(content: &Content) -> Body {
    let chunks = content.chunks().to_vec().into_iter();
    let chunks = chunks.map(Ok::<_, std::convert::Infallible>);
    Body::from(StreamingBlob::wrap(stream::iter(chunks)))
}
