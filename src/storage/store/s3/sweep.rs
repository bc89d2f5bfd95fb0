//! Finds the multipart uploads that a killed process left behind, and has the store forget them. Google lists them as S3
//! does.
//!
//! No reader ever sees them, but their parts are stored and paid for. They are told by their age:
//! nobody can know whether another gateway is still at one that is young.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::Method;
use object_store::path::Path;
use object_store::{Error, Result};
use serde::Deserialize;

use crate::storage::store::keys::marker;
use crate::storage::store::s3::listing::decode;
use crate::storage::store::s3::signed::SignedS3;

/// Who can list the uploads that are not done, and forget one.
#[async_trait]
pub(crate) trait Uploads: Sync {
    /// One page, in the manner of S3's `ListMultipartUploads`.
    async fn list_uploads(&self, query: &[(&str, &str)]) -> Result<Bytes>;

    /// Forgets one.
    async fn forget(&self, key: &Path, upload_id: &str) -> Result<()>;
}

#[async_trait]
impl Uploads for SignedS3 {
    async fn list_uploads(&self, query: &[(&str, &str)]) -> Result<Bytes> {
        let ask = self.about_all(Method::GET, query).await?;
        self.send("list_multiparts", ask).await
    }

    async fn forget(&self, key: &Path, upload_id: &str) -> Result<()> {
        self.sweep(key, upload_id).await
    }
}

/// What the store answers; of it, what we need.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    upload: Vec<Unfinished>,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
    #[serde(default)]
    is_truncated: bool,
    encoding_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Unfinished {
    key: String,
    upload_id: String,
    initiated: DateTime<Utc>,
}

/// Where the next page begins.
#[derive(Debug)]
struct Marker {
    key: String,
    upload_id: String,
}

/// Forgets the uploads under a prefix that were begun before a time. How many there were.
pub(crate) async fn sweep(
    store: &impl Uploads,
    prefix: &Path,
    before: DateTime<Utc>,
) -> Result<usize> {
    let prefix = marker(prefix);
    let mut forgotten = 0;
    let mut next = None;
    loop {
        let (uploads, marker) = page(store, &prefix, next.as_ref()).await?;
        for upload in uploads {
            if upload.initiated < before && forget(store, &upload).await? {
                forgotten += 1;
            }
        }
        match marker {
            Some(marker) => next = Some(marker),
            None => return Ok(forgotten),
        }
    }
}

async fn page(
    store: &impl Uploads,
    prefix: &str,
    from: Option<&Marker>,
) -> Result<(Vec<Unfinished>, Option<Marker>)> {
    let mut query = vec![("encoding-type", "url")];
    if let Some(from) = from {
        query.push(("key-marker", &from.key));
    }
    query.push(("prefix", prefix));
    if let Some(from) = from {
        query.push(("upload-id-marker", &from.upload_id));
    }
    query.push(("uploads", ""));
    let body = store.list_uploads(&query).await?;
    let answer: Answer =
        quick_xml::de::from_reader(body.as_ref()).map_err(|error| Error::Generic {
            store: "the store",
            source: Box::new(error),
        })?;
    let encoded = answer.encoding_type.as_deref() == Some("url");
    let uploads = answer.upload.into_iter().map(|upload| Unfinished {
        key: decode(upload.key, encoded),
        ..upload
    });
    let marker = match (answer.is_truncated, answer.next_key_marker) {
        (true, Some(key)) => Some(Marker {
            key: decode(key, encoded),
            upload_id: answer.next_upload_id_marker.unwrap_or_default(),
        }),
        _ => None,
    };
    Ok((uploads.collect(), marker))
}

/// Whether it was there to forget, and could be: a key that we could not have written is not ours.
async fn forget(store: &impl Uploads, upload: &Unfinished) -> Result<bool> {
    let Ok(key) = Path::parse(&upload.key) else {
        return Ok(false);
    };
    match store.forget(&key, &upload.upload_id).await {
        Ok(()) => {
            tracing::info!(%key, begun = %upload.initiated, "forgot an unfinished upload");
            Ok(true)
        }
        // Somebody else has finished or forgotten it meanwhile.
        Err(Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
