//! Directories page by page, whatever the store: memory for one page, however many there are.

use std::ffi::OsString;
use std::fs::ReadDir;
use std::io;
use std::time::SystemTime;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;

use crate::session::{Entry, EntryKind};

use crate::storage::store::directories::{Directories, Folders, marker};
use crate::storage::store::raw::{Query, Raw, RawPage};
use crate::storage::{Storage, StorageError};

/// Entries of a page; as many as S3 gives at once.
pub(crate) const PAGE: usize = 1000;

/// A part of a directory.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// The directory's own marker is in it.
    pub(crate) marker: bool,
    /// Files and directories, sorted by name within the page.
    pub(crate) entries: Vec<Entry>,
    /// Keys that no FTP path can name.
    pub(crate) hidden: usize,
}

/// What a name is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found {
    File(u64, SystemTime),
    Directory,
}

impl Found {
    pub(crate) fn file(size: u64, modified: SystemTime) -> Self {
        Self::File(size, modified)
    }
}

impl Page {
    /// Adds an entry; a name that FTP can't say is only counted.
    pub(crate) fn add(&mut self, name: &str, found: Found) {
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
    pub(crate) fn is_empty(&self) -> bool {
        !self.marker && self.is_childless()
    }

    /// Whether nothing is in it but, perhaps, the marker.
    pub(crate) fn is_childless(&self) -> bool {
        self.entries.is_empty() && self.hidden == 0
    }

    /// Without a directory of our own.
    fn without(mut self, hidden: Option<&Path>) -> Self {
        if let Some(name) = hidden.and_then(Path::filename) {
            self.entries.retain(|entry| entry.name != name);
        }
        self
    }

    fn sorted(mut self) -> Self {
        self.entries.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }
}

/// The pages of one directory.
pub(crate) type Pages<'a> = BoxStream<'a, Result<Page, StorageError>>;

impl Storage {
    /// What lies right under a key. A directory that is not there has one empty page, or none.
    pub(crate) fn pages<'a>(&'a self, key: &Path) -> Pages<'a> {
        let pages = match (&self.directories, self.raw()) {
            (_, Some(raw)) => raw_pages(raw, marker(key), PAGE),
            (Directories::Local(local), None) => local_pages(local.folder(key)),
            (_, None) => stream::empty().boxed(),
        };
        let hidden = self.assembly.waiting_place();
        let hidden = hidden.filter(|_| key == self.keys.prefix());
        pages
            .map_ok(move |page| page.without(hidden.as_ref()).sorted())
            .inspect_ok(|page| self.count_hidden(page))
            .boxed()
    }

    /// Whether anything lies below a key; asks for as little as the store lets us.
    pub(crate) async fn has_anything(&self, key: &Path) -> Result<bool, StorageError> {
        let mut pages = match self.raw() {
            Some(raw) => raw_pages(raw, marker(key), 1),
            None => self.pages(key),
        };
        let first = pages.next().await.transpose()?;
        Ok(first.is_some_and(|page| !page.is_empty()))
    }

    fn count_hidden(&self, page: &Page) {
        if page.hidden > 0 {
            self.metrics.store_keys_hidden.inc_by(page.hidden as u64);
        }
    }
}

/// Asks for pages until one names no next. Azure may send some with nothing on them.
fn raw_pages(raw: &dyn Raw, prefix: String, limit: usize) -> Pages<'_> {
    /// Which page comes next.
    enum Next {
        First,
        At(String),
        None,
    }
    let pages = stream::try_unfold(Next::First, move |mut next| {
        let prefix = prefix.clone();
        async move {
            loop {
                let token = match &next {
                    Next::First => None,
                    Next::At(token) => Some(token.as_str()),
                    Next::None => return Ok(None),
                };
                let query = Query {
                    prefix: &prefix,
                    grouped: true,
                    token,
                    limit,
                };
                let found = raw.list(query).await?;
                let page = page_of(&found, &prefix);
                let last = found.next.is_none();
                next = found.next.map_or(Next::None, Next::At);
                if last || !page.is_empty() {
                    return Ok(Some((page, next)));
                }
            }
        }
    });
    pages.boxed()
}

/// What keys are to the directory that they lie in.
fn page_of(found: &RawPage, prefix: &str) -> Page {
    let mut page = Page::default();
    for object in &found.objects {
        match object.key.strip_prefix(prefix).unwrap_or(&object.key) {
            "" => page.marker = true,
            name => page.add(name, Found::file(object.size, object.modified)),
        }
    }
    for key in &found.prefixes {
        let name = key.strip_prefix(prefix).unwrap_or(key);
        page.add(name.strip_suffix('/').unwrap_or(name), Found::Directory);
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
    } else if metadata.is_file() && !crate::storage::key::is_in_the_making(name) {
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        page.add(name, Found::file(metadata.len(), modified));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::store::raw::RawObject;

    fn object(key: &str) -> RawObject {
        RawObject {
            key: key.to_owned(),
            size: 3,
            modified: SystemTime::UNIX_EPOCH,
            e_tag: None,
            generation: None,
        }
    }

    #[test]
    fn markers_files_and_directories_are_told_apart() {
        let found = RawPage {
            objects: vec![object("in/"), object("in/a b.txt")],
            prefixes: vec!["in/sub/".to_owned()],
            next: None,
        };
        let page = page_of(&found, "in/");
        assert!(page.marker);
        let names: Vec<_> = page
            .entries
            .iter()
            .map(|entry| entry.name.as_str())
            .collect();
        assert_eq!(names, ["a b.txt", "sub"]);
        assert!(page.entries[1].is_directory());
    }

    #[test]
    fn keys_that_ftp_cannot_show_are_counted() {
        let found = RawPage {
            objects: vec![object("in/a\nb"), object("in/.."), object("in/50% off")],
            prefixes: vec!["in//".to_owned()],
            next: None,
        };
        let page = page_of(&found, "in/");
        assert_eq!(page.hidden, 3);
        assert_eq!(page.entries[0].name, "50% off");
    }
}
