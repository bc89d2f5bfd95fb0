//! From a client's path to an object's key, and nowhere else.
//!
//! A key is `prefix / home / path`: the prefix of `store.url`, the user's home, and what the client
//! named. An [`FtpPath`] can't hold `..`, so no key leaves the home.

use object_store::path::Path;

use crate::auth::User;
use crate::session::FtpPath;

use crate::storage::error::StorageError;
use crate::storage::store::names::SegmentRules;

/// Where in the bucket everything lies, and what its keys may look like.
#[derive(Debug, Clone)]
pub(crate) struct KeySpace {
    prefix: Path,
    rules: SegmentRules,
}

impl KeySpace {
    /// Keys under `prefix`, on a store with these rules.
    pub(crate) fn new(prefix: Path, rules: SegmentRules) -> Self {
        Self { prefix, rules }
    }

    /// The prefix that all keys share.
    pub(crate) fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The key of a path, without a trailing slash; the empty one for the root.
    pub(crate) fn key(&self, user: &User, path: &FtpPath) -> Result<Path, StorageError> {
        let key = format!("{}/{}/{}", self.prefix, user.home.prefix, path);
        // `Path::parse` refuses empty segments; ours are empty only where parts meet.
        let segments: Vec<_> = key
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect();
        let first = self.prefix.parts().count();
        for (index, segment) in segments.iter().enumerate() {
            if let Some(reason) = self.rules.refusal(segment, index == first) {
                return Err(StorageError::Name(reason));
            }
        }
        Path::parse(segments.join("/")).map_err(|error| StorageError::Name(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Place;

    fn user(home: &str) -> User {
        User {
            home: Place::in_default(home),
            ..User::unrestricted("u".to_owned())
        }
    }

    fn key(prefix: &str, home: &str, path: &str) -> String {
        let keys = KeySpace::new(Path::parse(prefix).unwrap(), SegmentRules::NONE);
        let path = FtpPath::root().resolve(path).unwrap();
        keys.key(&user(home), &path).unwrap().to_string()
    }

    #[test]
    fn prefix_home_and_path_make_the_key() {
        assert_eq!(key("", "/", "a.txt"), "a.txt");
        assert_eq!(key("in", "/", "a.txt"), "in/a.txt");
        assert_eq!(key("in/x", "/scans/a", "b/c"), "in/x/scans/a/b/c");
        assert_eq!(key("", "/", "/"), "");
    }

    #[test]
    fn the_key_is_the_name_unescaped() {
        let name = "50% ~#'\"\\ äöü {x} ^`|<>?*.txt";
        assert_eq!(key("", "/", name), name);
    }

    #[test]
    fn no_path_leaves_the_home() {
        assert_eq!(
            key("in", "/scans", "../../../etc/passwd"),
            "in/scans/etc/passwd"
        );
    }

    #[test]
    fn the_reserved_directory_is_no_clients() {
        let keys = KeySpace::new(Path::from("in"), SegmentRules::NONE);
        let refused = |home: &str, name: &str| {
            let path = FtpPath::root().resolve(name).unwrap();
            keys.key(&user(home), &path).is_err()
        };
        assert!(refused("/", ".bucketferry"));
        assert!(refused("/", ".bucketferry/appends/a"));
        assert!(refused("/.bucketferry", "a"));
        assert!(!refused("/", "a/.bucketferry"));
    }
}
