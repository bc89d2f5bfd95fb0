//! Finds out whether a store compares checksums that it is sent.
//!
//! Stores that speak S3's protocol know different ones. One that does not know a header passes over it: that shows only
//! when it is sent a checksum that is wrong. Uploads in parts are tried by themselves: some stores compute another sum
//! for them, or want it otherwise.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use object_store::path::Path;
use object_store::{Error, Result, UpdateVersion};
use tokio_util::sync::CancellationToken;

use crate::storage::store::MIN_PART;
use crate::storage::store::body::{Body, Crc64};
use crate::storage::store::causes::refused_with;
use crate::storage::store::description::{Carries, Description};
use crate::storage::store::http::command::on_behalf_of;
use crate::storage::store::s3::checksums::{Check, checked};
use crate::storage::store::s3::signed::{Learnt, SignedS3};
use crate::storage::store::s3::upload::S3Upload;
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::{Base, Start, Upload};

/// What is stored where checksums are tried.
const CONTENT: &[u8] = b"Bucketferry tries whether this store compares checksums. It deletes this.";

/// So much of it is copied, all of zeros.
const RANGE: usize = 1000;

/// Tries it on an object at `key`, unless it is known.
pub(crate) async fn try_checksums(s3: &Arc<SignedS3>, key: &Path) -> Result<()> {
    if s3.is_untried() {
        // What is refused is refused: nothing is sent again.
        let once = CancellationToken::new();
        once.cancel();
        let learnt = on_behalf_of(once, find_out(s3, key)).await?;
        s3.learn(learnt);
    }
    Ok(())
}

async fn find_out(s3: &Arc<SignedS3>, key: &Path) -> Result<Learnt> {
    let right = Body::from(Bytes::from_static(CONTENT));
    match put(s3, key, right.clone()).await {
        Ok(()) => {}
        Err(error) if is_refusal(&error) => return Ok(Learnt::Nothing),
        Err(error) => return Err(error),
    }
    let mut wrong = right.clone();
    wrong.crc64 = Crc64::told(!right.crc64.value(), right.crc64.length());
    match put(s3, key, wrong).await {
        Ok(()) => return Ok(Learnt::Nothing),
        Err(error) if is_answer(&error) => {}
        Err(error) => return Err(error),
    }
    // A single part would not show a sum of sums.
    let parts = [Body::from(vec![0; MIN_PART]), right];
    match put_in_parts(s3, key, parts).await {
        Ok(true) => {
            if !sums_copies(s3, key).await? {
                s3.copies_have_none();
            }
            Ok(Learnt::ComparesAll)
        }
        Ok(false) => Ok(Learnt::ComparesObjects),
        Err(error) if is_answer(&error) => Ok(Learnt::ComparesObjects),
        Err(error) => Err(error),
    }
}

async fn put(s3: &SignedS3, key: &Path, body: Body) -> Result<()> {
    let ask = s3.about(Method::PUT, key.as_ref()).await?;
    let (ask, _) = checked(ask, body, Check::Crc64).await;
    s3.send("put", ask).await.map(drop)
}

/// Whether the store tells the checksum of the whole.
async fn put_in_parts(s3: &Arc<SignedS3>, key: &Path, parts: [Body; 2]) -> Result<bool> {
    let start = Start {
        key: key.clone(),
        description: Description::default(),
        base: None,
    };
    let mut upload = S3Upload::begin_by(Arc::clone(s3), start, Check::Crc64).await?;
    let tells = async {
        for part in parts {
            upload.put_part(part).await?;
        }
        upload.complete_and_compare(&Terms::none()).await
    };
    let tells = tells.await;
    if tells.is_err() {
        // What the store keeps of it is swept.
        let _ = upload.abort().await;
    }
    tells
}

/// Whether the store computes the checksum of a range that is copied into a part. versitygw 1.8.0 takes that of all that
/// it is copied from: the new object would have a wrong one for ever, and no download of it would be believed.
async fn sums_copies(s3: &Arc<SignedS3>, key: &Path) -> Result<bool> {
    let base = Base {
        key: key.clone(),
        size: RANGE as u64,
        is_whole: false,
        version: UpdateVersion {
            e_tag: None,
            version: None,
        },
        carries: Carries::default(),
    };
    let start = Start {
        key: key.clone(),
        description: Description::default(),
        base: Some(base),
    };
    let right = Body::from(vec![0; RANGE]).crc64;
    match S3Upload::begin_by(Arc::clone(s3), start, Check::Crc64).await {
        Ok(mut upload) => {
            let is_right = upload.has_first(right);
            // What the store keeps of it is swept.
            let _ = upload.abort().await;
            Ok(is_right)
        }
        Err(error) if is_answer(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the store has answered, and not that it is busy or broken.
fn is_refusal(error: &Error) -> bool {
    let is_busy = |status| status == 429 || status >= 500;
    is_answer(error) && !refused_with(error).is_some_and(is_busy)
}

/// Whether the store has answered.
fn is_answer(error: &Error) -> bool {
    refused_with(error).is_some()
}
