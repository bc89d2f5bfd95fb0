//! Finds out whether a store compares checksums that it is sent.
//!
//! Stores that speak S3's protocol know different ones. One that does not know a header passes over it: that shows only
//! when it is sent a checksum that is wrong.

use bytes::Bytes;
use http::{Method, StatusCode};
use object_store::path::Path;
use object_store::{Error, Result};

use crate::storage::store::body::{Body, Crc64};
use crate::storage::store::causes::refused_with;
use crate::storage::store::s3::checksums::{Check, checked};
use crate::storage::store::s3::signed::SignedS3;

/// What is stored where checksums are tried.
const CONTENT: &[u8] = b"Bucketferry tries whether this store compares checksums. It deletes this.";

/// Tries it on an object at `key`, unless it is known.
pub(crate) async fn try_checksums(s3: &SignedS3, key: &Path) -> Result<()> {
    if s3.is_untried() {
        let right = Body::from(Bytes::from_static(CONTENT));
        let mut wrong = right.clone();
        wrong.crc64 = Crc64::told(!right.crc64.value(), right.crc64.length());
        let compares = takes(s3, key, right).await? && !takes(s3, key, wrong).await?;
        s3.learn(compares);
    }
    Ok(())
}

/// Whether the store takes this body with its checksum.
async fn takes(s3: &SignedS3, key: &Path, body: Body) -> Result<bool> {
    let ask = s3.about(Method::PUT, key.as_ref()).await?;
    let (mut ask, _) = checked(ask, body, Check::Crc64).await;
    ask.sends_damaged_again = false;
    match s3.send("put", ask).await {
        Ok(_) => Ok(true),
        Err(Error::NotSupported { .. }) => Ok(false),
        Err(error) if refused_with(&error) == Some(StatusCode::BAD_REQUEST.as_u16()) => Ok(false),
        Err(error) => Err(error),
    }
}
