//! Keys that nobody has uploaded: objects of any size, directories of any number of objects.

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
