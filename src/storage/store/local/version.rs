//! What tells a file from another, and from itself after a change.

use cap_std::fs::{Metadata, MetadataExt};
use chrono::DateTime;
use object_store::ObjectMeta;
use object_store::path::Path;

/// The tag of a file: which it is, when anything of it was changed, and its size. The time of its content alone can
/// be put back.
pub(crate) fn e_tag(metadata: &Metadata) -> String {
    let (inode, size) = (metadata.ino(), metadata.len());
    let (seconds, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec());
    format!("\"{inode:x}-{seconds:x}.{nanoseconds:x}-{size:x}\"")
}

/// What a file says of itself.
pub(crate) fn meta(key: &Path, metadata: &Metadata) -> ObjectMeta {
    let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
    ObjectMeta {
        location: key.clone(),
        last_modified: DateTime::from_timestamp(metadata.mtime(), nanoseconds).unwrap_or_default(),
        size: metadata.len(),
        e_tag: Some(e_tag(metadata)),
        version: None,
    }
}
