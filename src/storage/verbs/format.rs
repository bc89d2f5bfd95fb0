//! How a listing is written: `LIST`, `NLST`, and the facts of `MLSD` and `MLST`.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use crate::auth::{Permission, Permissions, User};
use crate::session::{Entry, EntryKind, Fact, Facts, ListFormat};

/// `ls` shows the time of day of files younger than this, and the year of others.
const HALF_A_YEAR: Duration = Duration::from_hours(182 * 24);

/// What `ls` shows where no time is known, because a line has to have one. It can be told for what it is, and it
/// stays: a directory whose time changes is looked through again by programs that watch for that.
const UNKNOWN_TIME: DateTime<Utc> = NaiveDate::from_ymd_opt(2000, 1, 1)
    .unwrap()
    .and_time(NaiveTime::MIN)
    .and_utc();

/// Writes the lines of one listing.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) format: ListFormat,
    /// What `NLST` puts before each name, so that it can be used as it is (RFC 1123, 4.1.2.7).
    pub(crate) prefix: String,
    pub(crate) facts: FactsOf,
    pub(crate) now: SystemTime,
}

impl Lines {
    /// The lines of these entries, each with its line end.
    pub(crate) fn write(&self, entries: &[Entry]) -> String {
        let mut text = String::with_capacity(entries.len() * 64);
        for entry in entries {
            match self.format {
                ListFormat::Long => text.push_str(&long_line(entry, self.now)),
                ListFormat::Names => {
                    text.push_str(&self.prefix);
                    text.push_str(&entry.name);
                }
                ListFormat::Facts => {
                    text.push_str(&self.facts.line(entry));
                    text.push_str(&entry.name);
                }
            }
            text.push_str("\r\n");
        }
        text
    }
}

/// A line as `ls -l` prints it, which is what clients parse.
pub(crate) fn long_line(entry: &Entry, now: SystemTime) -> String {
    let mode = if entry.is_directory() {
        "drwxr-xr-x"
    } else {
        "-rw-r--r--"
    };
    let modified = entry.modified.map_or(UNKNOWN_TIME, DateTime::<Utc>::from);
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

/// Writes the facts of RFC 3659, section 7.5, for one user and one directory.
#[derive(Debug)]
pub(crate) struct FactsOf {
    wanted: Facts,
    may: Permissions,
    directory: String,
}

impl FactsOf {
    /// The facts that the client wants of what lies in `directory` of this user's home.
    pub(crate) fn new(wanted: Facts, user: &User, directory: &str) -> Self {
        Self {
            wanted,
            may: user.permissions,
            directory: user.home.child(directory),
        }
    }

    /// The facts of one entry, each with its semicolon, and the space before the name.
    pub(crate) fn line(&self, entry: &Entry) -> String {
        let mut line = String::with_capacity(80);
        for fact in Fact::ALL {
            if self.wanted.contains(fact) {
                self.write(&mut line, fact, entry);
            }
        }
        line.push(' ');
        line
    }

    fn write(&self, line: &mut String, fact: Fact, entry: &Entry) {
        // Writing into a string can't fail.
        let _ = match (fact, entry.kind, entry.modified) {
            (Fact::Type, EntryKind::File, _) => write!(line, "type=file;"),
            (Fact::Type, _, _) => write!(line, "type=dir;"),
            (Fact::Size, EntryKind::File, _) => write!(line, "size={};", entry.size),
            (Fact::Modify, _, Some(modified)) => write!(line, "modify={};", timestamp(modified)),
            (Fact::Perm, _, _) => write!(line, "perm={};", self.letters(entry.kind)),
            (Fact::Unique, _, _) => write!(line, "unique={:016x};", self.unique(entry)),
            (Fact::Size, _, _) | (Fact::Modify, _, None) => Ok(()),
        };
    }

    /// RFC 3659, section 7.5.5: what may be done, a letter each.
    fn letters(&self, kind: EntryKind) -> String {
        let of_files = [
            (Permission::Write, 'a'),
            (Permission::Delete, 'd'),
            (Permission::Rename, 'f'),
            (Permission::Read, 'r'),
            (Permission::Write, 'w'),
        ];
        let of_directories = [
            (Permission::Write, 'c'),
            (Permission::Delete, 'd'),
            (Permission::List, 'e'),
            (Permission::Rename, 'f'),
            (Permission::List, 'l'),
            (Permission::Mkdir, 'm'),
            (Permission::Delete, 'p'),
        ];
        // Neither of it may be done to what is mounted.
        let of_mounts = of_directories.into_iter();
        let of_mounts: Vec<_> = of_mounts
            .filter(|(_, it)| !['d', 'f'].contains(it))
            .collect();
        let (all, may) = match kind {
            EntryKind::File => (&of_files[..], self.may),
            EntryKind::Directory => (&of_directories[..], self.may),
            EntryKind::Mount(there) => (&of_mounts[..], there),
        };
        let allowed = all.iter().filter(|(need, _)| may.allows(*need));
        allowed.map(|(_, letter)| *letter).collect()
    }

    /// One object has one number, whatever name led to it, and a directory of its name another.
    fn unique(&self, entry: &Entry) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.directory.trim_end_matches('/').hash(&mut hasher);
        entry.name.hash(&mut hasher);
        entry.is_directory().hash(&mut hasher);
        hasher.finish()
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

    fn facts(wanted: Facts, may: Permissions) -> FactsOf {
        let mut user = User::unrestricted("anna".to_owned());
        user.permissions = may;
        FactsOf::new(wanted, &user, "/")
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
            "drwxr-xr-x 1 ftp ftp            0 Jan  1  2000 d"
        );
    }

    #[test]
    fn facts_are_those_of_rfc_3659() {
        let all = facts(Facts::all(), Permissions::by_default());
        let line = all.line(&file());
        let (before, unique) = line.split_once("unique=").unwrap();
        assert_eq!(
            before,
            "type=file;size=1234;modify=20231114221320;perm=adfrw;"
        );
        assert_eq!(unique.len(), "0123456789abcdef; ".len());
        assert!(
            all.line(&Entry::directory("d"))
                .starts_with("type=dir;perm=cdeflmp;")
        );
    }

    #[test]
    fn only_the_facts_that_are_wanted() {
        let some = facts(
            [Fact::Size, Fact::Type].into_iter().collect(),
            Permissions::by_default(),
        );
        assert_eq!(some.line(&file()), "type=file;size=1234; ");
        assert_eq!(
            facts(Facts::none(), Permissions::by_default()).line(&file()),
            " "
        );
    }

    #[test]
    fn what_may_not_be_done_has_no_letter() {
        let perm: Facts = [Fact::Perm].into_iter().collect();
        let read = facts(perm, [Permission::Read].into_iter().collect());
        assert_eq!(read.line(&file()), "perm=r; ");
        assert_eq!(read.line(&Entry::directory("d")), "perm=; ");
        let mount = Entry {
            kind: EntryKind::Mount(Permissions::by_default()),
            ..Entry::directory("in")
        };
        assert_eq!(read.line(&mount), "perm=celmp; ");
    }
}
