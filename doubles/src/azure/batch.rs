//! Many deletes in one request. Each is a request of its own inside the body, signed by itself.

use std::fmt::Write as _;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Response, StatusCode, Uri};

use super::answer::finish;
use super::blobs::delete;
use super::failure::{Failure, INVALID_INPUT, invalid_header, not_implemented};
use super::headers::text;
use super::operation::Operation;
use super::payload::receive;
use super::signature::Signed;
use super::target::{Query, Target};
use super::{Azure, Call, Outcome};

const MOST_PARTS: usize = 256;
const LARGEST_BODY: u64 = 4 * 1024 * 1024;

/// What divides the parts of the answer.
const BOUNDARY: &str = "batchresponse_66925647-d0cb-4109-b6d3-28efe3e1e5ed";

/// A request in the body.
struct Part {
    id: Option<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Azure {
    pub(super) async fn batch(&self, call: Call) -> Outcome {
        let kind = text(&call.headers, "content-type")?.unwrap_or_default();
        let boundary = kind.strip_prefix("multipart/mixed; boundary=");
        let boundary = boundary.ok_or_else(|| invalid_header("Content-Type"))?;
        let payload = receive(call.body, &call.headers).await?;
        if payload.content.len > LARGEST_BODY {
            return Err(TOO_LARGE);
        }
        let Some(parts) = parts(&payload.content.joined(), boundary) else {
            // Azure says so in the one part of a good answer.
            return Ok(answer(&[(None, Err(INVALID_INPUT))]));
        };
        if parts.len() > MOST_PARTS {
            return Err(TOO_MANY);
        }
        let results = parts.into_iter().map(|part| {
            let result = self.delete_part(&part);
            (part.id, result)
        });
        Ok(answer(&results.collect::<Vec<_>>()))
    }

    fn delete_part(&self, part: &Part) -> Result<(), Failure> {
        let query = Query::parse(part.uri.query().unwrap_or_default())?;
        Signed::new(&part.method, &part.uri, &query, &part.headers).check()?;
        let target = Target::parse(part.uri.path())?;
        let operation = Operation::of(&part.method, &target, &query, &part.headers)?;
        if operation != Operation::DeleteBlob {
            return Err(not_implemented("batches of anything but deletes"));
        }
        if target.container != self.name {
            return Err(INVALID_INPUT);
        }
        target.check_name()?;
        delete(&mut self.bucket(), &target.key, &part.headers)
    }
}

/// The parts of a body that is nothing else: no word before, between or after them.
fn parts(body: &[u8], boundary: &str) -> Option<Vec<Part>> {
    let divider = format!("--{boundary}");
    let body = std::str::from_utf8(body).ok()?;
    let body = body.strip_prefix(&divider)?;
    let mut parts: Vec<_> = body.split(&format!("\r\n{divider}")).collect();
    let end = parts.pop()?;
    if end.strip_prefix("--")?.trim_end() != "" || parts.is_empty() {
        return None;
    }
    parts.into_iter().map(part).collect()
}

fn part(text: &str) -> Option<Part> {
    let (head, request) = text.strip_prefix("\r\n")?.split_once("\r\n\r\n")?;
    let named = |wanted| {
        // Azure takes these names only as it writes them itself.
        let mut lines = head.split("\r\n").filter_map(|line| line.split_once(": "));
        lines
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value)
    };
    if named("Content-Type") != Some("application/http")
        || named("Content-Transfer-Encoding") != Some("binary")
    {
        return None;
    }
    let mut lines = request.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, uri) = (first.next()?, first.next()?);
    let lines = lines.take_while(|line| !line.is_empty());
    Some(Part {
        id: named("Content-ID").map(str::to_owned),
        method: method.parse().ok()?,
        uri: uri.parse().ok()?,
        headers: lines.map(header).collect::<Option<_>>()?,
    })
}

fn header(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(": ")?;
    Some((name.parse().ok()?, value.parse().ok()?))
}

fn answer(results: &[(Option<String>, Result<(), Failure>)]) -> Response<s3s::Body> {
    let mut body = String::new();
    for (id, result) in results {
        let _ = write!(body, "--{BOUNDARY}\r\nContent-Type: application/http\r\n");
        if let Some(id) = id {
            let _ = write!(body, "Content-ID: {id}\r\n");
        }
        body.push_str("\r\n");
        body.push_str(&sub_answer(result));
    }
    let _ = write!(body, "--{BOUNDARY}--");
    let kind = format!("multipart/mixed; boundary={BOUNDARY}");
    let builder = Response::builder().status(StatusCode::ACCEPTED);
    finish(builder.header("content-type", kind), body.into())
}

fn sub_answer(result: &Result<(), Failure>) -> String {
    let id = "778fdc83-801e-0000-62ff-0334671e284f";
    let general = format!("x-ms-request-id: {id}\r\nx-ms-version: 2023-11-03\r\n");
    let Err(failure) = result else {
        return format!(
            "HTTP/1.1 202 Accepted\r\nx-ms-delete-type-permanent: true\r\n{general}\r\n"
        );
    };
    let Failure {
        status,
        code,
        message,
        ..
    } = failure;
    let body = failure.body(id);
    let len = body.len();
    format!(
        "HTTP/1.1 {status} {message}\r\nx-ms-error-code: {code}\r\n{general}Content-Length: {len}\r\n\
         Content-Type: application/xml\r\n\r\n{body}\r\n"
    )
}

const TOO_LARGE: Failure = Failure::new(
    413,
    "RequestBodyTooLarge",
    "The request body is too large and exceeds the maximum permissible limit.",
);

const TOO_MANY: Failure = Failure::new(
    400,
    "ExceedsMaxBatchRequestCount",
    "The batch operation exceeds maximum number of allowed subrequests.",
);
