//! The XML API of Google Cloud Storage: S3's shapes, with generations for conditions, `compose`, and other headers.
//!
//! Written from the documents of that API. What it does not know it refuses with 501 before the gate, so that no
//! client believes that a header or a parameter was obeyed.

mod answer;
mod ask;
pub(crate) mod checksums;
mod compose;
mod conditions;
mod copy;
mod listing;
mod multipart;
mod objects;
mod operation;
mod refusal;
#[cfg(test)]
mod tests;
mod uploads;
mod xml;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, Request, Response};
use s3s::Body;

use crate::bucket::Bucket;
use crate::faults::{Faults, Gate, Visit};
use crate::http::Service;

use ask::Ask;
use operation::Operation;
use refusal::{Answered, Refusal, authentication_required, no_such_bucket};

/// Whoever has it may do everything.
const TOKEN: &str = "ferry-token";

/// The double with its one bucket.
#[derive(Clone)]
pub(crate) struct Google {
    name: &'static str,
    bucket: Arc<Mutex<Bucket>>,
    gate: Gate,
}

impl Google {
    pub(crate) fn new(name: &'static str, bucket: Arc<Mutex<Bucket>>, faults: Arc<Faults>) -> Self {
        Self {
            name,
            bucket,
            gate: Gate::new(faults),
        }
    }

    /// What `object_store` needs to reach a server at this endpoint, by its own option names.
    pub(crate) fn options(endpoint: &str) -> Vec<(&'static str, String)> {
        vec![
            ("google_base_url", endpoint.to_owned()),
            ("google_bearer_token", TOKEN.to_owned()),
            ("google_allow_http", "true".to_owned()),
        ]
    }

    async fn respond(&self, request: Request<Body>) -> Answered<Response<Body>> {
        let (parts, body) = request.into_parts();
        self.check_token(&parts.headers)?;
        let visit = parts.extensions.get::<Visit>();
        let visit = visit.expect("every request is a visit").clone();
        let ask = Ask::read(parts)?;
        let operation = ask.operation.name();
        let passed = self.gate.pass(&visit, operation, &ask.described).await;
        passed.map_err(Refusal::planned)?;
        self.check_name(&ask.bucket)?;
        self.perform(&ask, body).await
    }

    async fn perform(&self, ask: &Ask, body: Body) -> Answered<Response<Body>> {
        match ask.operation {
            Operation::HeadBucket => Ok(Response::default()),
            Operation::ListObjectsV2 => self.list_objects(ask),
            Operation::GetObject | Operation::HeadObject => self.read_object(ask),
            Operation::PutObject => self.put_object(ask, body).await,
            Operation::DeleteObject => self.delete_object(ask),
            Operation::CopyObject => self.copy_object(ask),
            Operation::Compose => self.compose(ask, body).await,
            Operation::CreateMultipartUpload => self.begin_upload(ask),
            Operation::UploadPart => self.upload_part(ask, body).await,
            Operation::CompleteMultipartUpload => self.complete_upload(ask, body).await,
            Operation::AbortMultipartUpload => self.abort_upload(ask),
            Operation::ListMultipartUploads => self.list_uploads(ask),
            Operation::ListParts => self.list_parts(ask),
        }
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().expect("the bucket")
    }

    fn check_token(&self, headers: &HeaderMap) -> Answered<()> {
        let given = headers.get(AUTHORIZATION);
        let token = given.and_then(|given| given.to_str().ok()?.strip_prefix("Bearer "));
        let is_right = token.is_some_and(|token| {
            let bucket = self.bucket();
            let until = bucket.keys.get(token).map(|(_, until)| *until);
            token == TOKEN || until.is_some_and(|until| Instant::now() < until)
        });
        is_right.then_some(()).ok_or_else(authentication_required)
    }

    fn check_name(&self, name: &str) -> Answered<()> {
        (name == self.name).then_some(()).ok_or_else(no_such_bucket)
    }
}

impl Service for Google {
    async fn answer(&self, request: Request<Body>) -> io::Result<Response<Body>> {
        let answer = self.respond(request).await;
        Ok(answer.unwrap_or_else(Refusal::into_response))
    }
}
