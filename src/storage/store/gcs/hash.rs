//! The checksum that Google compares and keeps, as its headers write it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::HeaderMap;
use object_store::PutPayload;

use crate::storage::store::body::{Algorithm, Summing};
use crate::storage::store::stored::Compared;

/// Has hashes of several kinds, each with its name.
pub(crate) const HEADER: &str = "x-goog-hash";

/// The CRC32C of a payload.
pub(crate) fn crc32c(payload: &PutPayload) -> u64 {
    let mut summing = Summing::by(Algorithm::Crc32c);
    payload.iter().for_each(|chunk| summing.add(chunk));
    summing.value()
}

/// As a request says it.
pub(crate) fn written(sum: u64) -> String {
    format!("crc32c={}", encoded(sum))
}

/// What an answer says of the object's.
pub(crate) fn told(headers: &HeaderMap) -> Option<u64> {
    let bytes = BASE64.decode(found(headers)?).ok()?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?).into())
}

/// Whether an object is what was sent, by the answer to it.
pub(crate) fn compared(sent: Option<u64>, headers: &HeaderMap) -> Compared {
    match sent {
        Some(sent) => Compared::of("crc32c", &encoded(sent), found(headers)),
        None => Compared::Not,
    }
}

fn found(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(HEADER).iter();
    let hashes = lines.filter_map(|line| line.to_str().ok());
    let mut hashes = hashes.flat_map(|line| line.split(','));
    hashes.find_map(|hash| hash.trim().strip_prefix("crc32c="))
}

/// Of 64 bits, 32 are used; the most significant byte comes first.
fn encoded(sum: u64) -> String {
    BASE64.encode(u32::try_from(sum).unwrap_or_default().to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the catalogue of parametrised CRC algorithms, for `CRC-32/ISCSI`.
    const CHECK: u64 = 0xe306_9283;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        let lines = lines.iter().map(|line| {
            let name = http::HeaderName::from_static(HEADER);
            (name, http::HeaderValue::from_static(line))
        });
        lines.collect()
    }

    #[test]
    fn hashes_are_found_wherever_they_are() {
        assert_eq!(crc32c(&PutPayload::from_static(b"123456789")), CHECK);
        assert_eq!(written(CHECK), "crc32c=4waSgw==");
        let both = "md5=JfngNCfcsPh7XgQwxwFBwQ==";
        for lines in [
            &["crc32c=4waSgw=="] as &[_],
            &[both, "crc32c=4waSgw=="],
            &["md5=JfngNCfcsPh7XgQwxwFBwQ==, crc32c=4waSgw=="],
        ] {
            assert_eq!(told(&headers(lines)), Some(CHECK));
        }
        for lines in [&[both] as &[_], &["crc32c=?"], &["crc32c=AAA="], &[]] {
            assert_eq!(told(&headers(lines)), None);
        }
    }

    #[test]
    fn another_hash_is_a_difference() {
        let other = headers(&["crc32c=AAAAAA=="]);
        assert!(matches!(
            compared(Some(CHECK), &other),
            Compared::Differs(_)
        ));
        assert!(matches!(compared(None, &other), Compared::Not));
    }
}
