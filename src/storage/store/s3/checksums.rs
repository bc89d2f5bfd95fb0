//! The checksums that S3 compares, as its headers write them.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};
use object_store::aws::Checksum;
use object_store::{Error, PutPayload};

use crate::storage::store::body::{Body, Crc64};
use crate::storage::store::causes::refused_with;
use crate::storage::store::http::requests::Ask;

/// Payloads of up to so many bytes go with an MD5, which is cheap there.
const MAX_MD5: usize = 8192;

/// The checksum of an object or a part.
pub(crate) const CRC64NVME: &str = "x-amz-checksum-crc64nvme";

/// The same of another kind.
pub(crate) const SHA256: &str = "x-amz-checksum-sha256";

/// A part that is there, as the completion names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) e_tag: String,
    pub(crate) checksum_sha256: Option<String>,
    /// What the store has compared, or computed itself for a copy.
    pub(crate) crc64: Option<Crc64>,
}

/// The MD5 of an empty body.
pub(crate) const MD5_OF_NOTHING: &str = "1B2M2Y8AsgTpgAmY7PhCfg==";

/// Which bodies go with an MD5, where there is no other checksum: it is what every store knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Md5Of {
    /// Small ones.
    Small,
    /// All: buckets with Object Lock want it.
    All,
}

/// Whether a store has refused a body because it has no checksum.
pub(crate) fn is_checksum_wanted(error: &Error) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    refused_with(error) == Some(400) && text.contains("content-md5")
}

/// A request with a body, and with what the store is to compare it with.
pub(crate) fn checked(ask: Ask, body: Body, checksum: Option<Checksum>, md5: Md5Of) -> Ask {
    let mut ask = match checksum {
        Some(Checksum::CRC64NVME) => ask.with(CRC64NVME, &written_crc64(body.crc64)),
        Some(Checksum::SHA256) => {
            let digest = sha256(&body.payload);
            let mut ask = ask.with(SHA256, &BASE64.encode(digest));
            ask.digest = Some(digest);
            ask
        }
        _ if md5 == Md5Of::All || body.length() <= MAX_MD5 => {
            let mut digest = Md5::new();
            body.payload.iter().for_each(|chunk| digest.update(chunk));
            ask.with("content-md5", &BASE64.encode(digest.finalize()))
        }
        _ => ask,
    };
    ask.body = body.payload;
    ask
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
