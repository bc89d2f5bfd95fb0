//! A client's path: absolute, normalised, and unable to leave its root.

use std::fmt;

use thiserror::Error;

/// An absolute path as the client sees it.
///
/// Invariants, kept by every constructor:
/// - segments are neither empty nor `.` nor `..`, so no path leads out of the root;
/// - no segment holds a control character, so a path is safe in a reply, a command or a log line.
///
/// ```
/// use bucketferry::session::FtpPath;
/// let path = FtpPath::root().resolve("in/../out//report.csv")?;
/// assert_eq!(path.as_str(), "/out/report.csv");
/// assert_eq!(FtpPath::root().resolve("../../etc")?.as_str(), "/etc");
/// # Ok::<(), bucketferry::session::PathError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FtpPath(String);

/// Longest path in bytes; S3 and GCS take keys of 1024.
const MAX_PATH: usize = 1024;

/// Why a name can't be a path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathError {
    /// It holds a control character.
    #[error("File names may not contain control characters")]
    ControlCharacter,
    /// It is longer than a key may be.
    #[error("Path of {0} bytes is too long, {MAX_PATH} are allowed")]
    TooLong(usize),
}

impl FtpPath {
    /// The top directory.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// The path that `name` means when the working directory is `self`.
    ///
    /// # Errors
    /// When the name holds a control character or the path would be too long.
    pub fn resolve(&self, name: &str) -> Result<Self, PathError> {
        if name.chars().any(char::is_control) {
            return Err(PathError::ControlCharacter);
        }
        let base = if name.starts_with('/') { "" } else { &self.0 };
        let mut segments = Vec::new();
        for segment in base.split('/').chain(name.split('/')) {
            match segment {
                "" | "." => {}
                ".." => drop(segments.pop()),
                segment => segments.push(segment),
            }
        }
        let path = format!("/{}", segments.join("/"));
        if path.len() > MAX_PATH {
            return Err(PathError::TooLong(path.len()));
        }
        Ok(Self(path))
    }

    /// Whether a name can only be a directory's: it ends with a slash, or in dots.
    #[must_use]
    pub fn names_directory(name: &str) -> bool {
        matches!(name.rsplit('/').next(), Some("" | "." | ".."))
    }

    /// The directory this path is in; the root is in itself.
    #[must_use]
    pub fn parent(&self) -> Self {
        match self.0.rsplit_once('/') {
            Some((parent, _)) if !parent.is_empty() => Self(parent.to_owned()),
            _ => Self::root(),
        }
    }

    /// The last segment, or `/` for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.0.rsplit_once('/') {
            Some((_, name)) if !name.is_empty() => name,
            _ => "/",
        }
    }

    /// Whether this is the top directory.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// What is left of the path after a mount; `rest` is its end, from a slash on, or empty.
    #[must_use]
    pub(crate) fn after(&self, rest: &str) -> Self {
        debug_assert!(self.0.ends_with(rest));
        if rest.is_empty() {
            return Self::root();
        }
        Self(rest.to_owned())
    }

    /// The path without `rest`, which is its end, from a slash on, or empty.
    #[must_use]
    pub(crate) fn before(&self, rest: &str) -> Self {
        let before = self.0.strip_suffix(rest).unwrap_or(&self.0);
        if before.is_empty() {
            return Self::root();
        }
        Self(before.to_owned())
    }

    /// What a path is called where the root that it is in shows at `self`.
    #[must_use]
    pub(crate) fn above(&self, path: &Self) -> Self {
        if path.is_root() || self.is_root() {
            return if path.is_root() {
                self.clone()
            } else {
                path.clone()
            };
        }
        Self(format!("{}{}", self.0, path.0))
    }

    /// Whether `self` lies below `directory` (a path does not lie below itself).
    #[must_use]
    pub fn is_below(&self, directory: &Self) -> bool {
        match self.0.strip_prefix(directory.0.as_str()) {
            Some(rest) => !rest.is_empty() && (directory.is_root() || rest.starts_with('/')),
            None => false,
        }
    }

    /// The path, with its leading slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path as a 257 reply quotes it: in quotes, with `"` doubled (RFC 959, appendix II).
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0.replace('"', "\"\""))
    }
}

impl fmt::Display for FtpPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FtpPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(directory: &str, name: &str) -> String {
        let directory = FtpPath::root().resolve(directory).unwrap();
        directory.resolve(name).unwrap().as_str().to_owned()
    }

    #[test]
    fn names_are_resolved_against_the_working_directory() {
        assert_eq!(at("/", "a"), "/a");
        assert_eq!(at("/a/b", "c"), "/a/b/c");
        assert_eq!(at("/a/b", "/c"), "/c");
        assert_eq!(at("/a/b", "../c/./d//"), "/a/c/d");
        assert_eq!(at("/a", "."), "/a");
        assert_eq!(at("/a", ""), "/a");
        assert_eq!(at("/a", " b "), "/a/ b ");
    }

    #[test]
    fn no_path_leaves_the_root() {
        for name in ["..", "../..", "/..", "a/../../..", "./../.", "//..//.."] {
            assert_eq!(at("/", name), "/", "{name}");
        }
        assert_eq!(at("/a", "../../etc/passwd"), "/etc/passwd");
    }

    #[test]
    fn control_characters_and_giants_are_refused() {
        let root = FtpPath::root();
        for name in ["a\rb", "a\nb", "a\0", "\x1b[2J", "\u{85}", "\x7f"] {
            assert_eq!(root.resolve(name), Err(PathError::ControlCharacter));
        }
        assert!(root.resolve(&"x".repeat(1023)).is_ok());
        assert_eq!(
            root.resolve(&"x".repeat(1024)),
            Err(PathError::TooLong(1025))
        );
    }

    #[test]
    fn a_slash_or_dots_at_the_end_are_a_directorys() {
        for name in ["a/", "/", "a//", "a/.", ".", "..", "a/.."] {
            assert!(FtpPath::names_directory(name), "{name}");
        }
        for name in ["a", "/a", "a/b", ".a", "a.", "..."] {
            assert!(!FtpPath::names_directory(name), "{name}");
        }
    }

    #[test]
    fn parents_and_names() {
        let path = FtpPath::root().resolve("a/b.txt").unwrap();
        assert_eq!((path.parent().as_str(), path.name()), ("/a", "b.txt"));
        assert_eq!(path.parent().parent(), FtpPath::root());
        assert_eq!(FtpPath::root().parent(), FtpPath::root());
        assert_eq!(FtpPath::root().name(), "/");
    }

    #[test]
    fn below_is_by_segment() {
        let path = |name| FtpPath::root().resolve(name).unwrap();
        assert!(path("a/b").is_below(&path("a")));
        assert!(path("a").is_below(&path("/")));
        assert!(!path("ab").is_below(&path("a")));
        assert!(!path("a").is_below(&path("a")));
    }

    #[test]
    fn a_mount_parts_a_path_in_two() {
        let path = |name| FtpPath::root().resolve(name).unwrap();
        for (whole, rest, before, after) in [
            ("/in/a/b", "/a/b", "/in", "/a/b"),
            ("/in", "", "/in", "/"),
            ("/a", "/a", "/", "/a"),
        ] {
            let whole = path(whole);
            let parts = (whole.before(rest), whole.after(rest));
            assert_eq!(parts, (path(before), path(after)));
            assert_eq!(parts.0.above(&parts.1), whole);
        }
    }

    #[test]
    fn quotes_are_doubled() {
        let path = FtpPath::root().resolve("say \"hi\"").unwrap();
        assert_eq!(path.quoted(), "\"/say \"\"hi\"\"\"");
    }
}
