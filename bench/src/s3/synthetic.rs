//! Keys that nobody has uploaded: objects of any size, directories of any number of objects.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crc_fast::{CrcAlgorithm, checksum as checksum_of, checksum_combine};

const ALGORITHM: CrcAlgorithm = CrcAlgorithm::Crc64Nvme;

/// The size of each object in a directory of many.
const SIZE: u64 = 1024;

/// The size of the object `blank-SIZE`, or of one in a directory of many.
pub(super) fn size(key: &str) -> Option<u64> {
    if let Some(size) = key.strip_prefix("blank-") {
        return size.parse().ok();
    }
    let many = Many::of(key)?;
    (many.find(key) < many.count && many.key(many.find(key)) == key).then_some(SIZE)
}

/// The checksum of so many blank bytes, as the gateway's objects carry theirs.
pub(super) fn checksum(size: u64) -> String {
    static KNOWN: Mutex<BTreeMap<u64, u64>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let sum = known.entry(size).or_insert_with(|| sum_of_blanks(size));
    format!("{sum:016x}/{size}")
}

/// From the sums of one, two, four … bytes.
fn sum_of_blanks(size: u64) -> u64 {
    let (mut whole, mut power) = (0, checksum_of(ALGORITHM, &[0]));
    let mut length = 1;
    for bit in 0..u64::BITS - size.leading_zeros() {
        if size >> bit & 1 == 1 {
            whole = checksum_combine(ALGORITHM, whole, power, length);
        }
        power = checksum_combine(ALGORITHM, power, power, length);
        length <<= 1;
    }
    whole
}

/// The directory `keys-COUNT/`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Many {
    count: u64,
}

impl Many {
    /// The directory that this prefix or key lies in.
    pub(super) fn of(prefix: &str) -> Option<Self> {
        let (count, _) = prefix.strip_prefix("keys-")?.split_once('/')?;
        let count = count.parse().ok()?;
        Some(Self { count })
    }

    /// All keys from this one on, in order.
    pub(super) fn from(self, start: &str) -> impl Iterator<Item = (String, u64)> {
        (self.find(start)..self.count).map(move |index| (self.key(index), SIZE))
    }

    fn key(self, index: u64) -> String {
        format!("keys-{}/file-{index:09}.dat", self.count)
    }

    /// The index of the first key that is not below `start`.
    fn find(self, start: &str) -> u64 {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle).as_str() < start {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_blank_bytes() {
        for size in [1_usize, 2, 3, 1000, 4096, 100_001] {
            let sum = checksum_of(ALGORITHM, &vec![0; size]);
            assert_eq!(checksum(size as u64), format!("{sum:016x}/{size}"));
        }
    }

    #[test]
    fn sizes_are_in_the_names() {
        assert_eq!(size("blank-4096"), Some(4096));
        assert_eq!(size("keys-10/file-000000009.dat"), Some(SIZE));
        assert_eq!(size("keys-10/file-000000010.dat"), None);
        assert_eq!(size("keys-10/"), None);
        assert_eq!(size("other"), None);
    }

    #[test]
    fn keys_begin_anywhere() {
        let many = Many::of("keys-10/").unwrap();
        assert_eq!(many.from("keys-10/").count(), 10);
        assert_eq!(many.from("keys-10/file-000000007.dat").count(), 3);
        assert_eq!(many.from("keys-10/z").count(), 0);
    }
}
