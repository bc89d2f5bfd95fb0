//! What a store says of an object that it has just written, and of one that it has had for long.

use chrono::{DateTime, Utc};
use object_store::{Attribute, Attributes, Error, UpdateVersion};
use thiserror::Error;

use crate::storage::store::body::{Algorithm, Crc64};

/// The user metadata that holds the checksum of an object, its size, and when it was written:
/// `5c2a0f1e9b3d4466/7595/1764460800`.
const CHECKSUM: &str = "ferrycrc64";

/// The clocks of the gateway and of the store may be so many seconds apart, and a request may take as long.
const CLOCKS_APART: i64 = 600;

/// An object that was written.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) version: UpdateVersion,
    pub(crate) compared: Compared,
}

impl Stored {
    /// One that is what was sent.
    pub(crate) fn same(version: UpdateVersion) -> Self {
        Self {
            version,
            compared: Compared::Same,
        }
    }

    /// One of which the store says nothing more.
    pub(crate) fn uncompared(version: UpdateVersion) -> Self {
        Self {
            version,
            compared: Compared::Not,
        }
    }
}

/// Whether what a store has is what it was sent.
#[derive(Debug)]
pub(crate) enum Compared {
    /// It is, by a checksum.
    Same,
    /// Neither the store nor we could tell.
    Not,
    /// It is not.
    Differs(Difference),
}

impl Compared {
    /// Compares what was sent with what the store says it has, both as the store writes them. A store that was sent a
    /// checksum it compares need not say so.
    pub(crate) fn of(what: &'static str, sent: &str, told: Option<&str>) -> Self {
        match told {
            Some(told) if told != sent => Self::Differs(Difference {
                what,
                sent: sent.to_owned(),
                stored: told.to_owned(),
            }),
            _ => Self::Same,
        }
    }

    /// As a failure, for what no reader can see yet.
    pub(crate) fn check(self, store: &'static str) -> Result<(), Error> {
        match self {
            Self::Same | Self::Not => Ok(()),
            Self::Differs(difference) => Err(Error::Generic {
                store,
                source: Box::new(difference),
            }),
        }
    }
}

/// What was sent is not what is stored, or the other way round.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}: sent {sent}, stored {stored}")]
pub(crate) struct Difference {
    /// What was compared: a checksum, or the size.
    pub(crate) what: &'static str,
    pub(crate) sent: String,
    pub(crate) stored: String,
}

/// By what a store can be held to what it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// It is sent a checksum, and compares.
    Checksum(&'static str),
    /// Nothing but the size.
    Size,
    /// It is not known yet.
    Unknown,
    /// Nothing lies between the gateway and the store.
    NotNeeded,
}

impl Comparison {
    /// Whether whatever the store takes is what it was sent.
    pub(crate) fn is_certain(self) -> bool {
        matches!(self, Self::Checksum(_) | Self::NotNeeded)
    }
}

/// The checksum that a store keeps of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) algorithm: Algorithm,
    pub(crate) value: u64,
}

/// The checksum that an object carries in its metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) value: u64,
    /// When it was written, in seconds since 1970.
    written: i64,
}

impl Carried {
    pub(crate) const ALGORITHM: Algorithm = Algorithm::Crc64Nvme;

    /// The one of an object of this size. Other programs copy metadata to other content: it is believed only if the
    /// size is the same.
    pub(crate) fn of(attributes: &Attributes, size: u64) -> Option<Self> {
        let text = attributes.get(&Attribute::Metadata(CHECKSUM.into()))?;
        let mut fields = text.split('/');
        let (value, of_size, written) = (fields.next()?, fields.next()?, fields.next()?);
        if of_size.parse() != Ok(size) || value.len() != 16 {
            return None;
        }
        Some(Self {
            value: u64::from_str_radix(value, 16).ok()?,
            written: written.parse().ok()?,
        })
    }

    /// Has an object that is written now carry the checksum of its content.
    pub(crate) fn put_on(whole: Crc64, attributes: &mut Attributes) {
        let (value, length, now) = (whole.value(), whole.length(), Utc::now().timestamp());
        let text = format!("{value:016x}/{length}/{now}");
        attributes.insert(Attribute::Metadata(CHECKSUM.into()), text.into());
    }

    /// Whether the object has not been written anew since, by any program.
    pub(crate) fn is_as_old_as(self, modified: DateTime<Utc>) -> bool {
        modified.timestamp() <= self.written.saturating_add(CLOCKS_APART)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_carries_the_checksum_of_its_content() {
        let mut attributes = Attributes::new();
        Carried::put_on(Crc64::told(0xae8b_1486_0a79_9888, 9), &mut attributes);
        let carried = Carried::of(&attributes, 9).unwrap();
        assert_eq!(carried.value, 0xae8b_1486_0a79_9888);
        assert!(carried.is_as_old_as(Utc::now()));
        assert!(!carried.is_as_old_as(Utc::now() + chrono::TimeDelta::hours(1)));
        assert_eq!(Carried::of(&attributes, 10), None);
        assert_eq!(Carried::of(&Attributes::new(), 9), None);
        for wrong in [
            "",
            "/9/1",
            "ae8b14860a799888/9",
            "xe8b14860a799888/9/1",
            "1/9/1",
            "ae8b14860a799888/9/x",
        ] {
            attributes.insert(Attribute::Metadata(CHECKSUM.into()), wrong.into());
            assert_eq!(Carried::of(&attributes, 9), None, "{wrong}");
        }
    }

    #[test]
    fn what_a_store_does_not_say_is_taken_for_compared() {
        assert!(matches!(Compared::of("crc32c", "a", None), Compared::Same));
        assert!(matches!(
            Compared::of("crc32c", "a", Some("a")),
            Compared::Same
        ));
        let differs = Compared::of("crc32c", "a", Some("b")).check("S3");
        assert!(
            differs
                .unwrap_err()
                .to_string()
                .contains("crc32c: sent a, stored b")
        );
    }
}
