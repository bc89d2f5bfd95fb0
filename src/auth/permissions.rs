//! What a user may do: a small set of words.
//!
//! Promises: a word that is not known is an error that names the known ones, never a permission.
//! Must not: know which FTP verb needs which permission; that is told where the verbs are.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// One thing that a user may be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// See names, sizes and times.
    List,
    /// Download files.
    Read,
    /// Upload files and append to them.
    Write,
    /// Delete files and directories.
    Delete,
    /// Rename files and directories.
    Rename,
    /// Create directories.
    Mkdir,
    /// Rename what was delivered, where `overwrite` is `deny`: its name is free again. Nobody has it who is not given it
    /// by name.
    Release,
}

impl Permission {
    /// Every permission, in the order in which they are shown.
    pub const ALL: [Self; 7] = [
        Self::List,
        Self::Read,
        Self::Write,
        Self::Delete,
        Self::Rename,
        Self::Mkdir,
        Self::Release,
    ];

    /// The word that stands for it in the users file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Rename => "rename",
            Self::Mkdir => "mkdir",
            Self::Release => "release",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no permission.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{word:?} is no permission; known are {}", known_words())]
pub struct UnknownPermission {
    word: String,
}

impl FromStr for Permission {
    type Err = UnknownPermission;

    /// Reads one of the words; case matters.
    ///
    /// # Errors
    /// [`UnknownPermission`], which lists the known words.
    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL
            .into_iter()
            .find(|permission| permission.as_str() == word);
        known.ok_or_else(|| UnknownPermission {
            word: word.to_owned(),
        })
    }
}

/// The words of all permissions, for error messages.
pub(super) fn known_words() -> String {
    Permission::ALL.map(Permission::as_str).join(", ")
}

/// A set of [`Permission`]s.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Permissions {
    bits: u8,
}

impl Permissions {
    /// What a user without a list may do: everything but [`Permission::Release`].
    pub fn by_default() -> Self {
        let given = |permission: &Permission| *permission != Permission::Release;
        Permission::ALL.into_iter().filter(given).collect()
    }

    /// Nothing is allowed.
    pub fn none() -> Self {
        Self { bits: 0 }
    }

    /// Whether `permission` is in the set.
    pub fn allows(self, permission: Permission) -> bool {
        self.bits & permission.bit() != 0
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        let bits = permissions
            .into_iter()
            .fold(0, |bits, permission| bits | permission.bit());
        Self { bits }
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed = Permission::ALL
            .into_iter()
            .filter(|&permission| self.allows(permission));
        f.debug_set().entries(allowed).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_allows_exactly_its_members() {
        for member in Permission::ALL {
            let alone = Permissions::from_iter([member]);
            for asked in Permission::ALL {
                assert_eq!(alone.allows(asked), asked == member);
            }
            let is_given = member != Permission::Release;
            assert_eq!(Permissions::by_default().allows(member), is_given);
            assert!(!Permissions::none().allows(member));
        }
    }

    #[test]
    fn every_word_reads_back() {
        for permission in Permission::ALL {
            assert_eq!(permission.as_str().parse(), Ok(permission));
        }
    }

    #[test]
    fn an_unknown_word_lists_the_known_ones() {
        let error = "Write".parse::<Permission>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"Write\" is no permission; known are list, read, write, delete, rename, mkdir, release"
        );
    }
}
