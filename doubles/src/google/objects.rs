//! Objects, put, read and deleted.

use std::convert::Infallible;
use std::ops::Range;

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use hyper::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
};
use hyper::{HeaderMap, Response, StatusCode};
use s3s::Body;
use s3s::dto::StreamingBlob;

use crate::bucket::{Bucket, Content, Object};

use super::Google;
use super::answer::{attributes, description, stored, value, written};
use super::ask::{Ask, header};
use super::checksums::{Claims, crc32c, kept, md5_in_tag};
use super::conditions::{Generations, Validators};
use super::operation::Operation;
use super::refusal::{Answered, incomplete_body, invalid_range, no_such_key, not_implemented};

impl Google {
    pub(crate) async fn put_object(&self, ask: &Ask, body: Body) -> Answered<Response<Body>> {
        let conditions = Generations::of_target(&ask.headers)?;
        let claims = Claims::in_headers(&ask.headers)?;
        let attributes = attributes(&ask.headers)?;
        let content = receive(body).await?;
        let crc32c = crc32c(&content);
        let object = Object::new(content, attributes, kept(crc32c));
        let md5 = md5_in_tag(&object.etag).expect("a tag that is an MD5");
        claims.check(&md5, crc32c)?;
        let mut bucket = self.bucket();
        conditions.check(bucket.objects.get(&ask.key))?;
        bucket.store(&ask.key, object);
        Ok(written(stored(&mut bucket, &ask.key)))
    }

    /// The answer to `GET`, and to `HEAD`, which has no body.
    pub(crate) fn read_object(&self, ask: &Ask) -> Answered<Response<Body>> {
        let generation = ask.number("generation")?;
        let mut bucket = self.bucket();
        let object = live(&mut bucket, &ask.key, generation)?;
        Generations::of_target(&ask.headers)?.check(Some(object))?;
        let validators = Validators::of_target(&ask.headers)?;
        validators.check_wanted(object)?;
        let mut response = Response::default();
        *response.headers_mut() = description(object);
        if !validators.is_news(object) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        check_encoding(&ask.headers, response.headers())?;
        let asked = header(&ask.headers, "range")?;
        let range = range(asked, object.content.len)?;
        fill(&mut response, &object.content, range);
        if ask.operation == Operation::HeadObject {
            *response.body_mut() = Body::empty();
        }
        Ok(response)
    }

    pub(crate) fn delete_object(&self, ask: &Ask) -> Answered<Response<Body>> {
        let conditions = Generations::of_target(&ask.headers)?;
        let generation = ask.number("generation")?;
        let mut bucket = self.bucket();
        let object = live(&mut bucket, &ask.key, generation)?;
        conditions.check(Some(object))?;
        bucket.objects.remove(&ask.key);
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }
}

/// The chunks of a body, as they come.
pub(crate) async fn receive(body: Body) -> Answered<Content> {
    let chunks = body.try_collect().await;
    let chunks = chunks.map_err(|error| incomplete_body(error.to_string()))?;
    Ok(Content::new(chunks))
}

/// The object at `key`, if it is of this generation: the bucket keeps no others.
pub(crate) fn live<'b>(
    bucket: &'b mut Bucket,
    key: &str,
    generation: Option<u64>,
) -> Answered<&'b mut Object> {
    let object = bucket.objects.get_mut(key);
    let is_meant = |object: &&mut Object| generation.is_none_or(|it| it == object.generation);
    object.filter(is_meant).ok_or_else(|| no_such_key(key))
}

/// Google unpacks what a reader can't unpack. The double doesn't.
fn check_encoding(asked: &HeaderMap, described: &HeaderMap) -> Answered<()> {
    let has = |headers: &HeaderMap, name, text| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.contains(text))
    };
    let unpacks = has(described, CONTENT_ENCODING, "gzip")
        && !has(described, CACHE_CONTROL, "no-transform")
        && !has(asked, ACCEPT_ENCODING, "gzip");
    if unpacks {
        return Err(not_implemented("decompressive transcoding"));
    }
    Ok(())
}

/// The range that is asked for, if it is one. What can't be read as a range is ignored, as HTTP has it.
fn range(asked: Option<&str>, len: u64) -> Answered<Option<Range<u64>>> {
    let Some(asked) = asked else {
        return Ok(None);
    };
    let Ok(range) = s3s::dto::Range::parse(asked) else {
        return Ok(None);
    };
    let range = range
        .check(len)
        .ok()
        .filter(|range| range.start < range.end);
    range.map(Some).ok_or_else(|| invalid_range(asked, len))
}

fn fill(response: &mut Response<Body>, content: &Content, range: Option<Range<u64>>) {
    if let Some(range) = &range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let (first, last) = (range.start, range.end - 1);
        let range = format!("bytes {first}-{last}/{}", content.len);
        response.headers_mut().insert(CONTENT_RANGE, value(&range));
    }
    let content = content.slice(&range.unwrap_or(0..content.len));
    let len = value(&content.len.to_string());
    response.headers_mut().insert(CONTENT_LENGTH, len);
    *response.body_mut() = streamed(&content);
}

fn streamed(content: &Content) -> Body {
    let chunks = content.chunks().to_vec().into_iter();
    let chunks = chunks.map(Ok::<Bytes, Infallible>);
    Body::from(StreamingBlob::wrap(stream::iter(chunks)))
}
