//! Refusals, in Google's words.

use hyper::header::{CONTENT_RANGE, HeaderValue};
use hyper::{Response, StatusCode};
use s3s::{Body, S3Error};
use serde::Serialize;

use super::xml;

pub(crate) type Answered<T> = Result<T, Refusal>;

/// Why a request is not done.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: String,
    message: String,
    details: Option<String>,
    /// The size of an object of which no such range is there.
    size: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Error<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a str>,
}

impl Refusal {
    fn new(status: StatusCode, code: &str, message: &str) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.to_owned(),
            details: None,
            size: None,
        }
    }

    fn because(self, details: impl Into<String>) -> Self {
        Self {
            details: Some(details.into()),
            ..self
        }
    }

    /// What Google says with a status that the test has planned.
    pub(crate) fn planned(status: u16) -> Self {
        let (code, message) = words_of(status);
        let status = StatusCode::from_u16(status).expect("a planned status");
        Self::new(status, code, message).because("Planned by the test.")
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let body = xml::document(
            "Error",
            &Error {
                code: &self.code,
                message: &self.message,
                details: self.details.as_deref(),
            },
        );
        let mut response = xml::response(body);
        *response.status_mut() = self.status;
        if let Some(size) = self.size {
            let range = HeaderValue::try_from(format!("bytes */{size}")).expect("digits");
            response.headers_mut().insert(CONTENT_RANGE, range);
        }
        response
    }
}

/// The bucket refuses in S3's words, which are Google's too.
impl From<S3Error> for Refusal {
    fn from(error: S3Error) -> Self {
        let status = error.status_code().unwrap_or(StatusCode::BAD_REQUEST);
        let message = error.message().unwrap_or_default();
        Self::new(status, error.code().as_str(), message)
    }
}

fn words_of(status: u16) -> (&'static str, &'static str) {
    match status {
        401 => ("AuthenticationRequired", "Authentication required."),
        403 => ("AccessDenied", "Access denied."),
        404 => ("NoSuchKey", NO_SUCH_KEY),
        412 => ("PreconditionFailed", PRECONDITION_FAILED),
        429 => ("SlowDown", "Reduce your request rate."),
        501 => ("NotImplemented", NOT_IMPLEMENTED),
        503 => ("ServiceUnavailable", "Service unavailable."),
        400..=499 => ("InvalidArgument", "Invalid argument."),
        _ => (
            "InternalError",
            "We encountered an internal error. Please try again.",
        ),
    }
}

const NO_SUCH_KEY: &str = "The specified key does not exist.";
const PRECONDITION_FAILED: &str = "At least one of the pre-conditions you specified did not hold.";
const NOT_IMPLEMENTED: &str =
    "A header or query you provided requested a function that is not implemented.";

pub(crate) fn authentication_required() -> Refusal {
    let message = "Authentication required.";
    Refusal::new(StatusCode::UNAUTHORIZED, "AuthenticationRequired", message)
}

pub(crate) fn no_such_bucket() -> Refusal {
    let message = "The specified bucket does not exist.";
    Refusal::new(StatusCode::NOT_FOUND, "NoSuchBucket", message)
}

pub(crate) fn no_such_key(key: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "NoSuchKey", NO_SUCH_KEY)
        .because(format!("No such object: {key}"))
}

/// `condition` is the header or the element that did not hold.
pub(crate) fn precondition_failed(condition: &str) -> Refusal {
    let status = StatusCode::PRECONDITION_FAILED;
    Refusal::new(status, "PreconditionFailed", PRECONDITION_FAILED).because(condition)
}

pub(crate) fn invalid_range(asked: &str, size: u64) -> Refusal {
    let message = "The requested range cannot be satisfied.";
    let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", message);
    Refusal {
        size: Some(size),
        ..refusal.because(asked)
    }
}

pub(crate) fn invalid_argument(details: impl Into<String>) -> Refusal {
    bad_request("InvalidArgument", "Invalid argument.").because(details)
}

pub(crate) fn invalid_uri() -> Refusal {
    bad_request("InvalidURI", "Couldn't parse the specified URI.")
}

pub(crate) fn malformed_xml(details: impl Into<String>) -> Refusal {
    let message = "The XML you provided was not well-formed or did not validate against our published schema.";
    bad_request("MalformedXML", message).because(details)
}

pub(crate) fn incomplete_body(details: impl Into<String>) -> Refusal {
    let message =
        "You did not provide the number of bytes specified by the Content-Length HTTP header.";
    bad_request("IncompleteBody", message).because(details)
}

/// A checksum that is none.
pub(crate) fn invalid_digest(claimed: &str) -> Refusal {
    let message = "The Content-MD5 or checksum value that you specified is not valid.";
    bad_request("InvalidDigest", message).because(claimed)
}

/// A checksum of other bytes than those that came.
pub(crate) fn bad_digest(kind: &str, claimed: &str, calculated: &str) -> Refusal {
    let message = "The Content-MD5 or x-goog-hash you specified did not match what we received.";
    bad_request("BadDigest", message).because(format!(
        "Provided {kind} \"{claimed}\" doesn't match calculated {kind} \"{calculated}\"."
    ))
}

pub(crate) fn missing_content_length() -> Refusal {
    let message = "You must provide the Content-Length HTTP header.";
    Refusal::new(StatusCode::LENGTH_REQUIRED, "MissingContentLength", message)
}

/// What the double does not know.
pub(crate) fn not_implemented(what: &str) -> Refusal {
    let status = StatusCode::NOT_IMPLEMENTED;
    Refusal::new(status, "NotImplemented", NOT_IMPLEMENTED).because(what)
}

fn bad_request(code: &str, message: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, code, message)
}
