//! Listings: from a directory's pages to the client, a page at a time.
//!
//! The first page is there before the client is told that a listing will come; while one page is
//! written, the next is asked for.

use std::pin::pin;
use std::time::SystemTime;

use futures::StreamExt;
use object_store::ObjectStoreExt;
use tokio::io::AsyncWrite;

use crate::auth::{Permission, User};
use crate::session::{Abort, Entry, EntryKind, Facts, FtpPath, Job, ListFormat, TransferKind};

use crate::storage::error::StorageError;
use crate::storage::verbs::format::{FactsOf, Lines, long_line};
use crate::storage::verbs::pages::{Page, Pages};
use crate::storage::verbs::pattern::Pattern;
use crate::storage::{Storage, permit};

/// Lines that a `STAT` shows at most.
const MAX_STAT: usize = 5000;

/// What a client asked to be listed, opened.
struct Listing<'a> {
    first: Vec<Entry>,
    rest: Pages<'a>,
    pattern: Option<Pattern>,
    /// It lists what is in the directory that was named, not what was named.
    inside: bool,
}

impl Storage {
    pub(crate) async fn send_listing(
        &self,
        user: &User,
        facts: Facts,
        job: &mut Job,
        output: &mut (impl AsyncWrite + Send + Unpin),
        encode: impl Fn(&str) -> Vec<u8> + Send,
    ) -> Result<(), StorageError> {
        let TransferKind::List(format) = job.kind() else {
            return Err(Abort::Internal.into());
        };
        let path = job.path().clone();
        let opening = pin!(self.open_listing(user, &path, format));
        let listing = job.unless_aborted(opening).await?;
        let named = job.named();
        if !listing.inside && !named.is_empty() && FtpPath::names_directory(named) {
            return Err(StorageError::NotADirectory);
        }
        let directory = listing.directory(&path);
        let lines = Lines {
            format,
            prefix: listing.prefix(job.named()),
            facts: FactsOf::new(facts, user.permissions, &user.home, &directory),
            now: SystemTime::now(),
        };
        job.open(None).await?;
        let sending = pin!(self.send_pages(job, output, listing, |entries| {
            encode(&lines.write(entries))
        }));
        job.unless_aborted(sending).await
    }

    /// The lines that answer a `STAT` with a path. They go over the control connection, so they are
    /// collected, and there are at most [`MAX_STAT`]. The last line says whether that is all.
    pub async fn long_lines(
        &self,
        user: &User,
        path: &FtpPath,
    ) -> Result<Vec<String>, StorageError> {
        let mut listing = self.open_listing(user, path, ListFormat::Long).await?;
        let now = SystemTime::now();
        let mut lines = Vec::new();
        let mut entries = listing.first;
        loop {
            lines.extend(entries.iter().map(|entry| long_line(entry, now)));
            if lines.len() > MAX_STAT {
                lines.truncate(MAX_STAT);
                lines.push(format!("These are the first {MAX_STAT}, LIST has all"));
                return Ok(lines);
            }
            let Some(page) = listing.rest.next().await.transpose()? else {
                lines.push("End".to_owned());
                return Ok(lines);
            };
            entries = chosen(page, listing.pattern.as_ref());
        }
    }

    async fn send_pages(
        &self,
        job: &Job,
        output: &mut (impl AsyncWrite + Send + Unpin),
        mut listing: Listing<'_>,
        render: impl Fn(&[Entry]) -> Vec<u8>,
    ) -> Result<(), StorageError> {
        let mut out = self.out(job, output);
        let mut entries = listing.first;
        loop {
            let text = render(&entries);
            let (written, next) = tokio::join!(out.write(&text), listing.rest.next());
            written?;
            match next.transpose()? {
                Some(page) => entries = chosen(page, listing.pattern.as_ref()),
                None => break,
            }
        }
        Ok(out.finish().await?)
    }

    /// A directory lists what is in it, a file itself, and a pattern what it matches. RFC 3659 has
    /// MLSD know directories only.
    async fn open_listing(
        &self,
        user: &User,
        path: &FtpPath,
        format: ListFormat,
    ) -> Result<Listing<'_>, StorageError> {
        permit(user, Permission::List)?;
        if let Some(listing) = self.open_directory(user, path).await? {
            return Ok(listing);
        }
        match self.file_entry(user, path).await {
            Ok(_) if format == ListFormat::Facts => Err(StorageError::NotADirectory),
            Ok(entry) => Ok(Listing::of_file(entry)),
            Err(StorageError::NotFound | StorageError::Name(_)) if format != ListFormat::Facts => {
                self.open_pattern(user, path).await
            }
            Err(error) => Err(error),
        }
    }

    /// `None` if there is no such directory.
    async fn open_directory(
        &self,
        user: &User,
        path: &FtpPath,
    ) -> Result<Option<Listing<'_>>, StorageError> {
        let key = self.keys.key(user, path)?;
        let mut rest = self.pages(&key);
        let first = rest.next().await.transpose()?.unwrap_or_default();
        let exists = path.is_root()
            || !first.is_empty()
            || self.store.directory_changed(&key).await.is_some();
        Ok(exists.then(|| Listing {
            first: first.entries,
            rest,
            pattern: None,
            inside: true,
        }))
    }

    async fn open_pattern(&self, user: &User, path: &FtpPath) -> Result<Listing<'_>, StorageError> {
        let pattern = Pattern::of(path).ok_or(StorageError::NotFound)?;
        let mut rest = self.pages(&self.keys.key(user, &pattern.directory)?);
        while let Some(page) = rest.next().await.transpose()? {
            let first = chosen(page, Some(&pattern));
            if !first.is_empty() {
                return Ok(Listing {
                    first,
                    rest,
                    pattern: Some(pattern),
                    inside: false,
                });
            }
        }
        Err(StorageError::NotFound)
    }

    /// What a path is, if it is a file.
    pub(crate) async fn file_entry(
        &self,
        user: &User,
        path: &FtpPath,
    ) -> Result<Entry, StorageError> {
        let key = self.file_key(user, path)?;
        let meta = self.store.objects().head(&key).await?;
        Ok(Entry {
            name: path.name().to_owned(),
            kind: EntryKind::File,
            size: meta.size,
            modified: Some(meta.last_modified.into()),
        })
    }
}

impl Listing<'_> {
    fn of_file(entry: Entry) -> Self {
        Self {
            first: vec![entry],
            rest: futures::stream::empty().boxed(),
            pattern: None,
            inside: false,
        }
    }

    /// The directory that the entries are in.
    fn directory(&self, path: &FtpPath) -> FtpPath {
        if self.inside {
            path.clone()
        } else {
            path.parent()
        }
    }

    /// What leads from where the client is to the entries, as the client itself wrote it.
    fn prefix(&self, named: &str) -> String {
        match named.rsplit_once('/') {
            _ if named.is_empty() => String::new(),
            _ if self.inside && !named.ends_with('/') => format!("{named}/"),
            _ if self.inside => named.to_owned(),
            Some((directory, _)) => format!("{directory}/"),
            None => String::new(),
        }
    }
}

/// The entries of a page that the client asked for.
fn chosen(page: Page, pattern: Option<&Pattern>) -> Vec<Entry> {
    let mut entries = page.entries;
    if let Some(pattern) = pattern {
        entries.retain(|entry| pattern.matches(&entry.name));
    }
    entries
}
