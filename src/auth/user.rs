//! A user, as a session holds it after login.
//!
//! Promises: `name` and `home` were checked, so whoever reads them need not check again.
//! Must not: carry anything secret. A `User` may be printed and logged as it is.

mod mounts;

pub use mounts::{Leads, Mount, Place};

use std::fmt;
use std::time::{Duration, SystemTime};

use super::access::{Access, Client, Denied};
use super::allowance::Allowance;
use super::certificate_name::CertificateName;
use super::permissions::Permissions;
use crate::config::{ByteSize, ObjectMetadata, ObjectTags, Overwrite, RequireTls, StorageClass};

/// The longest name a user may have, in characters.
const LONGEST_NAME: usize = 128;

/// Somebody who has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name as typed in `USER`: 1 to 128 characters, none of them a control character.
    pub name: String,
    /// The directory that is `/` to this user.
    pub home: Place,
    /// Where the home shows to the client, if it is mounted: an absolute path, else empty.
    pub shows_at: String,
    /// What the user sees from other places, the outermost ones: [`User::at`] looks further.
    pub mounts: Vec<Mount>,
    /// What the user may do.
    pub permissions: Permissions,
    /// Whether an upload may replace a file; `None` leaves it to the gateway's own setting.
    pub overwrite: Option<Overwrite>,
    /// The largest file the user may upload, in bytes; `None` leaves it to the gateway's own setting.
    pub max_size: Option<ByteSize>,
    /// What must be encrypted, if more than the gateway's own setting says.
    pub require_tls: Option<RequireTls>,
    /// The name that the client's certificate must have; `None` takes any client.
    pub certificate: Option<CertificateName>,
    /// From where and when it may be logged in.
    pub access: Access,
    /// How much the user may ask for.
    pub allowance: Allowance,
    /// What the user's objects carry, besides what the gateway's own setting says.
    pub metadata: ObjectMetadata,
    /// The tags that the user's objects have, besides those of the gateway's own setting.
    pub tags: ObjectTags,
    /// Their storage class; `None` leaves it to the gateway's own setting.
    pub storage_class: Option<StorageClass>,
    /// The longest time between two uploads that is expected of the user.
    pub expect_every: Option<Duration>,
}

impl User {
    /// A user who may do all that is allowed by default, everywhere, within the gateway's own settings.
    pub(crate) fn unrestricted(name: String) -> Self {
        Self {
            name,
            home: Place::in_default("/"),
            shows_at: String::new(),
            mounts: Vec::new(),
            permissions: Permissions::by_default(),
            overwrite: None,
            max_size: None,
            require_tls: None,
            certificate: None,
            access: Access::default(),
            allowance: Allowance::default(),
            metadata: ObjectMetadata::default(),
            tags: ObjectTags::default(),
            storage_class: None,
            expect_every: None,
        }
    }
}

impl User {
    /// Whether a client whose certificate has these names may be this user.
    pub(super) fn takes(&self, names: &[CertificateName]) -> bool {
        self.certificate
            .as_ref()
            .is_none_or(|wanted| names.contains(wanted))
    }

    /// Why a client may not be this user now, whatever it knows; `None` if it may.
    pub(super) fn refusal(&self, client: &Client, now: SystemTime) -> Option<Denied> {
        let must_encrypt = self.require_tls.is_some_and(|it| it >= RequireTls::Control);
        if must_encrypt && !client.is_encrypted {
            return Some(Denied::TlsRequired);
        }
        self.access.refusal(client.peer, now)
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What a name may be, for error messages.
pub(super) const ALLOWED_NAMES: &str =
    "1 to 128 characters, no control characters, each name only once";

/// Whether `name` may be the name of a user.
pub(super) fn is_valid_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

/// What a home may be, for error messages.
pub(super) const ALLOWED_HOMES: &str = "an absolute path such as \"/\" or \"/scans/office\", or in another store \"NAME:/scans\", \
     without \".\", \"..\", empty parts or control characters";

/// The home that `path` means, normalised (`/a/` is `/a`), or `None` if it may not be one.
pub(super) fn normalised_home(path: &str) -> Option<String> {
    let below_root = path.strip_prefix('/')?;
    let inner = below_root.strip_suffix('/').unwrap_or(below_root);
    let is_root = below_root.is_empty();
    (is_root || inner.split('/').all(is_valid_segment)).then(|| format!("/{inner}"))
}

fn is_valid_segment(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..") && !segment.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_printable() {
        assert!(is_valid_name("a"));
        assert!(is_valid_name("scanner 3, größe"));
        assert!(is_valid_name(&"é".repeat(128)));
        assert!(!is_valid_name(&"a".repeat(129)));
        assert!(!is_valid_name(""));
        assert!(!is_valid_name("a\tb"));
        assert!(!is_valid_name("a\u{85}b"));
    }

    #[test]
    fn homes_are_absolute_and_normalised() {
        for (written, meant) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a"),
            ("/a/b c", "/a/b c"),
        ] {
            assert_eq!(
                normalised_home(written).as_deref(),
                Some(meant),
                "{written:?}"
            );
        }
        for refused in [
            "", "a", "a/b", "//", "/a//b", "/a//", "/..", "/a/../b", "/./a", "/a\nb", "/\0",
        ] {
            assert_eq!(normalised_home(refused), None, "{refused:?}");
        }
    }

    #[test]
    fn a_user_is_shown_by_name() {
        assert_eq!(User::unrestricted("anna".into()).to_string(), "anna");
    }
}
