//! Copies within the bucket.

use hyper::{HeaderMap, Response};
use s3s::Body;
use serde::Serialize;

use crate::bucket::{Attributes, Bucket, Object, now};

use super::Google;
use super::answer::{attributes, class_asked, identity, quoted, retag, stored, xml_date};
use super::ask::{Ask, address, header, number_in_header};
use super::checksums::{crc32c_of_object, kept, md5_in_tag};
use super::conditions::{Generations, Validators};
use super::objects::live;
use super::refusal::{Answered, invalid_argument};
use super::xml;

const DIRECTIVE: &str = "x-goog-metadata-directive";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CopyObjectResult {
    last_modified: String,
    #[serde(rename = "ETag")]
    e_tag: String,
}

impl Google {
    pub(crate) fn copy_object(&self, ask: &Ask) -> Answered<Response<Body>> {
        let source = header(&ask.headers, "x-goog-copy-source")?.unwrap_or_default();
        let (source_bucket, source) = address(source)?;
        self.check_name(&source_bucket)?;
        let attributes = new_attributes(&ask.headers)?;
        if source == ask.key && attributes.is_none() {
            return Err(invalid_argument(format!(
                "{DIRECTIVE}: an object is copied to itself with REPLACE only"
            )));
        }
        let mut bucket = self.bucket();
        let copy = copy_of(&mut bucket, &source, &ask.headers, attributes)?;
        Generations::of_target(&ask.headers)?.check(bucket.objects.get(&ask.key))?;
        Ok(answer(store(&mut bucket, &ask.key, copy)))
    }
}

/// What is said about the copy, if it is not what is said about its source.
fn new_attributes(headers: &HeaderMap) -> Answered<Option<Attributes>> {
    match header(headers, DIRECTIVE)? {
        None | Some("COPY") => Ok(None),
        Some("REPLACE") => attributes(headers).map(Some),
        Some(other) => Err(invalid_argument(format!("{DIRECTIVE}: {other}"))),
    }
}

fn copy_of(
    bucket: &mut Bucket,
    key: &str,
    headers: &HeaderMap,
    attributes: Option<Attributes>,
) -> Answered<Object> {
    let generation = number_in_header(headers, "x-goog-copy-source-generation")?;
    let source = live(bucket, key, generation)?;
    Generations::of_source(headers)?.check(Some(source))?;
    Validators::of_source(headers)?.check_source(source)?;
    let checksum = kept(crc32c_of_object(source));
    let attributes = match attributes {
        Some(new) => new,
        // The class of the source is not copied, whatever else is.
        None => Attributes {
            storage_class: class_asked(headers)?,
            ..source.attributes.clone()
        },
    };
    Ok(Object {
        content: source.content.clone(),
        etag: source.etag.clone(),
        generation: 0,
        modified: now(),
        attributes,
        checksum,
        blocks: Vec::new(),
    })
}

/// A tag that is no MD5 is of the generation, and a copy has one of its own.
fn store<'b>(bucket: &'b mut Bucket, key: &str, copy: Object) -> &'b mut Object {
    let has_md5 = md5_in_tag(&copy.etag).is_some();
    bucket.store(key, copy);
    if has_md5 {
        stored(bucket, key)
    } else {
        retag(bucket, key)
    }
}

fn answer(copy: &mut Object) -> Response<Body> {
    let result = CopyObjectResult {
        last_modified: xml_date(copy.modified),
        e_tag: quoted(&copy.etag),
    };
    xml::response_about(xml::document("CopyObjectResult", &result), identity(copy))
}
