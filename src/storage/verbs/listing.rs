//! Listings: from a directory's pages to the client, a page at a time.
//!
//! The first page is there before the client is told that a listing will come. The next is asked for when the one before
//! is written: a client that does not read costs one page, of the memory that all listings share.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use tokio::sync::{mpsc, oneshot};

use crate::auth::{Leads, Permission, User};
use crate::session::{
    Abort, Entry, EntryKind, Facts, FtpPath, Job, ListFormat, StatusPage, TransferKind,
};

use crate::storage::Storage;
use crate::storage::error::StorageError;
use crate::storage::verbs::contract::permit;
use crate::storage::verbs::contract::{Encode, Output};
use crate::storage::verbs::download::Out;
use crate::storage::verbs::format::{FactsOf, Lines, long_line};
use crate::storage::verbs::listing_memory::{ListingMemory, PageMemory};
use crate::storage::verbs::pages::{Page, Pages};
use crate::storage::verbs::pattern::Pattern;

/// Lines that a `STAT` shows at most.
const MAX_STAT: usize = 5000;

/// What a client asked to be listed, opened.
struct Listing<'a> {
    /// Of the page that is next to be sent.
    entries: Vec<Entry>,
    /// What that page takes.
    memory: Option<PageMemory>,
    /// The store may have more.
    more: bool,
    rest: Pages<'a>,
    pattern: Option<Pattern>,
    /// It lists what is in the directory that was named, not what was named.
    inside: bool,
}

/// What listings ask of what is behind them.
#[async_trait]
pub(crate) trait Listed: Sync {
    /// The memory that all listings share.
    fn listing_memory(&self) -> &ListingMemory;

    /// How long a client may take to read something.
    fn stall_timeout(&self) -> Duration;

    /// What lies in a directory; one that is not there has one empty page, or none.
    fn directory(&self, user: &User, path: &FtpPath) -> Result<Pages<'_>, StorageError>;

    /// Whether there is a directory of which no page tells anything.
    async fn is_empty_directory(&self, user: &User, path: &FtpPath) -> Result<bool, StorageError>;

    /// What a path is, if it is a file.
    async fn file(&self, user: &User, path: &FtpPath) -> Result<Entry, StorageError>;
}

/// Sends the listing that a job asks for, with the facts that its client wants.
pub(crate) async fn send_listing(
    listed: &impl Listed,
    user: &User,
    facts: Facts,
    job: &mut Job,
    output: &mut Output<'_>,
    encode: &Encode<'_>,
) -> Result<(), StorageError> {
    let TransferKind::List(format) = job.kind() else {
        return Err(Abort::Internal.into());
    };
    let path = job.path().clone();
    let opening = pin!(open(listed, user, &path, format));
    let listing = job.unless_aborted(opening).await?;
    let named = job.named();
    if !listing.inside && !named.is_empty() && FtpPath::names_directory(named) {
        return Err(StorageError::NotADirectory);
    }
    let directory = listing.directory(&path);
    let lines = Lines {
        format,
        prefix: listing.prefix(job.named()),
        facts: FactsOf::new(facts, user, directory.as_str()),
        now: SystemTime::now(),
    };
    job.open(None).await?;
    let sending = pin!(send_pages(listed, job, output, listing, |entries| {
        encode(&lines.write(entries))
    }));
    job.unless_aborted(sending).await
}

/// Sends the lines that answer a `STAT` with a path, at most [`MAX_STAT`], to the guard, which sends them over the
/// control connection. Returns the last line, which says whether that is all.
///
/// # Errors
/// As those of a listing; before the first page or after any.
pub(crate) async fn send_status(
    listed: &impl Listed,
    user: &User,
    path: &FtpPath,
    guard: mpsc::Sender<StatusPage>,
) -> Result<String, StorageError> {
    let mut listing = open(listed, user, path, ListFormat::Long).await?;
    let (now, mut left) = (SystemTime::now(), MAX_STAT);
    loop {
        let (entries, mut memory) = listing.take();
        let is_cut = entries.len() > left;
        let lines = entries.iter().take(left).map(|it| long_line(it, now));
        let lines: Vec<_> = lines.collect();
        drop(entries);
        left -= lines.len();
        // The guard makes one text of them, which takes less.
        shrink(&mut memory, lines.iter().map(bytes_of).sum());
        give(&guard, lines, memory).await?;
        if is_cut {
            return Ok(format!("These are the first {MAX_STAT}, LIST has all"));
        }
        if !listing.next(listed.listing_memory()).await? {
            return Ok("End".to_owned());
        }
    }
}

async fn send_pages(
    listed: &impl Listed,
    job: &Job,
    output: &mut Output<'_>,
    mut listing: Listing<'_>,
    render: impl Fn(&[Entry]) -> Vec<u8>,
) -> Result<(), StorageError> {
    let mut out = Out::new(job, output, listed.stall_timeout());
    loop {
        let (entries, mut memory) = listing.take();
        let text = render(&entries);
        drop(entries);
        shrink(&mut memory, text.capacity());
        out.write(&text).await?;
        drop((text, memory));
        if !listing.next(listed.listing_memory()).await? {
            return Ok(out.finish().await?);
        }
    }
}

/// A directory lists what is in it, a file itself, and a pattern what it matches. RFC 3659 has
/// MLSD know directories only.
async fn open<'a>(
    listed: &'a impl Listed,
    user: &User,
    path: &FtpPath,
    format: ListFormat,
) -> Result<Listing<'a>, StorageError> {
    permit(user, Permission::List)?;
    if let Some(listing) = open_directory(listed, user, path).await? {
        return Ok(listing);
    }
    match listed.file(user, path).await {
        Ok(_) if format == ListFormat::Facts => Err(StorageError::NotADirectory),
        Ok(entry) => Ok(Listing::of_file(entry)),
        Err(StorageError::NotFound | StorageError::Name(_)) if format != ListFormat::Facts => {
            open_pattern(listed, user, path).await
        }
        Err(error) => Err(error),
    }
}

/// What is in a directory, and what leads to mounts there, in the place of what else has its name.
fn pages<'a>(
    listed: &'a impl Listed,
    user: &User,
    path: &FtpPath,
) -> Result<Pages<'a>, StorageError> {
    let leading = user.leading_to_mounts(path.as_str());
    let pages = match listed.directory(user, path) {
        Ok(pages) if leading.is_empty() => return Ok(pages),
        // What can't be there is not there.
        Err(StorageError::Name(_)) if !leading.is_empty() => stream::empty().boxed(),
        pages => pages?,
    };
    let mounts: Vec<_> = leading
        .into_iter()
        .map(|(name, leads)| Entry {
            kind: EntryKind::Mount(match leads {
                Leads::Mount(permissions) => permissions,
                Leads::OnTheWay => user.permissions,
            }),
            ..Entry::directory(name)
        })
        .collect();
    let names: BTreeSet<_> = mounts.iter().map(|it| it.name.clone()).collect();
    let mut mounts = Some(mounts);
    // Where there is no page, the mounts need one.
    let pages = pages.chain(stream::iter([Ok(Page::default())]));
    let merged = pages.map_ok(move |mut page| {
        page.entries.retain(|entry| !names.contains(&entry.name));
        page.entries.extend(mounts.take().into_iter().flatten());
        page.entries.sort_by(|a, b| a.name.cmp(&b.name));
        page
    });
    Ok(merged.boxed())
}

/// `None` if there is no such directory.
async fn open_directory<'a>(
    listed: &'a impl Listed,
    user: &User,
    path: &FtpPath,
) -> Result<Option<Listing<'a>>, StorageError> {
    let mut rest = pages(listed, user, path)?;
    let memory = listed.listing_memory().page().await?;
    let first = rest.next().await.transpose()?.unwrap_or_default();
    let exists =
        path.is_root() || !first.is_empty() || listed.is_empty_directory(user, path).await?;
    Ok(exists.then(|| Listing::of_page(first, rest, memory)))
}

async fn open_pattern<'a>(
    listed: &'a impl Listed,
    user: &User,
    path: &FtpPath,
) -> Result<Listing<'a>, StorageError> {
    let pattern = Pattern::of(path).ok_or(StorageError::NotFound)?;
    let mut rest = pages(listed, user, &pattern.directory)?;
    let memory = listed.listing_memory().page().await?;
    while let Some(mut page) = rest.next().await.transpose()? {
        page.entries.retain(|entry| pattern.matches(&entry.name));
        if !page.entries.is_empty() {
            return Ok(Listing {
                pattern: Some(pattern),
                inside: false,
                ..Listing::of_page(page, rest, memory)
            });
        }
    }
    Err(StorageError::NotFound)
}

#[async_trait]
impl Listed for Storage {
    fn listing_memory(&self) -> &ListingMemory {
        &self.listing_memory
    }

    fn stall_timeout(&self) -> Duration {
        self.download.stall_timeout
    }

    fn directory(&self, user: &User, path: &FtpPath) -> Result<Pages<'_>, StorageError> {
        Ok(self.pages(&self.keys.key(user, path)?))
    }

    async fn is_empty_directory(&self, user: &User, path: &FtpPath) -> Result<bool, StorageError> {
        let key = self.keys.key(user, path)?;
        Ok(self.store.directory_changed(&key).await.is_some())
    }

    async fn file(&self, user: &User, path: &FtpPath) -> Result<Entry, StorageError> {
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

impl<'a> Listing<'a> {
    fn of_file(entry: Entry) -> Self {
        Self {
            entries: vec![entry],
            memory: None,
            more: false,
            rest: futures::stream::empty().boxed(),
            pattern: None,
            inside: false,
        }
    }

    /// What is in a directory, whose first page this is.
    fn of_page(page: Page, rest: Pages<'a>, memory: PageMemory) -> Self {
        let mut listing = Self {
            entries: Vec::new(),
            memory: None,
            more: true,
            rest,
            pattern: None,
            inside: true,
        };
        listing.put(page, memory);
        listing
    }

    fn put(&mut self, page: Page, mut memory: PageMemory) {
        self.more = page.more;
        self.entries = chosen(page, self.pattern.as_ref());
        memory.shrink_to(self.entries.iter().map(|it| bytes_of(&it.name)).sum());
        self.memory = Some(memory);
    }

    /// The page that is next to be sent.
    fn take(&mut self) -> (Vec<Entry>, Option<PageMemory>) {
        (std::mem::take(&mut self.entries), self.memory.take())
    }

    /// Asks for the page after the one that was taken, and sent. Whether there is one.
    async fn next(&mut self, memory: &ListingMemory) -> Result<bool, StorageError> {
        if !self.more {
            return Ok(false);
        }
        let memory = memory.page().await?;
        let page = self.rest.next().await.transpose()?;
        let is_there = page.is_some();
        self.more = is_there;
        if let Some(page) = page {
            self.put(page, memory);
        }
        Ok(is_there)
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

/// Waits until the client has the lines, or the kernel for it.
async fn give(
    guard: &mpsc::Sender<StatusPage>,
    lines: Vec<String>,
    memory: Option<PageMemory>,
) -> Result<(), StorageError> {
    let (sent, is_sent) = oneshot::channel::<()>();
    let held = Box::new((memory, sent));
    let given = guard.send(StatusPage { lines, held }).await;
    given.map_err(|_| StorageError::GivenUp)?;
    // It is dropped when they are sent.
    let _ = is_sent.await;
    Ok(())
}

fn shrink(memory: &mut Option<PageMemory>, bytes: usize) {
    if let Some(memory) = memory {
        memory.shrink_to(bytes);
    }
}

/// What a name, or a line, takes in a list of them.
fn bytes_of(text: &String) -> usize {
    size_of::<Entry>() + text.capacity()
}

/// The entries of a page that the client asked for.
fn chosen(page: Page, pattern: Option<&Pattern>) -> Vec<Entry> {
    let mut entries = page.entries;
    if let Some(pattern) = pattern {
        entries.retain(|entry| pattern.matches(&entry.name));
    }
    entries
}
