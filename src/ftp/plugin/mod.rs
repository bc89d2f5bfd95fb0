//! Back-ends of libunftp's that are not ours, as the storage takes them.
//!
//! What they may be is in `store.driver`: a back-end is fit if it publishes nothing of an upload whose reader fails.

mod gcs;
#[cfg(test)]
mod tests;

pub use gcs::open as open_gcs;

use std::error::Error as _;
use std::fmt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use unftp_core::auth::UserDetail;
use unftp_core::storage::{Error, ErrorKind, FEATURE_SITEMD5, Fileinfo, Metadata, StorageBackend};

use crate::session::{Entry, EntryKind};
use crate::storage::foreign::{Foreign, Gated, Kind, Reader, Trouble};

/// Characters of what a back-end says of an error that go to the log.
const MAX_TOLD: usize = 500;

/// The user that a back-end sees: the gateway, which has looked at the client's rights.
#[derive(Debug)]
pub(super) struct Gateway;

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gateway")
    }
}

impl UserDetail for Gateway {}

/// A back-end, and what its errors mean.
#[derive(Debug)]
pub(super) struct Plugin<B> {
    back_end: B,
    driver: &'static str,
    kind: Meaning,
}

/// What an error means, of a listing or of anything else.
type Meaning = fn(Asked, &Error) -> Kind;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// What is in a directory.
    Listing,
    /// A file, or a change.
    Other,
}

impl<B> Plugin<B> {
    /// `kind` says what an error of this back-end's means.
    pub(super) fn new(back_end: B, driver: &'static str, kind: Meaning) -> Self {
        Self {
            back_end,
            driver,
            kind,
        }
    }

    fn trouble(&self, error: &Error) -> Trouble {
        self.trouble_with(Asked::Other, error)
    }

    fn trouble_with(&self, asked: Asked, error: &Error) -> Trouble {
        Trouble::new((self.kind)(asked, error), told(error))
    }
}

#[async_trait]
impl<B> Foreign for Plugin<B>
where
    B: StorageBackend<Gateway> + fmt::Debug + Send + Sync + 'static,
    B::Metadata: Send + Sync,
{
    fn driver(&self) -> &'static str {
        self.driver
    }

    async fn metadata(&self, key: &str) -> Result<Entry, Trouble> {
        let found = self.back_end.metadata(&Gateway, absolute(key)).await;
        let found = found.map_err(|error| self.trouble(&error))?;
        Ok(entry(name_in("", Path::new(key)), &found))
    }

    async fn is_directory(&self, key: &str) -> Result<bool, Trouble> {
        let entered = self.back_end.cwd(&Gateway, absolute(key)).await;
        match entered.map_err(|error| self.trouble_with(Asked::Listing, &error)) {
            Ok(()) => Ok(true),
            Err(trouble) if trouble.kind() == Kind::Absent => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }

    async fn list(&self, key: &str) -> Result<Vec<Entry>, Trouble> {
        let listed = self.back_end.list(&Gateway, absolute(key)).await;
        let listed = listed.map_err(|error| self.trouble_with(Asked::Listing, &error))?;
        let entries = listed
            .iter()
            .map(|Fileinfo { path, metadata }| entry(name_in(key, path), metadata));
        Ok(entries.collect())
    }

    async fn get(&self, key: &str, offset: u64) -> Result<Reader, Trouble> {
        let content = self.back_end.get(&Gateway, absolute(key), offset).await;
        content.map_err(|error| self.trouble(&error))
    }

    async fn put(&self, key: &str, content: Gated) -> Result<u64, Trouble> {
        let stored = self.back_end.put(&Gateway, content, absolute(key), 0).await;
        stored.map_err(|error| self.trouble(&error))
    }

    async fn md5(&self, key: &str) -> Result<Option<String>, Trouble> {
        if self.back_end.supported_features() & FEATURE_SITEMD5 == 0 {
            return Ok(None);
        }
        let md5 = self.back_end.md5(&Gateway, absolute(key)).await;
        md5.map(Some).map_err(|error| self.trouble(&error))
    }

    async fn delete(&self, key: &str) -> Result<(), Trouble> {
        let deleted = self.back_end.del(&Gateway, absolute(key)).await;
        deleted.map_err(|error| self.trouble(&error))
    }

    async fn make_directory(&self, key: &str) -> Result<(), Trouble> {
        let made = self.back_end.mkd(&Gateway, absolute(key)).await;
        made.map_err(|error| self.trouble(&error))
    }

    async fn remove_directory(&self, key: &str) -> Result<(), Trouble> {
        let removed = self.back_end.rmd(&Gateway, absolute(key)).await;
        removed.map_err(|error| self.trouble(&error))
    }
}

/// As libunftp names files to its back-ends.
fn absolute(key: &str) -> PathBuf {
    Path::new("/").join(key)
}

/// The name of what lies in a directory; an empty one where the key is one that no path of FTP's can be. Some back-ends
/// tell the whole key, some the name only.
fn name_in(directory: &str, path: &Path) -> String {
    // Names that are not UTF-8 are shown, and can't be asked for.
    let path = path.to_string_lossy();
    let key = path.trim_start_matches('/');
    let name = key.strip_prefix(directory).and_then(|rest| {
        if directory.is_empty() {
            Some(rest)
        } else {
            rest.strip_prefix('/')
        }
    });
    let name = name.unwrap_or(key);
    let name = name.strip_suffix('/').unwrap_or(name);
    match name.rsplit_once('/') {
        Some(_) if !directory.is_empty() => String::new(),
        Some((_, last)) => last.to_owned(),
        None => name.to_owned(),
    }
}

fn entry(name: String, found: &impl Metadata) -> Entry {
    let is_directory = found.is_dir();
    Entry {
        name,
        kind: if is_directory {
            EntryKind::Directory
        } else {
            EntryKind::File
        },
        size: if is_directory { 0 } else { found.len() },
        modified: found.modified().ok(),
    }
}

/// All that an error says, in one line.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.extend(
            error
                .to_string()
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c }),
        );
        cause = error.source();
    }
    text.chars().take(MAX_TOLD).collect()
}

/// What an error means by what the back-end calls it.
fn by_name(_: Asked, error: &Error) -> Kind {
    match error.kind() {
        ErrorKind::PermanentFileNotAvailable | ErrorKind::PermanentDirectoryNotAvailable => {
            Kind::Absent
        }
        ErrorKind::PermanentDirectoryNotEmpty => Kind::NotEmpty,
        ErrorKind::PermissionDenied => Kind::Denied,
        ErrorKind::CommandNotImplemented => Kind::Unsupported,
        ErrorKind::InsufficientStorageSpaceError | ErrorKind::ExceededStorageAllocationError => {
            Kind::Full
        }
        ErrorKind::TransientFileNotAvailable | ErrorKind::ConnectionClosed => Kind::Unreachable,
        _ => Kind::Failed,
    }
}
