//! What each request asks for, and its answer.

use std::fmt::Write;
use std::io;
use std::ops::Range;

use super::bucket::{Bucket, Condition, Object, Refused, quoted};
use super::http::{Body, Connection, Request, Response, decode};
use super::listing::{self, escape};

/// When every object was last changed.
const MODIFIED: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

pub(super) async fn answer(
    bucket: &Bucket,
    connection: &mut Connection,
    request: &Request,
) -> io::Result<Response> {
    let answer = match request.method.as_str() {
        "PUT" => put(bucket, connection, request).await?,
        "POST" => post(bucket, connection, request).await?,
        method => {
            connection.skip(request.length).await?;
            match method {
                "GET" | "HEAD" if request.key.is_empty() => Ok(look(bucket, request)),
                "GET" => get(bucket, request, true),
                "HEAD" => get(bucket, request, false),
                "DELETE" => delete(bucket, request),
                _ => Ok(Response::error(405, "MethodNotAllowed")),
            }
        }
    };
    Ok(answer.unwrap_or_else(refuse))
}

/// `PutObject`, `UploadPart`, and both of them from a copy.
async fn put(
    bucket: &Bucket,
    connection: &mut Connection,
    request: &Request,
) -> io::Result<Result<Response, Refused>> {
    let object = match request.header("x-amz-copy-source") {
        None => Ok(take(bucket, connection, request.length).await?),
        Some(source) => {
            connection.skip(request.length).await?;
            copy(bucket, source, request.header("x-amz-copy-source-range"))
        }
    };
    Ok(object.and_then(|object| place(bucket, request, object)))
}

/// Puts an object where the request wants it: in the bucket, or among the parts of an upload.
fn place(bucket: &Bucket, request: &Request, object: Object) -> Result<Response, Refused> {
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
        return Ok(Response::empty(200).with("etag", tag));
    }
    let tag = escape(&tag);
    Ok(Response::text(format!(
        "<Copy{what}Result><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
         <ETag>{tag}</ETag></Copy{what}Result>"
    )))
}

/// The body of a request as an object.
async fn take(bucket: &Bucket, connection: &mut Connection, length: u64) -> io::Result<Object> {
    if bucket.keep {
        let bytes = connection.body(length).await?;
        return Ok(bucket.object(length, vec![bytes]));
    }
    connection.skip(length).await?;
    Ok(bucket.object(length, Vec::new()))
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
    connection: &mut Connection,
    request: &Request,
) -> io::Result<Result<Response, Refused>> {
    let body = connection.body(request.length).await?;
    let key = escape(&request.key);
    if request.parameter("delete").is_some() {
        let text = String::from_utf8_lossy(&body);
        return Ok(Ok(delete_many(bucket, &text)));
    }
    if request.parameter("uploads").is_some() {
        let id = bucket.begin(&request.key);
        return Ok(Ok(Response::text(format!(
            "<InitiateMultipartUploadResult><Bucket>bench</Bucket><Key>{key}</Key>\
             <UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        ))));
    }
    let Some(id) = request.parameter("uploadId") else {
        return Ok(Ok(Response::error(501, "NotImplemented")));
    };
    let completed = bucket.complete(id, &condition(request));
    Ok(completed.map(|tag| {
        Response::text(format!(
            "<CompleteMultipartUploadResult><Bucket>bench</Bucket><Key>{key}</Key>\
             <ETag>{}</ETag></CompleteMultipartUploadResult>",
            escape(&quoted(tag))
        ))
    }))
}

/// Questions to the bucket itself: what is in it, and what is on its way into it.
fn look(bucket: &Bucket, request: &Request) -> Response {
    if request.method == "HEAD" {
        return Response::empty(200);
    }
    if request.parameter("uploads").is_none() {
        return Response::text(listing::list(bucket, request));
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
    Response::text(text)
}

fn get(bucket: &Bucket, request: &Request, with_body: bool) -> Result<Response, Refused> {
    let object = bucket.get(&request.key)?;
    let tag = object.quoted_tag();
    if request.header("if-match").is_some_and(|asked| asked != tag) {
        return Err(Refused::Precondition);
    }
    let range = request.header("range");
    let Some(Range { start, end }) = wanted(range, object.size) else {
        return Ok(Response::error(416, "InvalidRange"));
    };
    let body = match (with_body, object.chunks.is_empty()) {
        (false, _) => Body::Announced(end - start),
        (true, true) => Body::Blank(end - start),
        (true, false) => Body::Kept(object.slice(start, end)),
    };
    let response = Response::new(if range.is_some() { 206 } else { 200 }, body)
        .with("etag", tag)
        .with("last-modified", MODIFIED)
        .with("accept-ranges", "bytes");
    Ok(match range {
        None => response,
        Some(_) => response.with(
            "content-range",
            format!("bytes {start}-{}/{}", end.saturating_sub(1), object.size),
        ),
    })
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

fn delete(bucket: &Bucket, request: &Request) -> Result<Response, Refused> {
    match request.parameter("uploadId") {
        Some(id) => bucket.abort(id)?,
        None => bucket.delete(&request.key),
    }
    Ok(Response::empty(204))
}

fn delete_many(bucket: &Bucket, order: &str) -> Response {
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
    Response::text(text)
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

fn refuse(refused: Refused) -> Response {
    match refused {
        Refused::NoSuchKey => Response::error(404, "NoSuchKey"),
        Refused::NoSuchUpload => Response::error(404, "NoSuchUpload"),
        Refused::Precondition => Response::error(412, "PreconditionFailed"),
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
