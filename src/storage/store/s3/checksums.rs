//! The checksums that S3 compares, as its headers write them.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{ETAG, HeaderMap};
use md5::{Digest, Md5};
use object_store::aws::Checksum;
use object_store::{Error, PutPayload};
use serde::{Deserialize, Serialize};

use crate::storage::store::body::{Body, Crc64};
use crate::storage::store::causes::refused_with;
use crate::storage::store::http::requests::Ask;
use crate::storage::store::keys::bare;
use crate::storage::store::stored::Compared;

/// The checksum of an object or a part.
pub(crate) const CRC64NVME: &str = "x-amz-checksum-crc64nvme";

/// What every store knows.
pub(crate) const CONTENT_MD5: &str = "content-md5";

/// The MD5 of so many bytes is cheaper than the request that would ask for their size.
pub(crate) const CHEAP_MD5: usize = 64 << 10;

/// The MD5 of so many bytes is computed where they are; that of more, on a thread of its own.
const MD5_AT_ONCE: usize = 256 << 10;

/// The same of another kind.
pub(crate) const SHA256: &str = "x-amz-checksum-sha256";

/// A part that is there, as the completion names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) e_tag: String,
    pub(crate) checksum_sha256: Option<String>,
    /// What the store has compared, or computed itself for a copy.
    pub(crate) crc64: Option<Crc64>,
}

/// The MD5 of an empty body.
pub(crate) const MD5_OF_NOTHING: &str = "1B2M2Y8AsgTpgAmY7PhCfg==";

/// Whether a store has refused a body because it has no checksum.
pub(crate) fn is_checksum_wanted(error: &Error) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    refused_with(error) == Some(400) && text.contains(CONTENT_MD5)
}

/// What a store compares the bodies of requests with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Check {
    Crc64,
    Sha256,
    /// MD5, which every store knows, for as many bytes at most.
    Md5UpTo(usize),
}

impl Check {
    /// As an operator has set it in the options of the store.
    pub(crate) fn of(checksum: Checksum) -> Option<Self> {
        match checksum {
            Checksum::CRC64NVME => Some(Self::Crc64),
            Checksum::SHA256 => Some(Self::Sha256),
            _ => None,
        }
    }
}

/// What a request has said of its body.
#[derive(Debug)]
pub(crate) enum Sent {
    Crc64(String),
    Sha256(String),
    Md5([u8; 16]),
    Nothing,
}

/// A request with a body, and with what the store is to compare it with. Buckets with Object Lock want that for every
/// object.
pub(crate) async fn checked(ask: Ask, body: Body, check: Check) -> (Ask, Sent) {
    let (mut ask, sent) = match check {
        Check::Crc64 => {
            let sum = written_crc64(body.crc64);
            (ask.with(CRC64NVME, &sum), Sent::Crc64(sum))
        }
        Check::Sha256 => {
            let digest = sha256(&body.payload);
            let (written, mut ask) = (BASE64.encode(digest), ask);
            ask.digest = Some(digest);
            (ask.with(SHA256, &written), Sent::Sha256(written))
        }
        Check::Md5UpTo(most) if body.length() <= most => {
            let digest = md5(&body.payload).await;
            let ask = ask.with(CONTENT_MD5, &BASE64.encode(digest));
            (ask, Sent::Md5(digest))
        }
        Check::Md5UpTo(_) => (ask, Sent::Nothing),
    };
    ask.body = body.payload;
    (ask, sent)
}

impl Sent {
    /// Whether an object or a part is what was sent, by the answer to it. `by_tag` says that tags are compared, where
    /// they are the MD5 of what is stored.
    pub(crate) fn compared(&self, headers: &HeaderMap, by_tag: bool) -> Compared {
        let told = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        match self {
            Self::Crc64(sum) => {
                let told = told(CRC64NVME).filter(|told| is_crc64(told) && is_of_whole(headers));
                Compared::of("crc64nvme", sum, told)
            }
            Self::Sha256(sum) => Compared::of("sha256", sum, told(SHA256)),
            Self::Md5(digest) if by_tag && !is_encrypted(headers) => {
                let tag = told(ETAG.as_str()).map(bare);
                Compared::of("md5", &hex(*digest), tag.filter(|tag| is_md5(tag)))
            }
            Self::Md5(_) => Compared::Same,
            Self::Nothing => Compared::Not,
        }
    }
}

/// Whether a checksum is of all bytes, and no sum of the sums of parts.
pub(crate) fn is_of_whole(headers: &HeaderMap) -> bool {
    let kind = headers.get("x-amz-checksum-type");
    kind.is_none_or(|kind| kind == "FULL_OBJECT")
}

/// Whether it is written as S3 writes it. Some stores tell sums of sums by the same name.
pub(crate) fn is_crc64(told: &str) -> bool {
    read_crc64(told, 0).is_some()
}

/// Whether the tag is not the content's MD5: the store encrypts by a key that is not its own.
fn is_encrypted(headers: &HeaderMap) -> bool {
    let kind = headers.get("x-amz-server-side-encryption");
    kind.is_some_and(|kind| kind != "AES256")
        || headers.contains_key("x-amz-server-side-encryption-customer-algorithm")
}

fn is_md5(tag: &str) -> bool {
    tag.len() == 32 && tag.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hex(digest: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(digest))
}

/// The MD5 of a payload. That of a large one takes milliseconds, which others would wait.
async fn md5(payload: &PutPayload) -> [u8; 16] {
    let sum = |payload: &PutPayload| -> [u8; 16] {
        let mut digest = Md5::new();
        payload.iter().for_each(|chunk| digest.update(chunk));
        digest.finalize().into()
    };
    if payload.content_length() <= MD5_AT_ONCE {
        return sum(payload);
    }
    let shared = payload.clone();
    let summed = tokio::task::spawn_blocking(move || sum(&shared)).await;
    // The pool of threads is closed only when the process ends.
    summed.unwrap_or_else(|_| sum(payload))
}

/// The digest of a payload, as signatures and one kind of checksum have it.
pub(crate) fn sha256(payload: &PutPayload) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    payload.iter().for_each(|chunk| context.update(chunk));
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// The most significant byte first, in base64.
pub(crate) fn written_crc64(sum: Crc64) -> String {
    BASE64.encode(sum.value().to_be_bytes())
}

/// A checksum that the store has told, of so many bytes.
pub(crate) fn read_crc64(written: &str, length: u64) -> Option<Crc64> {
    let bytes = BASE64.decode(written).ok()?;
    let value = u64::from_be_bytes(bytes.try_into().ok()?);
    Some(Crc64::told(value, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let sum = Crc64::told(0xae8b_1486_0a79_9888, 9);
        assert_eq!(written_crc64(sum), "rosUhgp5mIg=");
        assert_eq!(read_crc64("rosUhgp5mIg=", 9), Some(sum));
        for wrong in ["", "AAA=", "?"] {
            assert_eq!(read_crc64(wrong, 9), None);
        }
    }
}
