//! The XML of requests and answers.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::Body;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::refusal::{Answered, invalid_argument, malformed_xml};

/// No list of parts or components is as long as that.
const LONGEST: usize = 4 << 20;

/// All but what an address may have as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

/// Reads the document in a request's body.
pub(crate) async fn read<T: DeserializeOwned>(mut body: Body) -> Answered<T> {
    let bytes = body.store_all_limited(LONGEST).await;
    let bytes = bytes.map_err(|error| malformed_xml(error.to_string()))?;
    quick_xml::de::from_reader(&bytes[..]).map_err(|error| malformed_xml(error.to_string()))
}

pub(crate) fn document(root: &str, content: &impl Serialize) -> String {
    let xml = quick_xml::se::to_string_with_root(root, content).expect("an answer in XML");
    format!("<?xml version='1.0' encoding='UTF-8'?>{xml}")
}

pub(crate) fn response(document: String) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from(document)));
    let kind = HeaderValue::from_static("application/xml; charset=UTF-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// A document about an object, with the object's headers.
pub(crate) fn response_about(document: String, headers: HeaderMap) -> Response<Body> {
    let mut response = response(document);
    response.headers_mut().extend(headers);
    response
}

/// How keys are written in a listing: as they are, or percent-encoded where the request asks for it.
pub(crate) struct Spelling(bool);

impl Spelling {
    pub(crate) fn asked(encoding: Option<&str>) -> Answered<Self> {
        match encoding {
            None => Ok(Self(false)),
            Some("url") => Ok(Self(true)),
            Some(other) => Err(invalid_argument(format!("encoding-type: {other}"))),
        }
    }

    /// What the answer says about it.
    pub(crate) fn name(&self) -> Option<&'static str> {
        self.0.then_some("url")
    }

    pub(crate) fn of(&self, key: &str) -> String {
        if self.0 {
            utf8_percent_encode(key, ENCODED).to_string()
        } else {
            key.to_owned()
        }
    }
}
