//! What a kind of store takes as a name, and keeps as it is.

use crate::storage::store::RESERVED;

/// Longest segment that a file system takes, in bytes.
const LONGEST_FILE_NAME: usize = 255;

/// The rules for one segment of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentRules {
    /// In bytes.
    longest: Option<usize>,
    /// What is the gateway's own may be in every directory: file systems may be mounted below the root.
    reserved_everywhere: bool,
    /// A backslash becomes a slash, and dots at the end are dropped.
    rewrites: bool,
}

impl SegmentRules {
    /// For stores that keep every name.
    pub(crate) const NONE: Self = Self {
        longest: None,
        reserved_everywhere: false,
        rewrites: false,
    };

    /// For folders.
    pub(crate) const FILES: Self = Self {
        longest: Some(LONGEST_FILE_NAME),
        reserved_everywhere: true,
        rewrites: false,
    };

    /// For Azure, whose names are paths of URLs as Windows reads them ("Naming and referencing containers, blobs, and
    /// metadata").
    pub(crate) const AZURE: Self = Self {
        longest: None,
        reserved_everywhere: false,
        rewrites: true,
    };

    /// Why a segment is not taken, if so. `first` is right under the prefix of the store.
    pub(crate) fn refusal(self, segment: &str, first: bool) -> Option<String> {
        if segment.eq_ignore_ascii_case(RESERVED) && (first || self.reserved_everywhere) {
            return Some("the gateway needs it for itself".to_owned());
        }
        if let Some(longest) = self.longest.filter(|longest| segment.len() > *longest) {
            let length = segment.len();
            return Some(format!("name of {length} bytes, {longest} are allowed"));
        }
        if self.rewrites && (segment.contains('\\') || segment.ends_with('.')) {
            let reason = "this store would change names with \\ in them or . at their end";
            return Some(reason.to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azure_gets_no_name_that_it_would_change() {
        let azure = SegmentRules::AZURE;
        for changed in ["a\\b.txt", "a.", "..."] {
            assert!(azure.refusal(changed, false).is_some(), "{changed}");
            assert!(SegmentRules::NONE.refusal(changed, false).is_none());
        }
        assert!(azure.refusal("a.b..txt", false).is_none());
    }

    #[test]
    fn what_is_the_gateways_own_is_refused() {
        for (rules, deeper) in [(SegmentRules::NONE, false), (SegmentRules::FILES, true)] {
            assert!(rules.refusal(RESERVED, true).is_some());
            assert_eq!(rules.refusal(RESERVED, false).is_some(), deeper);
        }
        assert!(SegmentRules::FILES.refusal("scan#1", true).is_none());
    }

    #[test]
    fn names_of_files_have_an_end() {
        let files = SegmentRules::FILES;
        assert!(files.refusal(&"a".repeat(255), true).is_none());
        let refusal = files.refusal(&"a".repeat(256), true).unwrap();
        assert!(refusal.contains("256") && refusal.contains("255"));
    }
}
