//! Files that the operator guards: secrets of their own files, as Kubernetes mounts them, and files that decide who may
//! do what.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::Problem;

/// The permission bits of a mode, as `chmod` takes them.
const MODE: u32 = 0o7777;

/// That the group may write.
const GROUP_WRITES: u32 = 0o020;

/// That everybody may.
const OTHERS_WRITE: u32 = 0o002;

/// What the file says, without the newline that editors and `echo` leave at its end.
pub(super) fn read(path: &str) -> Result<String, Problem> {
    let text = fs::read_to_string(path).map_err(|error| Problem::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// Reads a file by which it is decided who may log in: users, keys, authorities. Links are followed, and the mode of
/// the file itself counts. It blocks.
///
/// # Errors
/// When it can't be read, or others than its owner can write it: [`io::ErrorKind::PermissionDenied`], with the mode.
pub fn read_guarded(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    // Of the open file: what the path leads to later is another question.
    check_guarded(&file.metadata()?)?;
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// A group that the gateway is in may write: so Kubernetes mounts volumes with an `fsGroup`. So may root's.
fn check_guarded(found: &Metadata) -> io::Result<()> {
    let (mode, group) = (found.mode() & MODE, found.gid());
    let whose = if mode & OTHERS_WRITE != 0 {
        "everybody".to_owned()
    } else if mode & GROUP_WRITES != 0 && !is_own_group(group) {
        format!("group {group}")
    } else {
        return Ok(());
    };
    let reason = format!(
        "its mode is {mode:04o}, so {whose} can write it; allowed: writable by its owner, and by a group only if \
         the gateway or root is in it"
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}

fn is_own_group(group: u32) -> bool {
    let ours = rustix::process::getgroups().unwrap_or_default();
    let own = rustix::process::getegid();
    group == 0 || own.as_raw() == group || ours.iter().any(|it| it.as_raw() == group)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    fn read_with(mode: u32, group: Option<u32>) -> io::Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("..data"), folder.path().join("users"));
        fs::write(&path, "it").unwrap();
        if group.is_some() {
            chown(&path, None, group).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        symlink("..data", &link).unwrap();
        read_guarded(&link)
    }

    #[test]
    fn what_everybody_can_write_is_refused_with_its_mode() {
        for mode in [0o400, 0o600, 0o644, 0o640, 0o444, 0o660] {
            assert_eq!(read_with(mode, None).unwrap(), b"it", "{mode:o}");
        }
        for mode in [0o666, 0o602, 0o646] {
            let error = read_with(mode, None).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            let text = error.to_string();
            assert!(
                text.contains(&format!("mode is {mode:04o}, so everybody")),
                "{text}"
            );
        }
    }

    /// Only root can give files to other groups.
    #[test]
    fn what_a_group_of_others_can_write_is_refused() {
        const OTHERS: u32 = 54_321;
        if !rustix::process::geteuid().is_root() {
            return;
        }
        assert_eq!(read_with(0o640, Some(OTHERS)).unwrap(), b"it");
        let text = read_with(0o660, Some(OTHERS)).unwrap_err().to_string();
        assert!(
            text.contains("mode is 0660, so group 54321 can write it"),
            "{text}"
        );
    }
}
