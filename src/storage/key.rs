//! From a client's path to an object's key, and nowhere else.
//!
//! A key is `prefix / home / path`: the prefix of `store.url`, the user's home, and what the client
//! named. An [`FtpPath`] can't hold `..`, so no key leaves the home.

use object_store::path::Path;

use crate::auth::User;
use crate::session::FtpPath;

use crate::storage::StorageError;

/// Longest segment that a local file system takes, in bytes.
const MAX_LOCAL_SEGMENT: usize = 255;

/// Where in the bucket everything lies, and what its keys may look like.
#[derive(Debug, Clone)]
pub(crate) struct KeySpace {
    prefix: Path,
    local: bool,
    /// A directory right under the prefix that is no client's.
    own: Option<&'static str>,
}

impl KeySpace {
    /// Keys under `prefix`; `local` if they are names of files as well.
    pub(crate) fn new(prefix: Path, local: bool) -> Self {
        Self {
            prefix,
            local,
            own: None,
        }
    }

    /// The same, but for a directory right under the prefix that is no client's.
    pub(crate) fn but_for(mut self, own: &'static str) -> Self {
        self.own = Some(own);
        self
    }

    /// Whether keys are names of files as well.
    pub(crate) fn is_local(&self) -> bool {
        self.local
    }

    /// The prefix that all keys share.
    pub(crate) fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The key of a file.
    pub(crate) fn file(&self, user: &User, path: &FtpPath) -> Result<Path, StorageError> {
        let key = self.directory(user, path)?;
        if self.local {
            not_in_the_making(path.name())?;
        }
        Ok(key)
    }

    /// The key of a directory, without a trailing slash; the empty path for the bucket's root.
    pub(crate) fn directory(&self, user: &User, path: &FtpPath) -> Result<Path, StorageError> {
        let key = format!("{}/{}/{}", self.prefix, user.home, path);
        // `Path::parse` refuses empty segments; ours are empty only where parts meet.
        let segments: Vec<_> = key
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect();
        if let Some(own) = self.own
            && segments.get(self.prefix.parts().count()) == Some(&own)
        {
            return Err(StorageError::Name(
                "the gateway needs it for itself".to_owned(),
            ));
        }
        if self.local {
            segments
                .iter()
                .try_for_each(|segment| fits_a_file_system(segment))?;
        }
        Path::parse(segments.join("/")).map_err(|error| StorageError::Name(error.to_string()))
    }
}

fn fits_a_file_system(segment: &str) -> Result<(), StorageError> {
    if segment.len() <= MAX_LOCAL_SEGMENT {
        return Ok(());
    }
    let length = segment.len();
    let reason = format!("name of {length} bytes, {MAX_LOCAL_SEGMENT} are allowed");
    Err(StorageError::Name(reason))
}

/// `name#1` is what the local store calls a file in the making; it refuses such names with an error
/// that no client would understand.
fn not_in_the_making(name: &str) -> Result<(), StorageError> {
    if is_in_the_making(name) {
        let reason = "this store can't hold names that end in # and a number";
        return Err(StorageError::Name(reason.to_owned()));
    }
    Ok(())
}

/// Whether this is what the local store calls a file in the making.
pub(crate) fn is_in_the_making(name: &str) -> bool {
    match name.split_once('#') {
        Some((_, digits)) => !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(home: &str) -> User {
        User {
            name: "u".to_owned(),
            home: home.to_owned(),
            permissions: crate::auth::Permissions::all(),
            overwrite: None,
            max_size: None,
            require_tls: None,
            certificate: None,
            allowance: crate::auth::Allowance::default(),
        }
    }

    fn key(prefix: &str, home: &str, path: &str) -> String {
        let keys = KeySpace::new(Path::parse(prefix).unwrap(), false);
        let path = FtpPath::root().resolve(path).unwrap();
        keys.directory(&user(home), &path).unwrap().to_string()
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
    fn names_of_files_in_the_making_are_refused_locally() {
        let local = KeySpace::new(Path::default(), true);
        let path = |name| FtpPath::root().resolve(name).unwrap();
        assert!(local.file(&user("/"), &path("scan#1")).is_err());
        assert!(local.file(&user("/"), &path("scan#1.pdf")).is_ok());
        assert!(local.file(&user("/"), &path("scan#")).is_ok());
        let remote = KeySpace::new(Path::default(), false);
        assert!(remote.file(&user("/"), &path("scan#1")).is_ok());
    }
}
