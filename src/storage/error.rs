//! What can go wrong in the storage, and the one table from it to an FTP reply and a metric.

use std::error::Error as StdError;
use std::io;

use object_store::client::{HttpError, HttpErrorKind};
use thiserror::Error;

use crate::auth::Permission;
use crate::config::ByteSize;
use crate::session::{Abort, Failure, Outcome, Report};
use crate::storage::store::causes::{Unsure, find, refused_with};

/// What the client is told whose upload was ended for others.
const MEMORY_SHORT: &str = "The gateway has no memory left for so slow an upload, send it again";

/// Why an operation did not happen. Unless it says otherwise, the bucket is as it was before.
#[derive(Debug, Error)]
pub enum StorageError {
    /// There is no such file or directory.
    #[error("no such file or directory")]
    NotFound,
    /// There is no such bucket.
    #[error("the bucket does not exist")]
    NoBucket,
    /// The directory is missing that something new was to go into.
    #[error("there is no directory {0}")]
    MissingDirectory(String),
    /// A directory is where a file was meant.
    #[error("is a directory")]
    IsDirectory,
    /// A file is where a directory was meant.
    #[error("is not a directory")]
    NotADirectory,
    /// The directory has something in it.
    #[error("directory is not empty")]
    NotEmpty,
    /// The key of the directory's marker is an object with content, which another program has written.
    #[error("there is an object with content at {0}/")]
    MarkerInUse(String),
    /// Something of that name exists and may not be replaced.
    #[error("already exists")]
    Exists,
    /// The name of a new directory is taken.
    #[error("name is taken")]
    Occupied,
    /// The object was changed by another while it was being used.
    #[error("changed by another at the same time")]
    Conflict,
    /// A rename that runs touches the same directory.
    #[error("a rename of the same directory runs")]
    Renaming,
    /// The object was replaced or deleted while it was being sent.
    #[error("replaced or deleted while it was sent")]
    Replaced,
    /// The user lacks a permission.
    #[error("user has no permission to {0}")]
    NotPermitted(Permission),
    /// The store can't hold such a name.
    #[error("name not allowed: {0}")]
    Name(String),
    /// The file is larger than it may be.
    #[error("larger than {0}")]
    TooLarge(ByteSize),
    /// `REST n` does not fit the object.
    #[error("restart at {asked} is not possible, the size is {size}")]
    Restart {
        /// The offset asked for.
        asked: u64,
        /// The object's size.
        size: u64,
    },
    /// So many files of a directory could not be renamed, because others are at the new name.
    #[error("{0} files stay, others are at the new name")]
    LeftBehind(usize),
    /// A directory can't be moved into itself.
    #[error("can't be moved into itself")]
    IntoItself,
    /// The store can't do this.
    #[error("not possible on this store: {0}")]
    Unsupported(String),
    /// The bucket's permissions don't allow it.
    #[error("the store's permissions do not allow this: {0}")]
    StoreDenied(#[source] object_store::Error),
    /// Our credentials are not accepted.
    #[error("the store does not accept the gateway's credentials: {0}")]
    StoreCredentials(#[source] object_store::Error),
    /// No answer.
    #[error("the store can't be reached: {0}")]
    StoreUnreachable(#[source] object_store::Error),
    /// No space left.
    #[error("the store is full: {0}")]
    StoreFull(#[source] object_store::Error),
    /// The store answered with an error.
    #[error("the store failed: {0}")]
    Store(#[source] object_store::Error),
    /// The store was asked to publish an object, and neither its answer nor a look at the bucket said
    /// whether it has. If it has, the object is whole.
    #[error("the store did not say whether it has the object, which may have been published: {0}")]
    Unresolved(#[source] object_store::Error),
    /// The local folder failed.
    #[error("the local folder failed: {0}")]
    Local(#[source] io::Error),
    /// Others waited for the memory that a slow upload held.
    #[error("others need the memory that so slow an upload holds")]
    MemoryShort,
    /// The transfer was given up.
    #[error("transfer given up: {0:?}")]
    Aborted(Abort),
}

/// One line of the table: the metric's label, and the reply.
struct Row(&'static str, u16, String);

impl StorageError {
    /// What the client is told.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let Row(_, code, text) = self.row();
        Failure::new(code, text)
    }

    /// The metric label.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome(self.row().0)
    }

    /// The report of a transfer that ended so.
    #[must_use]
    pub fn report(&self, bytes: u64) -> Report {
        Report {
            bytes,
            outcome: self.outcome(),
            failure: Some(self.failure()),
        }
    }

    /// Whether the operator, not the client, has to do something about it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::StoreDenied(_)
                | Self::StoreCredentials(_)
                | Self::NoBucket
                | Self::StoreUnreachable(_)
                | Self::StoreFull(_)
                | Self::Store(_)
                | Self::Unresolved(_)
                | Self::Local(_)
        )
    }

    fn row(&self) -> Row {
        let row = |label, code, text: &str| Row(label, code, text.to_owned());
        match self {
            Self::NotFound => row("not_found", 550, "No such file or directory"),
            Self::MissingDirectory(path) => Row(
                "not_found",
                550,
                format!("There is no directory {path}, make it first"),
            ),
            Self::IsDirectory => row("name", 550, "That is a directory, not a file"),
            Self::NotADirectory => row("name", 550, "That is not a directory"),
            Self::NotEmpty => row("not_empty", 550, "Directory is not empty"),
            Self::MarkerInUse(path) => Row(
                "not_empty",
                550,
                format!("Directory is not empty: there is an object with content at {path}/"),
            ),
            Self::Exists => row("exists", 553, "Already exists and may not be replaced"),
            Self::Occupied => row("exists", 550, "Already exists"),
            Self::Conflict => row(
                "conflict",
                450,
                "Changed by another at the same time, try again",
            ),
            Self::Renaming => row(
                "conflict",
                450,
                "A rename of this directory is under way, try again later",
            ),
            Self::Replaced => row(
                "replaced",
                426,
                "File was replaced or deleted meanwhile, transfer aborted",
            ),
            Self::NotPermitted(permission) => Row(
                "not_permitted",
                550,
                format!("Permission denied: you may not {permission} here"),
            ),
            Self::Name(reason) => Row("name", 553, format!("Name not allowed: {reason}")),
            Self::TooLarge(limit) => Row(
                "too_large",
                552,
                format!("File is larger than the {limit} allowed, nothing was stored"),
            ),
            Self::Restart { asked, size } => Row(
                "restart",
                554,
                format!("Can't restart at {asked}, the file has {size} bytes"),
            ),
            Self::LeftBehind(files) => Row(
                "exists",
                553,
                format!(
                    "Renamed but for {files}: others are at the new name. Delete one of each two"
                ),
            ),
            Self::IntoItself => row("name", 553, "A directory can't be moved into itself"),
            Self::Unsupported(what) => Row(
                "unsupported",
                502,
                format!("Not possible on this store: {what}"),
            ),
            Self::StoreDenied(_) => row(
                "store_denied",
                550,
                "The store's permissions do not allow this",
            ),
            Self::StoreCredentials(_) => row(
                "store_credentials",
                451,
                "The store does not accept the gateway's credentials, tell its operator",
            ),
            Self::NoBucket => row(
                "no_bucket",
                451,
                "The bucket does not exist, tell the gateway's operator",
            ),
            Self::StoreUnreachable(_) => row(
                "store_unreachable",
                451,
                "The store can't be reached, try again later",
            ),
            Self::StoreFull(_) => row("store_full", 452, "The store has no space left"),
            Self::MemoryShort => row("memory_short", 452, MEMORY_SHORT),
            Self::Unresolved(_) => row(
                "unresolved",
                451,
                "The store can't be reached to say whether it has the file, send it again",
            ),
            Self::Store(_) | Self::Local(_) => {
                row("store_error", 451, "The store failed, try again later")
            }
            Self::Aborted(abort) => {
                let failure = abort.failure();
                Row(abort.outcome().0, failure.code, failure.text)
            }
        }
    }
}

impl From<Abort> for StorageError {
    fn from(abort: Abort) -> Self {
        Self::Aborted(abort)
    }
}

impl From<object_store::Error> for StorageError {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as E;
        match error {
            E::NotFound { .. } => Self::NotFound,
            E::AlreadyExists { .. } => Self::Exists,
            E::Precondition { .. } | E::NotModified { .. } => Self::Conflict,
            E::PermissionDenied { ref source, .. } if speaks_of_credentials(source.as_ref()) => {
                Self::StoreCredentials(error)
            }
            E::PermissionDenied { .. } => Self::StoreDenied(error),
            E::Unauthenticated { .. } => Self::StoreCredentials(error),
            E::InvalidPath { .. } => {
                Self::Name("the store has a key there that FTP can't show".to_owned())
            }
            E::NotSupported { .. } | E::NotImplemented { .. } => {
                Self::Unsupported(error.to_string())
            }
            error => Self::from_generic(error),
        }
    }
}

impl StorageError {
    /// The rest comes as one kind with the cause inside.
    fn from_generic(error: object_store::Error) -> Self {
        if find::<Unsure>(&error).is_some() {
            return Self::Unresolved(error);
        }
        if let Some(cause) = find::<io::Error>(&error)
            && let Some(known) = known_io(cause)
        {
            return match known {
                KnownIo::Full => Self::StoreFull(error),
                KnownIo::Denied => Self::StoreDenied(error),
                KnownIo::IsDirectory => Self::IsDirectory,
                KnownIo::NotADirectory => Self::NotADirectory,
                KnownIo::NotEmpty => Self::NotEmpty,
                KnownIo::Lost => Self::StoreUnreachable(error),
                KnownIo::LongName => Self::Name("name too long".to_owned()),
            };
        }
        match refused_with(&error) {
            Some(404) => return Self::NotFound,
            Some(401) => return Self::StoreCredentials(error),
            Some(403) if speaks_of_credentials(&error) => return Self::StoreCredentials(error),
            Some(403) => return Self::StoreDenied(error),
            _ => {}
        }
        match find::<HttpError>(&error).map(HttpError::kind) {
            Some(
                HttpErrorKind::Connect
                | HttpErrorKind::Timeout
                | HttpErrorKind::Request
                | HttpErrorKind::Interrupted,
            ) => Self::StoreUnreachable(error),
            _ => Self::Store(error),
        }
    }
}

impl From<io::Error> for StorageError {
    fn from(error: io::Error) -> Self {
        match (error.kind(), known_io(&error)) {
            (io::ErrorKind::NotFound, _) => Self::NotFound,
            (io::ErrorKind::AlreadyExists, _) => Self::Exists,
            (_, Some(KnownIo::NotEmpty)) => Self::NotEmpty,
            (_, Some(KnownIo::IsDirectory)) => Self::IsDirectory,
            (_, Some(KnownIo::NotADirectory)) => Self::NotADirectory,
            (_, Some(KnownIo::LongName)) => Self::Name("name too long".to_owned()),
            _ => Self::Local(error),
        }
    }
}

enum KnownIo {
    Full,
    Denied,
    IsDirectory,
    NotADirectory,
    NotEmpty,
    Lost,
    LongName,
}

fn known_io(error: &io::Error) -> Option<KnownIo> {
    use io::ErrorKind as K;
    match error.kind() {
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge => Some(KnownIo::Full),
        K::PermissionDenied | K::ReadOnlyFilesystem => Some(KnownIo::Denied),
        K::IsADirectory => Some(KnownIo::IsDirectory),
        K::NotADirectory => Some(KnownIo::NotADirectory),
        K::DirectoryNotEmpty => Some(KnownIo::NotEmpty),
        K::NotConnected => Some(KnownIo::Lost),
        K::InvalidFilename => Some(KnownIo::LongName),
        _ => None,
    }
}

/// S3 says 403 both when a key may not do something and when it isn't a key at all.
fn speaks_of_credentials(error: &(dyn StdError + 'static)) -> bool {
    let text = error.to_string();
    [
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
    ]
    .iter()
    .any(|code| text.contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: io::Error) -> StorageError {
        StorageError::from(object_store::Error::Generic {
            store: "test",
            source: Box::new(source),
        })
    }

    #[test]
    fn a_full_disk_is_452() {
        let error = generic(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(error.failure().code, 452);
        assert_eq!(error.outcome(), Outcome("store_full"));
    }

    #[test]
    fn an_unreachable_store_is_a_4xx_that_says_so() {
        let cause = io::Error::from(io::ErrorKind::ConnectionRefused);
        let http = HttpError::new(HttpErrorKind::Connect, cause);
        let error = StorageError::from(object_store::Error::Generic {
            store: "test",
            source: Box::new(http),
        });
        assert_eq!(error.failure().code, 451);
        assert!(error.failure().text.contains("can't be reached"));
    }

    #[test]
    fn refused_listings_are_told_by_their_status() {
        let listing = |status: &str| {
            let text = format!("Server returned non-2xx status code: {status}: <Code/>");
            generic(io::Error::other(text)).outcome()
        };
        assert_eq!(listing("403 Forbidden"), Outcome("store_denied"));
        assert_eq!(listing("404 Not Found"), Outcome("not_found"));
        assert_eq!(listing("500 Oh"), Outcome("store_error"));
    }

    #[test]
    fn wrong_credentials_are_not_the_clients_fault() {
        let denied = |text: &str| {
            StorageError::from(object_store::Error::PermissionDenied {
                path: "a".to_owned(),
                source: text.to_owned().into(),
            })
        };
        assert_eq!(denied("<Code>AccessDenied</Code>").failure().code, 550);
        assert_eq!(
            denied("<Code>SignatureDoesNotMatch</Code>").failure().code,
            451
        );
    }
}
