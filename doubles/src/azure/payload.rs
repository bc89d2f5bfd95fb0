//! Bodies of requests, held against what their headers say about them.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures::TryStreamExt as _;
use hyper::HeaderMap;
use s3s::Body;
use s3s::crypto::{Checksum as _, Crc64Nvme};

use crate::bucket::Content;

use super::failure::{Failure, INVALID_INPUT, invalid_header};
use super::headers::{check_md5, text};

/// A body that is what its headers say.
pub(crate) struct Payload {
    pub(crate) content: Content,
    /// Which checksum the answer is to repeat: the one that was claimed, or else the CRC64.
    pub(crate) checked: (&'static str, String),
}

/// Reads a whole body.
pub(crate) async fn receive(body: Body, headers: &HeaderMap) -> Result<Payload, Failure> {
    if !headers.contains_key("content-length") {
        let message = "The content length HTTP header was not specified.";
        return Err(Failure::new(411, "MissingContentLengthHeader", message));
    }
    let chunks = body.try_collect().await.map_err(|_| INVALID_INPUT)?;
    let content = Content::new(chunks);
    let checked = checked(&content, headers)?;
    Ok(Payload { content, checked })
}

fn checked(content: &Content, headers: &HeaderMap) -> Result<(&'static str, String), Failure> {
    let md5 = text(headers, "content-md5")?;
    let crc = text(headers, "x-ms-content-crc64")?;
    match (md5, crc) {
        (Some(_), Some(_)) => Err(BOTH_CHECKSUMS),
        (Some(claimed), None) => Ok(("content-md5", check_claimed_md5(content, claimed)?)),
        (None, claimed) => Ok(("x-ms-content-crc64", check_claimed_crc(content, claimed)?)),
    }
}

fn check_claimed_md5(content: &Content, claimed: &str) -> Result<String, Failure> {
    check_md5(claimed)?;
    let actual = BASE64.encode(content.md5());
    if actual == claimed {
        return Ok(actual);
    }
    Err(MD5_MISMATCH
        .with("UserSpecifiedMd5", claimed)
        .with("ServerCalculatedMd5", actual))
}

fn check_claimed_crc(content: &Content, claimed: Option<&str>) -> Result<String, Failure> {
    let actual = crc64(content);
    let Some(claimed) = claimed else {
        return Ok(actual);
    };
    if !BASE64.decode(claimed).is_ok_and(|crc| crc.len() == 8) {
        return Err(invalid_header("x-ms-content-crc64"));
    }
    if actual == claimed {
        return Ok(actual);
    }
    Err(CRC_MISMATCH
        .with("UserSpecifiedCrc", claimed)
        .with("ServerCalculatedCrc", actual))
}

/// Azure's CRC64 is that of `NVMe`, written with its lowest byte first.
pub(crate) fn crc64(content: &Content) -> String {
    let mut crc = Crc64Nvme::new();
    for chunk in content.chunks() {
        crc.update(chunk);
    }
    let mut crc = crc.finalize();
    crc.reverse();
    BASE64.encode(crc)
}

const BOTH_CHECKSUMS: Failure = Failure::new(
    400,
    "BothCrc64AndMd5HeaderPresent",
    "Both x-ms-content-crc64 header and Content-MD5 header are present.",
);

const MD5_MISMATCH: Failure = Failure::new(
    400,
    "Md5Mismatch",
    "The MD5 value specified in the request did not match with the MD5 value calculated by the \
     server.",
);

const CRC_MISMATCH: Failure = Failure::new(
    400,
    "Crc64Mismatch",
    "The CRC64 value specified in the request did not match with the CRC64 value calculated by the \
     server.",
);
