//! How large the parts of an upload are.
//!
//! Stores take a limited number of parts, so parts grow with the object: they double every
//! thousand, up to the largest that the memory budget has room for.

use crate::config::{ByteSize, Upload};
use crate::storage::store::MIN_PART;

/// Parts of one size, before they double.
const PARTS_OF_ONE_SIZE: usize = 1000;

/// Only in the first of these shares of an upload's parts may some be shorter than they could be: each
/// takes from what all parts can add up to.
const SHARE_OF_SHORT_PARTS: usize = 4;

/// The largest part that S3 takes.
const LARGEST: usize = 5 << 30;

/// The sizes of an upload's parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartSizes {
    first: usize,
    largest: usize,
    uniform: bool,
    max_parts: Option<usize>,
    /// What all parts add up to; asked for with every chunk.
    largest_object: Option<ByteSize>,
}

impl PartSizes {
    /// As the configuration says, for a store that takes this many parts.
    pub(crate) fn new(upload: &Upload, max_parts: Option<usize>) -> Self {
        let size = |size: ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
        let first = size(upload.part_size);
        let room = (size(upload.memory) / 4).min(LARGEST);
        let sizes = Self {
            first,
            largest: if upload.uniform_parts {
                first
            } else {
                room.max(first)
            },
            uniform: upload.uniform_parts,
            max_parts,
            largest_object: None,
        };
        Self {
            largest_object: sizes.add_up(),
            ..sizes
        }
    }

    /// The size of each part, if all but the last have to have the same.
    pub(crate) fn uniform(&self) -> Option<u64> {
        self.uniform.then_some(self.first as u64)
    }

    /// The size of the part at `index`; `None` if the store takes no more.
    pub(crate) fn size(&self, index: usize) -> Option<usize> {
        if self.max_parts.is_some_and(|max| index >= max) {
            return None;
        }
        let doublings = u32::try_from(index / PARTS_OF_ONE_SIZE).unwrap_or(u32::MAX);
        let grown = 1_usize
            .checked_shl(doublings)
            .and_then(|factor| self.first.checked_mul(factor));
        Some(grown.unwrap_or(self.largest).min(self.largest))
    }

    /// Whether the part at `index` may go up with so few bytes, although more are to come.
    pub(crate) fn may_be_short(&self, index: usize, length: usize) -> bool {
        if self.uniform || length == 0 {
            return false;
        }
        // Stores without a limit take parts of any size.
        self.max_parts
            .is_none_or(|max| length >= MIN_PART && index < max / SHARE_OF_SHORT_PARTS)
    }

    /// Whether all parts have to be of one size.
    pub(crate) fn are_uniform(&self) -> bool {
        self.uniform
    }

    /// The largest part that there can be.
    pub(crate) fn largest(&self) -> usize {
        self.largest
    }

    /// The largest object that the parts add up to, if there is a limit.
    pub(crate) fn largest_object(&self) -> Option<ByteSize> {
        self.largest_object
    }

    fn add_up(&self) -> Option<ByteSize> {
        let count = self.max_parts?;
        let sizes = (0..count).filter_map(|index| self.size(index));
        Some(ByteSize(sizes.map(|size| size as u64).sum()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(change: impl FnOnce(&mut Upload)) -> PartSizes {
        let mut upload = Upload::default();
        change(&mut upload);
        PartSizes::new(&upload, Some(10_000))
    }

    #[test]
    fn parts_grow_as_far_as_memory_and_the_store_allow() {
        let sizes = sizes(|_| ());
        assert_eq!(sizes.size(0), Some(8 << 20));
        assert_eq!(sizes.size(999), Some(8 << 20));
        assert_eq!(sizes.size(1000), Some(16 << 20));
        assert_eq!(sizes.size(9999), Some(64 << 20), "a quarter of 256 MiB");
        assert_eq!(sizes.size(10_000), None);
        let largest = sizes.largest_object().unwrap();
        assert_eq!(
            largest.0,
            (1000 * 8 + 1000 * 16 + 1000 * 32 + 7000 * 64) << 20
        );
    }

    #[test]
    fn equal_parts_stay_equal() {
        let sizes = sizes(|upload| upload.uniform_parts = true);
        assert_eq!(sizes.size(9999), Some(8 << 20));
        assert_eq!(sizes.largest_object(), Some(ByteSize((8 << 20) * 10_000)));
    }

    /// They cost no more than the operator is told.
    #[test]
    fn some_parts_may_be_short() {
        let sizes = self::sizes(|_| ());
        assert!(!sizes.may_be_short(0, MIN_PART - 1));
        assert!(sizes.may_be_short(2499, MIN_PART));
        assert!(!sizes.may_be_short(2500, MIN_PART));
        let short = 2500 * MIN_PART as u64;
        let rest: u64 = (2500..10_000)
            .filter_map(|index| sizes.size(index))
            .map(|size| size as u64)
            .sum();
        assert_eq!((short + rest) >> 30, 465, "as docs/operations.md says");
        let uniform = self::sizes(|upload| upload.uniform_parts = true);
        assert!(!uniform.may_be_short(0, MIN_PART));
        let folder = PartSizes::new(&Upload::default(), None);
        assert!(folder.may_be_short(1_000_000, 1));
        assert!(!folder.may_be_short(0, 0));
    }

    #[test]
    fn a_folder_has_no_limit() {
        let sizes = PartSizes::new(&Upload::default(), None);
        assert!(sizes.size(1_000_000).is_some());
        assert_eq!(sizes.largest_object(), None);
    }
}
