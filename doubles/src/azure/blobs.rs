//! Whole blobs: put, got, described and deleted.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hyper::{HeaderMap, Response};
use s3s::Body;
use s3s::dto::Checksum;

use crate::bucket::{Attributes, Block, Bucket, Content, Object, now};

use super::answer::{created, description, finish, sent};
use super::conditions::{Conditions, Write};
use super::failure::{BLOB_NOT_FOUND, Failure, invalid_header, missing_header, not_implemented};
use super::headers::{attributes_of_whole, given_md5, range, text};
use super::ledger::Extras;
use super::payload::receive;
use super::tiers::{check_online, check_target};
use super::{Azure, Call, Outcome};

impl Azure {
    pub(super) async fn put_blob(&self, call: Call) -> Outcome {
        check_type(&call.headers)?;
        let attributes = attributes_of_whole(&call.headers)?;
        let conditions = Conditions::of(&call.headers)?;
        let given = given_md5(&call.headers)?;
        let payload = receive(call.body, &call.headers).await?;
        let actual = match payload.checked {
            ("content-md5", md5) => md5,
            _ => BASE64.encode(payload.content.md5()),
        };
        let object = blob(payload.content, attributes, Vec::new());
        let mut bucket = self.bucket();
        conditions.check_write(bucket.objects.get(&call.key), Write::Create)?;
        check_target(bucket.objects.get(&call.key))?;
        bucket.check_no_copy(&call.key)?;
        let extras = Extras {
            md5: Some(given.unwrap_or_else(|| actual.clone())),
            ..Extras::default()
        };
        bucket.write_blob(&call.key, object, extras);
        Ok(created(&bucket, &call.key, ("content-md5", actual)))
    }

    pub(super) fn get_blob(&self, call: &Call) -> Outcome {
        let mut bucket = self.bucket();
        look(&mut bucket, call)?;
        let object = &bucket.objects[&call.key];
        check_online(object)?;
        let len = object.content.len;
        let Some(range) = range(&call.headers, len)? else {
            return Ok(whole(&bucket, &call.key, sent(&object.content)));
        };
        let part = object.content.slice(&range);
        let mut builder = description(&bucket, &call.key, 206)
            .header("content-length", part.len)
            .header(
                "content-range",
                format!("bytes {}-{}/{len}", range.start, range.end - 1),
            );
        if let Some(md5) = md5(&bucket, &call.key) {
            // The blob's, not the range's.
            builder = builder.header("x-ms-blob-content-md5", md5);
        }
        Ok(finish(builder, sent(&part)))
    }

    pub(super) fn get_blob_properties(&self, call: &Call) -> Outcome {
        let mut bucket = self.bucket();
        look(&mut bucket, call)?;
        Ok(whole(&bucket, &call.key, Body::empty()))
    }

    pub(super) fn delete_blob(&self, call: &Call) -> Outcome {
        delete(&mut self.bucket(), &call.key, &call.headers)?;
        let builder = Response::builder().status(202);
        let builder = builder.header("x-ms-delete-type-permanent", "true");
        Ok(finish(builder, Body::empty()))
    }
}

/// A blob that is still to get its generation and tag.
pub(crate) fn blob(content: Content, attributes: Attributes, blocks: Vec<Block>) -> Object {
    Object {
        content,
        etag: String::new(),
        generation: 0,
        modified: now(),
        attributes,
        checksum: Checksum::default(),
        blocks,
    }
}

pub(crate) fn delete(bucket: &mut Bucket, key: &str, headers: &HeaderMap) -> Result<(), Failure> {
    check_snapshots(headers)?;
    let conditions = Conditions::of(headers)?;
    let checked = conditions.check_write(bucket.objects.get(key), Write::Delete);
    if !bucket.deletes_anyway {
        checked?;
    }
    if !bucket.objects.contains_key(key) {
        return Err(BLOB_NOT_FOUND);
    }
    bucket.check_no_copy(key)?;
    bucket.remove_blob(key);
    Ok(())
}

/// There are no snapshots here, so it makes no difference whether they go too.
fn check_snapshots(headers: &HeaderMap) -> Result<(), Failure> {
    let name = "x-ms-delete-snapshots";
    match text(headers, name)? {
        None | Some("include") => Ok(()),
        Some("only") => Err(not_implemented("snapshots")),
        Some(_) => Err(invalid_header(name)),
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Failure> {
    let name = "x-ms-blob-type";
    match text(headers, name)? {
        None => Err(missing_header(name)),
        Some("BlockBlob") => Ok(()),
        Some("AppendBlob" | "PageBlob") => Err(not_implemented("blobs other than block blobs")),
        Some(_) => Err(invalid_header(name)),
    }
}

/// What a read begins with: a copy that is under way goes on, and conditions must hold.
fn look(bucket: &mut Bucket, call: &Call) -> Result<(), Failure> {
    bucket.look_at_copy(&call.key);
    let object = bucket.objects.get(&call.key);
    Conditions::of(&call.headers)?.check_read(object)?;
    object.map(|_| ()).ok_or(BLOB_NOT_FOUND)
}

fn whole(bucket: &Bucket, key: &str, body: Body) -> Response<Body> {
    let len = bucket.objects[key].content.len;
    let mut builder = description(bucket, key, 200).header("content-length", len);
    if let Some(md5) = md5(bucket, key) {
        builder = builder.header("content-md5", md5);
    }
    finish(builder, body)
}

fn md5<'b>(bucket: &'b Bucket, key: &str) -> Option<&'b str> {
    bucket.note(key)?.md5.as_deref()
}
