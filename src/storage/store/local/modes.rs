//! Who can read what is made in the folder: its owner and its group, and nobody else, as by a umask of 027. A stricter
//! umask of the process holds as well.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _};

/// Of files.
pub(crate) const FILE_MODE: u32 = 0o640;

/// Of directories.
const DIRECTORY_MODE: u32 = 0o750;

/// Makes a directory.
pub(crate) fn make_directory(root: &Dir, path: &str) -> io::Result<()> {
    root.create_dir_with(path, &builder())
}

/// Makes a directory and those above it, where they are missing.
pub(crate) fn make_directories(root: &Dir, path: &str) -> io::Result<()> {
    let mut builder = builder();
    root.create_dir_with(path, builder.recursive(true))
}

/// Makes the folder itself and those above it, where they are missing.
pub(crate) fn make_root(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(DIRECTORY_MODE).create(path)
}

fn builder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(DIRECTORY_MODE);
    builder
}
