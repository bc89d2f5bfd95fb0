//! Any key of an S3 bucket.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::Method;
use md5::{Digest, Md5};
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{ClientOptions, HttpRequest};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{Error, Result};
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::Url;

use crate::telemetry::Metrics;

use super::metered::measure;
use super::raw::{Query, Raw, RawObject, RawPage, bare};
use super::requests::{Ask, Sender, Sign, url_of, with_query};
use super::s3_listing;
use super::signed::Signing;

/// As many as S3 deletes at once.
const BATCH: usize = 1000;

/// One S3 bucket by its keys.
pub(super) struct S3Keys {
    s3: Arc<AmazonS3>,
    region: String,
    unsigned: bool,
    sender: Sender,
    bucket: OnceCell<Url>,
    /// Deletes may name the version that they mean, as far as is known.
    knows_versions: AtomicBool,
    metrics: Arc<Metrics>,
}

impl S3Keys {
    pub(super) fn new(
        s3: Arc<AmazonS3>,
        signing: &Signing,
        options: &ClientOptions,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        Ok(Self {
            s3,
            region: signing.region.clone(),
            unsigned: signing.unsigned,
            sender: Sender::new(options, signing.retry_timeout, "S3")?,
            bucket: OnceCell::new(),
            knows_versions: AtomicBool::new(true),
            metrics,
        })
    }

    /// Where the bucket lies. The signer knows endpoint, bucket and style of addressing; its signature is
    /// thrown away.
    async fn bucket(&self) -> Result<&Url> {
        let ask = async || {
            let (key, validity) = (Path::from("x"), Duration::from_mins(1));
            let mut url = self.s3.signed_url(Method::GET, &key, validity).await?;
            let bucket = url.path().trim_end_matches('x').to_owned();
            url.set_query(None);
            url.set_path(&bucket);
            Ok(url)
        };
        self.bucket.get_or_try_init(ask).await
    }

    async fn about(&self, method: Method, key: &str) -> Result<Ask> {
        Ok(Ask::new(method, url_of(self.bucket().await?, key), key))
    }

    async fn send(&self, operation: &str, ask: Ask) -> Result<Bytes> {
        let answer = measure(&self.metrics, operation, self.sender.send(&ask, self)).await?;
        Ok(answer.into_body())
    }

    /// Deletes up to [`BATCH`] objects; how many have stayed because they have changed.
    async fn delete_batch(&self, objects: &[RawObject]) -> Result<usize> {
        let versions = self.knows_versions.load(Ordering::Relaxed);
        match self.delete_as(objects, versions).await {
            // A store that does not know the condition may not take the request.
            Err(Error::Generic { .. } | Error::NotSupported { .. }) if versions => {
                let left = self.delete_as(objects, false).await?;
                self.knows_versions.store(false, Ordering::Relaxed);
                Ok(left)
            }
            result => result,
        }
    }

    async fn delete_as(&self, objects: &[RawObject], versions: bool) -> Result<usize> {
        let body = Bytes::from(deletion(objects, versions));
        let url = with_query(self.bucket().await?.clone(), &[("delete", "")]);
        let mut ask = Ask::new(Method::POST, url, "")
            .with("content-md5", &BASE64.encode(Md5::digest(&body)))
            .with("content-type", "application/xml");
        ask.body = body;
        let answer = self.send("delete", ask).await?;
        self.left_of(&answer)
    }

    fn left_of(&self, answer: &[u8]) -> Result<usize> {
        let result: Deleted =
            quick_xml::de::from_reader(answer).map_err(|error| self.sender.generic(error))?;
        let changed = |refused: &&Refused| refused.code == "PreconditionFailed";
        let left = result.error.iter().filter(changed).count();
        let absent = |refused: &Refused| refused.code == "NoSuchKey";
        match result
            .error
            .iter()
            .find(|one| !changed(one) && !absent(one))
        {
            None => Ok(left),
            Some(Refused { key, code }) if code == "AccessDenied" => Err(Error::PermissionDenied {
                path: key.clone(),
                source: code.clone().into(),
            }),
            Some(Refused { key, code }) => Err(Error::Generic {
                store: "S3",
                source: format!("{key} was not deleted: {code}").into(),
            }),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Deleted {
    #[serde(default)]
    error: Vec<Refused>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refused {
    #[serde(default)]
    key: String,
    code: String,
}

fn deletion(objects: &[RawObject], versions: bool) -> String {
    let mut body = String::from("<Delete><Quiet>true</Quiet>");
    for object in objects {
        // Writing into a string can't fail.
        let _ = write!(body, "<Object><Key>{}</Key>", escaped(&object.key));
        if let Some(e_tag) = object.e_tag.as_ref().filter(|_| versions) {
            let _ = write!(body, "<ETag>\"{}\"</ETag>", escaped(e_tag));
        }
        body.push_str("</Object>");
    }
    body.push_str("</Delete>");
    body
}

fn escaped(text: &str) -> String {
    let escaped = quick_xml::escape::escape(text);
    // As they are, XML has them become other characters.
    escaped.replace('\r', "&#13;").replace('\n', "&#10;")
}

#[async_trait]
impl Sign for S3Keys {
    async fn sign(&self, request: &mut HttpRequest) -> Result<()> {
        if self.unsigned {
            return Ok(());
        }
        let credential = self.s3.credentials().get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &self.region).try_authorize(request, None)
    }
}

#[async_trait]
impl Raw for S3Keys {
    async fn list(&self, query: Query<'_>) -> Result<RawPage> {
        let url = with_query(
            self.bucket().await?.clone(),
            &s3_listing::query(&query).pairs(),
        );
        let body = self.send("list", Ask::new(Method::GET, url, "")).await?;
        s3_listing::parse(&body).map_err(|error| self.sender.generic(error))
    }

    async fn put(&self, key: &str, body: Bytes, create: bool) -> Result<()> {
        let mut ask = self.about(Method::PUT, key).await?;
        ask.body = body.clone();
        if create {
            ask = ask.with("if-none-match", "*");
        }
        match self.send("put", ask).await {
            Err(Error::NotSupported { .. }) if create => self.put(key, body, false).await,
            Err(Error::Precondition { path, source }) => Err(Error::AlreadyExists { path, source }),
            result => result.map(drop),
        }
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        let ask = self.about(Method::GET, key).await?;
        self.send("get", ask).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let ask = self.about(Method::DELETE, key).await?;
        match self.send("delete", ask).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete_unchanged(&self, objects: &[RawObject]) -> Result<usize> {
        if let [only] = objects {
            let mut ask = self.about(Method::DELETE, &only.key).await?;
            if let Some(e_tag) = &only.e_tag {
                ask = ask.with("if-match", &format!("\"{}\"", bare(e_tag)));
            }
            return match self.send("delete", ask).await {
                Ok(_) | Err(Error::NotFound { .. }) => Ok(0),
                Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => Ok(1),
                Err(error) => Err(error),
            };
        }
        let mut left = 0;
        for batch in objects.chunks(BATCH) {
            left += self.delete_batch(batch).await?;
        }
        Ok(left)
    }

    /// AWS has them since 2025; most others take the condition and do not look at it.
    fn has_conditional_deletes(&self) -> bool {
        false
    }
}

impl fmt::Debug for S3Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Keys({})", self.s3)
    }
}
