//! A directory page by page: memory for one page, however many files there are.

use std::io;
use std::sync::Arc;

use cap_std::fs::{Dir, ReadDir};
use futures::stream::{self, BoxStream, StreamExt};
use object_store::Result;
use object_store::path::Path;
use rustix::io::Errno;

use crate::storage::store::RESERVED;
use crate::storage::store::description::Carries;
use crate::storage::store::keys::{Object, Page, marker};
use crate::storage::store::local::blocking::{blocking, leads_out};
use crate::storage::store::local::root::Root;
use crate::storage::store::local::version::meta;

/// The pages of a directory. One that is not there has none.
pub(crate) fn pages(
    root: Arc<Root>,
    directory: &Path,
    limit: usize,
) -> BoxStream<'static, Result<Page>> {
    let (directory, prefix) = (directory.clone(), marker(directory));
    let reading = Reading::Unopened(root, directory);
    let pages = stream::try_unfold(reading, move |reading| {
        let prefix = prefix.clone();
        blocking(move || reading.page(&prefix, limit))
    });
    pages.boxed()
}

enum Reading {
    Unopened(Arc<Root>, Path),
    Open(Dir, ReadDir),
}

impl Reading {
    fn page(self, prefix: &str, limit: usize) -> io::Result<Option<(Page, Self)>> {
        let (directory, mut entries) = match self {
            Self::Open(directory, entries) => (directory, entries),
            Self::Unopened(root, directory) => match open(&root, &directory) {
                Ok(directory) => (directory.try_clone()?, directory.entries()?),
                Err(error) if is_no_directory(&error) => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let mut page = Page::default();
        let mut read = 0;
        for entry in entries.by_ref().take(limit) {
            read += 1;
            add(&mut page, prefix, &directory, entry?.file_name().to_str())?;
        }
        // The place is in `entries`.
        page.next = (read == limit).then(String::new);
        Ok((read > 0).then_some((page, Self::Open(directory, entries))))
    }
}

fn open(root: &Root, directory: &Path) -> io::Result<Dir> {
    let root = root.dir()?;
    match directory.as_ref() {
        // One of its own, whose place in the listing nobody shares.
        "" => root.open_dir("."),
        directory => root.open_dir(directory),
    }
}

fn is_no_directory(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    kinds.contains(&error.kind()) || leads_out(error)
}

/// Adds an entry, unless it is the gateway's own directory, or a link that leads nowhere or out of the folder.
fn add(page: &mut Page, prefix: &str, directory: &Dir, name: Option<&str>) -> io::Result<()> {
    let Some(name) = name else {
        page.unnamable += 1;
        return Ok(());
    };
    if name.eq_ignore_ascii_case(RESERVED) {
        return Ok(());
    }
    let metadata = match directory.metadata(name) {
        Err(error) if leads_nowhere(&error) => return Ok(()),
        metadata => metadata?,
    };
    let object = |key, size| Object {
        key,
        size,
        modified: meta(&Path::default(), &metadata).last_modified.into(),
        e_tag: None,
        generation: None,
        carries: Carries::default(),
    };
    if metadata.is_dir() {
        // As if it had a marker: it has a time, too.
        page.objects.push(object(format!("{prefix}{name}/"), 0));
    } else if metadata.is_file() {
        let key = format!("{prefix}{name}");
        page.objects.push(object(key, metadata.len()));
    }
    Ok(())
}

fn leads_nowhere(error: &io::Error) -> bool {
    let loops = error.raw_os_error() == Some(Errno::LOOP.raw_os_error());
    loops || error.kind() == io::ErrorKind::NotFound || leads_out(error)
}
