//! Bytes on their way to the store, and their checksum.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest, checksum_combine};
use object_store::PutPayload;
use serde::{Deserialize, Serialize};

/// How a checksum is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// S3 and Azure compare it, and clients are told it.
    Crc64Nvme,
    /// Google compares it.
    Crc32c,
}

impl Algorithm {
    fn of_crc(self) -> CrcAlgorithm {
        match self {
            Self::Crc64Nvme => CrcAlgorithm::Crc64Nvme,
            Self::Crc32c => CrcAlgorithm::Crc32Iscsi,
        }
    }

    /// A checksum as logs have it, in hexadecimal.
    pub(crate) fn written(self, value: u64) -> String {
        match self {
            Self::Crc64Nvme => format!("crc64nvme {value:016x}"),
            Self::Crc32c => format!("crc32c {value:08x}"),
        }
    }
}

/// The CRC64-NVME of some bytes, which is computed as they arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Crc64 {
    value: u64,
    length: u64,
}

/// Computes a checksum as bytes arrive.
#[derive(Debug)]
pub(crate) struct Summing(Digest);

impl Default for Summing {
    fn default() -> Self {
        Self::by(Algorithm::Crc64Nvme)
    }
}

impl Summing {
    /// Computes a checksum of this kind.
    pub(crate) fn by(algorithm: Algorithm) -> Self {
        Self(Digest::new(algorithm.of_crc()))
    }

    /// What it has come to.
    pub(crate) fn value(&self) -> u64 {
        self.0.finalize()
    }

    /// Bytes that it has come to it from.
    pub(crate) fn length(&self) -> u64 {
        self.0.get_amount()
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn sum(&self) -> Crc64 {
        Crc64 {
            value: self.value(),
            length: self.length(),
        }
    }
}

impl Crc64 {
    /// That of nothing.
    pub(crate) fn empty() -> Self {
        Summing::default().sum()
    }

    /// A checksum that the store reports, of `length` bytes.
    pub(crate) fn told(value: u64, length: u64) -> Self {
        Self { value, length }
    }

    /// That of these bytes and those after them.
    #[must_use]
    pub(crate) fn then(self, next: Self) -> Self {
        if self.length == 0 {
            // Combining costs as much as summing some hundred kilobytes.
            return next;
        }
        Self {
            value: combined(Algorithm::Crc64Nvme, self.value, next.value, next.length),
            length: self.length + next.length,
        }
    }

    pub(crate) fn value(self) -> u64 {
        self.value
    }

    /// Bytes that it is of.
    pub(crate) fn length(self) -> u64 {
        self.length
    }
}

/// The checksum of some bytes and of `length` others after them.
pub(crate) fn combined(algorithm: Algorithm, first: u64, next: u64, length: u64) -> u64 {
    checksum_combine(algorithm.of_crc(), first, next, length)
}

/// Bytes for the store.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) payload: PutPayload,
    pub(crate) crc64: Crc64,
}

impl Body {
    pub(crate) fn length(&self) -> usize {
        self.payload.content_length()
    }
}

impl From<PutPayload> for Body {
    fn from(payload: PutPayload) -> Self {
        let mut summing = Summing::default();
        payload.iter().for_each(|chunk| summing.add(chunk));
        let crc64 = summing.sum();
        Self { payload, crc64 }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        PutPayload::from(bytes).into()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        PutPayload::from(bytes).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the catalogue of parametrised CRC algorithms, for `CRC-64/NVME`.
    #[test]
    fn the_algorithm_is_the_one_that_stores_compare() {
        let body = Body::from(Bytes::from_static(b"123456789"));
        assert_eq!(body.crc64, Crc64::told(0xae8b_1486_0a79_9888, 9));
        assert_eq!(Crc64::empty().value(), 0);
    }

    #[test]
    fn the_checksum_of_a_whole_is_that_of_its_pieces() {
        let whole: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        for at in [0, 1, 4096, 99_999, 100_000] {
            let (first, second) = whole.split_at(at);
            let [first, second] = [first, second].map(|piece| Body::from(piece.to_vec()).crc64);
            assert_eq!(first.then(second), Body::from(whole.clone()).crc64, "{at}");
        }
    }
}
