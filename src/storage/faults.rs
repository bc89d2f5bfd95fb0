//! A store that fails by script, and what uploads do on it.
//!
//! Unlike faults on the wire, these reach every kind of store, and strike at an exact call.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{BoxStream, StreamExt};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result, UploadPart,
};

use crate::session::{Outcome, Report, StoreMode};
use crate::storage::Storage;
use crate::storage::harness::{Client, bytes, storage_on};
use crate::storage::store::body::{Body, Crc64};
use crate::storage::store::description::Description;
use crate::storage::store::keys::{Marker, Object, Page, Query};
use crate::storage::store::metered::Metered;
use crate::storage::store::precondition::Precondition;
use crate::storage::store::stored::{Comparison, Stored};
use crate::storage::store::terms::Terms;
use crate::storage::store::upload::{Base, Start, Upload};
use crate::storage::store::{Keeping, Store, Traits};

/// What a store is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Call {
    Put,
    Create,
    Part,
    Complete,
    Abort,
    Get,
    Head,
}

/// What goes wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// 500: refused, nothing done.
    Refused,
    /// 503 `SlowDown`: the same, in other words.
    SlowDown,
    /// Nothing done, and no answer.
    TimedOut,
    /// Done, but the answer is an error.
    DoneButFailed,
    /// Done, but there is no answer.
    DoneInSilence,
    /// The body of the answer ends too early.
    Truncated,
    /// Done, after a while.
    Slow,
}

/// Which calls fail how: from one on, so many.
#[derive(Debug, Default)]
struct Script {
    faults: HashMap<Call, (Fault, Range<usize>)>,
    calls: HashMap<Call, usize>,
}

#[derive(Debug)]
struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    script: Arc<Mutex<Script>>,
}

impl Script {
    fn next(&mut self, call: Call) -> Option<Fault> {
        let count = self.calls.entry(call).or_default();
        let nth = *count;
        *count += 1;
        let (fault, range) = self.faults.get(&call)?;
        range.contains(&nth).then_some(*fault)
    }
}

/// Does what was asked, or what the script says.
async fn act<T>(
    script: &Mutex<Script>,
    call: Call,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let fault = script.lock().unwrap().next(call);
    match fault {
        None | Some(Fault::Truncated) => work.await,
        Some(Fault::Refused) => Err(failure("500 Internal Server Error")),
        Some(Fault::SlowDown) => Err(failure("503 Slow Down")),
        Some(Fault::TimedOut) => Err(silence()),
        Some(Fault::DoneButFailed) => work.await.and(Err(failure("500 after all"))),
        Some(Fault::DoneInSilence) => work.await.and(Err(silence())),
        Some(Fault::Slow) => {
            tokio::time::sleep(Duration::from_millis(20)).await;
            work.await
        }
    }
}

fn failure(text: &str) -> Error {
    Error::Generic {
        store: "faults",
        source: text.into(),
    }
}

fn silence() -> Error {
    let error = HttpError::new(HttpErrorKind::Timeout, io::Error::other("no answer"));
    Error::Generic {
        store: "faults",
        source: Box::new(error),
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faults of {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, key: &Path, body: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let put = self.inner.put_opts(key, body, opts);
        act(&self.script, Call::Put, put).await
    }

    async fn put_multipart_opts(
        &self,
        key: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(key, opts).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        let call = if options.head { Call::Head } else { Call::Get };
        let truncated = {
            let script = self.script.lock().unwrap();
            matches!(script.faults.get(&call), Some((Fault::Truncated, _)))
        };
        let mut result = act(&self.script, call, self.inner.get_opts(key, options)).await?;
        if truncated {
            result.payload = GetResultPayload::Stream(
                futures::stream::iter([Err(failure("the body ends too early"))]).boxed(),
            );
        }
        Ok(result)
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FaultUpload {
    inner: Box<dyn Upload>,
    script: Arc<Mutex<Script>>,
}

#[async_trait]
impl Upload for FaultUpload {
    fn put_part(&mut self, body: Body) -> UploadPart {
        let part = self.inner.put_part(body);
        let script = Arc::clone(&self.script);
        Box::pin(async move { act(&script, Call::Part, part).await })
    }

    async fn publish(&mut self, terms: &Terms, whole: Option<Crc64>) -> Result<Stored> {
        let publish = self.inner.publish(terms, whole);
        let published = act(&self.script, Call::Complete, publish).await;
        published.inspect_err(|error| terms.attempts.unseen(error))
    }

    async fn abort(&mut self) -> Result<()> {
        act(&self.script, Call::Abort, self.inner.abort()).await
    }
}

/// A store whose objects are reached past faults only, and which keeps no base where it is.
#[derive(Debug)]
struct FaultyStore {
    inner: Arc<dyn Store>,
    objects: Arc<Metered>,
    script: Arc<Mutex<Script>>,
}

#[async_trait]
impl Store for FaultyStore {
    fn traits(&self) -> Traits {
        self.inner.traits()
    }

    fn objects(&self) -> &Arc<Metered> {
        &self.objects
    }

    fn comparison(&self) -> Comparison {
        self.inner.comparison()
    }

    async fn list(&self, query: Query<'_>) -> Result<Page> {
        self.inner.list(query).await
    }

    fn keeping(&self, _: &Base) -> Keeping {
        Keeping::Never
    }

    async fn begin(&self, start: Start) -> Result<Box<dyn Upload>> {
        let inner = act(&self.script, Call::Create, self.inner.begin(start)).await?;
        let script = Arc::clone(&self.script);
        Ok(Box::new(FaultUpload { inner, script }))
    }

    async fn copy(&self, from: &Base, to: &Path, terms: &Terms) -> Result<()> {
        self.inner.copy(from, to, terms).await
    }

    async fn delete(&self, key: &str, terms: &Terms) -> Result<()> {
        self.inner.delete(key, terms).await
    }

    async fn delete_unchanged(&self, objects: &[Object]) -> Result<usize> {
        self.inner.delete_unchanged(objects).await
    }

    async fn write_marker(
        &self,
        key: &str,
        note: Option<&str>,
        precondition: &Precondition,
    ) -> Result<()> {
        self.inner.write_marker(key, note, precondition).await
    }

    async fn read_marker(&self, key: &str) -> Result<Option<Marker>> {
        self.inner.read_marker(key).await
    }

    async fn sweep(&self, prefix: &Path, before: DateTime<Utc>) -> Result<usize> {
        self.inner.sweep(prefix, before).await
    }
}

/// A storage on a store that fails, and the store itself.
struct Bench {
    storage: Arc<Storage>,
    truth: Arc<dyn Store>,
    script: Arc<Mutex<Script>>,
    folder: Option<tempfile::TempDir>,
}

impl Bench {
    fn new(on_disk: bool) -> Self {
        let folder = on_disk.then(|| tempfile::tempdir().unwrap());
        let url = match &folder {
            Some(folder) => format!("file://{}", folder.path().display()),
            None => "memory://".to_owned(),
        };
        let settings = [("STORE__URL", url.as_str()), ("UPLOAD__PART_SIZE", "5 MiB")];
        let script = Arc::new(Mutex::new(Script::default()));
        let mut truth = None;
        let storage = storage_on(&settings, |inner, metrics| {
            truth = Some(Arc::clone(&inner));
            let faults = Arc::new(FaultStore {
                inner: Arc::clone(inner.objects()) as _,
                script: Arc::clone(&script),
            });
            let objects = Arc::new(Metered::new(faults, Arc::clone(metrics)));
            let script = Arc::clone(&script);
            Arc::new(FaultyStore {
                inner,
                objects,
                script,
            })
        });
        let truth = truth.unwrap();
        Self {
            storage: Arc::new(storage),
            truth,
            script,
            folder,
        }
    }

    fn plan(&self, call: Call, fault: Fault, which: Range<usize>) {
        let mut script = self.script.lock().unwrap();
        *script = Script::default();
        script.faults.insert(call, (fault, which));
    }

    async fn object(&self, name: &str) -> Option<Bytes> {
        match self.truth.objects().get(&Path::from(name)).await {
            Ok(object) => Some(object.bytes().await.unwrap()),
            Err(Error::NotFound { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    async fn put(&self, name: &str, bytes: Bytes) {
        let (key, none) = (Path::from(name), Terms::none());
        let put = self
            .truth
            .put(&key, bytes.into(), Description::default(), &none);
        put.await.unwrap();
    }

    async fn delete(&self, name: &str) {
        let none = Terms::none();
        self.truth.delete(name, &none).await.unwrap();
    }

    async fn upload(&self, mode: StoreMode, name: &str, bytes: &Bytes) -> Report {
        let client = Client::of(&self.storage);
        client.upload(mode, name, bytes).await.report
    }

    fn assert_no_leftovers(&self) {
        if let Some(folder) = &self.folder {
            let stages = folder.path().join(".bucketferry/stages");
            let left = std::fs::read_dir(stages).map_or(0, Iterator::count);
            assert_eq!(left, 0, "files in the making");
        }
        let used = self
            .storage
            .metrics
            .all()
            .memory_of(crate::memory::Use::Uploads)
            .get();
        assert_eq!(used, 0, "memory that nobody gave back");
    }
}

const NAME: &str = "a.bin";

const CALLS: [Call; 7] = [
    Call::Put,
    Call::Create,
    Call::Part,
    Call::Complete,
    Call::Abort,
    Call::Get,
    Call::Head,
];

const FAULTS: [Fault; 6] = [
    Fault::Refused,
    Fault::SlowDown,
    Fault::TimedOut,
    Fault::DoneButFailed,
    Fault::DoneInSilence,
    Fault::Slow,
];

/// A part and a byte.
const LARGE: usize = (5 << 20) + 1;

impl Call {
    /// How large files are that lead to it.
    fn sizes(self) -> &'static [usize] {
        match self {
            Self::Put => &[0, 70_000],
            Self::Get | Self::Head => &[70_000, LARGE],
            Self::Create | Self::Part | Self::Complete | Self::Abort => &[LARGE],
        }
    }

    fn faults(self) -> impl Iterator<Item = Fault> {
        let truncated = (self == Self::Get).then_some(Fault::Truncated);
        FAULTS.into_iter().chain(truncated)
    }
}

/// What is there, what is done, and what the object is afterwards.
fn cases(new: &Bytes) -> [(Option<Bytes>, StoreMode, Bytes); 4] {
    let old = bytes(300, 1);
    let both: Bytes = [&old[..], &new[..]].concat().into();
    [
        (None, StoreMode::Replace, new.clone()),
        (Some(old.clone()), StoreMode::Replace, new.clone()),
        (None, StoreMode::Append, new.clone()),
        (Some(old), StoreMode::Append, both),
    ]
}

/// Whether a store of this kind can fail so: a disk says what it has done.
fn can_be(on_disk: bool, call: Call, fault: Fault) -> bool {
    let doubtful = matches!(fault, Fault::DoneButFailed | Fault::DoneInSilence);
    !(on_disk && doubtful && matches!(call, Call::Put | Call::Complete))
}

/// Complete if and only if the object is whole; otherwise the bucket is as before.
async fn the_sentence_holds(calls: &[Call], which: Range<usize>) {
    for on_disk in [false, true] {
        let bench = Bench::new(on_disk);
        for call in calls {
            for new in call.sizes().iter().map(|size| bytes(*size, 2)) {
                for fault in call.faults().filter(|fault| can_be(on_disk, *call, *fault)) {
                    bench.try_all(*call, fault, &which, &new).await;
                }
            }
        }
    }
}

impl Bench {
    async fn try_all(&self, call: Call, fault: Fault, which: &Range<usize>, new: &Bytes) {
        for (old, mode, whole) in cases(new) {
            let size = new.len();
            let what = format!("{call:?} {fault:?} {which:?}, {mode:?} of {size} bytes");
            // What is left of the run before is none of this one's.
            self.delete(NAME).await;
            if let Some(old) = &old {
                self.put(NAME, old.clone()).await;
            }
            self.plan(call, fault, which.clone());
            let report = self.upload(mode, NAME, new).await;
            let due = if report.outcome == Outcome::COMPLETE {
                Some(&whole)
            } else {
                old.as_ref()
            };
            let is = self.object(NAME).await;
            assert!(is.as_ref() == due, "{what}: {report:?}");
            if call != Call::Abort {
                self.assert_no_leftovers();
            }
        }
    }
}

#[tokio::test]
async fn whatever_fails_once_the_sentence_holds() {
    the_sentence_holds(&CALLS, 0..1).await;
}

#[tokio::test]
async fn whatever_fails_always_the_sentence_holds() {
    the_sentence_holds(&CALLS, 0..usize::MAX).await;
}

#[tokio::test]
async fn whatever_fails_later_the_sentence_holds() {
    the_sentence_holds(&[Call::Part, Call::Head], 1..2).await;
}

/// Each fault has the outcome that it is due, so that the runs above really meet them.
#[tokio::test]
async fn faults_end_as_they_should() {
    let bench = Bench::new(false);
    let (small, large) = (bytes(1000, 3), bytes(11 << 20, 4));
    let all = 0..usize::MAX;
    for (call, fault, bytes, due) in [
        (Call::Put, Fault::Refused, &small, "store_error"),
        (Call::Put, Fault::TimedOut, &small, "unresolved"),
        (Call::Put, Fault::DoneButFailed, &small, "complete"),
        (Call::Put, Fault::DoneInSilence, &small, "complete"),
        (Call::Put, Fault::Slow, &small, "complete"),
        (Call::Create, Fault::SlowDown, &large, "store_error"),
        (Call::Create, Fault::TimedOut, &large, "store_unreachable"),
        (Call::Part, Fault::Refused, &large, "store_error"),
        (Call::Part, Fault::DoneButFailed, &large, "store_error"),
        (Call::Complete, Fault::Refused, &large, "store_error"),
        (Call::Complete, Fault::DoneButFailed, &large, "complete"),
        (Call::Complete, Fault::DoneInSilence, &large, "complete"),
    ] {
        bench.delete(NAME).await;
        bench.plan(call, fault, all.clone());
        let report = bench.upload(StoreMode::Replace, NAME, bytes).await;
        assert_eq!(report.outcome.0, due, "{call:?} {fault:?}");
    }
}
