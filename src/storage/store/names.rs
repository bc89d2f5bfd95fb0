//! What a kind of store takes as a name, and keeps as it is.

/// Longest segment that a file system takes, in bytes.
const LONGEST_FILE_NAME: usize = 255;

/// The rules for one segment of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentRules {
    /// In bytes.
    longest: Option<usize>,
    /// `name#1` is what files in the making are called.
    stages: bool,
    /// A backslash becomes a slash, and dots at the end are dropped.
    rewrites: bool,
}

impl SegmentRules {
    /// For stores that keep every name.
    pub(crate) const NONE: Self = Self {
        longest: None,
        stages: false,
        rewrites: false,
    };

    /// For folders.
    pub(crate) const FILES: Self = Self {
        longest: Some(LONGEST_FILE_NAME),
        stages: true,
        rewrites: false,
    };

    /// For Azure, whose names are paths of URLs as Windows reads them ("Naming and referencing containers, blobs, and
    /// metadata").
    pub(crate) const AZURE: Self = Self {
        longest: None,
        stages: false,
        rewrites: true,
    };

    /// Why a segment is not taken, if so.
    pub(crate) fn refusal(self, segment: &str) -> Option<String> {
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

    /// The same of the name of a file.
    pub(crate) fn refusal_of_file(self, name: &str) -> Option<String> {
        (self.stages && is_in_the_making(name))
            .then(|| "this store can't hold names that end in # and a number".to_owned())
    }
}

/// Whether this is what a folder calls a file in the making.
pub(crate) fn is_in_the_making(name: &str) -> bool {
    match name.split_once('#') {
        Some((_, digits)) => !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azure_gets_no_name_that_it_would_change() {
        let azure = SegmentRules::AZURE;
        for changed in ["a\\b.txt", "a.", "..."] {
            assert!(azure.refusal(changed).is_some(), "{changed}");
            assert!(SegmentRules::NONE.refusal(changed).is_none());
        }
        assert!(azure.refusal("a.b..txt").is_none());
    }

    #[test]
    fn names_of_files_in_the_making_are_refused_in_folders() {
        let files = SegmentRules::FILES;
        assert!(files.refusal_of_file("scan#1").is_some());
        assert!(files.refusal_of_file("scan#1.pdf").is_none());
        assert!(files.refusal_of_file("scan#").is_none());
        assert!(SegmentRules::NONE.refusal_of_file("scan#1").is_none());
    }

    #[test]
    fn names_of_files_have_an_end() {
        let files = SegmentRules::FILES;
        assert!(files.refusal(&"a".repeat(255)).is_none());
        let refusal = files.refusal(&"a".repeat(256)).unwrap();
        assert!(refusal.contains("256") && refusal.contains("255"));
    }
}
