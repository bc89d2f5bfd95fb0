//! The mark by which an object is known again as that of one upload, and the marks of those before it.
//!
//! Whoever lost the answer to a write looks whether its mark is there. Another writer may have replaced the object by
//! then, or added to it: so each object carries the marks of the last objects that it replaced or was built on.

use object_store::{Attribute, Attributes};
use serde::{Deserialize, Serialize};

/// The user metadata that holds the mark. No hyphen, which Azure would refuse; no underscore, which
/// some proxies drop.
const MARK: &str = "ferryupload";

/// The user metadata that holds the marks of the objects before it, the newest first.
const LINEAGE: &str = "ferrylineage";

/// As many objects before it are remembered. S3 has 2 KiB for all metadata.
const MAX_LINEAGE: usize = 16;

/// A lineage has so much of each mark.
const SHORT: usize = 16;

/// What tells the object of one upload from that of any other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark(String);

impl Mark {
    /// A mark that no other upload has.
    pub(crate) fn new() -> Self {
        let random: u128 = rand::random();
        Self(format!("{random:032x}"))
    }

    /// As it is written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Has the object carry it.
    pub(crate) fn put_on(&self, attributes: &mut Attributes) {
        attributes.insert(metadata(MARK), self.0.clone().into());
    }

    /// The one that an object carries.
    pub(crate) fn of(attributes: &Attributes) -> Option<Self> {
        let found = attributes.get(&metadata(MARK))?;
        Some(Self(found.as_ref().to_owned()))
    }

    /// Whether an object carries it.
    pub(crate) fn is_on(&self, attributes: &Attributes) -> bool {
        Self::of(attributes).as_ref() == Some(self)
    }

    /// Whether an object carries it, or has replaced or was built on one that did.
    pub(crate) fn is_on_or_before(&self, attributes: &Attributes) -> bool {
        let lineage = attributes.get(&metadata(LINEAGE));
        let lineage = lineage.map_or("", |lineage| lineage.as_ref());
        self.is_on(attributes) || lineage.split(',').any(|before| before == self.short())
    }

    fn short(&self) -> &str {
        self.0.get(..SHORT).unwrap_or(&self.0)
    }
}

/// The marks of an object and of those before it, for its successor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lineage(String);

impl Lineage {
    /// What the successor of an object with these attributes carries.
    pub(crate) fn after(attributes: &Attributes) -> Self {
        let before = attributes.get(&metadata(LINEAGE));
        let before = before.map_or("", |before| before.as_ref());
        Self::of(Mark::of(attributes).as_ref(), before)
    }

    /// What the successor of an object with this mark carries, if the object carries this lineage.
    pub(crate) fn then(&self, mark: &Mark) -> Self {
        Self::of(Some(mark), &self.0)
    }

    /// Whether an object with this lineage replaced, one after the other, the one that had the other: nothing else was
    /// there in between, as far as it remembers.
    pub(crate) fn goes_on_from(&self, before: &Self) -> bool {
        let newest = before.0.split(',').next().unwrap_or_default();
        !newest.is_empty() && self.0.split(',').any(|mark| mark == newest)
    }

    /// Whether it holds this mark.
    pub(crate) fn has(&self, mark: &Mark) -> bool {
        self.0.split(',').any(|one| one == mark.short())
    }

    /// As it is written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// One that was written by us.
    pub(crate) fn read(written: &str) -> Self {
        Self(written.to_owned())
    }

    fn of(mark: Option<&Mark>, before: &str) -> Self {
        let mark = mark.map(Mark::short);
        let marks = mark.into_iter().chain(before.split(','));
        let marks = marks.filter(|mark| !mark.is_empty()).take(MAX_LINEAGE);
        Self(marks.collect::<Vec<_>>().join(","))
    }

    /// Has the object carry it, in place of any other.
    pub(crate) fn put_on(&self, attributes: &mut Attributes) {
        if self.0.is_empty() {
            attributes.remove(&metadata(LINEAGE));
        } else {
            attributes.insert(metadata(LINEAGE), self.0.clone().into());
        }
    }
}

fn metadata(name: &'static str) -> Attribute {
    Attribute::Metadata(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn successor(attributes: &Attributes) -> (Mark, Attributes) {
        let (mark, mut next) = (Mark::new(), Attributes::new());
        mark.put_on(&mut next);
        Lineage::after(attributes).put_on(&mut next);
        (mark, next)
    }

    #[test]
    fn an_object_carries_the_marks_of_the_last_ones_before_it() {
        let (first, mut attributes) = successor(&Attributes::new());
        assert!(first.is_on(&attributes));
        assert!(!Mark::new().is_on_or_before(&attributes));
        for _ in 0..MAX_LINEAGE {
            attributes = successor(&attributes).1;
            assert!(!first.is_on(&attributes));
            assert!(first.is_on_or_before(&attributes));
        }
        let (_, attributes) = successor(&attributes);
        assert!(!first.is_on_or_before(&attributes));
        let size: usize = attributes.iter().map(|(_, value)| value.len()).sum();
        assert!(size < 512, "{size} bytes of metadata");
    }

    #[test]
    fn a_lineage_goes_on_from_those_in_it() {
        let (_, first) = successor(&Attributes::new());
        let (_, second) = successor(&first);
        let [first, second] = [first, second].map(|attributes| Lineage::after(&attributes));
        assert!(second.goes_on_from(&first));
        assert!(second.goes_on_from(&second));
        assert!(!first.goes_on_from(&second));
        assert!(!first.goes_on_from(&Lineage::default()));
    }

    #[test]
    fn the_first_object_of_a_name_has_no_lineage() {
        let (_, attributes) = successor(&Attributes::new());
        assert_eq!(attributes.len(), 1);
    }
}
