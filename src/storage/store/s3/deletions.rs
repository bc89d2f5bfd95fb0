//! Deletions on S3: many at once, each of one version.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::Method;
use md5::{Digest, Md5};
use object_store::{Error, Result};
use serde::Deserialize;

use crate::storage::store::causes::refused_with;
use crate::storage::store::keys::Object;
use crate::storage::store::precondition::Precondition;
use crate::storage::store::s3::signed::SignedS3;
use crate::storage::store::s3::writes::{conditional, told_apart};
use crate::storage::store::terms::Terms;

/// As many as S3 deletes at once.
const MAX_BATCH: usize = 1000;

/// Deletes objects of one bucket.
#[derive(Debug)]
pub(crate) struct Deletions {
    signed: Arc<SignedS3>,
    /// Deletes may name the version that they mean, as far as is known.
    knows_versions: AtomicBool,
}

impl Deletions {
    pub(crate) fn new(signed: Arc<SignedS3>) -> Self {
        Self {
            signed,
            knows_versions: AtomicBool::new(true),
        }
    }

    /// Deletes an object on these terms.
    ///
    /// # Errors
    /// [`Error::NotSupported`] if the store does not know them.
    pub(crate) async fn delete(&self, key: &str, terms: &Terms) -> Result<()> {
        match self.delete_on(key, terms).await {
            Err(error) if terms.precondition != Precondition::None && is_not_understood(&error) => {
                Err(Error::NotSupported {
                    source: Box::new(error),
                })
            }
            result => result,
        }
    }

    async fn delete_on(&self, key: &str, terms: &Terms) -> Result<()> {
        let ask = self.signed.about(Method::DELETE, key).await?;
        match self.signed.send("delete", conditional(ask, terms)?).await {
            Ok(_) => Ok(()),
            Err(error @ Error::NotFound { .. }) => Err(error),
            Err(error) => Err(told_apart(error, &terms.precondition)),
        }
    }

    /// Deletes what has not changed; how many have.
    pub(crate) async fn delete_all(&self, objects: &[Object]) -> Result<usize> {
        let mut left = 0;
        for batch in objects.chunks(MAX_BATCH) {
            left += self.delete_some(batch).await?;
        }
        Ok(left)
    }

    /// Deletes up to [`MAX_BATCH`] objects; how many have stayed because they have changed.
    async fn delete_some(&self, objects: &[Object]) -> Result<usize> {
        let versions = self.knows_versions.load(Ordering::Relaxed);
        match self.delete_as(objects, versions).await {
            // A store that does not know the condition may not take the request.
            Err(error) if versions && is_not_understood(&error) => {
                let left = self.delete_as(objects, false).await?;
                self.knows_versions.store(false, Ordering::Relaxed);
                Ok(left)
            }
            result => result,
        }
    }

    async fn delete_as(&self, objects: &[Object], versions: bool) -> Result<usize> {
        match objects {
            [only] => self.delete_one(only, versions).await,
            several => self.delete_batch(several, versions).await,
        }
    }

    async fn delete_one(&self, object: &Object, versions: bool) -> Result<usize> {
        let terms = if versions {
            Terms::new(Precondition::Unchanged(object.version()))
        } else {
            Terms::none()
        };
        match self.delete_on(&object.key, &terms).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(0),
            Err(Error::Precondition { .. }) => Ok(1),
            Err(error) => Err(error),
        }
    }

    async fn delete_batch(&self, objects: &[Object], versions: bool) -> Result<usize> {
        let body = Bytes::from(deletion(objects, versions));
        let ask = self
            .signed
            .about_all(Method::POST, &[("delete", "")])
            .await?;
        let ask = ask
            .with("content-md5", &BASE64.encode(Md5::digest(&body)))
            .with("content-type", "application/xml")
            .with_body(body);
        let answer = self.signed.send("delete", ask).await?;
        self.left_of(&answer)
    }

    fn left_of(&self, answer: &[u8]) -> Result<usize> {
        let result: Deleted =
            quick_xml::de::from_reader(answer).map_err(|error| self.signed.unreadable(error))?;
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

fn is_not_understood(error: &Error) -> bool {
    matches!(error, Error::NotSupported { .. }) || refused_with(error) == Some(400)
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

fn deletion(objects: &[Object], versions: bool) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_says_which_versions_it_means() {
        let object = Object {
            key: "a<&>\r".to_owned(),
            size: 0,
            modified: std::time::UNIX_EPOCH,
            e_tag: Some("ab".to_owned()),
            generation: None,
            carries: crate::storage::store::description::Carries::default(),
        };
        let (with, without) = (
            deletion(std::slice::from_ref(&object), true),
            deletion(&[object], false),
        );
        assert!(
            with.contains("<Key>a&lt;&amp;&gt;&#13;</Key><ETag>\"ab\"</ETag>"),
            "{with}"
        );
        assert!(!without.contains("ETag"), "{without}");
    }

    #[test]
    fn only_a_request_that_is_not_understood_is_made_without_versions() {
        let refused = |status: &str| Error::Generic {
            store: "S3",
            source: format!("Server returned non-2xx status code: {status}: <Code/>").into(),
        };
        assert!(is_not_understood(&refused("400 Bad Request")));
        assert!(!is_not_understood(&refused("503 Slow Down")));
    }
}
