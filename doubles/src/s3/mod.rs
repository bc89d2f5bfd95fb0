//! The protocol of S3, by `s3s`, which reads requests and checks their signatures.

#[macro_use]
mod fields;

mod api;
mod classes;
pub(crate) mod request;
mod spelling;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hyper::{Request, Response};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Error, S3ErrorCode, S3Result, s3_error};

use crate::bucket::Bucket;
use crate::faults::{Fault, Faults, Gate, Visit};
use crate::http::Service;

use api::Api;

const ACCESS_KEY: &str = "FERRYACCESSKEY";
const SECRET_KEY: &str = "ferry/secret+key";
const REGION: &str = "us-east-1";

/// S3 with its one bucket.
#[derive(Clone)]
pub(crate) struct S3(S3Service);

impl S3 {
    pub(crate) fn new(name: &'static str, bucket: Arc<Mutex<Bucket>>, faults: Arc<Faults>) -> Self {
        let auth = Keyring(Arc::clone(&bucket));
        let mut builder = S3ServiceBuilder::new(Api { name, bucket });
        builder.set_auth(auth);
        builder.set_access(Door(Gate::new(faults)));
        Self(builder.build())
    }

    /// What `object_store` needs to reach a server at this endpoint, by its own option names.
    pub(crate) fn options(endpoint: &str) -> Vec<(&'static str, String)> {
        vec![
            ("aws_endpoint", endpoint.to_owned()),
            ("aws_access_key_id", ACCESS_KEY.to_owned()),
            ("aws_secret_access_key", SECRET_KEY.to_owned()),
            ("aws_region", REGION.to_owned()),
            ("aws_allow_http", "true".to_owned()),
            ("aws_virtual_hosted_style_request", "false".to_owned()),
        ]
    }
}

/// Who may ask: its own key, and those that a test has given out.
struct Keyring(Arc<Mutex<Bucket>>);

#[async_trait::async_trait]
impl S3Auth for Keyring {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == ACCESS_KEY {
            return Ok(SECRET_KEY.into());
        }
        let bucket = self.0.lock().expect("the bucket");
        match bucket.keys.get(access_key) {
            Some((secret, until)) if Instant::now() < *until => Ok(secret.as_str().into()),
            Some(_) => Err(s3_error!(ExpiredToken, "The provided token has expired.")),
            None => Err(s3_error!(
                InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records."
            )),
        }
    }
}

impl Service for S3 {
    async fn answer(&self, request: Request<Body>) -> io::Result<Response<Body>> {
        let answer = self.0.call(request).await;
        answer.map_err(|error| io::Error::other(format!("{error:?}")))
    }
}

/// Every signed request passes it, once it is known which operation it asks for.
struct Door(Gate);

#[async_trait::async_trait]
impl S3Access for Door {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Signature is required"));
        }
        let asked = describe(context);
        let operation = context.s3_op().name().to_owned();
        let writes = matches!(
            operation.as_str(),
            "PutObject" | "CopyObject" | "CreateMultipartUpload"
        );
        let lacks = |header: &&str| {
            let is_due =
                (writes && *header != SOURCE_KEY) || is_of_customers_key(&operation, header);
            is_due && !context.headers().contains_key(*header)
        };
        let lacking = self.0.demanded().filter(lacks);
        let visit = context.extensions_mut().get::<Visit>().cloned();
        let visit = visit.expect("every request is a visit");
        let is_conditional = ["if-match", "if-none-match"]
            .iter()
            .any(|header| context.headers().contains_key(*header));
        let changes =
            writes || operation.starts_with("Delete") || operation.starts_with("Complete");
        let is_refused = is_conditional && changes && self.0.refuses_conditions();
        let passed = self.0.pass(&visit, &operation, &asked).await;
        if is_refused {
            return Err(s3_error!(
                NotImplemented,
                "A header you provided implies functionality that is not implemented"
            ));
        }
        match lacking {
            Some(header) => Err(s3_error!(
                AccessDenied,
                "the bucket's policy demands {header}"
            )),
            None if visit.fault() == Some(Fault::RefuseBusy) => Err(s3_error!(
                OperationAborted,
                "A conflicting conditional operation is in progress."
            )),
            None => passed.map_err(error_of),
        }
    }
}

/// Nobody keeps a customer's own key: parts and reads have to bring it too, and copies that of their source.
fn is_of_customers_key(operation: &str, header: &str) -> bool {
    match operation {
        "UploadPart" | "GetObject" | "HeadObject" => header == CUSTOMER_KEY,
        "CopyObject" | "UploadPartCopy" => header == CUSTOMER_KEY || header == SOURCE_KEY,
        _ => false,
    }
}

const CUSTOMER_KEY: &str = "x-amz-server-side-encryption-customer-key";
const SOURCE_KEY: &str = "x-amz-copy-source-server-side-encryption-customer-key";

/// `big.bin?partNumber=1&uploadId=upload-00000001`
fn describe(context: &S3AccessContext<'_>) -> String {
    let key = context.s3_path().get_object_key().unwrap_or_default();
    let query = context.uri().query().map(|query| format!("?{query}"));
    format!("{key}{}", query.unwrap_or_default())
}

/// The error that S3 sends with `status`. The status itself is set on the answer.
fn error_of(status: u16) -> S3Error {
    let code = match status {
        400 => S3ErrorCode::RequestTimeout,
        403 => S3ErrorCode::AccessDenied,
        404 => S3ErrorCode::NoSuchKey,
        409 => S3ErrorCode::ConditionalRequestConflict,
        412 => S3ErrorCode::PreconditionFailed,
        501 => S3ErrorCode::NotImplemented,
        503 => S3ErrorCode::SlowDown,
        _ => S3ErrorCode::InternalError,
    };
    S3Error::with_message(code, "Planned by the test.")
}
