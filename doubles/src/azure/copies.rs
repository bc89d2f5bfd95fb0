//! Copies of blobs. Azure may make them in the background: an empty blob stands for the copy until it is done.

use std::time::SystemTime;

use hyper::{HeaderMap, Response, Uri};
use s3s::Body;

use crate::bucket::{Bucket, Content, Object, now};

use super::answer::{finish, identified};
use super::blobs::blob;
use super::conditions::{Conditions, Write};
use super::failure::{BLOB_NOT_FOUND, Failure, invalid_header, not_implemented};
use super::headers::{metadata, text, written};
use super::ledger::{Extras, Ledger};
use super::target::Target;
use super::tiers::{check_online, check_target, tags_asked, tier_asked};
use super::{Azure, Call, Outcome};

/// How copies are made in the background from now on.
#[derive(Clone, Copy)]
pub(crate) struct Background {
    looks: usize,
    ends: &'static str,
}

/// A copy, of which its target tells for as long as nothing is written over it.
#[derive(Clone)]
pub(crate) struct Copy {
    id: String,
    source: String,
    copied: u64,
    total: u64,
    status: &'static str,
    ended: Option<SystemTime>,
    pending: Option<Pending>,
}

/// What a copy under way is still to become.
#[derive(Clone)]
struct Pending {
    looks_left: usize,
    ends: &'static str,
    target: Object,
    md5: Option<String>,
}

impl Ledger {
    /// From now on so many looks at the target find a copy `pending`. The next one finds that it has ended as
    /// `success`, `failed` or `aborted`.
    #[allow(
        dead_code,
        reason = "tests outside this module set it through the server"
    )]
    pub(crate) fn copy_in_background(&mut self, looks: usize, ends: &'static str) {
        assert!(
            ["success", "failed", "aborted"].contains(&ends),
            "no copy ends as {ends}"
        );
        self.background = Some(Background { looks, ends });
    }

    fn new_copy(&mut self, source: &str, total: u64) -> Copy {
        self.copies_begun += 1;
        Copy {
            id: format!("{:08x}-c0b1-4000-8000-000000000000", self.copies_begun),
            source: source.to_owned(),
            copied: 0,
            total,
            status: "pending",
            ended: None,
            pending: None,
        }
    }
}

impl Azure {
    pub(super) fn copy_blob(&self, call: &Call) -> Outcome {
        let (url, source_key) = self.source(&call.headers)?;
        let of_source = Conditions::of_source(&call.headers)?;
        let of_target = Conditions::of(&call.headers)?;
        let metadata = metadata(&call.headers)?;
        let storage_class = tier_asked(&call.headers)?;
        let tags = tags_asked(&call.headers)?;
        let mut bucket = self.bucket();
        let source = bucket.objects.get(&source_key).ok_or(BLOB_NOT_FOUND)?;
        of_source.check_source(source)?;
        of_target.check_write(bucket.objects.get(&call.key), Write::CopyTo)?;
        check_target(bucket.objects.get(&call.key))?;
        bucket.check_no_copy(&source_key)?;
        bucket.check_no_copy(&call.key)?;
        check_online(source)?;
        let mut target = source.clone();
        target.modified = now();
        // Metadata is copied only if the request brings none.
        target.attributes.metadata = metadata.or(target.attributes.metadata);
        // Its tier and its tags never are.
        target.attributes.storage_class = storage_class;
        target.attributes.tags = tags;
        let md5 = bucket.note(&source_key).and_then(|note| note.md5.clone());
        let status = bucket.begin_copy(&call.key, url, target, md5);
        let object = &bucket.objects[&call.key];
        let builder = identified(Response::builder().status(202), object)
            .header("x-ms-copy-id", status.id)
            .header("x-ms-copy-status", status.status);
        Ok(finish(builder, Body::empty()))
    }

    /// The address of the source, and its key. Only blobs of this container can be read.
    fn source<'h>(&self, headers: &'h HeaderMap) -> Result<(&'h str, String), Failure> {
        let name = "x-ms-copy-source";
        let invalid = || invalid_header(name);
        let url = text(headers, name)?.ok_or_else(invalid)?;
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let host = uri.authority().ok_or_else(invalid)?;
        if uri.query().is_some() {
            return Err(not_implemented("sources with parameters"));
        }
        let target = Target::parse(uri.path())?;
        let is_here = text(headers, "host")? == Some(host.as_str());
        if !is_here || target.container != self.name {
            return Err(NO_SOURCE);
        }
        Ok((url, target.key))
    }
}

impl Bucket {
    fn begin_copy(&mut self, key: &str, url: &str, target: Object, md5: Option<String>) -> Copy {
        let mut copy = self.azure.new_copy(url, target.content.len);
        let Some(background) = self.azure.background else {
            return self.end_copy(key, copy, target, md5);
        };
        let empty = blob(Content::default(), target.attributes.clone(), Vec::new());
        copy.pending = Some(Pending {
            looks_left: background.looks,
            ends: background.ends,
            target,
            md5,
        });
        let extras = Extras {
            md5: None,
            copy: Some(copy.clone()),
        };
        self.write_blob(key, empty, extras);
        copy
    }

    fn end_copy(&mut self, key: &str, mut copy: Copy, target: Object, md5: Option<String>) -> Copy {
        copy.end("success");
        copy.copied = copy.total;
        let extras = Extras {
            md5,
            copy: Some(copy.clone()),
        };
        self.write_blob(key, target, extras);
        copy
    }

    /// Tells a copy that is under way that somebody asks for it.
    pub(crate) fn look_at_copy(&mut self, key: &str) {
        let Some(copy) = self.note_mut(key).and_then(|note| note.copy.as_mut()) else {
            return;
        };
        let Some(ended) = copy.look() else { return };
        if ended.ends != "success" {
            // The target stays, without a byte.
            copy.end(ended.ends);
            return;
        }
        let (copy, mut target) = (copy.clone(), ended.target);
        target.modified = now();
        self.end_copy(key, copy, target, ended.md5);
    }
}

impl Copy {
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Goes on by one look. Gives what is left to do if that was the last.
    fn look(&mut self) -> Option<Pending> {
        let pending = self.pending.as_mut()?;
        if pending.looks_left == 0 {
            return self.pending.take();
        }
        // It never has all bytes before it is done.
        let left = self.total - self.copied;
        self.copied += left / (pending.looks_left as u64 + 1);
        pending.looks_left -= 1;
        None
    }

    fn end(&mut self, status: &'static str) {
        self.status = status;
        self.ended = Some(now());
    }

    /// What headers say of it.
    pub(crate) fn description(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("x-ms-copy-id", self.id.clone()),
            ("x-ms-copy-source", self.source.clone()),
            ("x-ms-copy-status", self.status.to_owned()),
            (
                "x-ms-copy-progress",
                format!("{}/{}", self.copied, self.total),
            ),
        ];
        if let Some(ended) = self.ended {
            headers.push(("x-ms-copy-completion-time", written(ended)));
        }
        if self.status == "failed" {
            let why = "500 InternalServerError \"Copy failed.\"";
            headers.push(("x-ms-copy-status-description", why.to_owned()));
        }
        headers
    }
}

const NO_SOURCE: Failure = Failure::new(
    404,
    "CannotVerifyCopySource",
    "The specified resource does not exist.",
);
