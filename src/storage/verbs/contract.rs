//! What sessions and operators ask of whatever users store in.

use std::fmt::Debug;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use object_store::ObjectMeta;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::auth::{Permission, User};
use crate::config::ByteSize;
use crate::session::{Entry, Facts, FtpPath, Job, OwnUploads, Report, SessionId, StatusPage};
use crate::storage::error::StorageError;
use crate::storage::store::mark::Mark;
use crate::storage::write::conditions::Tried;
use crate::storage::write::handovers::Swept;

/// What a client sends in an upload; dropping it ends the data connection.
pub type Input = Box<dyn AsyncRead + Send + Unpin>;

/// The client's end of what is sent to it.
pub type Output<'a> = dyn AsyncWrite + Send + Unpin + 'a;

/// How text becomes what the client reads.
pub type Encode<'a> = dyn Fn(&str) -> Vec<u8> + Send + Sync + 'a;

/// A path, and the user as it is where that leads.
#[derive(Debug, Clone, Copy)]
pub struct Spot<'a> {
    /// The user: home and permissions are of the place that the path is in.
    pub user: &'a User,
    /// The path, in that home.
    pub path: &'a FtpPath,
}

/// A file that may be moved away into another store.
#[derive(Debug)]
pub struct Taken {
    /// As it was found.
    pub(crate) file: ObjectMeta,
    /// Of the upload that it is, if it has one.
    pub(crate) mark: Option<Mark>,
}

impl Taken {
    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.file.size
    }
}

/// Who sends a file, or renames one.
#[derive(Debug, Clone, Copy)]
pub struct Uploader<'a> {
    /// Its session.
    pub session: SessionId,
    /// Its address.
    pub peer: IpAddr,
    /// The size that `SIZE` last reported for this unfinished upload.
    pub told: Option<u64>,
    /// What it has stored itself.
    pub own: &'a OwnUploads,
    /// It may go on with an upload that was cut off.
    pub may_return: bool,
}

type Result<T> = std::result::Result<T, StorageError>;

/// Where users store: FTP's verbs, on behalf of a user, and what an operator asks.
///
/// Every error says what the client is told. Unless it says otherwise, nothing has changed then.
#[async_trait]
pub trait Verbs: Debug + Send + Sync {
    /// What a path is.
    async fn stat(&self, user: &User, path: &FtpPath) -> Result<Entry>;

    /// Checks that a path is a directory to change into.
    async fn enter(&self, user: &User, path: &FtpPath) -> Result<()>;

    /// Makes a directory.
    async fn make_directory(&self, user: &User, path: &FtpPath) -> Result<()>;

    /// Removes an empty directory.
    async fn remove_directory(&self, user: &User, path: &FtpPath) -> Result<()>;

    /// Deletes a file.
    async fn delete(&self, user: &User, path: &FtpPath) -> Result<()>;

    /// Renames a file or a directory.
    async fn rename(&self, by: Uploader<'_>, from: Spot<'_>, to: Spot<'_>) -> Result<()>;

    /// Receives a file from the client. How it ended is in the job's report, too.
    async fn upload(
        &self,
        user: &User,
        uploader: Uploader<'_>,
        job: Job,
        input: Input,
    ) -> Result<u64>;

    /// Sends a file to the client. How it ended is in the job's report, too.
    async fn download(&self, user: &User, job: Job, output: &mut Output<'_>) -> Result<u64>;

    /// Sends a listing to the client. How it ended is in the job's report, too.
    async fn list(
        &self,
        user: &User,
        facts: Facts,
        job: Job,
        output: &mut Output<'_>,
        encode: &Encode<'_>,
    ) -> Result<u64>;

    /// Sends the lines that answer a `STAT` with a path to the guard, and returns the last one.
    async fn send_status(
        &self,
        user: &User,
        path: &FtpPath,
        guard: mpsc::Sender<StatusPage>,
    ) -> Result<String>;

    /// What is safely kept of a file that was cut off, as its uploader may see it.
    async fn unfinished_entry(&self, user: &User, peer: IpAddr, path: &FtpPath) -> Option<Entry>;
}

/// One store: FTP's verbs, what an operator asks of it, and what a move into another store needs.
#[async_trait]
pub trait StoreFront: Verbs {
    /// What is to be moved into another store, if it is a file and this user may take it away.
    async fn take(&self, own: &OwnUploads, from: Spot<'_>) -> Result<Taken>;

    /// Deletes what was moved into another store, if it is still what was found.
    async fn give_away(&self, from: Spot<'_>, taken: Taken) -> Result<()>;

    /// Leaves what is kept for clients that may come back to other gateways: the process ends.
    async fn leave_unfinished(&self);

    /// Asks whether what is behind answers.
    async fn probe(&self) -> Result<()>;

    /// Asks for something small that is not there, for the sake of any answer.
    async fn ping(&self);

    /// Tries what is behind it for what it knows, where that is wanted and possible.
    async fn try_store(&self) -> Result<()>;

    /// What it has been found to know.
    fn conditions(&self) -> Vec<Tried>;

    /// By what it is held to what it was sent, and what that means.
    fn comparison(&self) -> (&'static str, &'static str);

    /// The largest file that can be uploaded, if there is a limit.
    fn largest_upload(&self) -> Option<ByteSize>;

    /// What an operator should know about how it is used, each a sentence.
    async fn notes(&self) -> Vec<String>;

    /// Removes what killed processes left behind that is older than this.
    async fn sweep(&self, age: Duration) -> Swept;
}

/// Ends a transfer's job: how it ended is for the guard.
pub(crate) fn report(job: Job, result: Result<()>) -> Result<u64> {
    let bytes = job.bytes();
    match result {
        Ok(()) => {
            job.finish(Report::complete(bytes));
            Ok(bytes)
        }
        Err(error) => {
            job.finish(error.report(bytes));
            Err(error)
        }
    }
}

/// What the user may not do, the store is never asked for.
pub(crate) fn permit(user: &User, permission: Permission) -> Result<()> {
    if user.permissions.allows(permission) {
        Ok(())
    } else {
        Err(StorageError::NotPermitted(permission))
    }
}

/// Who moves a file from one place to another could fetch, delete and store it as well: `rename` alone is for one place.
pub(crate) fn permit_rename(from: &User, to: &User) -> Result<()> {
    permit(from, Permission::Rename)?;
    if !std::ptr::eq(from, to) {
        permit(from, Permission::Read)?;
        permit(from, Permission::Delete)?;
        permit(to, Permission::Rename)?;
        permit(to, Permission::Write)?;
    }
    Ok(())
}

/// And who moves a directory sees what is in it, and makes it.
pub(crate) fn permit_rename_of_directory(from: &User, to: &User) -> Result<()> {
    if !std::ptr::eq(from, to) {
        permit(from, Permission::List)?;
        permit(to, Permission::Mkdir)?;
    }
    Ok(())
}

/// Who may do something with a file of a known name may look at it: clients that only upload ask for the size of what
/// they have sent, and renames look first.
pub(crate) fn permit_look(user: &User) -> Result<()> {
    let enough = [Permission::Read, Permission::Write, Permission::Rename];
    if enough.iter().any(|any| user.permissions.allows(*any)) {
        return Ok(());
    }
    permit(user, Permission::List)
}
