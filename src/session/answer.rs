//! What the storage has to tell the guard beyond what libunftp's replies can carry.

use std::fmt::Debug;
use std::time::SystemTime;

use crate::auth::Permissions;

/// A reply to give instead of libunftp's own: its code and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The FTP reply code, 4xx or 5xx.
    pub code: u16,
    /// One line for the client; says what to do about it where that is known.
    pub text: String,
}

impl Failure {
    /// A failure with this code and text.
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

/// One line of a directory, or what a path was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The last segment of the path.
    pub name: String,
    /// File or directory.
    pub kind: EntryKind,
    /// Bytes; zero for a directory.
    pub size: u64,
    /// When it was last written, where the store knows (it doesn't for most directories).
    pub modified: Option<SystemTime>,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// An object.
    File,
    /// A prefix with something under it, or a directory marker.
    Directory,
    /// What is mounted there, where the user may do this; or a directory on the way to it. It can't be removed or renamed.
    Mount(Permissions),
}

impl Entry {
    /// A directory of this name.
    pub fn directory(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: EntryKind::Directory,
            size: 0,
            modified: None,
        }
    }

    /// Whether this is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind != EntryKind::File
    }
}

/// Some of the lines that answer a `STAT` with a path. The next come when this is dropped.
#[derive(Debug)]
pub struct StatusPage {
    /// The lines, without code and line end.
    pub lines: Vec<String>,
    /// What the lines take of the memory of all listings. It is dropped when the client has them, or the kernel for it.
    pub held: Box<dyn Debug + Send>,
}
