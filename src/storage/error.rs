//! What can go wrong in the storage, and the one table from it to an FTP reply and a metric.
//!
//! A reply has our words only: what a store says goes to the log. And it is a 5xx, which clients take for final, only
//! where neither time nor an operator mends it.

use std::io;

use object_store::client::{HttpError, HttpErrorKind};
use thiserror::Error;

use crate::auth::Permission;
use crate::config::ByteSize;
use crate::session::{Abort, Failure, Outcome, Report};
use crate::storage::store::causes::{Unsure, code_of, find, refused_with};
use crate::storage::store::credentials::NoCredentials;
use crate::storage::store::stored::Difference;

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
    /// Another has renamed or deleted a file while it was renamed, or all that was in a directory.
    #[error("renamed or deleted by another at the same time")]
    TakenAway,
    /// A rename that runs touches the same directory.
    #[error("a rename of the same directory runs")]
    Renaming,
    /// The object was replaced or deleted while it was being sent.
    #[error("replaced or deleted while it was sent")]
    Replaced,
    /// The user lacks a permission.
    #[error("user has no permission to {0}")]
    NotPermitted(Permission),
    /// The user has no permission to replace a file, and a rename would.
    #[error("user has no permission to write, and so none to replace a file by a rename")]
    ReplacingNotPermitted,
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
    /// It is mounted there, or leads to what is.
    #[error("is mounted there")]
    Mounted,
    /// A directory can't be moved into another store.
    #[error("a directory can't be moved into another store")]
    BetweenStores,
    /// Other files are being moved between stores.
    #[error("other files are being moved between stores")]
    ManyMoves,
    /// The store has not answered for longer than anybody waits for it.
    #[error("the store is down")]
    StoreDown,
    /// A back-end that is not ours can't do this.
    #[error("not possible with this store.driver: {0:?}")]
    BeyondDriver(Beyond),
    /// The store can't do this.
    #[error("not possible on this store: {0}")]
    Unsupported(#[source] object_store::Error),
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
    /// The store has put the object into an archive.
    #[error("the object is in an archive of the store, and has to be restored first: {0}")]
    Archived(#[source] object_store::Error),
    /// What the store has, or was sent, is not what the client has sent.
    #[error("damaged on the way: {0}")]
    Corrupt(String),
    /// What the store gives is not what it was given.
    #[error("damaged in the store: {0}")]
    Rotten(String),
    /// The store was asked to publish an object, and neither its answer nor a look at the bucket said
    /// whether it has. If it has, the object is whole.
    #[error("the store did not say whether it has the object, which may have been published: {0}")]
    Unresolved(#[source] object_store::Error),
    /// The local folder failed.
    #[error("the local folder failed: {0}")]
    Local(#[source] io::Error),
    /// The command was given up before the store had done it.
    #[error("given up before the store had done it")]
    GivenUp,
    /// Other listings hold the memory of listings.
    #[error("other listings hold limits.listing_memory")]
    ListingMemoryShort,
    /// Others waited for the memory that a slow upload held.
    #[error("others need the memory that so slow an upload holds")]
    MemoryShort,
    /// The transfer was given up.
    #[error("transfer given up: {0:?}")]
    Aborted(Abort),
}

/// What a back-end that is not ours can't do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// Give a file another name.
    Rename,
    /// Add to a file.
    Append,
    /// Go on with a file that was cut off.
    Restart,
    /// Read a file from an offset on.
    Offset,
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
            crc64nvme: None,
        }
    }

    /// Whether the operator, not the client, has to do something about it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::Unsupported(_)
                | Self::StoreDenied(_)
                | Self::StoreCredentials(_)
                | Self::NoBucket
                | Self::StoreUnreachable(_)
                | Self::StoreFull(_)
                | Self::Store(_)
                | Self::Unresolved(_)
                | Self::Corrupt(_)
                | Self::Rotten(_)
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
            Self::TakenAway => row("not_found", 550, "Another has renamed or deleted it first"),
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
            Self::NotPermitted(Permission::Release) => row(
                "not_permitted",
                550,
                "Permission denied: delivered files can only be renamed with the permission \"release\"",
            ),
            Self::ReplacingNotPermitted => row(
                "not_permitted",
                550,
                "Permission denied: a file is there, and replacing it needs the permission \"write\"",
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
            Self::BeyondDriver(what) => {
                let (code, can_not) = match what {
                    Beyond::Rename => (502, "be renamed"),
                    Beyond::Append => (502, "be appended to"),
                    Beyond::Restart => (554, "be gone on with, send them whole"),
                    Beyond::Offset => (554, "be read from the middle, fetch them whole"),
                };
                Row(
                    "unsupported",
                    code,
                    format!("On this store files can't {can_not}"),
                )
            }
            Self::GivenUp => row(
                "control_lost",
                426,
                "Control connection lost, nothing was changed",
            ),
            Self::Aborted(abort) => {
                let failure = abort.failure();
                Row(abort.outcome().0, failure.code, failure.text)
            }
            Self::Mounted
            | Self::BetweenStores
            | Self::ManyMoves
            | Self::IntoItself
            | Self::LeftBehind(_) => self.row_of_rename(),
            store => store.row_of_store(),
        }
    }

    /// The lines about what can't be renamed.
    fn row_of_rename(&self) -> Row {
        let row = |label, code, text: &str| Row(label, code, text.to_owned());
        match self {
            Self::LeftBehind(files) => Row(
                "exists",
                553,
                format!(
                    "Renamed but for {files}: others are at the new name. Delete one of each two"
                ),
            ),
            Self::Mounted => row(
                "name",
                550,
                "Another place is mounted there: it can't be removed, renamed or replaced",
            ),
            Self::ManyMoves => row(
                "conflict",
                450,
                "Too many files are being renamed between stores at the moment, try again",
            ),
            Self::BetweenStores => row(
                "name",
                553,
                "A directory can't be renamed into another store, rename the files in it",
            ),
            Self::IntoItself => row("name", 553, "A directory can't be moved into itself"),
            _ => failed(),
        }
    }

    /// The lines about what the store does or does not do.
    fn row_of_store(&self) -> Row {
        let row = |label, code, text: &str| Row(label, code, text.to_owned());
        match self {
            Self::Unsupported(_) => row(
                "unsupported",
                502,
                "Not possible on this store: it does not know a request that this needs",
            ),
            Self::StoreDenied(_) => denied(),
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
            Self::StoreDown => row(
                "store_unreachable",
                451,
                "The store can't be reached at the moment, try again later",
            ),
            Self::StoreFull(_) => full(),
            Self::Archived(_) => row(
                "archived",
                450,
                "File is in an archive, tell the gateway's operator to have it restored",
            ),
            Self::Corrupt(_) => row(
                "corrupt",
                451,
                "The file was damaged on its way into the store, send it again",
            ),
            Self::Rotten(_) => row(
                "corrupt",
                451,
                "The file is not what was stored, it was damaged since",
            ),
            Self::ListingMemoryShort => row(
                "listing_memory_short",
                451,
                "Too many listings at the moment, try again",
            ),
            Self::MemoryShort => row("memory_short", 452, MEMORY_SHORT),
            Self::Unresolved(_) => row(
                "unresolved",
                451,
                "The store can't be reached to say whether it has the file, send it again",
            ),
            Self::Local(error) => match known_io(error) {
                Some(KnownIo::Full) => full(),
                Some(KnownIo::Denied) => denied(),
                _ => failed(),
            },
            _ => failed(),
        }
    }
}

fn denied() -> Row {
    let text = "The store's permissions do not allow this, tell the gateway's operator";
    Row("store_denied", 451, text.to_owned())
}

fn full() -> Row {
    let text = "The store has no space left";
    Row("store_full", 452, text.to_owned())
}

fn failed() -> Row {
    let text = "The store failed, try again later";
    Row("store_error", 451, text.to_owned())
}

impl From<Abort> for StorageError {
    fn from(abort: Abort) -> Self {
        Self::Aborted(abort)
    }
}

impl From<object_store::Error> for StorageError {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as E;
        match (&error, Reason::of(&error)) {
            (_, Some(Reason::Archived)) => Self::Archived(error),
            (E::NotFound { .. }, Some(Reason::NoBucket)) => Self::NoBucket,
            (E::NotFound { .. }, _) => Self::NotFound,
            (E::AlreadyExists { .. }, Some(Reason::Changing)) => Self::Store(error),
            (E::Precondition { .. } | E::NotModified { .. }, _)
            | (E::AlreadyExists { .. }, Some(Reason::Busy)) => Self::Conflict,
            (E::AlreadyExists { .. }, _) => Self::Exists,
            (E::InvalidPath { .. }, _) => {
                Self::Name("the store has a key there that FTP can't show".to_owned())
            }
            (E::NotSupported { .. } | E::NotImplemented { .. }, _) => Self::Unsupported(error),
            (_, Some(Reason::Full)) => Self::StoreFull(error),
            (_, Some(Reason::Damaged)) => Self::Corrupt(error.to_string()),
            (_, Some(Reason::Credentials)) | (E::Unauthenticated { .. }, _) => {
                Self::StoreCredentials(error)
            }
            (E::PermissionDenied { .. }, _) => Self::StoreDenied(error),
            _ => Self::from_generic(error),
        }
    }
}

/// Why a store refused, where its status alone does not say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// A quota is used up, or the disk.
    Full,
    /// Our key, our token or our clock.
    Credentials,
    NoBucket,
    /// Another request to the same object runs.
    Busy,
    /// The bucket is being made or deleted.
    Changing,
    /// What arrived is not what was sent, by its checksum.
    Damaged,
    /// It was put where it is cheap and can't be read.
    Archived,
}

impl Reason {
    /// By the code in the store's answer.
    fn of(error: &object_store::Error) -> Option<Self> {
        if find::<Difference>(error).is_some() {
            return Some(Self::Damaged);
        }
        if find::<NoCredentials>(error).is_some() {
            return Some(Self::Credentials);
        }
        let code = code_of(error)?;
        match code.as_str() {
            // Ceph, Ozone and others say QuotaExceeded, with 403; MinIO says XMinioAdminBucketQuotaExceeded, with 400.
            _ if code.ends_with("QuotaExceeded") || code.ends_with("StorageFull") => {
                Some(Self::Full)
            }
            // Some with 400, some with 403.
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "RequestTimeTooSkewed"
            | "RequestExpired"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidToken"
            | "InvalidTokenId"
            | "InvalidClientTokenId"
            | "InvalidIdentityToken"
            | "TokenRefreshRequired"
            | "InvalidSecurity"
            | "AuthenticationFailed"
            | "InvalidAuthenticationInfo" => Some(Self::Credentials),
            "NoSuchBucket" | "ContainerNotFound" => Some(Self::NoBucket),
            "ConditionalRequestConflict" | "OperationAborted" | "PendingCopyOperation" => {
                Some(Self::Busy)
            }
            "BadDigest"
            | "XAmzContentSHA256Mismatch"
            | "XAmzContentChecksumMismatch"
            | "Crc64Mismatch"
            | "Md5Mismatch" => Some(Self::Damaged),
            "InvalidObjectState" | "BlobArchived" | "BlobBeingRehydrated" => Some(Self::Archived),
            "AccountBeingCreated" | "ContainerBeingDeleted" | "ContainerBeingDisabled" => {
                Some(Self::Changing)
            }
            _ => None,
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
            Some(403) => return Self::StoreDenied(error),
            Some(507) => return Self::StoreFull(error),
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
    fn a_change_that_may_not_outlive_a_crash_is_no_failure() {
        let unsure = Unsure(io::ErrorKind::StorageFull.into());
        let error = generic(io::Error::other(unsure));
        assert!(matches!(error, StorageError::Unresolved(_)), "{error:?}");
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

    /// A refusal as `object_store` tells it, and as our own requests do.
    fn refused(status: u16, code: &str) -> StorageError {
        use object_store::Error as E;
        let body = format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>secret</Message></Error>"
        );
        let text = format!("Server returned non-2xx status code: {status} Oh: {body}");
        let (path, source) = ("a".to_owned(), text.into());
        let error = match status {
            401 => E::Unauthenticated { path, source },
            403 => E::PermissionDenied { path, source },
            404 => E::NotFound { path, source },
            409 => E::AlreadyExists { path, source },
            501 => E::NotSupported { source },
            _ => E::Generic {
                store: "test",
                source,
            },
        };
        StorageError::from(error)
    }

    #[test]
    fn a_refusal_is_final_only_where_nothing_mends_it() {
        for (status, code, label, reply) in [
            (403, "AccessDenied", "store_denied", 451),
            (403, "AllAccessDisabled", "store_denied", 451),
            (403, "AuthorizationPermissionMismatch", "store_denied", 451),
            (403, "InvalidAccessKeyId", "store_credentials", 451),
            (403, "SignatureDoesNotMatch", "store_credentials", 451),
            (403, "RequestTimeTooSkewed", "store_credentials", 451),
            (400, "RequestTimeTooSkewed", "store_credentials", 451),
            (400, "RequestExpired", "store_credentials", 451),
            (400, "ExpiredToken", "store_credentials", 451),
            (400, "InvalidToken", "store_credentials", 451),
            (403, "InvalidTokenId", "store_credentials", 451),
            (403, "AuthenticationFailed", "store_credentials", 451),
            (400, "InvalidAuthenticationInfo", "store_credentials", 451),
            (401, "NoAuthenticationInformation", "store_credentials", 451),
            (403, "QuotaExceeded", "store_full", 452),
            (400, "XMinioAdminBucketQuotaExceeded", "store_full", 452),
            (507, "XMinioStorageFull", "store_full", 452),
            (507, "", "store_full", 452),
            (404, "NoSuchKey", "not_found", 550),
            (404, "NoSuchBucket", "no_bucket", 451),
            (404, "ContainerNotFound", "no_bucket", 451),
            (409, "BlobAlreadyExists", "exists", 553),
            (409, "ConditionalRequestConflict", "conflict", 450),
            (409, "OperationAborted", "conflict", 450),
            (409, "ContainerBeingDeleted", "store_error", 451),
            (400, "MalformedXML", "store_error", 451),
            (400, "AuthorizationHeaderMalformed", "store_error", 451),
            (400, "BadDigest", "corrupt", 451),
            (400, "XAmzContentSHA256Mismatch", "corrupt", 451),
            (400, "Crc64Mismatch", "corrupt", 451),
            (503, "SlowDown", "store_error", 451),
            (501, "NotImplemented", "unsupported", 502),
        ] {
            let error = refused(status, code);
            let told = (error.outcome(), error.failure().code);
            assert_eq!(told, (Outcome(label), reply), "{status} {code}");
        }
    }

    #[test]
    fn no_reply_has_the_words_of_the_store() {
        for status in [400, 401, 403, 404, 409, 412, 500, 501, 503, 507] {
            for code in [
                "AccessDenied",
                "ExpiredToken",
                "QuotaExceeded",
                "NotImplemented",
            ] {
                let text = refused(status, code).failure().text;
                let foreign = ["<", "secret", code, "status"];
                let found = foreign.iter().find(|word| text.contains(**word));
                assert_eq!(found, None, "{status} {code}: {text}");
            }
        }
    }

    #[test]
    fn a_name_is_no_code() {
        let error = StorageError::from(object_store::Error::PermissionDenied {
            path: "<Code>QuotaExceeded</Code>".to_owned(),
            source: "<Error><Code>AccessDenied</Code></Error>".into(),
        });
        assert_eq!(error.outcome(), Outcome("store_denied"));
    }

    #[test]
    fn what_a_folder_refuses_is_for_its_operator() {
        use io::ErrorKind as K;
        for (kind, label, code) in [
            (K::PermissionDenied, "store_denied", 451),
            (K::ReadOnlyFilesystem, "store_denied", 451),
            (K::StorageFull, "store_full", 452),
            (K::QuotaExceeded, "store_full", 452),
            (K::TimedOut, "store_error", 451),
        ] {
            for error in [
                generic(kind.into()),
                StorageError::from(io::Error::from(kind)),
            ] {
                let told = (error.outcome(), error.failure().code);
                assert_eq!(told, (Outcome(label), code), "{error:?}");
            }
        }
    }
}
