//! Finds the multipart uploads that a killed process left behind, and has the store forget them.
//!
//! No reader ever sees them, but their parts are stored and paid for. They are told by their age:
//! nobody can know whether another gateway is still at one that is young.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::Method;
use object_store::Error;
use object_store::path::Path;
use serde::Deserialize;

use crate::storage::store::directories::{Directories, marker};
use crate::storage::store::raw::{Query, Raw, RawObject};
use crate::storage::store::s3::listing::decode;
use crate::storage::store::s3::signed::SignedS3;
use crate::storage::verbs::pages::PAGE;
use crate::storage::{Storage, StorageError};

/// What S3 answers; of it, what we need.
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

impl Storage {
    /// Forgets the unfinished uploads under our prefix that are older than `age`: on S3 multipart
    /// uploads, on Google Cloud Storage what was to be appended. How many there were.
    ///
    /// # Errors
    /// When the store does not let us look, or fails.
    pub async fn sweep(&self, age: Duration) -> Result<usize, StorageError> {
        let before = Utc::now() - age;
        match (&self.directories, self.raw(), self.assembly.waiting_place()) {
            (Directories::S3(s3), ..) => self.sweep_multiparts(s3, before).await,
            (_, Some(raw), Some(place)) => sweep_place(raw, &place, before).await,
            _ => Ok(0),
        }
    }

    async fn sweep_multiparts(
        &self,
        s3: &SignedS3,
        before: DateTime<Utc>,
    ) -> Result<usize, StorageError> {
        let prefix = match self.keys.prefix().as_ref() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let mut forgotten = 0;
        let mut next = None;
        loop {
            let (uploads, marker) = page(s3, &prefix, next.as_ref()).await?;
            for upload in uploads {
                if upload.initiated < before && forget(s3, &upload).await? {
                    forgotten += 1;
                }
            }
            match marker {
                Some(marker) => next = Some(marker),
                None => return Ok(forgotten),
            }
        }
    }
}

/// Deletes what is old at a place where nothing stays for long.
async fn sweep_place(
    raw: &dyn Raw,
    place: &Path,
    before: DateTime<Utc>,
) -> Result<usize, StorageError> {
    let mut swept = 0;
    let mut token = None;
    loop {
        let query = Query {
            prefix: &marker(place),
            grouped: false,
            token: token.as_deref(),
            limit: PAGE,
        };
        let page = raw.list(query).await?;
        let is_old = |object: &RawObject| DateTime::<Utc>::from(object.modified) < before;
        let old: Vec<_> = page.objects.into_iter().filter(is_old).collect();
        swept += old.len() - raw.delete_unchanged(&old).await?;
        token = page.next;
        if token.is_none() {
            return Ok(swept);
        }
    }
}

async fn page(
    s3: &SignedS3,
    prefix: &str,
    from: Option<&Marker>,
) -> Result<(Vec<Unfinished>, Option<Marker>), StorageError> {
    let mut query = vec![("encoding-type", "url")];
    if let Some(from) = from {
        query.push(("key-marker", &from.key));
    }
    query.push(("prefix", prefix));
    if let Some(from) = from {
        query.push(("upload-id-marker", &from.upload_id));
    }
    query.push(("uploads", ""));
    let ask = s3.about_all(Method::GET, &query).await?;
    let body = s3.send("list_multiparts", ask).await?;
    let answer: Answer =
        quick_xml::de::from_reader(body.as_ref()).map_err(|error| Error::Generic {
            store: "S3",
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
async fn forget(s3: &SignedS3, upload: &Unfinished) -> Result<bool, StorageError> {
    let Ok(key) = Path::parse(&upload.key) else {
        return Ok(false);
    };
    match s3.abort(&key, &upload.upload_id).await {
        Ok(()) => {
            tracing::info!(%key, begun = %upload.initiated, "forgot an unfinished upload");
            Ok(true)
        }
        // Somebody else has finished or forgotten it meanwhile.
        Err(Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
