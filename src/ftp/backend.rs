//! The storage's face towards libunftp.
//!
//! libunftp calls it with the paths that the guard sent, the private command ([`transfer`](super::transfer)) with the
//! client's stream. What else belongs to a transfer, and when it may be published, is in the session's job. Whatever
//! a libunftp reply can't say is left in the session.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use unftp_core::auth::UserDetail;
use unftp_core::storage::{
    Error, ErrorKind, FEATURE_RESTART, Fileinfo, Metadata, Result, StorageBackend,
};

use crate::auth::User;
use crate::session::{Abort, Entry, Failure, FtpPath, Job, Session};
use crate::storage::{Output, Spot, StorageError, Uploader, Verbs, facts_line, on_behalf_of};

/// The storage, on behalf of one session.
#[derive(Debug)]
pub(super) struct Backend {
    storage: Arc<dyn Verbs>,
    session: Arc<Session>,
}

impl Backend {
    /// The storage as this session's libunftp sees it.
    pub(super) fn new(storage: Arc<dyn Verbs>, session: Arc<Session>) -> Self {
        Self { storage, session }
    }

    /// Runs an operation of the user that has logged in, and leaves its failure in the session.
    async fn run<T>(
        &self,
        operation: impl AsyncFnOnce(&User) -> std::result::Result<T, StorageError> + Send,
    ) -> Result<T> {
        let Some(user) = self.session.user() else {
            return Err(Error::from(ErrorKind::PermissionDenied));
        };
        let done = on_behalf_of(self.session.gone().clone(), operation(&user)).await;
        done.map_err(|error| self.fail(error))
    }

    fn fail(&self, error: StorageError) -> Error {
        if error.is_ours() {
            tracing::warn!(session = %self.session.id(), %error, "store request failed");
        }
        let failure = error.failure();
        let kind = kind(&failure);
        self.session.fail(failure);
        Error::new(kind, error)
    }

    fn path(&self, path: impl AsRef<Path>) -> Result<FtpPath> {
        let path = path.as_ref().to_str().unwrap_or_default();
        FtpPath::root().resolve(path).map_err(|error| {
            self.session.fail(Failure::new(553, error.to_string()));
            Error::new(ErrorKind::FileNameNotAllowedError, error)
        })
    }

    fn uploader(&self, told: Option<u64>) -> Uploader<'_> {
        Uploader {
            session: self.session.id(),
            peer: self.session.peer().ip(),
            told,
            own: self.session.own_uploads(),
            may_return: true,
        }
    }

    fn job(&self) -> Result<Job> {
        let job = self.session.take_job();
        job.ok_or_else(|| self.fail(Abort::Internal.into()))
    }

    /// Writes a listing as it comes; libunftp's own way would collect it first.
    pub(super) async fn list_into(&self, output: &mut Output<'_>) -> Result<()> {
        let job = self.job()?;
        let encode = &|text: &str| self.session.encode(text).into_owned();
        let facts = self.session.facts();
        self.run(async |user| self.storage.list(user, facts, job, output, encode).await)
            .await?;
        Ok(())
    }
}

#[async_trait]
impl<U: UserDetail> StorageBackend<U> for Backend {
    type Metadata = Entry;

    fn name(&self) -> &'static str {
        "bucketferry"
    }

    fn supported_features(&self) -> u32 {
        FEATURE_RESTART
    }

    async fn metadata<P: AsRef<Path> + Send + Debug>(&self, _: &U, path: P) -> Result<Entry> {
        let path = self.path(path)?;
        let found = self.run(async |user| {
            let entry = match self.storage.stat(user, &path).await {
                Err(StorageError::NotFound) => {
                    let peer = self.session.peer().ip();
                    let unfinished = self.storage.unfinished_entry(user, peer, &path).await;
                    let unfinished = unfinished.ok_or(StorageError::NotFound)?;
                    self.session.tell_unfinished(path.clone(), unfinished.size);
                    unfinished
                }
                found => found?,
            };
            let facts = self.session.facts();
            let facts = facts_line(user, facts, &path, &entry);
            Ok((entry, facts))
        });
        let (entry, facts) = found.await?;
        self.session.found(entry.clone(), facts);
        Ok(entry)
    }

    /// Nothing calls this: see [`Backend::list_into`].
    async fn list<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &U,
        _: P,
    ) -> Result<Vec<Fileinfo<PathBuf, Entry>>> {
        Err(Error::from(ErrorKind::CommandNotImplemented))
    }

    /// `STAT` with a path: libunftp would collect the lines and answer 200, so they go through the session.
    async fn list_vec<P: AsRef<Path> + Send + Debug>(&self, _: &U, path: P) -> Result<Vec<String>> {
        let path = self.path(path)?;
        let Some(pages) = self.session.take_status() else {
            return Err(self.fail(Abort::Internal.into()));
        };
        let last_line = self
            .run(async |user| self.storage.send_status(user, &path, pages).await)
            .await?;
        self.session.end_status(last_line);
        Ok(Vec::new())
    }

    async fn get_into<'a, P, W>(&self, _: &U, _: P, _: u64, mut output: &'a mut W) -> Result<u64>
    where
        W: AsyncWrite + Unpin + Sync + Send + ?Sized,
        P: AsRef<Path> + Send + Debug,
    {
        let job = self.job()?;
        self.run(async |user| self.storage.download(user, job, &mut output).await)
            .await
    }

    /// Nothing calls this: downloads go through `get_into`, and `SITE MD5` is off.
    async fn get<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &U,
        _: P,
        _: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Sync + Unpin>> {
        Err(Error::from(ErrorKind::CommandNotImplemented))
    }

    async fn put<P, R>(&self, _: &U, input: R, _: P, _: u64) -> Result<u64>
    where
        P: AsRef<Path> + Send + Debug,
        R: AsyncRead + Send + Sync + Unpin + 'static,
    {
        let job = self.job()?;
        let uploader = self.uploader(self.session.take_unfinished(job.path()));
        let input = Box::new(input);
        self.run(async |user| self.storage.upload(user, uploader, job, input).await)
            .await
    }

    async fn del<P: AsRef<Path> + Send + Debug>(&self, _: &U, path: P) -> Result<()> {
        let path = self.path(path)?;
        self.run(async |user| self.storage.delete(user, &path).await)
            .await
    }

    async fn mkd<P: AsRef<Path> + Send + Debug>(&self, _: &U, path: P) -> Result<()> {
        let path = self.path(path)?;
        self.run(async |user| self.storage.make_directory(user, &path).await)
            .await
    }

    async fn rename<P: AsRef<Path> + Send + Debug>(&self, _: &U, from: P, to: P) -> Result<()> {
        let (from, to) = (self.path(from)?, self.path(to)?);
        let by = self.uploader(None);
        self.run(async |user| {
            let [from, to] = [&from, &to].map(|path| Spot { user, path });
            self.storage.rename(by, from, to).await
        })
        .await
    }

    async fn rmd<P: AsRef<Path> + Send + Debug>(&self, _: &U, path: P) -> Result<()> {
        let path = self.path(path)?;
        self.run(async |user| self.storage.remove_directory(user, &path).await)
            .await
    }

    async fn cwd<P: AsRef<Path> + Send + Debug>(&self, _: &U, path: P) -> Result<()> {
        let path = self.path(path)?;
        self.run(async |user| self.storage.enter(user, &path).await)
            .await
    }
}

/// The nearest to a reply that libunftp knows. The client is told the reply itself.
fn kind(failure: &Failure) -> ErrorKind {
    match failure.code {
        426 => ErrorKind::ConnectionClosed,
        450 => ErrorKind::TransientFileNotAvailable,
        452 => ErrorKind::InsufficientStorageSpaceError,
        502 => ErrorKind::CommandNotImplemented,
        550 | 554 => ErrorKind::PermanentFileNotAvailable,
        552 => ErrorKind::ExceededStorageAllocationError,
        553 => ErrorKind::FileNameNotAllowedError,
        _ => ErrorKind::LocalError,
    }
}

impl Metadata for Entry {
    fn len(&self) -> u64 {
        self.size
    }

    fn is_dir(&self) -> bool {
        self.is_directory()
    }

    fn is_file(&self) -> bool {
        !self.is_directory()
    }

    fn is_symlink(&self) -> bool {
        false
    }

    fn modified(&self) -> Result<SystemTime> {
        // `MDTM` is about files. Of most directories in buckets no time is known.
        let modified = self.modified.filter(|_| !self.is_directory());
        modified.ok_or_else(|| Error::from(ErrorKind::PermanentFileNotAvailable))
    }

    fn gid(&self) -> u32 {
        0
    }

    fn uid(&self) -> u32 {
        0
    }
}
