//! What a request asks for, taken apart, and the answers that it may get.

use std::io;

use bytes::Bytes;
use doubles::http::Body;
use futures::{StreamExt, stream};
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use hyper::{Method, Response, StatusCode};
use percent_encoding::percent_decode_str;

/// Blank bytes are sent in chunks of this many.
const BLOCK: usize = 1024 * 1024;

static BLANK: [u8; BLOCK] = [0; BLOCK];

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// What comes after the bucket's name; empty for the bucket itself.
    pub(super) key: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Body,
}

impl Request {
    pub(super) fn new(request: hyper::Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().trim_start_matches('/');
        let (_bucket, key) = path.split_once('/').unwrap_or((path, ""));
        Self {
            method: parts.method,
            key: decode(key),
            query: parameters(parts.uri.query().unwrap_or_default()),
            headers: parts.headers,
            body,
        }
    }

    /// A header, by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A parameter behind the question mark.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let (_, value) = self.query.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// The body, to keep.
    pub(super) async fn body(&mut self) -> io::Result<Vec<Bytes>> {
        let mut chunks = Vec::new();
        while let Some(chunk) = self.body.next().await {
            chunks.push(chunk.map_err(io::Error::other)?);
        }
        Ok(chunks)
    }

    /// Throws the body away. How long it was.
    pub(super) async fn skip(&mut self) -> io::Result<u64> {
        let mut length = 0;
        while let Some(chunk) = self.body.next().await {
            length += chunk.map_err(io::Error::other)?.len() as u64;
        }
        Ok(length)
    }
}

pub(super) fn empty(status: StatusCode) -> Response<Body> {
    answer(status, Body::empty())
}

pub(super) fn xml(text: String) -> Response<Body> {
    answer(StatusCode::OK, Body::from(text))
}

/// An error as S3 words it.
pub(super) fn error(status: StatusCode, code: &str) -> Response<Body> {
    let text = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
    answer(status, Body::from(text))
}

pub(super) fn answer(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// The answer to `HEAD`: no body, although so many bytes are announced.
pub(super) fn announced(status: StatusCode, length: u64) -> Response<Body> {
    let mut response = empty(status);
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

/// An answer of kept bytes.
pub(super) fn kept(status: StatusCode, chunks: Vec<Bytes>) -> Response<Body> {
    let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    streamed(status, length, stream::iter(chunks))
}

/// An answer of this many blank bytes.
pub(super) fn blank(status: StatusCode, length: u64) -> Response<Body> {
    let block = BLOCK as u64;
    let blocks = (0..length.div_ceil(block)).map(move |index| {
        let rest = (length - index * block).min(block);
        Bytes::from_static(&BLANK[..usize::try_from(rest).unwrap_or(BLOCK)])
    });
    streamed(status, length, stream::iter(blocks))
}

fn streamed(
    status: StatusCode,
    length: u64,
    chunks: impl futures::Stream<Item = Bytes> + Send + Sync + 'static,
) -> Response<Body> {
    let chunks = chunks.map(Ok::<_, io::Error>);
    let mut response = answer(status, doubles::http::stream(chunks));
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

fn parameters(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(&value.replace('+', " "))))
        .collect()
}

/// Undoes percent-encoding.
pub(super) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str) -> Request {
        let request = hyper::Request::builder().uri(target);
        Request::new(request.body(Body::empty()).unwrap())
    }

    #[test]
    fn a_request_is_taken_apart() {
        let request = request("/b/a%20b/c?partNumber=2&uploadId=x%2F");
        assert_eq!(request.key, "a b/c");
        assert_eq!(request.parameter("uploadId"), Some("x/"));
        assert_eq!(request.parameter("uploads"), None);
    }

    #[test]
    fn the_bucket_itself_has_no_key() {
        let request = request("/b?list-type=2");
        assert_eq!(request.key, "");
        assert_eq!(request.parameter("list-type"), Some("2"));
    }
}
