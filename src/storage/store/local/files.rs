//! Whole files, as `object_store` reads and writes objects.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::storage::store::local::blocking::blocking;
use crate::storage::store::local::changes;
use crate::storage::store::local::root::Root;
use crate::storage::store::local::stage::Stage;
use crate::storage::store::local::version::meta;
use crate::storage::store::precondition::Precondition;

/// What is read at once.
const CHUNK: u64 = 256 * 1024;

/// As the system's flags are numbered.
const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// The files of a folder.
#[derive(Debug, Clone)]
pub(crate) struct Files(pub(crate) Arc<Root>);

/// An open file, and what it was when it was opened.
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) meta: ObjectMeta,
}

impl Opened {
    /// Opens the file at a key.
    pub(crate) fn at(root: &Dir, key: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // A pipe would be waited for until somebody writes to it.
        let options = options.read(true).custom_flags(NONBLOCK);
        let file = root.open_with(key.as_ref(), options)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(Errno::ISDIR.into());
        }
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "it is no regular file",
            ));
        }
        Ok(Self {
            meta: meta(key, &metadata),
            file: file.into_std(),
        })
    }

    /// The bytes in a range. A file that has become shorter meanwhile is an error, and no shorter file.
    fn read(self, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let file = Arc::new(self.file);
        let chunks = stream::try_unfold(range, move |rest| {
            let file = Arc::clone(&file);
            async move {
                if rest.is_empty() {
                    return Ok(None);
                }
                let end = rest.end.min(rest.start + CHUNK);
                let chunk = blocking(move || read_exactly(&file, rest.start..end)).await?;
                Ok(Some((chunk, end..rest.end)))
            }
        });
        chunks.boxed()
    }
}

/// Changes names in the folder. As many changes at once have threads as leave enough for reads, when a name is held
/// for long.
pub(crate) async fn change<T: Send + 'static>(
    root: &Root,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    // It is never closed.
    let _permit = root.changes.acquire().await.ok();
    blocking(work).await
}

fn read_exactly(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let mut chunk = vec![0; length];
    file.read_exact_at(&mut chunk, range.start)?;
    Ok(chunk.into())
}

#[async_trait]
impl ObjectStore for Files {
    async fn put_opts(
        &self,
        key: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let precondition = match options.mode {
            PutMode::Overwrite => Precondition::None,
            PutMode::Create => Precondition::Absent,
            PutMode::Update(version) => Precondition::Unchanged(version),
        };
        let (root, key) = (Arc::clone(&self.0), key.clone());
        let version = change(&self.0, move || {
            let stage = Stage::for_key(&*root.dir()?, &key)?;
            stage.write(0, &payload)?;
            changes::publish(&root, &stage, &key, &precondition)
        })
        .await?;
        Ok(PutResult {
            e_tag: version.e_tag,
            version: version.version,
            extensions: http::Extensions::default(),
        })
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        let (root, opened) = (Arc::clone(&self.0), key.clone());
        let opened = blocking(move || Opened::at(&*root.dir()?, &opened)).await?;
        let meta = opened.meta.clone();
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            None => 0..meta.size,
            Some(range) => range.as_range(meta.size).map_err(|error| Error::Generic {
                store: "the folder",
                source: Box::new(error),
            })?,
        };
        let bytes = if options.head {
            stream::empty().boxed()
        } else {
            opened.read(range.clone())
        };
        Ok(GetResult {
            payload: GetResultPayload::Stream(bytes),
            attributes: Attributes::default(),
            range,
            meta,
            extensions: http::Extensions::default(),
        })
    }

    /// Uploads in parts begin at the store itself.
    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(elsewhere("uploads in parts"))
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        stream::iter([Err(elsewhere("deletions"))]).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::iter([Err(elsewhere("listings"))]).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(elsewhere("listings"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(elsewhere("copies"))
    }
}

/// What the store does without `object_store`.
fn elsewhere(what: &'static str) -> Error {
    Error::NotSupported {
        source: format!("{what} are not asked of the files, but of the store").into(),
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a folder")
    }
}

#[cfg(test)]
mod tests {
    use cap_std::ambient_authority;
    use futures::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn a_file_that_has_become_shorter_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), vec![7; 600_000]).unwrap();
        let root = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
        let read = |range| Opened::at(&root, &"a".into()).unwrap().read(range);
        let whole: Vec<Bytes> = read(1..600_000).try_collect().await.unwrap();
        assert_eq!(whole.concat().len(), 599_999);
        let shorter = read(0..600_000);
        let file = File::options().write(true).open(folder.path().join("a"));
        file.unwrap().set_len(300_000).unwrap();
        shorter.try_collect::<Vec<_>>().await.unwrap_err();
    }
}
