//! Patterns such as `*.csv`, as old clients send them with `LIST` and `NLST`.
//!
//! Matched in linear time (a finite automaton), whatever a client sends.

use globset::{GlobBuilder, GlobMatcher};

use crate::session::FtpPath;

/// A pattern for the names of one directory.
#[derive(Debug)]
pub(super) struct Pattern {
    /// Where to look.
    pub(super) directory: FtpPath,
    matcher: GlobMatcher,
}

impl Pattern {
    /// The pattern that a path's last segment is, if it is one.
    pub(super) fn of(path: &FtpPath) -> Option<Self> {
        let name = path.name();
        if !name.contains(['*', '?', '[']) {
            return None;
        }
        // Braces are letters to FTP's `ls`.
        let literal_braces = name.replace('{', "[{]").replace('}', "[}]");
        let glob = GlobBuilder::new(&literal_braces)
            .literal_separator(true)
            .build()
            .ok()?;
        Some(Self {
            directory: path.parent(),
            matcher: glob.compile_matcher(),
        })
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        self.matcher.is_match(name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn pattern(name: &str) -> Option<Pattern> {
        Pattern::of(&FtpPath::root().resolve(name).unwrap())
    }

    #[test]
    fn stars_questions_and_classes() {
        let csv = pattern("in/*.csv").unwrap();
        assert_eq!(csv.directory.as_str(), "/in");
        assert!(csv.matches("a.csv") && !csv.matches("a.txt"));
        assert!(pattern("a?c").unwrap().matches("abc"));
        assert!(pattern("[a-c]*").unwrap().matches("beta"));
        assert!(pattern("*{x}").unwrap().matches("a{x}"));
        assert!(pattern("*.*").unwrap().matches("a b.txt"));
    }

    #[test]
    fn names_without_them_are_no_patterns() {
        assert!(pattern("plain.txt").is_none());
        assert!(pattern("*dir/plain.txt").is_none());
        assert!(pattern("broken[").is_none());
    }

    #[test]
    fn a_bomb_does_not_go_off() {
        let bomb = pattern(&("a*".repeat(100) + "c")).unwrap();
        let started = Instant::now();
        assert!(!bomb.matches(&("a".repeat(1000) + "b")));
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
