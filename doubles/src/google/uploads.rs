//! Listings of uploads in parts that are not done, and of their parts.

use hyper::Response;
use s3s::Body;
use serde::Serialize;

use crate::bucket::{Part, Upload, hex};

use super::Google;
use super::answer::{quoted, xml_date};
use super::ask::Ask;
use super::refusal::Answered;
use super::xml::{self, Spelling};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListMultipartUploadsResult<'a> {
    bucket: &'a str,
    key_marker: String,
    upload_id_marker: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_key_marker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_upload_id_marker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_type: Option<&'a str>,
    prefix: String,
    max_uploads: usize,
    is_truncated: bool,
    #[serde(rename = "Upload")]
    uploads: Vec<UploadEntry>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct UploadEntry {
    key: String,
    upload_id: String,
    storage_class: String,
    initiated: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListPartsResult<'a> {
    bucket: &'a str,
    key: &'a str,
    upload_id: &'a str,
    storage_class: &'a str,
    part_number_marker: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_part_number_marker: Option<i32>,
    max_parts: usize,
    is_truncated: bool,
    #[serde(rename = "Part")]
    parts: Vec<PartEntry>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PartEntry {
    part_number: i32,
    last_modified: String,
    #[serde(rename = "ETag")]
    e_tag: String,
    size: u64,
}

impl Google {
    pub(crate) fn list_uploads(&self, ask: &Ask) -> Answered<Response<Body>> {
        let spelling = Spelling::asked(ask.parameter("encoding-type"))?;
        let limit = ask.limit("max-uploads")?;
        let bucket = self.bucket();
        let wanted = bucket
            .uploads
            .iter()
            .filter(|((key, id), _)| is_wanted(ask, key, id));
        let entries = wanted.map(|((key, id), upload)| upload_entry(&spelling, key, id, upload));
        let (uploads, is_truncated) = page(entries, limit);
        let last = uploads.last().filter(|_| is_truncated);
        let text = |name| ask.parameter(name).unwrap_or_default();
        let result = ListMultipartUploadsResult {
            bucket: &ask.bucket,
            key_marker: spelling.of(text("key-marker")),
            upload_id_marker: text("upload-id-marker"),
            next_key_marker: last.map(|last| last.key.clone()),
            next_upload_id_marker: last.map(|last| last.upload_id.clone()),
            encoding_type: spelling.name(),
            prefix: spelling.of(text("prefix")),
            max_uploads: limit,
            is_truncated,
            uploads,
        };
        let document = xml::document("ListMultipartUploadsResult", &result);
        Ok(xml::response(document))
    }

    pub(crate) fn list_parts(&self, ask: &Ask) -> Answered<Response<Body>> {
        let limit = ask.limit("max-parts")?;
        let marker = ask.number("part-number-marker")?.unwrap_or_default();
        let upload_id = ask.required("uploadId")?;
        let mut bucket = self.bucket();
        let upload = bucket.upload(&ask.key, upload_id)?;
        let parts = upload.parts.iter().filter(|(number, _)| **number > marker);
        let (parts, is_truncated) = page(parts.map(part_entry), limit);
        let last = parts.last().filter(|_| is_truncated);
        let result = ListPartsResult {
            bucket: &ask.bucket,
            key: &ask.key,
            upload_id,
            storage_class: upload.attributes.class(),
            part_number_marker: marker,
            next_part_number_marker: last.map(|last| last.part_number),
            max_parts: limit,
            is_truncated,
            parts,
        };
        Ok(xml::response(xml::document("ListPartsResult", &result)))
    }
}

/// Whether an upload comes after the markers, and has the prefix. An upload's marker needs a key's.
fn is_wanted(ask: &Ask, key: &str, id: &str) -> bool {
    let markers = (
        ask.parameter("key-marker"),
        ask.parameter("upload-id-marker"),
    );
    let is_after = match markers {
        (Some(key_marker), Some(id_marker)) => (key, id) > (key_marker, id_marker),
        (Some(key_marker), None) => key > key_marker,
        (None, _) => true,
    };
    is_after && key.starts_with(ask.parameter("prefix").unwrap_or_default())
}

/// So many entries at most, and whether there are more.
fn page<T>(entries: impl Iterator<Item = T>, limit: usize) -> (Vec<T>, bool) {
    let mut entries: Vec<T> = entries.take(limit + 1).collect();
    let is_truncated = entries.len() > limit;
    entries.truncate(limit);
    (entries, is_truncated)
}

fn upload_entry(spelling: &Spelling, key: &str, id: &str, upload: &Upload) -> UploadEntry {
    UploadEntry {
        key: spelling.of(key),
        upload_id: id.to_owned(),
        storage_class: upload.attributes.class().to_owned(),
        initiated: xml_date(upload.begun),
    }
}

fn part_entry((number, part): (&i32, &Part)) -> PartEntry {
    PartEntry {
        part_number: *number,
        last_modified: xml_date(part.modified),
        e_tag: quoted(&hex(&part.md5)),
        size: part.content.len,
    }
}
