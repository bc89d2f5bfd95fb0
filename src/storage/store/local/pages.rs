//! A folder page by page: memory for one page, however many files there are.

use std::fs::ReadDir;
use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::time::SystemTime;

use futures::stream::{self, BoxStream, StreamExt};
use object_store::Result;

use crate::storage::store::keys::{Object, Page};
use crate::storage::store::local::blocking::blocking;
use crate::storage::store::names::is_in_the_making;

/// The pages of the folder that has this prefix as a key. One that is not there has none.
pub(crate) fn pages(
    folder: PathBuf,
    prefix: String,
    limit: usize,
) -> BoxStream<'static, Result<Page>> {
    let pages = stream::try_unfold(Folder::Unopened(folder), move |folder| {
        let prefix = prefix.clone();
        blocking(move || folder.read_page(&prefix, limit))
    });
    pages.boxed()
}

enum Folder {
    Unopened(PathBuf),
    Open(ReadDir),
}

impl Folder {
    fn read_page(self, prefix: &str, limit: usize) -> io::Result<Option<(Page, Self)>> {
        let mut entries = match self {
            Self::Open(entries) => entries,
            Self::Unopened(folder) => match std::fs::read_dir(folder) {
                Ok(entries) => entries,
                Err(error) if is_no_folder(&error) => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let mut page = Page::default();
        let mut some = false;
        for entry in entries.by_ref().take(limit) {
            some = true;
            let entry = entry?;
            add(&mut page, prefix, entry.file_name().to_str(), &entry.path());
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
fn add(page: &mut Page, prefix: &str, name: Option<&str>, path: &FsPath) {
    let Some(name) = name else {
        page.unnamable += 1;
        return;
    };
    let Ok(metadata) = std::fs::metadata(path) else {
        return;
    };
    let key = format!("{prefix}{name}");
    if metadata.is_dir() {
        page.prefixes.push(key + "/");
    } else if metadata.is_file() && !is_in_the_making(name) {
        page.objects.push(Object {
            key,
            size: metadata.len(),
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            e_tag: None,
            generation: None,
        });
    }
}
