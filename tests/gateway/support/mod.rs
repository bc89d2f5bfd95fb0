//! What the tests stand on: gateways, stores, a client that sees every reply.

pub(crate) mod calm;
pub(crate) mod ftp;
pub(crate) mod identity;
pub(crate) mod kubernetes;
pub(crate) mod process;
#[allow(
    dead_code,
    reason = "only the histories run on servers that are no doubles"
)]
pub(crate) mod real;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bucketferry::auth::{UserTable, Users, hash_password};
use bucketferry::config::{Config, Flag, Sources};
use bucketferry::gateway;
use bucketferry::shutdown::Shutdown;
use doubles::{Protocol, Server};
use tempfile::TempDir;

use calm::Calm;
use ftp::Client;
use real::Real;
use tls::Authority;

/// How long a test waits for something that has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The directory of a store that is the gateway's own.
const OWN: &str = ".bucketferry";

/// A gateway inside this process, and the store behind it.
pub(crate) struct Gateway<S = Store> {
    pub(crate) inner: gateway::Gateway,
    pub(crate) store: S,
    pub(crate) shutdown: Shutdown,
    _calm: Calm,
}

/// What a gateway can store in.
pub(crate) trait Target {
    /// The settings that lead there.
    fn settings(&self) -> Vec<(String, String)>;
}

/// `memory://`, which nobody can look into but the gateway itself.
pub(crate) struct Memory;

impl Target for Memory {
    fn settings(&self) -> Vec<(String, String)> {
        vec![("store.url".to_owned(), "memory://".to_owned())]
    }
}

/// A store that a test looks into; clones are the same store.
#[derive(Clone)]
pub(crate) enum Store {
    Folder(Arc<TempDir>),
    Bucket(Arc<Server>),
    #[allow(
        dead_code,
        reason = "only the histories run on servers that are no doubles"
    )]
    Real(Arc<Real>),
}

impl From<Server> for Store {
    fn from(server: Server) -> Self {
        Self::Bucket(Arc::new(server))
    }
}

impl Target for Store {
    fn settings(&self) -> Vec<(String, String)> {
        match self {
            Self::Folder(folder) => {
                let url = format!("file://{}", folder.path().display());
                vec![("store.url".to_owned(), url)]
            }
            Self::Bucket(server) => {
                let url = ("store.url".to_owned(), server.url());
                let options = server.options().into_iter();
                let options = options.map(|(name, value)| (format!("store.options.{name}"), value));
                // Requests are counted, and faults planned: nothing is asked at the start.
                let trust = ("store.conditions".to_owned(), "trust".to_owned());
                options.chain([url, trust]).collect()
            }
            Self::Real(real) => real.settings(),
        }
    }
}

impl Store {
    /// A folder and a bucket, for promises that do not depend on the protocol.
    pub(crate) fn each() -> Vec<Self> {
        vec![Self::folder(), Self::s3()]
    }

    /// One of every kind: for what the gateway does by requests of its own.
    pub(crate) fn of_every_kind() -> Vec<Self> {
        vec![Self::folder(), Self::s3(), Self::google(), Self::azure()]
    }

    pub(crate) fn folder() -> Self {
        Self::Folder(Arc::new(tempfile::tempdir().expect("a folder")))
    }

    pub(crate) fn s3() -> Self {
        let server = Server::start(Protocol::S3);
        server.refuse_content_of_directories();
        server.into()
    }

    pub(crate) fn google() -> Self {
        Server::start(Protocol::Google).into()
    }

    pub(crate) fn azure() -> Self {
        Server::start(Protocol::Azure).into()
    }

    /// The path of a folder.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder.path(),
            Self::Bucket(_) | Self::Real(_) => panic!("a bucket has no path"),
        }
    }

    /// The server of a bucket.
    pub(crate) fn server(&self) -> &Server {
        self.double().expect("a double")
    }

    /// The server of a bucket, if it is one that does as it is told.
    pub(crate) fn double(&self) -> Option<&Server> {
        match self {
            Self::Bucket(server) => Some(server),
            Self::Folder(_) | Self::Real(_) => None,
        }
    }

    /// What lies at a key.
    pub(crate) fn object(&self, key: &str) -> Option<Vec<u8>> {
        match self {
            Self::Folder(folder) => std::fs::read(folder.path().join(key)).ok(),
            Self::Bucket(server) => server.object(key).map(|bytes| bytes.to_vec()),
            Self::Real(real) => real.object(key),
        }
    }

    /// Puts an object there, past the gateway.
    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        match self {
            Self::Folder(folder) => {
                let path = folder.path().join(key);
                std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
                std::fs::write(path, bytes).expect("a file");
            }
            Self::Bucket(server) => server.put(key, bytes.to_vec()),
            Self::Real(_) => panic!("nothing is put into a real bucket"),
        }
    }

    /// All keys, sorted, those of files in the making included; a directory that exists by itself
    /// ends with a slash.
    pub(crate) fn keys(&self) -> Vec<String> {
        match self {
            Self::Folder(folder) => {
                let mut keys = Vec::new();
                walk(folder.path().to_owned(), "", &mut keys);
                keys.sort();
                keys
            }
            Self::Bucket(server) => server.keys(),
            Self::Real(_) => panic!("a real bucket is not listed"),
        }
    }

    /// Nothing is left of uploads that were given up.
    pub(crate) fn assert_no_leftovers(&self) {
        match self {
            Self::Bucket(server) => assert_eq!(server.open_uploads(), []),
            Self::Folder(folder) => {
                let stages = folder.path().join(OWN).join("stages");
                let left = std::fs::read_dir(stages).map_or(0, Iterator::count);
                assert_eq!(left, 0, "files in the making");
            }
            Self::Real(_) => panic!("a real bucket is not looked into"),
        }
    }
}

fn walk(folder: PathBuf, prefix: &str, keys: &mut Vec<String>) {
    let mut empty = true;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        if prefix.is_empty() && entry.file_name() == OWN {
            continue;
        }
        empty = false;
        let key = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            walk(entry.path(), &format!("{key}/"), keys);
        } else {
            keys.push(key);
        }
    }
    if empty && !prefix.is_empty() {
        keys.push(prefix.to_owned());
    }
}

impl Gateway {
    /// Another gateway on the same store.
    pub(crate) fn beside(&self) -> Self {
        Self::on(self.store.clone())
    }
}

impl<S: Target> Gateway<S> {
    /// A gateway on `store` with default settings and the user `ferry`, password `secret`.
    pub(crate) fn on(store: S) -> Self {
        Self::with(store, &[])
    }

    /// The same with some settings changed.
    pub(crate) fn with(store: S, settings: &[(&str, &str)]) -> Self {
        let users = UserTable::from_plain(vec![("ferry".to_owned(), "secret".to_owned())]);
        Self::start(store, users.expect("users").into(), settings)
    }

    /// The same with the users of a users file.
    pub(crate) fn for_users(store: S, file: &str, settings: &[(&str, &str)]) -> Self {
        let users = UserTable::parse(file).expect("a users file");
        Self::start(store, users.into(), settings)
    }

    /// The same with a certificate.
    pub(crate) fn encrypted(store: S, authority: &Authority, settings: &[(&str, &str)]) -> Self {
        Self::with(store, &borrowed(&authority.settings(settings)))
    }

    /// The same for the users of a users file.
    pub(crate) fn encrypted_for_users(
        store: S,
        file: &str,
        authority: &Authority,
        settings: &[(&str, &str)],
    ) -> Self {
        Self::for_users(store, file, &borrowed(&authority.settings(settings)))
    }

    pub(crate) fn start(store: S, users: Users, settings: &[(&str, &str)]) -> Self {
        let config = config(&store, settings);
        let shutdown = Shutdown::new();
        let inner = gateway::Gateway::start(&config, users, shutdown.clone()).expect("a gateway");
        Self {
            inner,
            store,
            shutdown,
            _calm: Calm::watch(),
        }
    }

    /// Ends it, as SIGTERM does.
    pub(crate) async fn stop(self) {
        self.shutdown.begin();
        assert!(self.inner.finished().await.unwrap(), "it ends in order");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.inner.addresses()[0]
    }

    /// A client that has logged in.
    pub(crate) async fn client(&self) -> Client {
        Client::connect_as(self.address(), "ferry", "secret").await
    }

    /// The value of one metric, its labels as written in the text format; 0 if there is none yet.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.inner.metrics().render().expect("metrics");
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or(0.0)
    }

    /// Waits until a metric has a value.
    pub(crate) async fn wait_for(&self, series: &str, value: f64) {
        eventually(&format!("{series} = {value}"), || {
            (self.metric(series) - value).abs() < f64::EPSILON
        })
        .await;
    }
}

/// A user of a users file, password `secret`, and what else is said of it.
pub(crate) fn user(name: &str, rest: &str) -> String {
    let hash = hash_password("secret").expect("a hash");
    format!("[[user]]\nname = {name:?}\npassword_hash = {hash:?}\n{rest}\n")
}

pub(crate) fn borrowed(settings: &[(String, String)]) -> Vec<(&str, &str)> {
    let pairs = settings.iter();
    pairs
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}

fn config(store: &impl Target, settings: &[(&str, &str)]) -> Config {
    let defaults = [
        ("ftp.listen", "127.0.0.1:0"),
        ("admin.listen", "127.0.0.1:0"),
        ("passive.ports", "0"),
        ("store.retry_timeout", "2s"),
    ];
    let changed = |key: &str| settings.iter().any(|(changed, _)| *changed == key);
    let kept = defaults.iter().filter(|(key, _)| !changed(key));
    let given = kept
        .chain(settings)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let of_store = store
        .settings()
        .into_iter()
        .filter(|(key, _)| !changed(key));
    let environment = of_store.chain(given).map(variable);
    let sources = Sources {
        environment: environment.collect(),
        flags: Vec::<Flag>::new(),
        file: None,
    };
    Config::load(&sources).expect("a configuration")
}

/// `store.url` as the environment writes it.
pub(crate) fn variable((key, value): (String, String)) -> (String, String) {
    let name = key.replace('.', "__").to_uppercase();
    (format!("BUCKETFERRY_{name}"), value)
}

/// Polls until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Bytes that no compressor or shortcut gets right by chance.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = length as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) const MIB: usize = 1024 * 1024;

/// Polls until something holds that has to be asked for.
pub(crate) async fn eventually_async(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
