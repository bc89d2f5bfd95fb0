//! Directories page by page, whatever the store: memory for one page, however many there are.

use std::ffi::OsString;
use std::fs::ReadDir;
use std::io;
use std::time::SystemTime;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::list::PaginatedListOptions;
use object_store::path::Path;

use crate::session::{Entry, EntryKind};

use super::directories::{Directories, Folders, Paged};
use super::{Storage, StorageError, s3_listing};

/// Entries of a page; as many as S3 gives at once.
const PAGE: usize = 1000;

/// A part of a directory.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The directory's own marker is in it.
    pub(super) marker: bool,
    /// Files and directories, sorted by name within the page.
    pub(super) entries: Vec<Entry>,
    /// Keys that no FTP path can name.
    pub(super) hidden: usize,
}

/// What a name is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found {
    File(u64, SystemTime),
    Directory,
}

impl Found {
    pub(super) fn file(size: u64, modified: SystemTime) -> Self {
        Self::File(size, modified)
    }
}

impl Page {
    /// Adds an entry; a name that FTP can't say is only counted.
    pub(super) fn add(&mut self, name: &str, found: Found) {
        let sayable = !matches!(name, "" | "." | "..") && !name.chars().any(char::is_control);
        if !sayable {
            self.hidden += 1;
            return;
        }
        self.entries.push(match found {
            Found::Directory => Entry::directory(name),
            Found::File(size, modified) => Entry {
                name: name.to_owned(),
                kind: EntryKind::File,
                size,
                modified: Some(modified),
            },
        });
    }

    /// Whether nothing is in it, not even a marker or a key that can't be shown.
    pub(super) fn is_empty(&self) -> bool {
        !self.marker && self.is_childless()
    }

    /// Whether nothing is in it but, perhaps, the marker.
    pub(super) fn is_childless(&self) -> bool {
        self.entries.is_empty() && self.hidden == 0
    }

    fn sorted(mut self) -> Self {
        self.entries.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }
}

/// The pages of one directory.
pub(super) type Pages<'a> = BoxStream<'a, Result<Page, StorageError>>;

impl Storage {
    /// What lies right under a key. A directory that is not there has one empty page, or none.
    pub(super) fn pages(&self, key: Path) -> Pages<'_> {
        let pages = match &self.directories {
            Directories::S3(s3) => paged(key, move |key, token| {
                async move { Ok(s3_listing::page(s3, &key, token.as_deref(), PAGE).await?) }.boxed()
            }),
            Directories::Implied(store) => paged(key, move |key, token| {
                async move { store_page(store, &key, token).await }.boxed()
            }),
            Directories::Local(local) => local_pages(local.folder(&key)),
            Directories::Memory(_) => stream::once(self.whole(key)).boxed(),
        };
        pages
            .map_ok(Page::sorted)
            .inspect_ok(|page| self.count_hidden(page))
            .boxed()
    }

    /// Whether anything lies below a key; asks for as little as the store lets us.
    pub(super) async fn has_anything(&self, key: &Path) -> Result<bool, StorageError> {
        if let Directories::S3(s3) = &self.directories {
            let (page, _) = s3_listing::page(s3, key, None, 1).await?;
            return Ok(!page.is_empty());
        }
        match self.pages(key.clone()).next().await.transpose()? {
            Some(page) => Ok(!page.is_empty()),
            None => Ok(false),
        }
    }

    fn count_hidden(&self, page: &Page) {
        if page.hidden > 0 {
            self.metrics.store_keys_hidden.inc_by(page.hidden as u64);
        }
    }

    /// The store in memory has no pages.
    async fn whole(&self, key: Path) -> Result<Page, StorageError> {
        let listed = self.store.list_with_delimiter(Some(&key)).await?;
        let mut page = page_of(&key, listed);
        for child in self.directories.children(&key) {
            if !page.entries.iter().any(|known| known.name == child) {
                page.entries.push(Entry::directory(child));
            }
        }
        Ok(page)
    }
}

/// Asks for pages until one names no next.
fn paged<'a, A>(key: Path, ask: A) -> Pages<'a>
where
    A: Fn(Path, Option<String>) -> BoxFuture<'a, Result<(Page, Option<String>), StorageError>>
        + Send
        + 'a,
{
    /// Which page comes next.
    enum Next {
        First,
        At(String),
        None,
    }
    let pages = stream::try_unfold((Next::First, ask), move |(next, ask)| {
        let key = key.clone();
        async move {
            let token = match next {
                Next::First => None,
                Next::At(token) => Some(token),
                Next::None => return Ok(None),
            };
            let (page, token) = ask(key, token).await?;
            Ok(Some((page, (token.map_or(Next::None, Next::At), ask))))
        }
    });
    pages.boxed()
}

async fn store_page(
    store: &Paged,
    key: &Path,
    token: Option<String>,
) -> Result<(Page, Option<String>), StorageError> {
    let prefix = Some(format!("{key}/")).filter(|prefix| prefix != "/");
    let options = PaginatedListOptions {
        delimiter: Some("/".into()),
        page_token: token,
        ..PaginatedListOptions::default()
    };
    let listed = store.0.list_paginated(prefix.as_deref(), options).await?;
    Ok((page_of(key, listed.result), listed.page_token))
}

/// The marker `key/` comes as an object named `key`: the only one that does not lie below it.
fn page_of(key: &Path, listed: object_store::ListResult) -> Page {
    let mut page = Page::default();
    for object in listed.objects {
        if object.location == *key {
            page.marker = true;
        } else if let Some(name) = object.location.filename() {
            page.add(name, Found::file(object.size, object.last_modified.into()));
        }
    }
    for prefix in listed.common_prefixes {
        if let Some(name) = prefix.filename() {
            page.add(name, Found::Directory);
        }
    }
    page
}

/// The pages of a folder. One that is not there has none.
fn local_pages(folder: Result<std::path::PathBuf, StorageError>) -> Pages<'static> {
    let pages = stream::try_unfold(Folder::Unopened(folder), |folder| async move {
        let read = tokio::task::spawn_blocking(move || folder.read_page()).await;
        read.unwrap_or_else(|_| Err(io::Error::other("reading the folder failed").into()))
    });
    pages.boxed()
}

enum Folder {
    Unopened(Result<std::path::PathBuf, StorageError>),
    Open(ReadDir),
}

impl Folder {
    fn read_page(self) -> Result<Option<(Page, Self)>, StorageError> {
        let mut entries = match self {
            Self::Open(entries) => entries,
            Self::Unopened(folder) => match std::fs::read_dir(folder?) {
                Ok(entries) => entries,
                Err(error) if is_no_folder(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            },
        };
        let mut page = Page::default();
        let mut some = false;
        for entry in entries.by_ref().take(PAGE) {
            some = true;
            let entry = entry?;
            add_local(&mut page, &entry.file_name(), &entry.path());
        }
        Ok(some.then_some((page, Self::Open(entries))))
    }
}

fn is_no_folder(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Files in the making (`name#1`) are nobody's business; a link to nothing is nothing.
fn add_local(page: &mut Page, name: &OsString, path: &std::path::Path) {
    let Some(name) = name.to_str() else {
        page.hidden += 1;
        return;
    };
    let Ok(metadata) = std::fs::metadata(path) else {
        return;
    };
    if metadata.is_dir() {
        page.add(name, Found::Directory);
    } else if metadata.is_file() && !super::key::is_in_the_making(name) {
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        page.add(name, Found::file(metadata.len(), modified));
    }
}
