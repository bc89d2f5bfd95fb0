//! Objects that are written, or copied, by one request each, on a precondition that every try carries.
//!
//! `object_store` tells neither how often it has tried nor what it was answered in between, takes a copy for done when
//! S3 says within a 200 that it has failed, and every 409 for an object that exists.

use http::Method;
use http::header::{ETAG, HeaderMap};
use object_store::path::Path;
use object_store::{Error, Result, UpdateVersion};
use serde::Deserialize;

use crate::storage::store::body::Body;
use crate::storage::store::causes::is_no_class;
use crate::storage::store::description::{Description, Headers};
use crate::storage::store::http::requests::{Ask, encoded};
use crate::storage::store::keys::only_if;
use crate::storage::store::precondition::{self, Precondition};
use crate::storage::store::s3::signed::SignedS3;
use crate::storage::store::stored::Stored;
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::Base;

/// What makes it an answer, and not an error or nothing.
#[derive(Debug, Deserialize)]
struct CopyObjectResult {
    #[serde(rename = "ETag")]
    _e_tag: String,
}

/// Writes a whole object at any key.
pub(crate) async fn put(
    s3: &SignedS3,
    key: &str,
    body: Body,
    description: &Description,
    terms: &Terms,
) -> Result<Stored> {
    let put = put_as(s3, key, body.clone(), description, terms).await;
    match (put, description.without_kept_class()) {
        (Err(error), Some(plain)) if is_no_class(&error) => {
            put_as(s3, key, body, &plain, terms).await
        }
        (put, _) => put,
    }
}

async fn put_as(
    s3: &SignedS3,
    key: &str,
    body: Body,
    description: &Description,
    terms: &Terms,
) -> Result<Stored> {
    let ask = s3.about(Method::PUT, key).await?;
    let ask = ask.describing(description, &Headers::S3);
    let answer = s3.put(conditional(ask, terms)?, body).await;
    let (answer, sent) = answer.map_err(|error| told_apart(error, &terms.precondition))?;
    Ok(Stored {
        compared: sent.compared(answer.headers(), s3.compares_tags()),
        version: version(answer.headers()),
    })
}

/// Copies an object of at most 5 GiB, with all that it carries.
pub(crate) async fn copy(s3: &SignedS3, from: &Base, to: &Path, terms: &Terms) -> Result<()> {
    let class = from.carries.class.as_deref();
    match copy_as(s3, from, to, class, terms).await {
        // Some stores tell a class that nobody can ask for: MinIO of what it has moved to another store.
        Err(error) if class.is_some() && is_no_class(&error) => {
            copy_as(s3, from, to, None, terms).await
        }
        copied => copied,
    }
}

async fn copy_as(
    s3: &SignedS3,
    from: &Base,
    to: &Path,
    class: Option<&str>,
    terms: &Terms,
) -> Result<()> {
    let source = format!("{}/{}", s3.bucket_name(), encoded(from.key.as_ref()));
    let ask = s3.about(Method::PUT, to.as_ref()).await?;
    let mut ask = ask.with("x-amz-copy-source", &source);
    if let Some(class) = class {
        // Of a copy of which nothing is said S3 makes a standard one. It copies tags by itself.
        ask = ask.with(Headers::S3.class, class);
    }
    if let Some(e_tag) = &from.version.e_tag {
        ask = only_if(ask, "x-amz-copy-source-if-match", e_tag)?;
    }
    let ask = conditional(ask, terms)?;
    let answer = s3.copy(ask).await.map_err(|error| match error {
        // What is not found is the source.
        error @ Error::NotFound { .. } => error,
        // S3 says the same of a source that has changed, as of a target.
        error => told_apart(error, &terms.precondition),
    })?;
    let _: CopyObjectResult = quick_xml::de::from_reader(answer.as_ref()).map_err(|error| {
        // An empty answer: it may have copied, and it may not.
        terms.attempts.unanswered();
        s3.unreadable(error)
    })?;
    Ok(())
}

/// A request on these terms.
pub(crate) fn conditional(ask: Ask, terms: &Terms) -> Result<Ask> {
    let ask = ask.telling(&terms.attempts);
    match header(&terms.precondition) {
        Some((name, value)) => only_if(ask, name, value),
        None => Ok(ask),
    }
}

/// The header that says a precondition.
pub(crate) fn header(precondition: &Precondition) -> Option<(&'static str, &str)> {
    match precondition {
        Precondition::None => None,
        Precondition::Absent => Some(("if-none-match", "*")),
        Precondition::Unchanged(version) => Some(("if-match", version.e_tag.as_deref()?)),
    }
}

/// What an error means for a change on a precondition. S3 says 404 of an object that had to be there.
pub(crate) fn told_apart(error: Error, precondition: &Precondition) -> Error {
    match (error, precondition) {
        (Error::NotFound { path, source }, Precondition::Unchanged(_))
            if is_missing_key(source.as_ref()) =>
        {
            Error::Precondition { path, source }
        }
        (error, _) => precondition::told_apart("S3", error, precondition),
    }
}

/// An object that had to be there is not; an upload or a bucket that is missing has another code.
fn is_missing_key(error: &(dyn std::error::Error + 'static)) -> bool {
    error.to_string().contains("NoSuchKey")
}

pub(crate) fn version(headers: &HeaderMap) -> UpdateVersion {
    let e_tag = headers.get(ETAG).and_then(|e_tag| e_tag.to_str().ok());
    UpdateVersion {
        e_tag: e_tag.map(str::to_owned),
        version: None,
    }
}
