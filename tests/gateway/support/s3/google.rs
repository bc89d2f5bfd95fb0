//! Google's XML API: that of S3, with other names for its headers, and generations where S3 has tags.

use std::sync::Mutex;

use hyper::header::{
    AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Response, StatusCode};
use s3s::Body;
use s3s::dto::Checksum;

use super::bucket::{Attributes, Bucket, Content, Object};

/// Whoever has it may do everything.
pub(super) const TOKEN: &str = "ferry-token";

const CONDITION: &str = "x-goog-if-generation-match";
const GENERATION: &str = "x-goog-generation";

/// Makes a request S3's. Here, a generation is a tag without its quotes; 0 is no object.
pub(super) fn read(headers: &mut HeaderMap) {
    let token = headers.remove(AUTHORIZATION);
    if token.is_none_or(|token| token != format!("Bearer {TOKEN}")) {
        // No signature that S3 knows: it refuses.
        headers.insert(AUTHORIZATION, HeaderValue::from_static("none"));
    }
    if let Some(generation) = headers.remove(CONDITION) {
        let generation = generation.to_str().expect("a generation");
        if generation == "0" {
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        } else {
            let tag = format!("\"{generation}\"");
            headers.insert(IF_MATCH, tag.parse().expect("a tag"));
        }
    }
    rename(headers, "x-goog-", "x-amz-");
}

/// Makes an answer Google's.
pub(super) fn write(headers: &mut HeaderMap) {
    rename(headers, "x-amz-", "x-goog-");
    if let Some(tag) = headers.get(ETAG).and_then(|tag| tag.to_str().ok()) {
        let generation = tag.trim_matches('"').parse().expect("a generation");
        headers.insert(GENERATION, generation);
    }
}

/// Whether an object is to be made of others, which S3 does not know.
pub(super) fn is_compose(parts: &Parts) -> bool {
    parts.method == Method::PUT
        && parts
            .uri
            .query()
            .is_some_and(|query| query.starts_with("compose"))
}

/// Composes, after [`read`] has made the headers S3's.
pub(super) fn compose(parts: &Parts, body: &[u8], bucket: &Mutex<Bucket>) -> Response<Body> {
    let answer = |status: StatusCode| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        response
    };
    if parts.headers.contains_key(AUTHORIZATION) {
        return answer(StatusCode::FORBIDDEN);
    }
    let mut bucket = bucket.lock().expect("the bucket");
    let path = parts.uri.path().splitn(3, '/').nth(2).expect("a key");
    let key = decoded(path);
    let found = bucket
        .objects
        .get(&key)
        .map(|object| format!("\"{}\"", object.etag));
    let wanted = parts
        .headers
        .get(IF_MATCH)
        .map(|tag| tag.to_str().expect("a tag").to_owned());
    if wanted.is_some() && wanted != found {
        return answer(StatusCode::PRECONDITION_FAILED);
    }
    let body = std::str::from_utf8(body).expect("XML");
    let mut chunks = Vec::new();
    for component in body.split("<Component>").skip(1) {
        let Some(object) = bucket
            .objects
            .get(&between(component, "Name").expect("a name"))
        else {
            return answer(StatusCode::NOT_FOUND);
        };
        if between(component, "Generation").is_some_and(|generation| generation != object.etag) {
            return answer(StatusCode::NOT_FOUND);
        }
        chunks.extend_from_slice(object.content.chunks());
    }
    let object = Object::new(Content::new(chunks), attributes(parts), Checksum::default());
    bucket.objects.insert(key, object);
    answer(StatusCode::OK)
}

fn attributes(parts: &Parts) -> Attributes {
    let text = |value: &HeaderValue| value.to_str().expect("text").to_owned();
    let metadata = parts.headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix("x-amz-meta-")?;
        Some((name.to_owned(), text(value)))
    });
    Attributes {
        content_type: parts.headers.get(CONTENT_TYPE).map(text),
        metadata: Some(metadata.collect()),
        ..Attributes::default()
    }
}

fn decoded(path: &str) -> String {
    let decoded = percent_encoding::percent_decode_str(path);
    decoded.decode_utf8().expect("a key").into_owned()
}

/// What stands in an element.
fn between(xml: &str, element: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{element}>"))?;
    let (text, _) = rest.split_once(&format!("</{element}>"))?;
    Some(text.to_owned())
}

fn rename(headers: &mut HeaderMap, from: &str, to: &str) {
    let named: Vec<_> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(from))
        .cloned()
        .collect();
    for name in named {
        let renamed = name.as_str().replacen(from, to, 1);
        let renamed: HeaderName = renamed.parse().expect("a header");
        let values: Vec<_> = headers.get_all(&name).iter().cloned().collect();
        headers.remove(&name);
        for value in values {
            headers.append(renamed.clone(), value);
        }
    }
}
