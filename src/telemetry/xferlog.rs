//! The classic transfer log that `wu-ftpd` began and log readers still understand.
//!
//! One line a transfer, as xferlog(5) says:
//! `current-time transfer-time remote-host file-size filename transfer-type special-action-flag
//! direction access-mode username service-name authentication-method authenticated-user-id
//! completion-status`

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Local};

/// The open log. Lines are appended whole, so rotation by copy-and-truncate works.
#[derive(Debug)]
pub struct Xferlog(Mutex<File>);

/// One finished transfer.
#[derive(Debug, Clone)]
pub struct XferlogEntry<'a> {
    /// When it ended.
    pub at: DateTime<Local>,
    /// How long it took.
    pub duration: Duration,
    /// The client.
    pub peer: IpAddr,
    /// Bytes moved.
    pub bytes: u64,
    /// The path as the client named it, below its home.
    pub path: &'a str,
    /// Upload or download.
    pub upload: bool,
    /// The user.
    pub user: &'a str,
    /// Whether it ended well.
    pub complete: bool,
}

impl Xferlog {
    /// Opens the log for appending.
    ///
    /// # Errors
    /// When the file can't be opened or created.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(Mutex::new(file)))
    }

    /// Writes one line. A log that can't be written is said once a line in our own log, and never
    /// stops a transfer.
    pub fn write(&self, entry: &XferlogEntry<'_>) {
        let line = format!("{entry}\n");
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::error!(%error, "can't write the transfer log");
        }
    }
}

impl fmt::Display for XferlogEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{time} {seconds} {host} {bytes} {path} b _ {direction} r {user} ftp 0 * {status}",
            time = self.at.format("%a %b %e %H:%M:%S %Y"),
            seconds = self.duration.as_secs(),
            host = self.peer,
            bytes = self.bytes,
            path = one_word(self.path),
            direction = if self.upload { 'i' } else { 'o' },
            user = one_word(self.user),
            status = if self.complete { 'c' } else { 'i' },
        )
    }
}

/// The format has no quoting: a space becomes an underscore, as other servers write it.
fn one_word(text: &str) -> String {
    text.replace(char::is_whitespace, "_")
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    #[test]
    fn a_line_has_its_fourteen_fields() {
        let entry = XferlogEntry {
            at: Local.with_ymd_and_hms(2026, 2, 3, 4, 5, 6).unwrap(),
            duration: Duration::from_millis(2700),
            peer: IpAddr::from([192, 0, 2, 1]),
            bytes: 12,
            path: "/in/a b.txt",
            upload: true,
            user: "scanner",
            complete: false,
        };
        assert_eq!(
            entry.to_string(),
            "Tue Feb  3 04:05:06 2026 2 192.0.2.1 12 /in/a_b.txt b _ i r scanner ftp 0 * i"
        );
    }
}
