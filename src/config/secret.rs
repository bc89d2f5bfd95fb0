//! Values that live in files of their own, as Kubernetes mounts secrets.

use std::fs;

use super::error::Problem;

/// What the file says, without the newline that editors and `echo` leave at its end.
pub(super) fn read(path: &str) -> Result<String, Problem> {
    let text = fs::read_to_string(path).map_err(|error| Problem::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}
