//! A session without sockets: what tests of the storage use in place of a client and the guard.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::auth::{Permission, User};
use crate::config::{Config, Overwrite, Sources, StoreName};
use crate::session::{
    Abort, Entry, Event, Facts, FtpPath, Job, ListFormat, Outcome, OwnUploads, Report, SessionId,
    StoreMode, Transfer, TransferKind,
};
use crate::storage::Storage;
use crate::storage::common::Common;
use crate::storage::error::StorageError;
use crate::storage::foreign::{Foreign, ForeignStorage};
use crate::storage::store::Store;
use crate::storage::store::open::open;
use crate::storage::store::options::OpenError;
use crate::storage::verbs::contract::Verbs;
use crate::storage::verbs::contract::{Spot, Uploader};
use crate::telemetry::{Metrics, StoreMetrics};

/// Bytes that may be on the way between the two ends of a transfer.
const PIPE: usize = 1 << 16;

/// A storage with these settings, each by the name of its variable without our prefix.
pub(crate) fn storage(settings: &[(&str, &str)]) -> Storage {
    storage_on(settings, |store, _| store)
}

/// The same on a store in place of the one that the settings name.
pub(super) fn storage_on(
    settings: &[(&str, &str)],
    replace: impl FnOnce(Arc<dyn Store>, &Arc<StoreMetrics>) -> Arc<dyn Store>,
) -> Storage {
    let config = config(settings);
    let common = common(&config);
    let metrics = common.metrics_of(&StoreName::default());
    let store = replace(
        open(&config.store, config.upload.verify, &metrics).unwrap(),
        &metrics,
    );
    Storage::on(store, &config.store, &common, metrics).unwrap()
}

/// A foreign back-end with these settings.
pub(crate) fn foreign(
    back_end: Box<dyn Foreign>,
    settings: &[(&str, &str)],
) -> Result<ForeignStorage, OpenError> {
    let config = config(settings);
    let common = common(&config);
    let metrics = common.metrics_of(&StoreName::default());
    ForeignStorage::open(back_end, &config.store, &common, metrics)
}

/// What the stores of a configuration share.
pub(crate) fn common(config: &Config) -> Common {
    Common::new(config, Arc::new(Metrics::new().unwrap())).unwrap()
}

/// A configuration with these settings.
pub(crate) fn config(settings: &[(&str, &str)]) -> Config {
    let variable =
        |(name, value): &(&str, &str)| (format!("BUCKETFERRY_{name}"), (*value).to_owned());
    let sources = Sources {
        environment: settings.iter().map(variable).collect(),
        ..Sources::default()
    };
    Config::load(&sources).unwrap()
}

/// A client that is logged in.
#[derive(Debug)]
pub(crate) struct Client<V: ?Sized = Storage> {
    storage: Arc<V>,
    user: User,
    /// Clones share it: they are one session.
    own: Arc<OwnUploads>,
}

/// How an upload ended, and the name that the gateway has found for a `STOU`.
#[derive(Debug)]
pub(crate) struct Uploaded {
    pub(crate) report: Report,
    pub(crate) unique: Option<FtpPath>,
}

/// How the client behaves when its last byte is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Waits,
    Dies,
    /// It is gone so long after the commit was granted.
    LeavesAfter(Duration),
}

impl<V: ?Sized> Clone for Client<V> {
    fn clone(&self) -> Self {
        Self {
            storage: Arc::clone(&self.storage),
            user: self.user.clone(),
            own: Arc::clone(&self.own),
        }
    }
}

impl<V: Verbs + ?Sized + 'static> Client<V> {
    pub(crate) fn of(storage: &Arc<V>) -> Self {
        let user = User::unrestricted("ferry".to_owned());
        let storage = Arc::clone(storage);
        Self {
            storage,
            user,
            own: Arc::default(),
        }
    }

    pub(crate) fn storage(&self) -> &V {
        &self.storage
    }

    /// The same client, who may not replace what is there.
    pub(crate) fn who_may_not_overwrite(&self) -> Self {
        let mut client = self.clone();
        client.user.overwrite = Some(Overwrite::Deny);
        client
    }

    /// The same client with these permissions, in a session of its own.
    pub(crate) fn who_may(&self, permissions: &[Permission]) -> Self {
        let mut client = self.clone();
        client.user.permissions = permissions.iter().copied().collect();
        client.own = Arc::default();
        client
    }

    /// Uploads a file as a client that nothing is wrong with.
    pub(crate) async fn upload(&self, mode: StoreMode, name: &str, bytes: &Bytes) -> Uploaded {
        self.send(mode, name, bytes, End::Waits).await
    }

    /// Uploads a file and dies before the guard grants the commit.
    pub(crate) async fn upload_and_die(&self, mode: StoreMode, name: &str, bytes: &Bytes) {
        let uploaded = self.send(mode, name, bytes, End::Dies).await;
        assert_ne!(uploaded.report.outcome, Outcome::COMPLETE);
    }

    /// `STOR` of a client that is lost when it has sent these bytes, and would have sent more.
    pub(crate) async fn upload_and_break(&self, name: &str, bytes: &Bytes) -> Report {
        let kind = TransferKind::Store(StoreMode::Replace);
        let (mut transfer, job) = Transfer::new(kind, path(name));
        let storing = tokio::spawn(self.clone().run_upload(job));
        let opened = transfer.event().await;
        assert!(matches!(opened, Some(Event::Opened { .. })), "{opened:?}");
        let mut ours = connect(&mut transfer);
        ours.write_all(bytes).await.unwrap();
        while transfer.bytes() < bytes.len() as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        transfer.abort(Abort::DataLost);
        storing.await.unwrap();
        transfer.take_report().unwrap()
    }

    /// `STOR` of a client that is gone so long after the commit was granted.
    pub(crate) async fn upload_and_leave(&self, name: &str, bytes: &Bytes, after: Duration) {
        let end = End::LeavesAfter(after);
        self.send(StoreMode::Replace, name, bytes, end).await;
    }

    /// `STOR` that has to succeed.
    pub(crate) async fn store(&self, name: &str, bytes: &Bytes) {
        let report = self.upload(StoreMode::Replace, name, bytes).await.report;
        assert_eq!(report.outcome, Outcome::COMPLETE, "{name}: {report:?}");
    }

    /// `RETR` from an offset on: how it ended, and what has arrived.
    pub(crate) async fn download(&self, name: &str, offset: u64) -> (Report, Bytes) {
        let kind = TransferKind::Retrieve { offset };
        self.receive(kind, name).await
    }

    /// The whole file; `None` if there is none.
    pub(crate) async fn read(&self, name: &str) -> Option<Bytes> {
        match self.download(name, 0).await {
            (report, bytes) if report.outcome == Outcome::COMPLETE => Some(bytes),
            (report, _) if report.outcome.0 == "not_found" => None,
            (report, _) => panic!("{name}: {report:?}"),
        }
    }

    /// `NLST` of a directory, in order.
    pub(crate) async fn names(&self, directory: &str) -> Vec<String> {
        self.list(ListFormat::Names, directory).await
    }

    /// A listing that has to succeed, line by line, in order.
    pub(crate) async fn list(&self, format: ListFormat, directory: &str) -> Vec<String> {
        let (report, text) = self.receive(TransferKind::List(format), directory).await;
        assert_eq!(report.outcome, Outcome::COMPLETE, "{directory}: {report:?}");
        let text = String::from_utf8(text.to_vec()).unwrap();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// How a listing ended.
    pub(crate) async fn try_list(&self, format: ListFormat, directory: &str) -> Report {
        self.receive(TransferKind::List(format), directory).await.0
    }

    pub(crate) async fn stat(&self, name: &str) -> Result<Entry, StorageError> {
        self.storage.stat(&self.user, &path(name)).await
    }

    pub(crate) async fn make_directory(&self, name: &str) -> Result<(), StorageError> {
        self.storage.make_directory(&self.user, &path(name)).await
    }

    pub(crate) async fn remove_directory(&self, name: &str) -> Result<(), StorageError> {
        self.storage.remove_directory(&self.user, &path(name)).await
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.storage.delete(&self.user, &path(name)).await
    }

    pub(crate) async fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        let (from, to) = (path(from), path(to));
        let [from, to] = [&from, &to].map(|path| Spot {
            user: &self.user,
            path,
        });
        self.storage.rename(self.uploader(), from, to).await
    }

    async fn send(&self, mode: StoreMode, name: &str, bytes: &Bytes, end: End) -> Uploaded {
        let (mut transfer, job) = Transfer::new(TransferKind::Store(mode), path(name));
        let storing = tokio::spawn(self.clone().run_upload(job));
        let mut unique_name = None;
        let mut leaves = None;
        loop {
            let leaving = async {
                match leaves {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = transfer.event() => event,
                () = leaving => {
                    transfer.abort(Abort::ControlLost);
                    leaves = None;
                    continue;
                }
            };
            let Some(event) = event else { break };
            match event {
                Event::Opened { unique } => {
                    unique_name = unique;
                    let mut ours = connect(&mut transfer);
                    let bytes = bytes.clone();
                    // A storage that does not read to the end has failed, and says so.
                    tokio::spawn(async move { ours.write_all(&bytes).await });
                }
                Event::Commit { .. } if end == End::Dies => transfer.abort(Abort::ControlLost),
                Event::Commit { grant, .. } => {
                    if let End::LeavesAfter(time) = end {
                        leaves = Some(Instant::now() + time);
                    }
                    grant.grant();
                }
            }
        }
        storing.await.unwrap();
        Uploaded {
            report: transfer.take_report().unwrap(),
            unique: unique_name,
        }
    }

    async fn receive(&self, kind: TransferKind, name: &str) -> (Report, Bytes) {
        let (mut transfer, job) = Transfer::new(kind, path(name));
        let sending = tokio::spawn(self.clone().run_download(job));
        let mut received: Option<JoinHandle<Vec<u8>>> = None;
        while let Some(event) = transfer.event().await {
            assert!(matches!(event, Event::Opened { .. }), "{event:?}");
            let mut ours = connect(&mut transfer);
            received = Some(tokio::spawn(async move {
                let mut bytes = Vec::new();
                ours.read_to_end(&mut bytes).await.unwrap();
                bytes
            }));
        }
        sending.await.unwrap();
        let bytes = match received {
            Some(reading) => reading.await.unwrap(),
            None => Vec::new(),
        };
        (transfer.take_report().unwrap(), bytes.into())
    }

    fn uploader(&self) -> Uploader<'_> {
        Uploader {
            session: SessionId::random(),
            peer: Ipv4Addr::LOCALHOST.into(),
            told: None,
            own: &self.own,
            may_return: true,
        }
    }

    /// The storage's end of an upload. How it ended is in the report.
    async fn run_upload(self, mut job: Job) {
        let uploader = self.uploader();
        let stream = job.take_stream().unwrap();
        let stream = Box::new(stream);
        let _ = self.storage.upload(&self.user, uploader, job, stream).await;
    }

    /// The same of a download or a listing.
    async fn run_download(self, mut job: Job) {
        let mut stream = job.take_stream().unwrap();
        let (storage, user) = (&self.storage, &self.user);
        if let TransferKind::List(_) = job.kind() {
            let encode = |text: &str| text.as_bytes().to_vec();
            let _ = storage
                .list(user, Facts::all(), job, &mut stream, &encode)
                .await;
        } else {
            let _ = storage.download(user, job, &mut stream).await;
        }
    }
}

fn connect(transfer: &mut Transfer) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(PIPE);
    transfer.connect(Box::new(theirs));
    ours
}

fn path(name: &str) -> FtpPath {
    FtpPath::root().resolve(name).unwrap()
}

/// Bytes that no shortcut gets right by chance; another seed gives others.
pub(crate) fn bytes(length: usize, seed: u8) -> Bytes {
    let pattern = (0..=250).map(|byte: u8| byte ^ seed);
    pattern.cycle().take(length).collect()
}
