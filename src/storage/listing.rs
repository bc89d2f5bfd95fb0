//! Directories as they are read: which entries there are, and how each format writes them.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use object_store::ListResult;
use object_store::path::Path;

use crate::auth::{Permission, User};
use crate::session::{Abort, Entry, EntryKind, FtpPath, Job, ListFormat, TransferKind};

use super::{Storage, StorageError, permit};

/// `ls` shows the time of day of files younger than this, and the year of others.
const HALF_A_YEAR: Duration = Duration::from_hours(182 * 24);

impl Storage {
    /// The entries of a directory, sorted by name; a file lists itself.
    pub(super) async fn entries(
        &self,
        user: &User,
        path: &FtpPath,
    ) -> Result<Vec<Entry>, StorageError> {
        permit(user, Permission::List)?;
        match self.directory_entries(user, path).await? {
            Some(entries) => Ok(entries),
            None => Ok(vec![self.file_entry(user, path).await?]),
        }
    }

    /// The lines that answer a `STAT` with a path.
    pub(super) async fn long_lines(
        &self,
        user: &User,
        path: &FtpPath,
    ) -> Result<Vec<String>, StorageError> {
        let entries = self.entries(user, path).await?;
        let now = SystemTime::now();
        Ok(entries.iter().map(|entry| long_line(entry, now)).collect())
    }

    pub(super) async fn send_listing(
        &self,
        user: &User,
        job: &mut Job,
        encode: impl Fn(&str) -> Vec<u8> + Send,
    ) -> Result<(), StorageError> {
        let TransferKind::List(format) = job.kind() else {
            return Err(Abort::Internal.into());
        };
        let path = job.path().clone();
        let entries = async {
            match format {
                ListFormat::Facts => self.entries_of_directory(user, &path).await,
                ListFormat::Long | ListFormat::Names => self.entries(user, &path).await,
            }
        };
        let entries = job.unless_aborted(entries).await?;
        let text = encode(&render(&entries, format));
        let mut stream = job.open(None).await?;
        let mut out = self.out(job, &mut stream);
        let written = async {
            out.write(&text).await?;
            Ok(out.finish().await?)
        };
        job.unless_aborted(written).await
    }

    /// As [`Self::entries`], but of a directory only: RFC 3659 has MLSD of a file fail.
    async fn entries_of_directory(
        &self,
        user: &User,
        path: &FtpPath,
    ) -> Result<Vec<Entry>, StorageError> {
        permit(user, Permission::List)?;
        match self.directory_entries(user, path).await? {
            Some(entries) => Ok(entries),
            None => match self.file_entry(user, path).await {
                Ok(_) => Err(StorageError::NotADirectory),
                Err(error) => Err(error),
            },
        }
    }

    /// The entries of a directory, or `None` if there is no such directory.
    pub(super) async fn directory_entries(
        &self,
        user: &User,
        path: &FtpPath,
    ) -> Result<Option<Vec<Entry>>, StorageError> {
        let key = self.keys.directory(user, path)?;
        let level = self.level(&key).await?;
        let exists = path.is_root() || !level.is_empty() || self.directories.keeps(&key).await;
        Ok(exists.then(|| level.into_entries()))
    }

    /// What lies right under a key.
    pub(super) async fn level(&self, key: &Path) -> Result<Level, StorageError> {
        let listed = match self.store.list_with_delimiter(Some(key)).await {
            // The local store says so of a directory that isn't there.
            Err(object_store::Error::NotFound { .. }) => ListResult {
                common_prefixes: Vec::new(),
                objects: Vec::new(),
                extensions: http::Extensions::new(),
            },
            listed => listed?,
        };
        let mut level = Level::sort(key, listed);
        for child in self.directories.children(key) {
            if !level.directories.contains(&child) {
                level.directories.push(child);
            }
        }
        Ok(level)
    }

    pub(super) async fn file_entry(
        &self,
        user: &User,
        path: &FtpPath,
    ) -> Result<Entry, StorageError> {
        let key = self.file_key(user, path)?;
        let meta = object_store::ObjectStoreExt::head(&self.store, &key).await?;
        Ok(entry(&meta))
    }
}

/// One level of the tree below a key.
#[derive(Debug, Default)]
pub(super) struct Level {
    /// The directory's own marker was among the objects.
    pub(super) marker: bool,
    pub(super) files: Vec<object_store::ObjectMeta>,
    pub(super) directories: Vec<Path>,
}

impl Level {
    /// The marker `key/` comes as an object named `key`: the only one that does not lie below it.
    fn sort(key: &Path, listed: ListResult) -> Self {
        let (markers, files): (Vec<_>, Vec<_>) = listed
            .objects
            .into_iter()
            .partition(|object| object.location == *key);
        Self {
            marker: !markers.is_empty(),
            files,
            directories: listed.common_prefixes,
        }
    }

    pub(super) fn has_children(&self) -> bool {
        !self.files.is_empty() || !self.directories.is_empty()
    }

    fn is_empty(&self) -> bool {
        !self.marker && !self.has_children()
    }

    fn into_entries(self) -> Vec<Entry> {
        let directories = self
            .directories
            .iter()
            .filter_map(|key| key.filename().map(Entry::directory));
        let mut entries: Vec<_> = self.files.iter().map(entry).chain(directories).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }
}

fn entry(meta: &object_store::ObjectMeta) -> Entry {
    Entry {
        name: meta.location.filename().unwrap_or_default().to_owned(),
        kind: EntryKind::File,
        size: meta.size,
        modified: Some(meta.last_modified.into()),
    }
}

fn render(entries: &[Entry], format: ListFormat) -> String {
    let now = SystemTime::now();
    let mut text = String::new();
    for entry in entries {
        match format {
            ListFormat::Long => text.push_str(&long_line(entry, now)),
            ListFormat::Names => text.push_str(&entry.name),
            ListFormat::Facts => {
                text.push_str(&entry.facts());
                text.push(' ');
                text.push_str(&entry.name);
            }
        }
        text.push_str("\r\n");
    }
    text
}

/// A line as `ls -l` prints it, which is what clients parse.
fn long_line(entry: &Entry, now: SystemTime) -> String {
    let mode = if entry.is_directory() {
        "drwxr-xr-x"
    } else {
        "-rw-r--r--"
    };
    let modified = DateTime::<Utc>::from(entry.modified.unwrap_or(SystemTime::UNIX_EPOCH));
    let recent = match now.duration_since(modified.into()) {
        Ok(age) => age < HALF_A_YEAR,
        Err(ahead) => ahead.duration() < Duration::from_hours(24),
    };
    let format = if recent { "%b %e %H:%M" } else { "%b %e  %Y" };
    format!(
        "{mode} 1 ftp ftp {size:>12} {time} {name}",
        size = entry.size,
        time = modified.format(format),
        name = entry.name,
    )
}

impl Entry {
    /// The facts of RFC 3659, each with its semicolon.
    #[must_use]
    pub fn facts(&self) -> String {
        let mut facts = String::new();
        // Writing into a string can't fail.
        let _ = match self.kind {
            EntryKind::Directory => write!(facts, "type=dir;"),
            EntryKind::File => write!(facts, "type=file;size={};", self.size),
        };
        if let Some(modified) = self.modified {
            let _ = write!(facts, "modify={};", timestamp(modified));
        }
        facts
    }
}

/// A time as RFC 3659 writes it, in UTC.
fn timestamp(time: SystemTime) -> impl std::fmt::Display {
    DateTime::<Utc>::from(time).format("%Y%m%d%H%M%S")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn file() -> Entry {
        Entry {
            name: "a b.txt".to_owned(),
            kind: EntryKind::File,
            size: 1234,
            modified: Some(at(1_700_000_000)),
        }
    }

    #[test]
    fn long_lines_look_like_ls() {
        let old = long_line(&file(), at(1_800_000_000));
        assert_eq!(
            old,
            "-rw-r--r-- 1 ftp ftp         1234 Nov 14  2023 a b.txt"
        );
        let recent = long_line(&file(), at(1_700_000_100));
        assert_eq!(
            recent,
            "-rw-r--r-- 1 ftp ftp         1234 Nov 14 22:13 a b.txt"
        );
        let directory = long_line(&Entry::directory("d"), at(1_800_000_000));
        assert_eq!(
            directory,
            "drwxr-xr-x 1 ftp ftp            0 Jan  1  1970 d"
        );
    }

    #[test]
    fn facts_are_those_of_rfc_3659() {
        assert_eq!(file().facts(), "type=file;size=1234;modify=20231114221320;");
        assert_eq!(Entry::directory("d").facts(), "type=dir;");
    }

    #[test]
    fn the_marker_is_no_file() {
        let object = |key: &str| object_store::ObjectMeta {
            location: Path::from(key),
            last_modified: DateTime::<Utc>::MIN_UTC,
            size: 0,
            e_tag: None,
            version: None,
        };
        let listed = ListResult {
            common_prefixes: vec![Path::from("a/c")],
            objects: vec![object("a"), object("a/b")],
            extensions: http::Extensions::new(),
        };
        let level = Level::sort(&Path::from("a"), listed);
        assert!(level.marker);
        let names: Vec<_> = level.into_entries().into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["b", "c"]);
    }
}
