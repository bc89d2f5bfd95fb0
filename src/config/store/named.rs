//! The names of stores: `[stores.NAME]`.

use std::fmt;

/// What a section's name begins with, before the store's.
const PREFIX: &str = "stores.";

/// The longest name, in characters.
const LONGEST: usize = 63;

/// What a name may be, for error messages.
pub(in crate::config) const ALLOWED: &str = "a name of up to 63 lower-case letters, digits and single `_` between them, that begins with a letter; not `default`";

/// The name of a store: up to 63 lower-case letters, digits and single `_` between them, beginning with a letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreName(String);

impl StoreName {
    /// The name of the store that `[store]` describes.
    pub const DEFAULT: &'static str = "default";

    /// The name that is written so; `None` if it can't be one. The default store can be named, too.
    #[must_use]
    pub fn new(written: &str) -> Option<Self> {
        let begins = written.starts_with(|c: char| c.is_ascii_lowercase());
        let takes = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        // Two of them part the name from the setting in variables.
        let parts = !written.contains("__") && !written.ends_with('_');
        let is_name = begins && parts && written.len() <= LONGEST && written.chars().all(takes);
        is_name.then(|| Self(written.to_owned()))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is that of `[store]`.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0 == Self::DEFAULT
    }
}

/// That of the store that `[store]` describes.
impl Default for StoreName {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a section for the store of that name, whether it may have it or not.
pub(in crate::config) fn section_of(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// Whether a section is for a store that has a name.
pub(in crate::config) fn is_named(section: &str) -> bool {
    section.starts_with(PREFIX)
}

/// The name in a section that is for a store, if no store can have it.
pub(in crate::config) fn objection(section: &str) -> Option<&str> {
    let name = section.strip_prefix(PREFIX)?;
    name_of(section).is_none().then_some(name)
}

/// The name of the store that a section is for; `None` if it can't be one.
pub(in crate::config) fn name_of(section: &str) -> Option<StoreName> {
    let name = StoreName::new(section.strip_prefix(PREFIX)?);
    name.filter(|name| !name.is_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_variables_and_labels() {
        for name in ["a", "archive", "eu_west_1", "default"] {
            assert_eq!(StoreName::new(name).unwrap().as_str(), name);
        }
        let long = "a".repeat(64);
        for name in [
            "", "1a", "_a", "a_", "a__b", "A", "a-b", "a.b", "ä", "a b", &long,
        ] {
            assert_eq!(StoreName::new(name), None, "{name:?}");
        }
    }
}
