//! What each request asks for, and its answer.

use std::fmt::Write;
use std::io;
use std::ops::Range;

use doubles::http::Body;
use hyper::header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderName, HeaderValue, LAST_MODIFIED};
use hyper::{Method, Response, StatusCode};

use super::bucket::{Bucket, Condition, Object, Refused, quoted};
use super::listing::{self, escape};
use super::request::{Request, announced, blank, decode, empty, error, kept, xml};
use super::synthetic;

/// What the gateway compares a download with.
const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-meta-ferrycrc64");

/// When every object was last changed.
const MODIFIED: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

pub(super) async fn answer(bucket: &Bucket, mut request: Request) -> io::Result<Response<Body>> {
    let answer = match request.method {
        Method::PUT => put(bucket, &mut request).await?,
        Method::POST => post(bucket, &mut request).await?,
        Method::GET | Method::HEAD if request.key.is_empty() => Ok(look(bucket, &request)),
        Method::GET => get(bucket, &request, true),
        Method::HEAD => get(bucket, &request, false),
        Method::DELETE => delete(bucket, &request),
        _ => Ok(error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed")),
    };
    Ok(answer.unwrap_or_else(refuse))
}

/// `PutObject`, `UploadPart`, and both of them from a copy.
async fn put(
    bucket: &Bucket,
    request: &mut Request,
) -> io::Result<Result<Response<Body>, Refused>> {
    let object = match request.header("x-amz-copy-source") {
        None => Ok(take(bucket, request).await?),
        Some(source) => copy(bucket, source, request.header("x-amz-copy-source-range")),
    };
    Ok(object.and_then(|object| place(bucket, request, object)))
}

/// Puts an object where the request wants it: in the bucket, or among the parts of an upload.
fn place(bucket: &Bucket, request: &Request, object: Object) -> Result<Response<Body>, Refused> {
    let tag = object.quoted_tag();
    let number = request.parameter("partNumber");
    let what = if let Some(number) = number.and_then(|number| number.parse().ok()) {
        let id = request.parameter("uploadId").unwrap_or_default();
        bucket.add(id, number, object)?;
        "Part"
    } else {
        bucket.put(&request.key, object, &condition(request))?;
        "Object"
    };
    if request.header("x-amz-copy-source").is_none() {
        return Ok(with(empty(StatusCode::OK), ETAG, &tag));
    }
    let tag = escape(&tag);
    Ok(xml(format!(
        "<Copy{what}Result><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
         <ETag>{tag}</ETag></Copy{what}Result>"
    )))
}

/// The body of a request as an object.
async fn take(bucket: &Bucket, request: &mut Request) -> io::Result<Object> {
    if !bucket.keep {
        let length = request.skip().await?;
        return Ok(bucket.object(length, Vec::new()));
    }
    let chunks = request.body().await?;
    let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    Ok(bucket.object(length, chunks))
}

/// What another object has, in the range `bytes=FIRST-LAST`.
fn copy(bucket: &Bucket, source: &str, range: Option<&str>) -> Result<Object, Refused> {
    let source = decode(source);
    let path = source.trim_start_matches('/');
    let key = path.split_once('/').map_or("", |(_bucket, key)| key);
    let object = bucket.get(key)?;
    let Range { start, end } = wanted(range, object.size).unwrap_or(0..object.size);
    Ok(bucket.object(end - start, object.slice(start, end)))
}

/// What is posted: the begin and the end of a multipart upload, and many deletions at once.
async fn post(
    bucket: &Bucket,
    request: &mut Request,
) -> io::Result<Result<Response<Body>, Refused>> {
    let body = request.body().await?.concat();
    let key = escape(&request.key);
    if request.parameter("delete").is_some() {
        let text = String::from_utf8_lossy(&body);
        return Ok(Ok(delete_many(bucket, &text)));
    }
    if request.parameter("uploads").is_some() {
        let id = bucket.begin(&request.key);
        return Ok(Ok(xml(format!(
            "<InitiateMultipartUploadResult><Bucket>bench</Bucket><Key>{key}</Key>\
             <UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        ))));
    }
    let Some(id) = request.parameter("uploadId") else {
        return Ok(Ok(error(StatusCode::NOT_IMPLEMENTED, "NotImplemented")));
    };
    let completed = bucket.complete(id, &condition(request));
    Ok(completed.map(|tag| {
        xml(format!(
            "<CompleteMultipartUploadResult><Bucket>bench</Bucket><Key>{key}</Key>\
             <ETag>{}</ETag></CompleteMultipartUploadResult>",
            escape(&quoted(tag))
        ))
    }))
}

/// Questions to the bucket itself: what is in it, and what is on its way into it.
fn look(bucket: &Bucket, request: &Request) -> Response<Body> {
    if request.method == Method::HEAD {
        return empty(StatusCode::OK);
    }
    if request.parameter("uploads").is_none() {
        return xml(listing::list(bucket, request));
    }
    let mut text = "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>".to_owned();
    for (key, id) in bucket.unfinished() {
        // Writing into a string can't fail.
        let _ = write!(
            text,
            "<Upload><Key>{}</Key><UploadId>{id}</UploadId>\
             <Initiated>2026-01-01T00:00:00.000Z</Initiated></Upload>",
            escape(&key)
        );
    }
    text.push_str("</ListMultipartUploadsResult>");
    xml(text)
}

fn get(bucket: &Bucket, request: &Request, with_body: bool) -> Result<Response<Body>, Refused> {
    let object = bucket.get(&request.key)?;
    let tag = object.quoted_tag();
    if request.header("if-match").is_some_and(|asked| asked != tag) {
        return Err(Refused::Precondition);
    }
    let range = request.header("range");
    let Some(Range { start, end }) = wanted(range, object.size) else {
        return Ok(error(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"));
    };
    let status = match range {
        Some(_) => StatusCode::PARTIAL_CONTENT,
        None => StatusCode::OK,
    };
    let response = match (with_body, object.chunks.is_empty()) {
        (false, _) => announced(status, end - start),
        (true, true) => blank(status, end - start),
        (true, false) => kept(status, object.slice(start, end)),
    };
    let response = with(response, ETAG, &tag);
    let response = with(response, LAST_MODIFIED, MODIFIED);
    let response = with(response, ACCEPT_RANGES, "bytes");
    let response = match synthetic::size(&request.key) {
        Some(_) => with(response, CHECKSUM, &synthetic::checksum(object.size)),
        None => response,
    };
    let last = end.saturating_sub(1);
    Ok(match range {
        None => response,
        Some(_) => with(
            response,
            CONTENT_RANGE,
            &format!("bytes {start}-{last}/{}", object.size),
        ),
    })
}

fn with(mut response: Response<Body>, name: HeaderName, value: &str) -> Response<Body> {
    // What we make up ourselves, a header can hold.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The bytes that a `Range` header asks for; `None` if there are none such.
fn wanted(header: Option<&str>, size: u64) -> Option<Range<u64>> {
    let Some(range) = header else {
        return Some(0..size);
    };
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.parse::<u64>().ok(), last.parse::<u64>().ok()) {
        (Some(first), Some(last)) => first..size.min(last.saturating_add(1)),
        (Some(first), None) => first..size,
        (None, Some(length)) => size.saturating_sub(length)..size,
        (None, None) => return None,
    };
    (!range.is_empty()).then_some(range)
}

fn delete(bucket: &Bucket, request: &Request) -> Result<Response<Body>, Refused> {
    match request.parameter("uploadId") {
        Some(id) => bucket.abort(id)?,
        None => bucket.delete(&request.key),
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

fn delete_many(bucket: &Bucket, order: &str) -> Response<Body> {
    let mut text = "<DeleteResult>".to_owned();
    for rest in order.split("<Key>").skip(1) {
        let Some((key, _)) = rest.split_once("</Key>") else {
            continue;
        };
        bucket.delete(&unescape(key));
        // Still escaped, as it came.
        let _ = write!(text, "<Deleted><Key>{key}</Key></Deleted>");
    }
    text.push_str("</DeleteResult>");
    xml(text)
}

fn unescape(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    let text = text.replace("&quot;", "\"").replace("&apos;", "'");
    text.replace("&amp;", "&")
}

fn condition(request: &Request) -> Condition {
    Condition {
        absent: request.header("if-none-match") == Some("*"),
        tag: request.header("if-match").map(str::to_owned),
    }
}

fn refuse(refused: Refused) -> Response<Body> {
    match refused {
        Refused::NoSuchKey => error(StatusCode::NOT_FOUND, "NoSuchKey"),
        Refused::NoSuchUpload => error(StatusCode::NOT_FOUND, "NoSuchUpload"),
        Refused::Precondition => error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        assert_eq!(wanted(None, 10), Some(0..10));
        assert_eq!(wanted(Some("bytes=2-4"), 10), Some(2..5));
        assert_eq!(wanted(Some("bytes=2-"), 10), Some(2..10));
        assert_eq!(wanted(Some("bytes=-3"), 10), Some(7..10));
        assert_eq!(wanted(Some("bytes=2-99"), 10), Some(2..10));
        assert_eq!(wanted(Some("bytes=10-"), 10), None);
    }
}
