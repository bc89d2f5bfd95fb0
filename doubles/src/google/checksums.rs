//! The checksums of objects, and those that requests claim of their bodies.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hyper::HeaderMap;
use s3s::crypto::{Checksum as _, Crc32c};
use s3s::dto::Checksum;

use crate::bucket::{Content, Object, hex};

use super::ask::header;
use super::refusal::{Answered, bad_digest, invalid_argument, invalid_digest};

/// The polynomial of CRC32C, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What a request says about its body, as bytes.
#[derive(Default)]
pub(crate) struct Claims {
    md5: Vec<Vec<u8>>,
    crc32c: Vec<Vec<u8>>,
}

impl Claims {
    pub(crate) fn in_headers(headers: &HeaderMap) -> Answered<Self> {
        let mut claims = Self::default();
        if let Some(md5) = header(headers, "content-md5")? {
            claims.md5.push(digest(md5, 16)?);
        }
        for value in headers.get_all("x-goog-hash") {
            let value = value
                .to_str()
                .map_err(|_| invalid_argument("x-goog-hash"))?;
            value
                .split(',')
                .try_for_each(|claim| claims.add(claim.trim()))?;
        }
        Ok(claims)
    }

    fn add(&mut self, claim: &str) -> Answered<()> {
        match claim.split_once('=') {
            Some(("md5", md5)) => self.md5.push(digest(md5, 16)?),
            Some(("crc32c", crc32c)) => self.crc32c.push(digest(crc32c, 4)?),
            _ => return Err(invalid_argument(format!("x-goog-hash: {claim}"))),
        }
        Ok(())
    }

    /// Holds the claims against what came.
    pub(crate) fn check(&self, md5: &[u8], crc32c: u32) -> Answered<()> {
        let crc32c = crc32c.to_be_bytes();
        all_are(&self.crc32c, &crc32c, "CRC32C")?;
        all_are(&self.md5, md5, "MD5 hash")
    }
}

fn all_are(claims: &[Vec<u8>], calculated: &[u8], kind: &str) -> Answered<()> {
    match claims.iter().find(|claim| *claim != calculated) {
        None => Ok(()),
        Some(claim) => Err(bad_digest(
            kind,
            &BASE64.encode(claim),
            &BASE64.encode(calculated),
        )),
    }
}

fn digest(text: &str, len: usize) -> Answered<Vec<u8>> {
    let bytes = BASE64.decode(text).ok();
    let bytes = bytes.filter(|bytes| bytes.len() == len);
    bytes.ok_or_else(|| invalid_digest(text))
}

/// The value of `x-goog-hash`. Composite objects, and those uploaded in parts, have no MD5.
pub(crate) fn hashes(object: &mut Object) -> String {
    let crc32c = written(crc32c_of_object(object));
    match md5_in_tag(&object.etag) {
        Some(md5) => format!("crc32c={crc32c},md5={}", BASE64.encode(md5)),
        None => format!("crc32c={crc32c}"),
    }
}

/// The same of a part, which always has an MD5.
pub(crate) fn hashes_of_part(md5: &[u8], crc32c: u32) -> String {
    format!("crc32c={},md5={}", written(crc32c), BASE64.encode(md5))
}

/// The MD5 that a simple object has for a tag.
pub(crate) fn md5_in_tag(tag: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = tag.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() == 32)?;
    let bytes = digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8);
    let md5: Vec<u8> = bytes.collect();
    debug_assert_eq!(hex(&md5), tag.to_lowercase());
    Some(md5)
}

/// How the bucket keeps it.
pub(crate) fn kept(crc32c: u32) -> Checksum {
    Checksum {
        checksum_crc32c: Some(written(crc32c)),
        ..Checksum::default()
    }
}

/// The checksum that the bucket keeps with its object. An object put there by the test gets it now.
pub(crate) fn crc32c_of_object(object: &mut Object) -> u32 {
    let sum = crc32c_kept(&object.checksum, &object.content);
    object.checksum.checksum_crc32c = Some(written(sum));
    sum
}

/// The checksum in `kept`, or that of `content` if there is none.
pub(crate) fn crc32c_kept(kept: &Checksum, content: &Content) -> u32 {
    let kept = kept.checksum_crc32c.as_deref().map(|text| {
        let bytes = BASE64.decode(text).expect("a checksum that was kept");
        u32::from_be_bytes(bytes.try_into().expect("four bytes"))
    });
    kept.unwrap_or_else(|| crc32c(content))
}

pub(crate) fn crc32c(content: &Content) -> u32 {
    let mut last = (std::ptr::null(), 0, 0);
    let chunks = content.chunks().iter().map(|chunk| {
        // A test may repeat one chunk a thousand times.
        if (last.0, last.1) != (chunk.as_ptr(), chunk.len()) {
            let sum = u32::from_be_bytes(Crc32c::checksum(chunk));
            last = (chunk.as_ptr(), chunk.len(), sum);
        }
        (last.2, last.1 as u64)
    });
    joined(chunks)
}

/// The checksum of all pieces one after the other, from the checksum and the length of each.
pub(crate) fn joined(pieces: impl IntoIterator<Item = (u32, u64)>) -> u32 {
    let pieces = pieces.into_iter();
    pieces.fold(0, |before, (sum, len)| shifted(before, len) ^ sum)
}

/// What `sum` becomes when so many bytes follow: its product with x to the power of their bits.
fn shifted(mut sum: u32, mut bytes: u64) -> u32 {
    let mut power = 1 << (31 - 8);
    while bytes > 0 {
        if bytes & 1 == 1 {
            sum = product(power, sum);
        }
        power = product(power, power);
        bytes >>= 1;
    }
    sum
}

/// The product of two polynomials modulo that of CRC32C, with the highest power in the lowest bit.
fn product(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        if (a >> bit) & 1 == 1 {
            product ^= b;
        }
        b = (b >> 1) ^ if b & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    product
}

fn written(crc32c: u32) -> String {
    BASE64.encode(crc32c.to_be_bytes())
}
