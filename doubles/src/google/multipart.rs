//! Uploads in parts: begun, filled, and completed or aborted.

use hyper::header::ETAG;
use hyper::{Response, StatusCode};
use s3s::Body;
use s3s::dto::ETag;
use serde::{Deserialize, Serialize};

use crate::bucket::{Bucket, Conditions, Part, hex};

use super::Google;
use super::answer::{attributes, identity, quoted, retag, value};
use super::ask::Ask;
use super::checksums::{Claims, crc32c, crc32c_kept, hashes_of_part, joined, kept};
use super::objects::receive;
use super::refusal::{Answered, invalid_argument};
use super::xml;

const MOST_PARTS: i32 = 10_000;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct InitiateMultipartUploadResult<'a> {
    bucket: &'a str,
    key: &'a str,
    upload_id: String,
}

#[derive(Deserialize)]
struct CompleteMultipartUpload {
    #[serde(rename = "Part", default)]
    parts: Vec<NamedPart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedPart {
    #[serde(rename = "PartNumber")]
    number: i32,
    #[serde(rename = "ETag")]
    e_tag: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CompleteMultipartUploadResult<'a> {
    location: String,
    bucket: &'a str,
    key: &'a str,
    #[serde(rename = "ETag")]
    e_tag: String,
}

impl Google {
    pub(crate) fn begin_upload(&self, ask: &Ask) -> Answered<Response<Body>> {
        let upload_id = self.bucket().begin(&ask.key, attributes(&ask.headers)?);
        let result = InitiateMultipartUploadResult {
            bucket: &ask.bucket,
            key: &ask.key,
            upload_id,
        };
        let document = xml::document("InitiateMultipartUploadResult", &result);
        Ok(xml::response(document))
    }

    pub(crate) async fn upload_part(&self, ask: &Ask, body: Body) -> Answered<Response<Body>> {
        let id = ask.required("uploadId")?;
        let number = part_number(ask)?;
        let claims = Claims::in_headers(&ask.headers)?;
        let content = receive(body).await?;
        let crc32c = crc32c(&content);
        let part = Part::new(content, kept(crc32c));
        claims.check(&part.md5, crc32c)?;
        let answer = part_answer(&part, crc32c);
        let mut bucket = self.bucket();
        let upload = bucket.upload(&ask.key, id)?;
        upload.parts.insert(number, part);
        Ok(answer)
    }

    /// Replaces what is there, whatever it is: uploads in parts have no conditions.
    pub(crate) async fn complete_upload(&self, ask: &Ask, body: Body) -> Answered<Response<Body>> {
        let id = ask.required("uploadId")?;
        let request: CompleteMultipartUpload = xml::read(body).await?;
        let named = request.named();
        let mut bucket = self.bucket();
        let crc32c = crc32c_of_parts(&mut bucket, ask, &named)?;
        bucket.complete(&ask.key, id, &named, &Conditions::default())?;
        let object = retag(&mut bucket, &ask.key);
        object.checksum = kept(crc32c);
        let headers = identity(object);
        let result = CompleteMultipartUploadResult {
            location: format!("/{}/{}", ask.bucket, ask.key),
            bucket: &ask.bucket,
            key: &ask.key,
            e_tag: quoted(&object.etag),
        };
        let document = xml::document("CompleteMultipartUploadResult", &result);
        Ok(xml::response_about(document, headers))
    }

    pub(crate) fn abort_upload(&self, ask: &Ask) -> Answered<Response<Body>> {
        let id = ask.required("uploadId")?;
        self.bucket().abort(&ask.key, id)?;
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }
}

impl CompleteMultipartUpload {
    fn named(self) -> Vec<(i32, ETag)> {
        let bare = |tag: &str| ETag::Strong(tag.trim_matches('"').to_owned());
        let parts = self.parts.into_iter();
        parts.map(|part| (part.number, bare(&part.e_tag))).collect()
    }
}

fn part_number(ask: &Ask) -> Answered<i32> {
    let number = ask.number("partNumber")?;
    let number = number.filter(|number| (1..=MOST_PARTS).contains(number));
    number.ok_or_else(|| {
        invalid_argument("Part number must be an integer between 1 and 10000, inclusive.")
    })
}

fn part_answer(part: &Part, crc32c: u32) -> Response<Body> {
    let mut response = Response::default();
    let headers = response.headers_mut();
    headers.insert(ETAG, value(&quoted(&hex(&part.md5))));
    headers.insert("x-goog-hash", value(&hashes_of_part(&part.md5, crc32c)));
    response
}

/// The checksum of the object that these parts become. Parts that aren't there are the bucket's to refuse.
fn crc32c_of_parts(bucket: &mut Bucket, ask: &Ask, named: &[(i32, ETag)]) -> Answered<u32> {
    let upload = bucket.upload(&ask.key, ask.required("uploadId")?)?;
    let parts = named
        .iter()
        .filter_map(|(number, _)| upload.parts.get(number));
    let sums = parts.map(|part| {
        let sum = crc32c_kept(&part.checksum, &part.content);
        (sum, part.content.len)
    });
    Ok(joined(sums))
}
