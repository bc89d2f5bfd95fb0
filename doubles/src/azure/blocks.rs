//! Blobs in blocks: a block waits until a list names it, and is dropped by a list that doesn't.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hyper::Response;
use quick_xml::escape::escape;
use s3s::Body;
use serde::Deserialize;

use crate::bucket::{Block, Bucket, Content};

use super::answer::{BYTE_ORDER_MARK, created, finish, identified, xml};
use super::blobs::blob;
use super::conditions::{Conditions, Write};
use super::failure::{
    BLOB_NOT_FOUND, Failure, invalid_header, invalid_parameter, missing_parameter,
};
use super::headers::{attributes_of_blob, given_md5};
use super::ledger::Extras;
use super::payload::receive;
use super::tiers::check_target;
use super::{Azure, Call, Outcome};

const MOST_BLOCKS: usize = 50_000;
const MOST_WAITING: usize = 100_000;

/// Before it is encoded.
const LONGEST_ID: usize = 64;

/// A list of blocks, as a request has it.
#[derive(Deserialize)]
enum Document {
    BlockList(List),
}

#[derive(Deserialize)]
struct List {
    #[serde(rename = "$value", default)]
    entries: Vec<Named>,
}

/// Where a block is to come from.
#[derive(Deserialize)]
enum Named {
    Committed(String),
    Uncommitted(String),
    /// From those that wait, if it is there, or else from the blob.
    Latest(String),
}

impl Azure {
    pub(super) async fn put_block(&self, call: Call) -> Outcome {
        let id = call.query.get("blockid");
        let id = id.ok_or_else(|| missing_parameter("blockid"))?.to_owned();
        id_length(&id).ok_or_else(|| invalid_parameter("blockid"))?;
        let payload = receive(call.body, &call.headers).await?;
        if payload.content.len == 0 {
            return Err(invalid_header("Content-Length"));
        }
        let mut bucket = self.bucket();
        check_target(bucket.objects.get(&call.key))?;
        bucket.check_no_copy(&call.key)?;
        check_waiting(&bucket, &call.key, &id)?;
        bucket.staged.insert((call.key, id), payload.content);
        let (name, value) = payload.checked;
        let builder = Response::builder().status(201).header(name, value);
        let builder = builder.header("x-ms-request-server-encrypted", "true");
        Ok(finish(builder, Body::empty()))
    }

    pub(super) async fn put_block_list(&self, call: Call) -> Outcome {
        let attributes = attributes_of_blob(&call.headers)?;
        let conditions = Conditions::of(&call.headers)?;
        let md5 = given_md5(&call.headers)?;
        let payload = receive(call.body, &call.headers).await?;
        let list = read_list(&payload.content)?;
        let mut bucket = self.bucket();
        conditions.check_write(bucket.objects.get(&call.key), Write::Create)?;
        check_target(bucket.objects.get(&call.key))?;
        bucket.check_no_copy(&call.key)?;
        let blocks = choose(&bucket, &call.key, &list)?;
        let object = blob(assembled(&blocks), attributes, blocks);
        let extras = Extras { md5, copy: None };
        bucket.write_blob(&call.key, object, extras);
        Ok(created(&bucket, &call.key, payload.checked))
    }

    pub(super) fn get_block_list(&self, call: &Call) -> Outcome {
        let bucket = self.bucket();
        let object = bucket.objects.get(&call.key);
        if object.is_none() && bucket.waiting(&call.key).next().is_none() {
            return Err(BLOB_NOT_FOUND);
        }
        let text = lists(&bucket, &call.key, call.query.get("blocklisttype"))?;
        let len = object.map_or(0, |object| object.content.len);
        let builder = Response::builder().header("x-ms-blob-content-length", len);
        let builder = match object {
            Some(object) => identified(builder, object),
            None => builder,
        };
        Ok(xml(builder, &text))
    }
}

/// How long an id is, if it is one.
fn id_length(id: &str) -> Option<usize> {
    let length = BASE64.decode(id).ok()?.len();
    (1..=LONGEST_ID).contains(&length).then_some(length)
}

/// All blocks that wait for one blob have ids of the same length.
fn check_waiting(bucket: &Bucket, key: &str, id: &str) -> Result<(), Failure> {
    // Those that wait have been held against each other.
    let first = bucket.waiting(key).next();
    if first.is_some_and(|(first, _)| id_length(first) != id_length(id)) {
        return Err(INVALID_BLOCK);
    }
    let is_full = bucket.waiting(key).count() >= MOST_WAITING;
    if is_full && !bucket.waiting(key).any(|(other, _)| other == id) {
        return Err(TOO_MANY_WAITING);
    }
    Ok(())
}

fn read_list(content: &Content) -> Result<Vec<Named>, Failure> {
    let body = content.joined();
    let text = std::str::from_utf8(&body).map_err(|_| INVALID_XML)?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let Document::BlockList(list) = quick_xml::de::from_str(text).map_err(|_| INVALID_XML)?;
    if list.entries.len() > MOST_BLOCKS {
        return Err(LIST_TOO_LONG);
    }
    Ok(list.entries)
}

/// The blocks that a list names, in its order.
fn choose(bucket: &Bucket, key: &str, list: &[Named]) -> Result<Vec<Block>, Failure> {
    let object = bucket.objects.get(key);
    let kept = object.map(|object| object.blocks.as_slice());
    let kept = kept.unwrap_or_default();
    let by_id: HashMap<_, _> = kept
        .iter()
        .map(|block| (block.id.as_str(), block))
        .collect();
    let of_blob = |id: &str| by_id.get(id).map(|block| (*block).clone());
    let of_waiting = |id: &str| {
        let content = bucket.staged.get(&(key.to_owned(), id.to_owned()))?;
        Some(Block {
            id: id.to_owned(),
            content: content.clone(),
        })
    };
    let find = |named: &Named| match named {
        Named::Committed(id) => of_blob(id),
        Named::Uncommitted(id) => of_waiting(id),
        Named::Latest(id) => of_waiting(id).or_else(|| of_blob(id)),
    };
    let blocks: Option<Vec<Block>> = list.iter().map(find).collect();
    blocks
        .filter(|blocks| are_one_list(blocks))
        .ok_or(INVALID_LIST)
}

/// A blob has each block once, and all their ids are of the same length.
fn are_one_list(blocks: &[Block]) -> bool {
    let ids: BTreeSet<_> = blocks.iter().map(|block| &block.id).collect();
    let lengths: BTreeSet<_> = ids.iter().map(|id| id_length(id)).collect();
    ids.len() == blocks.len() && lengths.len() <= 1
}

fn assembled(blocks: &[Block]) -> Content {
    let chunks = blocks.iter().flat_map(|block| block.content.chunks());
    Content::new(chunks.cloned().collect())
}

/// The lists that a reader wants: of what is in the blob, of what waits, or both.
fn lists(bucket: &Bucket, key: &str, kind: Option<&str>) -> Result<String, Failure> {
    let (committed, waiting) = match kind {
        None | Some("committed") => (true, false),
        Some("uncommitted") => (false, true),
        Some("all") => (true, true),
        Some(_) => return Err(invalid_parameter("blocklisttype")),
    };
    let mut text = String::from("<BlockList>");
    if committed {
        let blocks = bucket.objects.get(key).into_iter();
        let blocks = blocks.flat_map(|object| &object.blocks);
        let blocks = blocks.map(|block| (&block.id, &block.content));
        write_blocks(&mut text, "CommittedBlocks", blocks);
    }
    if waiting {
        write_blocks(&mut text, "UncommittedBlocks", bucket.waiting(key));
    }
    text.push_str("</BlockList>");
    Ok(text)
}

fn write_blocks<'b>(
    text: &mut String,
    name: &str,
    blocks: impl Iterator<Item = (&'b String, &'b Content)>,
) {
    let _ = write!(text, "<{name}>");
    for (id, content) in blocks {
        let (id, size) = (escape(id.as_str()), content.len);
        let _ = write!(text, "<Block><Name>{id}</Name><Size>{size}</Size></Block>");
    }
    let _ = write!(text, "</{name}>");
}

const INVALID_BLOCK: Failure = Failure::new(
    400,
    "InvalidBlobOrBlock",
    "The specified blob or block content is invalid.",
);

const INVALID_LIST: Failure = Failure::new(
    400,
    "InvalidBlockList",
    "The specified block list is invalid.",
);

const INVALID_XML: Failure = Failure::new(
    400,
    "InvalidXmlDocument",
    "XML specified is not syntactically valid.",
);

const LIST_TOO_LONG: Failure = Failure::new(
    400,
    "BlockListTooLong",
    "The block list may not contain more than 50,000 blocks.",
);

const TOO_MANY_WAITING: Failure = Failure::new(
    409,
    "BlockCountExceedsLimit",
    "The uncommitted block count cannot exceed the maximum limit of 100,000 blocks.",
);
