//! Directories page by page, whatever the store: memory for one page, however many there are.

use std::time::SystemTime;

use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;

use crate::session::{Entry, EntryKind};

use crate::storage::Storage;
use crate::storage::error::StorageError;
use crate::storage::store::RESERVED;
use crate::storage::store::keys::{self, MAX_PAGE, Object, marker};

/// A part of a directory.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// The directory's own marker, if it is in it.
    pub(crate) marker: Option<Object>,
    /// Files and directories, sorted by name within the page.
    pub(crate) entries: Vec<Entry>,
    /// Keys that no FTP path can name.
    pub(crate) hidden: usize,
    /// Another page may come.
    pub(crate) more: bool,
}

/// What a name is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found {
    File(u64, SystemTime),
    /// Its time, where that is known without asking for it.
    Directory(Option<SystemTime>),
}

impl Found {
    pub(crate) fn file(size: u64, modified: SystemTime) -> Self {
        Self::File(size, modified)
    }
}

impl Page {
    /// Adds what was found under a name.
    pub(crate) fn add(&mut self, name: &str, found: Found) {
        self.add_entry(match found {
            Found::Directory(modified) => Entry {
                modified,
                ..Entry::directory(name)
            },
            Found::File(size, modified) => Entry {
                name: name.to_owned(),
                kind: EntryKind::File,
                size,
                modified: Some(modified),
            },
        });
    }

    /// Adds an entry; a name that FTP can't say is only counted.
    pub(crate) fn add_entry(&mut self, entry: Entry) {
        let name = entry.name.as_str();
        let sayable = !matches!(name, "" | "." | "..") && !name.chars().any(char::is_control);
        if sayable {
            self.entries.push(entry);
        } else {
            self.hidden += 1;
        }
    }

    /// Whether nothing is in it, not even a marker or a key that can't be shown.
    pub(crate) fn is_empty(&self) -> bool {
        self.marker.is_none() && self.is_childless()
    }

    /// Whether nothing is in it but, perhaps, the marker.
    pub(crate) fn is_childless(&self) -> bool {
        self.entries.is_empty() && self.hidden == 0
    }

    /// The time of the marker, or of the newest that is in it.
    pub(crate) fn modified(&self) -> Option<SystemTime> {
        let marker = self.marker.as_ref().map(|marker| marker.modified);
        let newest = || self.entries.iter().filter_map(|entry| entry.modified).max();
        marker.or_else(newest)
    }

    /// Without the gateway's own directory, which lies at the root.
    fn without_reserved(mut self, at_root: bool) -> Self {
        self.entries
            .retain(|entry| !at_root || entry.name != RESERVED);
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
        self.pages_of(key, MAX_PAGE)
    }

    fn pages_of<'a>(&'a self, key: &Path, limit: usize) -> Pages<'a> {
        let (prefix, at_root) = (marker(key), key == self.keys.prefix());
        let pages = self.store.pages(key, limit).map_err(StorageError::from);
        pages
            .map_ok(move |found| page_of(&found, &prefix).without_reserved(at_root).sorted())
            .inspect_ok(|page| self.count_hidden(page))
            .boxed()
    }

    /// The first that lies below a key, if anything does; asks for as little as the store lets us.
    pub(crate) async fn anything_in(&self, key: &Path) -> Result<Option<Page>, StorageError> {
        let mut pages = self.pages_of(key, 1);
        while let Some(page) = pages.next().await.transpose()? {
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    fn count_hidden(&self, page: &Page) {
        if page.hidden > 0 {
            self.metrics.hide(page.hidden);
        }
    }
}

/// What keys are to the directory that they lie in.
fn page_of(found: &keys::Page, prefix: &str) -> Page {
    let mut page = Page {
        hidden: found.unnamable,
        more: found.next.is_some(),
        ..Page::default()
    };
    for object in &found.objects {
        match object.key.strip_prefix(prefix).unwrap_or(&object.key) {
            "" => page.marker = Some(object.clone()),
            name => match name.strip_suffix('/') {
                Some(name) => page.add(name, Found::Directory(Some(object.modified))),
                None => page.add(name, Found::file(object.size, object.modified)),
            },
        }
    }
    for key in &found.prefixes {
        let name = key.strip_prefix(prefix).unwrap_or(key);
        page.add(
            name.strip_suffix('/').unwrap_or(name),
            Found::Directory(None),
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn object(key: &str) -> Object {
        Object {
            key: key.to_owned(),
            size: 3,
            modified: SystemTime::UNIX_EPOCH,
            e_tag: None,
            generation: None,
            carries: crate::storage::store::description::Carries::default(),
        }
    }

    #[test]
    fn markers_files_and_directories_are_told_apart() {
        let found = keys::Page {
            objects: vec![object("in/"), object("in/a b.txt")],
            prefixes: vec!["in/sub/".to_owned()],
            unnamable: 0,
            next: None,
        };
        let page = page_of(&found, "in/");
        assert!(page.marker.is_some());
        let names: Vec<_> = page
            .entries
            .iter()
            .map(|entry| entry.name.as_str())
            .collect();
        assert_eq!(names, ["a b.txt", "sub"]);
        assert!(page.entries[1].is_directory());
    }

    #[test]
    fn a_directory_has_the_time_of_its_marker_or_else_of_its_newest_file() {
        let at = |key: &str, seconds| Object {
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            ..object(key)
        };
        let modified = |objects| {
            let found = keys::Page {
                objects,
                ..keys::Page::default()
            };
            let modified = page_of(&found, "in/").modified()?;
            modified.duration_since(SystemTime::UNIX_EPOCH).ok()
        };
        let [a, b] = [at("in/a", 3), at("in/b", 2)];
        let with_marker = vec![at("in/", 1), a.clone(), b.clone()];
        assert_eq!(modified(with_marker), Some(Duration::from_secs(1)));
        assert_eq!(modified(vec![a, b]), Some(Duration::from_secs(3)));
        assert_eq!(modified(Vec::new()), None);
    }

    #[test]
    fn keys_that_ftp_cannot_show_are_counted() {
        let found = keys::Page {
            objects: vec![object("in/a\nb"), object("in/.."), object("in/50% off")],
            prefixes: vec!["in//".to_owned()],
            unnamable: 0,
            next: None,
        };
        let page = page_of(&found, "in/");
        assert_eq!(page.hidden, 3);
        assert_eq!(page.entries[0].name, "50% off");
    }
}
