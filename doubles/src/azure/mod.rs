//! The REST API of Azure Blob Storage, by its public reference.
//!
//! A request passes the same stations each time: its signature, the question which operation it is, the gate, and
//! the operation itself, which answers or fails in Azure's words.

mod answer;
mod batch;
mod blobs;
mod blocks;
mod conditions;
mod copies;
mod failure;
mod headers;
mod ledger;
mod listing;
mod operation;
mod payload;
mod signature;
mod target;
#[cfg(test)]
mod tests;
mod tiers;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use hyper::http::request::Parts;
use hyper::{HeaderMap, Request, Response};
use s3s::Body;

use crate::bucket::Bucket;
use crate::faults::{Faults, Gate, Visit};
use crate::http::Service;

use answer::Marks;
use failure::{CONTAINER_NOT_FOUND, Failure, INVALID_AUTHENTICATION, TOKEN_EXPIRED, planned};
use headers::text;
use operation::Operation;
use signature::Signed;
use target::{Query, Target};

pub(crate) use ledger::Ledger;

const ACCOUNT: &str = "ferryaccount";
const KEY: &str =
    "ZmVycnkvYWNjb3VudCtrZXk6IGEgc2VjcmV0IG9mIHNpeHR5LWZvdXIgYnl0ZXMgZm9yIHRlc3RzIG9ubHkhIQ==";

/// What an operation comes to.
type Outcome = Result<Response<Body>, Failure>;

/// Azure with its one container.
#[derive(Clone)]
pub(crate) struct Azure {
    name: &'static str,
    bucket: Arc<Mutex<Bucket>>,
    gate: Gate,
    requests: Arc<AtomicU64>,
}

/// An admitted request for one operation.
struct Call {
    key: String,
    query: Query,
    headers: HeaderMap,
    body: Body,
}

impl Azure {
    pub(crate) fn new(name: &'static str, bucket: Arc<Mutex<Bucket>>, faults: Arc<Faults>) -> Self {
        Self {
            name,
            bucket,
            gate: Gate::new(faults),
            requests: Arc::default(),
        }
    }

    /// What `object_store` needs to reach a server at this endpoint, by its own option names.
    pub(crate) fn options(endpoint: &str) -> Vec<(&'static str, String)> {
        vec![
            ("azure_storage_endpoint", endpoint.to_owned()),
            ("azure_storage_account_name", ACCOUNT.to_owned()),
            ("azure_storage_account_key", KEY.to_owned()),
            ("azure_allow_http", "true".to_owned()),
        ]
    }

    /// Whether a request brings a token that was given out.
    fn takes_token(&self, headers: &HeaderMap) -> Result<bool, Failure> {
        let given = text(headers, "authorization")?;
        let Some(token) = given.and_then(|given| given.strip_prefix("Bearer ")) else {
            return Ok(false);
        };
        match self.bucket().keys.get(token) {
            Some((_, until)) if Instant::now() < *until => Ok(true),
            Some(_) => Err(TOKEN_EXPIRED),
            None => Err(INVALID_AUTHENTICATION),
        }
    }

    async fn run(&self, parts: Parts, body: Body) -> Outcome {
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        if !self.takes_token(&parts.headers)? {
            Signed::new(&parts.method, &parts.uri, &query, &parts.headers).check()?;
        }
        let target = Target::parse(parts.uri.path())?;
        let operation = Operation::of(&parts.method, &target, &query, &parts.headers)?;
        self.pass_gate(&parts, operation, &target.key).await?;
        if target.container != self.name {
            return Err(CONTAINER_NOT_FOUND);
        }
        target.check_name()?;
        let (key, headers) = (target.key, parts.headers);
        self.carry_out(
            operation,
            Call {
                key,
                query,
                headers,
                body,
            },
        )
        .await
    }

    async fn pass_gate(
        &self,
        parts: &Parts,
        operation: Operation,
        key: &str,
    ) -> Result<(), Failure> {
        let visit = parts.extensions.get::<Visit>();
        let visit = visit.expect("every request is a visit");
        let query = parts.uri.query().map(|query| format!("?{query}"));
        let asked = format!("{key}{}", query.unwrap_or_default());
        let passed = self.gate.pass(visit, operation.name(), &asked).await;
        passed.map_err(planned)
    }

    async fn carry_out(&self, operation: Operation, call: Call) -> Outcome {
        match operation {
            Operation::PutBlob => self.put_blob(call).await,
            Operation::GetBlob => self.get_blob(&call),
            Operation::GetBlobTags => self.get_blob_tags(&call),
            Operation::GetBlobProperties => self.get_blob_properties(&call),
            Operation::DeleteBlob => self.delete_blob(&call),
            Operation::CopyBlob => self.copy_blob(&call),
            Operation::PutBlock => self.put_block(call).await,
            Operation::PutBlockList => self.put_block_list(call).await,
            Operation::GetBlockList => self.get_block_list(&call),
            Operation::ListBlobs => self.list_blobs(&call),
            Operation::GetContainerProperties => Ok(listing::container_properties()),
            Operation::Batch => self.batch(call).await,
        }
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().expect("the bucket")
    }
}

impl Service for Azure {
    async fn answer(&self, request: Request<Body>) -> io::Result<Response<Body>> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        let marks = Marks::new(&request, number);
        let (parts, body) = request.into_parts();
        Ok(marks.put_on(self.run(parts, body).await))
    }
}
