//! What requests say: the claims about their bodies, their conditions, ranges and part numbers.

use std::ops::Range;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures::TryStreamExt;
use s3s::checksum::ChecksumHasher;
use s3s::dto::{Checksum, CompletedMultipartUpload, ETag, ETagCondition, StreamingBlob, Timestamp};
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders, s3_error};

use crate::bucket::{Conditions, Content, Object, precondition_failed};

/// What a request says about its body.
pub(crate) struct Claims {
    pub(crate) md5: Option<String>,
    pub(crate) checksum: Checksum,
    pub(crate) trailers: Option<TrailingHeaders>,
}

/// Reads a body and holds it against what was said about it.
pub(crate) async fn receive(
    body: Option<StreamingBlob>,
    claims: Claims,
) -> S3Result<(Content, Checksum)> {
    let body = body.ok_or_else(|| s3_error!(IncompleteBody))?;
    let content = Content::new(body.try_collect().await.map_err(broken_body)?);
    let checksum = with_trailers(claims.checksum, claims.trailers.as_ref());
    if claims
        .md5
        .is_some_and(|md5| md5 != BASE64.encode(content.md5()))
    {
        return Err(s3_error!(
            BadDigest,
            "The Content-MD5 you specified did not match what we received."
        ));
    }
    if checksum != computed(&checksum, &content) {
        return Err(s3_error!(
            BadDigest,
            "The checksum you specified did not match the calculated checksum."
        ));
    }
    Ok((content, checksum))
}

/// A body that doesn't fit its signed hash arrives here as an error that knows what it is.
fn broken_body(error: s3s::StdError) -> S3Error {
    match error.downcast::<S3Error>() {
        Ok(error) => *error,
        // By its words: the type behind is private.
        Err(error) if error.to_string().contains("Sha256Mismatch") => {
            let code = S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into());
            let mut error = S3Error::with_message(code, "The payload is not what was signed.");
            error.set_status_code(hyper::StatusCode::BAD_REQUEST);
            error
        }
        Err(error) => s3_error!(IncompleteBody, "{error}"),
    }
}

/// The checksums of an object, with the one that S3 computes of all.
pub(crate) fn all_of(object: &Object) -> Checksum {
    let mut wanted = object.checksum.clone();
    if wanted.checksum_crc64nvme.is_some() {
        return wanted;
    }
    wanted = Checksum {
        checksum_crc64nvme: Some(String::new()),
        ..Checksum::default()
    };
    Checksum {
        checksum_crc64nvme: computed(&wanted, &object.content).checksum_crc64nvme,
        ..object.checksum.clone()
    }
}

/// Whether a whole object has the checksum that was claimed for it.
pub(crate) fn check_crc64nvme(claimed: &str, content: &Content) -> S3Result<()> {
    let like = Checksum {
        checksum_crc64nvme: Some(claimed.to_owned()),
        ..Checksum::default()
    };
    if computed(&like, content).checksum_crc64nvme.as_deref() == Some(claimed) {
        return Ok(());
    }
    Err(s3_error!(
        BadDigest,
        "The checksum you specified did not match the calculated checksum."
    ))
}

fn with_trailers(mut checksum: Checksum, trailers: Option<&TrailingHeaders>) -> Checksum {
    let Some(trailers) = trailers.and_then(TrailingHeaders::take) else {
        return checksum;
    };
    let read = |name: &str| {
        trailers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    checksum.checksum_crc32 = checksum
        .checksum_crc32
        .or_else(|| read("x-amz-checksum-crc32"));
    checksum.checksum_crc32c = checksum
        .checksum_crc32c
        .or_else(|| read("x-amz-checksum-crc32c"));
    checksum.checksum_crc64nvme = checksum
        .checksum_crc64nvme
        .or_else(|| read("x-amz-checksum-crc64nvme"));
    checksum.checksum_sha1 = checksum
        .checksum_sha1
        .or_else(|| read("x-amz-checksum-sha1"));
    checksum.checksum_sha256 = checksum
        .checksum_sha256
        .or_else(|| read("x-amz-checksum-sha256"));
    checksum
}

/// The checksums of `content` that `claimed` names.
pub(crate) fn computed(claimed: &Checksum, content: &Content) -> Checksum {
    let mut hasher = ChecksumHasher {
        crc32: like(claimed.checksum_crc32.as_ref()),
        crc32c: like(claimed.checksum_crc32c.as_ref()),
        crc64nvme: like(claimed.checksum_crc64nvme.as_ref()),
        sha1: like(claimed.checksum_sha1.as_ref()),
        sha256: like(claimed.checksum_sha256.as_ref()),
    };
    for chunk in content.chunks() {
        hasher.update(chunk);
    }
    hasher.finalize()
}

/// A hasher where a checksum is claimed.
fn like<H: Default>(claimed: Option<&String>) -> Option<H> {
    claimed.map(|_| H::default())
}

/// What a reader wants to hold of an object. A tag says more than a time, and wins over it.
#[allow(clippy::struct_field_names, reason = "the headers' own names")]
pub(crate) struct Preconditions<'a> {
    pub(crate) if_match: Option<&'a ETagCondition>,
    pub(crate) if_none_match: Option<&'a ETagCondition>,
    pub(crate) if_modified_since: Option<&'a Timestamp>,
    pub(crate) if_unmodified_since: Option<&'a Timestamp>,
}

impl Preconditions<'_> {
    pub(crate) fn check(&self, object: &Object) -> S3Result<()> {
        if !self.is_wanted(object) {
            return Err(precondition_failed());
        }
        if !self.is_news(object) {
            return Err(s3_error!(NotModified, "Not Modified"));
        }
        Ok(())
    }

    /// A copy has no reader who could have it already: both kinds fail alike.
    pub(crate) fn check_source(&self, object: &Object) -> S3Result<()> {
        if self.is_wanted(object) && self.is_news(object) {
            Ok(())
        } else {
            Err(precondition_failed())
        }
    }

    fn is_wanted(&self, object: &Object) -> bool {
        match (self.if_match, self.if_unmodified_since) {
            (Some(etag), _) => object.matches(etag),
            (None, Some(time)) => Timestamp::from(object.modified) <= *time,
            (None, None) => true,
        }
    }

    fn is_news(&self, object: &Object) -> bool {
        match (self.if_none_match, self.if_modified_since) {
            (Some(etag), _) => !object.matches(etag),
            (None, Some(time)) => Timestamp::from(object.modified) > *time,
            (None, None) => true,
        }
    }
}

/// The bytes that a read is about, and how `Content-Range` says so.
pub(crate) struct Span {
    pub(crate) range: Range<u64>,
    pub(crate) header: Option<String>,
}

impl Span {
    pub(crate) fn new(range: Option<s3s::dto::Range>, len: u64) -> S3Result<Self> {
        let Some(range) = range else {
            return Ok(Self {
                range: 0..len,
                header: None,
            });
        };
        let range = range.check(len)?;
        let header = format!("bytes {}-{}/{len}", range.start, range.end - 1);
        Ok(Self {
            range,
            header: Some(header),
        })
    }
}

pub(crate) fn read_token(token: &str) -> S3Result<String> {
    let invalid = || {
        s3_error!(
            InvalidArgument,
            "The continuation token provided is incorrect"
        )
    };
    let bytes = BASE64.decode(token).map_err(|_| invalid())?;
    String::from_utf8(bytes).map_err(|_| invalid())
}

pub(crate) fn check_part_number(number: i32) -> S3Result<()> {
    let invalid = || {
        s3_error!(
            InvalidArgument,
            "Part number must be an integer between 1 and 10000, inclusive"
        )
    };
    (1..=10_000)
        .contains(&number)
        .then_some(())
        .ok_or_else(invalid)
}

pub(crate) fn named_parts(upload: Option<CompletedMultipartUpload>) -> S3Result<Vec<(i32, ETag)>> {
    let malformed = || s3_error!(MalformedXML, "Each part needs its number and its ETag.");
    let parts = upload.and_then(|upload| upload.parts).unwrap_or_default();
    parts
        .into_iter()
        .map(|part| part.part_number.zip(part.e_tag).ok_or_else(malformed))
        .collect()
}

/// `bytes=first-last`, both given and both within the source: S3 takes no other form here.
pub(crate) fn copy_range(range: Option<&str>, len: u64) -> S3Result<Range<u64>> {
    let Some(range) = range else {
        return Ok(0..len);
    };
    let bounds = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'));
    let bounds = bounds.and_then(|(first, last)| first.parse().ok().zip(last.parse().ok()));
    match bounds {
        Some((first, last)) if first <= last && last < len => Ok(first..last + 1),
        _ => Err(s3_error!(
            InvalidArgument,
            "Range specified is not valid for source object of size: {len}"
        )),
    }
}

/// The conditions that `CopyObject` has on its destination, which the request type doesn't know yet.
pub(crate) fn conditions_in(headers: &hyper::HeaderMap) -> S3Result<Conditions> {
    let read = |name| {
        let value = headers
            .get(name)
            .map(|value| ETagCondition::parse_http_header(value.as_bytes()));
        value.transpose().map_err(|_| s3_error!(InvalidArgument))
    };
    Ok(Conditions {
        if_match: read("if-match")?,
        if_none_match: read("if-none-match")?,
    })
}
