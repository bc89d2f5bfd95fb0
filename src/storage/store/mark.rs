//! The mark by which an object is known again as that of one upload.

use object_store::{Attribute, Attributes};

/// The user metadata that holds the mark. No hyphen, which Azure would refuse; no underscore, which
/// some proxies drop.
const METADATA_NAME: &str = "ferryupload";

/// What tells the object of one upload from that of any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark(String);

impl Mark {
    /// A mark that no other upload has.
    pub(crate) fn new() -> Self {
        let random: u128 = rand::random();
        Self(format!("{random:032x}"))
    }

    /// Has the object carry it.
    pub(crate) fn put_on(&self, attributes: &mut Attributes) {
        attributes.insert(
            Attribute::Metadata(METADATA_NAME.into()),
            self.0.clone().into(),
        );
    }

    /// The one that an object carries.
    pub(crate) fn of(attributes: &Attributes) -> Option<Self> {
        let found = attributes.get(&Attribute::Metadata(METADATA_NAME.into()))?;
        Some(Self(found.as_ref().to_owned()))
    }

    /// Whether an object carries it.
    pub(crate) fn is_on(&self, attributes: &Attributes) -> bool {
        Self::of(attributes).as_ref() == Some(self)
    }
}
