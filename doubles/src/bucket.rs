//! One bucket in memory: objects by key in byte order, and what was uploaded in parts and is not an object yet.
//!
//! Nothing here knows of HTTP. Every change happens under one lock, so conditions are exact. The bytes stay in
//! the chunks in which they arrived: copies, ranges and completed parts share them.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{Checksum, ETag, ETagCondition, Metadata, Timestamp};
use s3s::{S3Result, s3_error};

use crate::azure::Ledger;
use crate::s3::request::computed;
use crate::tags::Tags;

/// S3 takes no smaller part, unless it is the last.
pub(crate) const MIN_PART: u64 = 5 * 1024 * 1024;

/// The class of objects of which nobody has said another, on S3 and on Google.
pub(crate) const STANDARD: &str = "STANDARD";

const FIRST_GENERATION: u64 = 1_760_000_000_000_000;

/// The bucket's whole state.
#[derive(Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a kind of store by itself"
)]
pub(crate) struct Bucket {
    pub(crate) objects: BTreeMap<String, Object>,
    /// By key and upload id: the order in which they are listed.
    pub(crate) uploads: BTreeMap<(String, String), Upload>,
    uploads_begun: u64,
    /// Azure's blocks that belong to no blob yet, by key and block id.
    pub(crate) staged: BTreeMap<(String, String), Content>,
    /// How many objects were written.
    writes: u64,
    /// Writes are done whatever their conditions, as some stores do.
    pub(crate) ignores_conditions: bool,
    /// The mark of a deletion counts for an object in conditions, as in some stores that keep versions.
    pub(crate) takes_marks_for_objects: bool,
    /// What there was at each key, the oldest first, if versions are kept; nothing is a delete marker.
    pub(crate) versions: Option<BTreeMap<String, Vec<Option<Object>>>>,
    /// Keys that were given out for a while, by their names, each with its secret and its end.
    pub(crate) keys: BTreeMap<String, (String, Instant)>,
    /// Uploads have to say a checksum, as where Object Lock is on.
    pub(crate) is_locked: bool,
    /// Content under a key that ends with a slash is refused, as by stores that keep objects in folders.
    pub(crate) refuses_content_of_directories: bool,
    /// Metadata of keys that end with a slash is dropped, as by stores that keep objects in folders.
    pub(crate) drops_metadata_of_directories: bool,
    /// A write under a key that ends with a slash leaves the metadata that it does not name, as versitygw does.
    pub(crate) keeps_metadata_of_directories: bool,
    /// Deletes are done whatever their conditions, as most stores do.
    pub(crate) deletes_anyway: bool,
    /// A deletion on a condition of what is not there succeeds, as on stores that keep to one reading of S3's documents.
    pub(crate) deletes_what_is_gone: bool,
    /// Conditions on the source of a copy are passed over.
    pub(crate) copies_any_version: bool,
    /// Checksums of bodies on S3, but MD5, are neither compared nor told, as on some stores.
    pub(crate) ignores_checksums: bool,
    /// A completion on S3 is answered with a sum of the parts' sums in place of the checksum, as on some stores.
    pub(crate) tells_sums_of_sums: bool,
    /// The completion on S3 of an upload with a checksum has to name that of each part, as on some stores.
    pub(crate) wants_sums_of_parts: bool,
    /// A part that is a copy of a range has the checksum of all that it was copied from, as on versitygw.
    pub(crate) takes_sums_of_sources: bool,
    /// What becomes of everything that is written, after it was compared with what its request says.
    pub(crate) damage: Option<Damage>,
    /// What Azure keeps of blobs besides, and how it makes copies.
    pub(crate) azure: Ledger,
}

/// What a store does to objects that should not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// A bit becomes another.
    Flip,
    /// The last byte is missing.
    Cut,
}

/// Bytes in the chunks in which they came.
#[derive(Clone, Default)]
pub(crate) struct Content {
    chunks: Vec<Bytes>,
    pub(crate) len: u64,
}

/// What a request says about an object besides its bytes.
#[derive(Clone, Default)]
pub(crate) struct Attributes {
    pub(crate) cache_control: Option<String>,
    pub(crate) content_disposition: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) content_language: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) metadata: Option<Metadata>,
    /// Azure's access tier. Nothing is the one that the store gives by itself.
    pub(crate) storage_class: Option<String>,
    pub(crate) tags: Tags,
}

#[derive(Clone)]
pub(crate) struct Object {
    pub(crate) content: Content,
    pub(crate) etag: String,
    /// The number of the write that made it: Google's generation, and what Azure makes its tags of.
    pub(crate) generation: u64,
    pub(crate) modified: SystemTime,
    pub(crate) attributes: Attributes,
    pub(crate) checksum: Checksum,
    /// What an Azure blob was made of, if it was made of blocks.
    pub(crate) blocks: Vec<Block>,
}

/// A block of an Azure blob.
#[derive(Clone)]
pub(crate) struct Block {
    /// In base64, as requests have it.
    pub(crate) id: String,
    pub(crate) content: Content,
}

pub(crate) struct Upload {
    pub(crate) begun: SystemTime,
    pub(crate) parts: BTreeMap<i32, Part>,
    /// It was begun with a checksum.
    pub(crate) has_checksum: bool,
    pub(crate) attributes: Attributes,
}

#[derive(Clone)]
pub(crate) struct Part {
    pub(crate) content: Content,
    pub(crate) md5: [u8; 16],
    pub(crate) modified: SystemTime,
    pub(crate) checksum: Checksum,
}

/// What must hold of the object that a write replaces.
#[derive(Default)]
pub(crate) struct Conditions {
    pub(crate) if_match: Option<ETagCondition>,
    pub(crate) if_none_match: Option<ETagCondition>,
}

/// Which objects a listing wants.
pub(crate) struct Query<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) delimiter: Option<&'a str>,
    /// Keys up to and including this one are left out.
    pub(crate) start_after: &'a str,
    /// The last entry of the page before, if there was one.
    pub(crate) resume_after: Option<&'a str>,
    pub(crate) limit: usize,
}

/// One page of a listing.
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) objects: Vec<(String, Object)>,
    pub(crate) prefixes: Vec<String>,
    /// The last entry of this page, if there are more.
    pub(crate) resume_after: Option<String>,
}

impl Bucket {
    pub(crate) fn object(&self, key: &str) -> S3Result<&Object> {
        let missing = || s3_error!(NoSuchKey, "The specified key does not exist.");
        self.objects.get(key).ok_or_else(missing)
    }

    /// Puts `object` at `key` if `conditions` allow it.
    pub(crate) fn put(
        &mut self,
        key: &str,
        object: Object,
        conditions: &Conditions,
    ) -> S3Result<()> {
        self.check(key, conditions)?;
        self.store(key, object);
        Ok(())
    }

    /// Puts `object` at `key`, whatever is there. Gives its generation.
    pub(crate) fn store(&mut self, key: &str, mut object: Object) -> u64 {
        self.writes += 1;
        // Google's generations are times in microseconds, of a higher order than any size.
        object.generation = FIRST_GENERATION + self.writes;
        if self.drops_metadata_of_directories && key.ends_with('/') {
            object.attributes.metadata = None;
        }
        if self.keeps_metadata_of_directories && key.ends_with('/') {
            self.keep_metadata(key, &mut object);
        }
        if let Some(damage) = self.damage {
            object.content = object.content.damaged(damage, self.writes);
            object.look_again();
        }
        let generation = object.generation;
        self.keep(key, Some(&object));
        self.objects.insert(key.to_owned(), object);
        generation
    }

    /// Adds the metadata of what is there, but for entries that `object` has itself.
    fn keep_metadata(&self, key: &str, object: &mut Object) {
        let old = self.objects.get(key);
        let Some(old) = old.and_then(|old| old.attributes.metadata.clone()) else {
            return;
        };
        let new = object.attributes.metadata.take().unwrap_or_default();
        object.attributes.metadata = Some(old.into_iter().chain(new).collect());
    }

    /// Deletes what is at `key`. The version of the delete marker, where versions are kept.
    pub(crate) fn remove(&mut self, key: &str) -> Option<String> {
        self.objects.remove(key);
        self.writes += 1;
        self.keep(key, None)
    }

    fn keep(&mut self, key: &str, object: Option<&Object>) -> Option<String> {
        let versions = self.versions.as_mut()?.entry(key.to_owned()).or_default();
        versions.push(object.cloned());
        Some(version(FIRST_GENERATION + self.writes))
    }

    /// The version of what is at `key`, where versions are kept.
    pub(crate) fn version(&self, key: &str) -> Option<String> {
        self.versions.as_ref()?;
        Some(version(self.objects.get(key)?.generation))
    }

    /// Checks the `If-Match` of a deletion. S3 takes a delete marker for another version.
    pub(crate) fn check_deletion(&self, key: &str, expected: &ETagCondition) -> S3Result<()> {
        match self.object(key) {
            Ok(object) if object.matches(expected) => Ok(()),
            Err(missing) if !self.is_marked(key) => Err(missing),
            _ => Err(precondition_failed()),
        }
    }

    /// Whether the newest version is the mark of a deletion.
    fn is_marked(&self, key: &str) -> bool {
        let versions = self.versions.as_ref().and_then(|all| all.get(key));
        versions.is_some_and(|all| matches!(all.last(), Some(None)))
    }

    pub(crate) fn begin(&mut self, key: &str, attributes: Attributes) -> String {
        self.uploads_begun += 1;
        // Padded, so that the order of ids is the order of their beginning.
        let id = format!("upload-{:08}", self.uploads_begun);
        let upload = Upload {
            begun: now(),
            parts: BTreeMap::new(),
            has_checksum: false,
            attributes,
        };
        self.uploads.insert((key.to_owned(), id.clone()), upload);
        id
    }

    pub(crate) fn upload(&mut self, key: &str, id: &str) -> S3Result<&mut Upload> {
        self.uploads
            .get_mut(&(key.to_owned(), id.to_owned()))
            .ok_or_else(no_such_upload)
    }

    pub(crate) fn abort(&mut self, key: &str, id: &str) -> S3Result<()> {
        let upload = self.uploads.remove(&(key.to_owned(), id.to_owned()));
        upload.map(drop).ok_or_else(no_such_upload)
    }

    fn check(&self, key: &str, conditions: &Conditions) -> S3Result<()> {
        if self.ignores_conditions {
            return Ok(());
        }
        if self.takes_marks_for_objects && self.is_marked(key) && conditions.if_none_match.is_some()
        {
            return Err(precondition_failed());
        }
        conditions.check(self.objects.get(key))
    }

    /// What the parts named would become.
    pub(crate) fn assembled(
        &mut self,
        key: &str,
        id: &str,
        named: &[(i32, ETag)],
    ) -> S3Result<Content> {
        let upload = self.upload(key, id)?;
        Ok(assemble(&upload.choose(named)?, upload.attributes.clone()).content)
    }

    /// Makes one object of the parts named. An upload that can't be completed stays open, as on S3.
    pub(crate) fn complete(
        &mut self,
        key: &str,
        id: &str,
        named: &[(i32, ETag)],
        conditions: &Conditions,
    ) -> S3Result<Object> {
        let upload = self.upload(key, id)?;
        let object = assemble(&upload.choose(named)?, upload.attributes.clone());
        self.put(key, object.clone(), conditions)?;
        self.abort(key, id)?;
        Ok(object)
    }

    /// One page: each entry a key, or the common prefix that stands for several.
    pub(crate) fn list(&self, query: &Query<'_>) -> Page {
        let mut page = Page::default();
        let mut last = query.resume_after.map(str::to_owned);
        let mut from = query.first_bound();
        while let Some((key, object)) = self
            .objects
            .range::<str, _>((from.as_ref().map(String::as_str), Bound::Unbounded))
            .next()
        {
            if !key.starts_with(query.prefix) {
                break;
            }
            let group = query.common_prefix(key);
            let entry = group.unwrap_or(key);
            from = group.map_or_else(|| Bound::Excluded(key.clone()), past_prefix);
            if last.as_deref().is_some_and(|last| entry <= last) {
                continue;
            }
            if page.objects.len() + page.prefixes.len() == query.limit {
                page.resume_after = last;
                break;
            }
            last = Some(entry.to_owned());
            match group {
                Some(prefix) => page.prefixes.push(prefix.to_owned()),
                None => page.objects.push((key.clone(), object.clone())),
            }
        }
        page
    }
}

impl Query<'_> {
    fn first_bound(&self) -> Bound<String> {
        let after = self.start_after.max(self.resume_after.unwrap_or_default());
        if after < self.prefix {
            Bound::Included(self.prefix.to_owned())
        } else {
            Bound::Excluded(after.to_owned())
        }
    }

    fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.delimiter.filter(|delimiter| !delimiter.is_empty())?;
        let rest = &key[self.prefix.len()..];
        let end = rest.find(delimiter)? + delimiter.len();
        Some(&key[..self.prefix.len() + end])
    }
}

impl Conditions {
    /// S3 answers 404 to an `If-Match` on an object that isn't there, and 412 to every other failure.
    fn check(&self, current: Option<&Object>) -> S3Result<()> {
        match (&self.if_match, current) {
            (Some(_), None) => {
                return Err(s3_error!(NoSuchKey, "The specified key does not exist."));
            }
            (Some(wanted), Some(object)) if !object.matches(wanted) => {
                return Err(precondition_failed());
            }
            _ => {}
        }
        match (&self.if_none_match, current) {
            (Some(unwanted), Some(object)) if object.matches(unwanted) => {
                Err(precondition_failed())
            }
            _ => Ok(()),
        }
    }
}

impl Attributes {
    /// The class as S3 and Google tell it, the usual one included.
    pub(crate) fn class(&self) -> &str {
        self.storage_class.as_deref().unwrap_or(STANDARD)
    }
}

impl Object {
    pub(crate) fn new(content: Content, attributes: Attributes, checksum: Checksum) -> Self {
        let etag = hex(&content.md5());
        Self {
            content,
            etag,
            generation: 0,
            modified: now(),
            attributes,
            checksum,
            blocks: Vec::new(),
        }
    }

    pub(crate) fn etag(&self) -> ETag {
        ETag::Strong(self.etag.clone())
    }

    /// Has it say of itself what its content is by now.
    fn look_again(&mut self) {
        if self.etag.len() == 32 {
            self.etag = hex(&self.content.md5());
        }
        self.checksum = computed(&self.checksum, &self.content);
    }

    pub(crate) fn matches(&self, condition: &ETagCondition) -> bool {
        condition
            .as_etag()
            .is_none_or(|etag| etag.value() == self.etag)
    }
}

impl Part {
    pub(crate) fn new(content: Content, checksum: Checksum) -> Self {
        let md5 = content.md5();
        Self {
            content,
            md5,
            modified: now(),
            checksum,
        }
    }

    /// A part that is a copy: nobody has its MD5 to compare, so that of its ends will do.
    pub(crate) fn copied(content: Content) -> Self {
        let md5 = content.ends().md5();
        Self {
            content,
            md5,
            modified: now(),
            checksum: Checksum::default(),
        }
    }

    pub(crate) fn etag(&self) -> ETag {
        ETag::Strong(hex(&self.md5))
    }
}

impl Upload {
    fn choose(&self, named: &[(i32, ETag)]) -> S3Result<Vec<Part>> {
        if named.is_empty() {
            return Err(s3_error!(
                MalformedXML,
                "You must specify at least one part."
            ));
        }
        if !named.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(s3_error!(
                InvalidPartOrder,
                "The list of parts was not in ascending order."
            ));
        }
        let parts = named.iter().map(|(number, etag)| self.part(*number, etag));
        let parts: Vec<Part> = parts.collect::<S3Result<_>>()?;
        let all_but_last = &parts[..parts.len() - 1];
        if all_but_last.iter().any(|part| part.content.len < MIN_PART) {
            return Err(s3_error!(
                EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed size."
            ));
        }
        Ok(parts)
    }

    fn part(&self, number: i32, etag: &ETag) -> S3Result<Part> {
        let part = self
            .parts
            .get(&number)
            .filter(|part| part.etag().value() == etag.value());
        part.cloned().ok_or_else(|| {
            s3_error!(
                InvalidPart,
                "One or more of the specified parts could not be found."
            )
        })
    }
}

impl Content {
    pub(crate) fn new(chunks: Vec<Bytes>) -> Self {
        let len = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self { chunks, len }
    }

    pub(crate) fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// The bytes in `range`, still in the same memory.
    pub(crate) fn slice(&self, range: &Range<u64>) -> Self {
        let mut start = 0;
        let mut chunks = Vec::new();
        for chunk in &self.chunks {
            let end = start + chunk.len() as u64;
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                chunks.push(chunk.slice((from - start) as usize..(to - start) as usize));
            }
            start = end;
        }
        Self::new(chunks)
    }

    /// What a damage makes of it, each time another.
    pub(crate) fn damaged(&self, damage: Damage, time: u64) -> Self {
        let mut bytes = self.joined().to_vec();
        match (damage, bytes.first_mut()) {
            (Damage::Flip, Some(first)) => *first ^= 1 << (time % 8),
            (Damage::Cut, Some(_)) => drop(bytes.pop()),
            (_, None) => {}
        }
        Self::new(vec![bytes.into()])
    }

    /// Its first and last bytes.
    pub(crate) fn ends(&self) -> Self {
        let first = self.slice(&(0..self.len.min(1024)));
        let last = self.slice(&(self.len.saturating_sub(1024)..self.len));
        Self::new([first.chunks, last.chunks].concat())
    }

    pub(crate) fn joined(&self) -> Bytes {
        match self.chunks.as_slice() {
            [only] => only.clone(),
            chunks => chunks.concat().into(),
        }
    }

    pub(crate) fn md5(&self) -> [u8; 16] {
        let mut md5 = Md5::new();
        for chunk in &self.chunks {
            md5.update(chunk);
        }
        md5.finalize()
    }
}

fn version(generation: u64) -> String {
    format!("version-{generation}")
}

/// S3 tells times to the second.
pub(crate) fn now() -> SystemTime {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("a nibble");
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.map(digit).collect()
}

pub(crate) fn precondition_failed() -> s3s::S3Error {
    s3_error!(
        PreconditionFailed,
        "At least one of the pre-conditions you specified did not hold"
    )
}

fn no_such_upload() -> s3s::S3Error {
    s3_error!(
        NoSuchUpload,
        "The specified multipart upload does not exist."
    )
}

/// The object of all `parts`. Its tag is the MD5 of their MD5s, and their number.
fn assemble(parts: &[Part], attributes: Attributes) -> Object {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(&part.md5);
    }
    let chunks = parts
        .iter()
        .flat_map(|part| part.content.chunks.iter().cloned())
        .collect();
    Object {
        content: Content::new(chunks),
        etag: format!("{}-{}", hex(&md5.finalize()), parts.len()),
        generation: 0,
        modified: now(),
        attributes,
        checksum: Checksum::default(),
        blocks: Vec::new(),
    }
}

/// Where keys that don't begin with `prefix` go on, so that a group of a million keys costs one step.
fn past_prefix(prefix: &str) -> Bound<String> {
    Bound::Excluded(format!("{prefix}{}", char::MAX))
}
