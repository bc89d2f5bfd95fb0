//! Listings of objects, by page.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as TOKEN};
use hyper::Response;
use s3s::Body;
use serde::Serialize;

use crate::bucket::{Object, Page, Query};

use super::Google;
use super::answer::{quoted, xml_date};
use super::ask::Ask;
use super::conditions::METAGENERATION;
use super::refusal::{Answered, Refusal, invalid_argument};
use super::xml::{self, Spelling};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListBucketResult<'a> {
    name: &'a str,
    prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    delimiter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continuation_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_continuation_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_type: Option<&'a str>,
    key_count: usize,
    max_keys: usize,
    is_truncated: bool,
    contents: Vec<Contents>,
    common_prefixes: Vec<CommonPrefix>,
}

/// S3 tells the storage class here. Google does not.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    key: String,
    generation: u64,
    meta_generation: u64,
    last_modified: String,
    #[serde(rename = "ETag")]
    e_tag: String,
    size: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CommonPrefix {
    prefix: String,
}

impl Google {
    pub(crate) fn list_objects(&self, ask: &Ask) -> Answered<Response<Body>> {
        let spelling = Spelling::asked(ask.parameter("encoding-type"))?;
        let token = ask.parameter("continuation-token");
        let resume_after = token.map(read_token).transpose()?;
        let limit = ask.limit("max-keys")?;
        let page = self.bucket().list(&Query {
            prefix: ask.parameter("prefix").unwrap_or_default(),
            delimiter: ask.parameter("delimiter"),
            start_after: ask.parameter("start-after").unwrap_or_default(),
            resume_after: resume_after.as_deref(),
            limit,
        });
        let result = result_of(ask, page, limit, &spelling);
        Ok(xml::response(xml::document("ListBucketResult", &result)))
    }
}

fn result_of<'a>(
    ask: &'a Ask,
    page: Page,
    limit: usize,
    spelling: &Spelling,
) -> ListBucketResult<'a> {
    let spelled = |name| ask.parameter(name).map(|text| spelling.of(text));
    let objects = page.objects.iter();
    let prefixes = page.prefixes.iter();
    ListBucketResult {
        name: &ask.bucket,
        prefix: spelled("prefix").unwrap_or_default(),
        delimiter: spelled("delimiter"),
        start_after: spelled("start-after"),
        continuation_token: ask.parameter("continuation-token"),
        is_truncated: page.resume_after.is_some(),
        next_continuation_token: page.resume_after.map(|key| TOKEN.encode(key)),
        encoding_type: spelling.name(),
        key_count: page.objects.len() + page.prefixes.len(),
        max_keys: limit,
        contents: objects
            .map(|(key, object)| entry(spelling.of(key), object))
            .collect(),
        common_prefixes: prefixes
            .map(|prefix| CommonPrefix {
                prefix: spelling.of(prefix),
            })
            .collect(),
    }
}

fn entry(key: String, object: &Object) -> Contents {
    Contents {
        key,
        generation: object.generation,
        meta_generation: METAGENERATION,
        last_modified: xml_date(object.modified),
        e_tag: quoted(&object.etag),
        size: object.content.len,
    }
}

/// A token is the last entry of the page before, in letters that mean nothing to a client.
fn read_token(token: &str) -> Answered<String> {
    let bytes = TOKEN.decode(token).map_err(|_| invalid_token())?;
    String::from_utf8(bytes).map_err(|_| invalid_token())
}

fn invalid_token() -> Refusal {
    invalid_argument("continuation-token")
}
