//! The users in force, and the watch that keeps them as the users file says.
//!
//! Promises:
//! - Readers always see a whole table, old or new, and never wait for a reload.
//! - A file that is missing or broken changes nothing and is reported once, until it changes again.
//! - What counts is the content: Kubernetes swaps a symlink above the file, and its times tell
//!   nothing.
//!
//! Must not: touch users that are logged in; whether a login still holds, it looks itself ([`Standing`](super::Standing)).

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    str,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use thiserror::Error;
use tokio::{sync::watch, task, time};
use tokio_util::sync::CancellationToken;

use super::{fault::UsersFileErrors, table::UserTable};
use crate::config::{ByteSize, Config, Store, StoreName, Upload, read_guarded};

/// The shortest time between two looks at the users file.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// The users in force. Clones share them.
#[derive(Debug, Clone)]
pub struct Users {
    current: Arc<RwLock<Arc<UserTable>>>,
    /// Tells those who wait that there are other users now.
    changes: Arc<watch::Sender<()>>,
    /// The file's content that made the first table; `None` if no file did.
    first_content: Option<Arc<[u8]>>,
    /// What the gateway has for them; `None` if nobody has said.
    gateway: Option<Arc<Gateway>>,
}

/// What a gateway has for its users.
#[derive(Debug)]
struct Gateway {
    /// No hash may need more to be verified.
    hashing_memory: ByteSize,
    stores: BTreeMap<StoreName, Store>,
    upload: Upload,
}

/// What came of a change of the users file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// The new users are in force.
    Reloaded {
        /// How many there are.
        users: usize,
    },
    /// The file is missing or broken; the old users stay in force.
    Failed,
}

/// Why a users file gave no users.
#[derive(Debug, Error)]
pub enum UsersLoadError {
    /// It can't be read.
    #[error("cannot read the users file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is not UTF-8.
    #[error("the users file {} is not UTF-8", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
    },
    /// It says something that can't be.
    #[error("the users file {} is wrong:\n{errors}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// All that is wrong with it.
        errors: UsersFileErrors,
    },
}

impl Users {
    /// Reads the users file. For the start: it blocks.
    ///
    /// # Errors
    /// [`UsersLoadError`], which names the file and all that is wrong with it.
    pub fn from_file(path: &Path) -> Result<Self, UsersLoadError> {
        let content = read_guarded(path);
        let first_content = content
            .as_ref()
            .ok()
            .map(|bytes| Arc::from(bytes.as_slice()));
        let table = table_of(path, content)?;
        Ok(Self {
            first_content,
            ..Self::from(table)
        })
    }

    /// The same users, if each hash in `path` can be verified in `limits.hashing_memory`, and each home and mount is in a
    /// store that there is. From now on, no other file is put in force.
    ///
    /// # Errors
    /// [`UsersLoadError::Content`], which names the file and the users.
    pub fn within(self, config: &Config, path: &Path) -> Result<Self, UsersLoadError> {
        let named = config.stores.clone();
        let default = (StoreName::default(), config.store.clone());
        let gateway = Gateway {
            hashing_memory: config.limits.hashing_memory,
            upload: config.upload.clone(),
            stores: named.into_iter().chain([default]).collect(),
        };
        let users = Self {
            gateway: Some(Arc::new(gateway)),
            ..self
        };
        users.check(&users.current(), path)?;
        Ok(users)
    }

    fn check(&self, table: &UserTable, path: &Path) -> Result<(), UsersLoadError> {
        let Some(gateway) = &self.gateway else {
            return Ok(());
        };
        let fits = table.fits(gateway.hashing_memory);
        fits.and_then(|()| table.lies_in(&gateway.stores, &gateway.upload))
            .map_err(|errors| UsersLoadError::Content {
                path: path.to_owned(),
                errors,
            })
    }

    /// The users in force now.
    pub fn current(&self) -> Arc<UserTable> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sees each change of the users from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Looks at the file every `interval` (at least 100 ms) until `cancel`, and puts its users in
    /// force when it has changed. Each change is logged and told to `on_change`.
    pub async fn watch(
        self,
        path: PathBuf,
        interval: Duration,
        cancel: CancellationToken,
        on_change: impl Fn(ReloadOutcome),
    ) {
        let interval = interval.max(SHORTEST_INTERVAL);
        let mut watched = WatchedFile::new(path, self.first_content.as_deref());
        while cancel
            .run_until_cancelled(time::sleep(interval))
            .await
            .is_some()
        {
            if let Some(loaded) = watched.changed().await {
                on_change(self.adopt(&watched.path, loaded));
            }
        }
    }

    /// Has these users be the ones, and wakes those who wait for a change.
    pub(super) fn put_in_force(&self, table: UserTable) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        self.changes.send_replace(());
    }

    fn adopt(&self, path: &Path, loaded: Result<UserTable, UsersLoadError>) -> ReloadOutcome {
        let checked = loaded.and_then(|table| self.check(&table, path).map(|()| table));
        match checked {
            Ok(table) => {
                let users = table.len();
                self.put_in_force(table);
                tracing::info!(path = %path.display(), users, "users file reloaded");
                ReloadOutcome::Reloaded { users }
            }
            Err(error) => {
                // A log line is one line, however many reasons there are.
                let reasons = error.to_string().replace('\n', "; ");
                tracing::error!(reasons, "users file not reloaded, the old users stay");
                ReloadOutcome::Failed
            }
        }
    }
}

impl From<UserTable> for Users {
    /// Users that come from no file.
    fn from(table: UserTable) -> Self {
        Self {
            current: Arc::new(RwLock::new(Arc::new(table))),
            changes: Arc::new(watch::Sender::new(())),
            first_content: None,
            gateway: None,
        }
    }
}

/// The users file and what was last found there.
struct WatchedFile {
    path: PathBuf,
    seen: Option<Result<Vec<u8>, io::ErrorKind>>,
}

impl WatchedFile {
    fn new(path: PathBuf, seen: Option<&[u8]>) -> Self {
        Self {
            path,
            seen: seen.map(|bytes| Ok(bytes.to_vec())),
        }
    }

    /// What the file says, if that is something else than last time.
    async fn changed(&mut self) -> Option<Result<UserTable, UsersLoadError>> {
        let path = self.path.clone();
        let content = task::spawn_blocking(move || read_guarded(&path)).await;
        // Only a panic there would be one more error, and the next look is soon.
        let content = content.ok()?;
        if self.has_seen(&content) {
            return None;
        }
        self.seen = Some(content.as_ref().map(Vec::clone).map_err(io::Error::kind));
        Some(table_of(&self.path, content))
    }

    fn has_seen(&self, content: &io::Result<Vec<u8>>) -> bool {
        match (&self.seen, content) {
            (Some(Ok(seen)), Ok(found)) => seen == found,
            (Some(Err(seen)), Err(found)) => *seen == found.kind(),
            _ => false,
        }
    }
}

fn table_of(path: &Path, content: io::Result<Vec<u8>>) -> Result<UserTable, UsersLoadError> {
    let path = || path.to_owned();
    let bytes = content.map_err(|source| UsersLoadError::Read {
        path: path(),
        source,
    })?;
    let text = str::from_utf8(&bytes).map_err(|_| UsersLoadError::Encoding { path: path() })?;
    UserTable::parse(text).map_err(|errors| UsersLoadError::Content {
        path: path(),
        errors,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Mutex};

    use tokio::{sync::mpsc::UnboundedReceiver, task::JoinHandle};
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    const HASH: &str = "$2b$04$sIBg3lTA25HUz2R.Crw2pehzVO9tDkyvIUcl0ybpRV5MCd.mClZ0m";

    fn file_of(names: &[&str]) -> String {
        let user =
            |name: &&str| format!("[[user]]\nname = \"{name}\"\npassword_hash = \"{HASH}\"\n");
        names.iter().map(user).collect()
    }

    /// A users file in a directory of its own, being watched.
    struct Watch {
        path: PathBuf,
        users: Users,
        cancel: CancellationToken,
        outcomes: UnboundedReceiver<ReloadOutcome>,
        task: JoinHandle<()>,
        _directory: tempfile::TempDir,
    }

    impl Watch {
        fn start(names: &[&str]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("users.toml");
            fs::write(&path, file_of(names)).unwrap();
            let users = Users::from_file(&path).unwrap();
            let users = users.within(&Config::default(), &path).unwrap();
            let cancel = CancellationToken::new();
            let (sender, outcomes) = tokio::sync::mpsc::unbounded_channel();
            let tell = move |outcome| sender.send(outcome).unwrap();
            let watch = users
                .clone()
                .watch(path.clone(), Duration::ZERO, cancel.clone(), tell);
            Self {
                path,
                users,
                cancel,
                outcomes,
                task: tokio::spawn(watch),
                _directory: directory,
            }
        }

        /// Puts `text` in place as Kubernetes does: at once.
        fn replace(&self, text: impl AsRef<[u8]>) {
            let new = self.path.with_extension("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, &self.path).unwrap();
        }

        async fn outcome(&mut self) -> ReloadOutcome {
            let outcome = time::timeout(Duration::from_secs(10), self.outcomes.recv()).await;
            outcome
                .expect("the change is noticed")
                .expect("the watch goes on")
        }

        fn knows(&self, name: &str) -> bool {
            self.users.current().account(name).is_some()
        }
    }

    #[tokio::test]
    async fn a_hash_that_needs_more_memory_than_there_is_changes_nothing() {
        let mut watch = Watch::start(&["anna"]);
        let hash = |kib: u32| {
            let params = format!("$argon2id$v=19$m={kib},t=1,p=1");
            let dear = format!("{params}$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf");
            format!("[[user]]\nname = \"bert\"\npassword_hash = \"{dear}\"\n")
        };
        watch.replace(hash(64 * 1024 + 1));
        assert_eq!(watch.outcome().await, ReloadOutcome::Failed);
        assert!(watch.knows("anna") && !watch.knows("bert"));
        watch.replace(hash(64 * 1024));
        assert_eq!(watch.outcome().await, ReloadOutcome::Reloaded { users: 1 });
        assert!(watch.knows("bert"));
    }

    #[tokio::test]
    async fn a_new_file_is_put_in_force() {
        let mut watch = Watch::start(&["anna"]);
        let before = watch.users.current();
        watch.replace(file_of(&["bert", "carl"]));
        assert_eq!(watch.outcome().await, ReloadOutcome::Reloaded { users: 2 });
        assert!(watch.knows("bert") && !watch.knows("anna"));
        assert_eq!(before.len(), 1, "who holds the old table keeps it");
    }

    #[tokio::test]
    async fn broken_and_missing_files_change_nothing() {
        let mut watch = Watch::start(&["anna"]);
        watch.replace("[[user]]\nname = 7\n");
        assert_eq!(watch.outcome().await, ReloadOutcome::Failed);
        watch.replace(b"\xff");
        assert_eq!(watch.outcome().await, ReloadOutcome::Failed);
        fs::remove_file(&watch.path).unwrap();
        assert_eq!(watch.outcome().await, ReloadOutcome::Failed);
        assert!(watch.knows("anna"));
        watch.replace(file_of(&["anna", "bert"]));
        assert_eq!(watch.outcome().await, ReloadOutcome::Reloaded { users: 2 });
    }

    #[tokio::test]
    async fn a_cancelled_watch_ends() {
        let watch = Watch::start(&["anna"]);
        watch.cancel.cancel();
        time::timeout(Duration::from_secs(10), watch.task)
            .await
            .expect("it ends")
            .unwrap();
    }

    #[tokio::test]
    async fn each_content_is_looked_at_once() {
        let watch = Watch::start(&["anna"]);
        let mut file = WatchedFile::new(watch.path.clone(), watch.users.first_content.as_deref());
        assert!(
            file.changed().await.is_none(),
            "nothing has changed since the start"
        );
        for content in [file_of(&["bert"]), file_of(&["carl"]), "broken".to_owned()] {
            watch.replace(&content);
            assert_eq!(file.changed().await.unwrap().is_ok(), content != "broken");
            assert!(file.changed().await.is_none());
        }
        fs::remove_file(&watch.path).unwrap();
        assert!(file.changed().await.unwrap().is_err());
        assert!(file.changed().await.is_none());
    }

    #[test]
    fn a_reload_is_logged_with_its_count_or_its_reasons() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(writer)
            .with_ansi(false);
        let _subscribed = tracing::subscriber::set_default(subscriber.finish());
        let (users, path) = (Users::from(UserTable::default()), Path::new("users.toml"));
        users.adopt(path, table_of(path, Ok(file_of(&["anna"]).into())));
        users.adopt(path, table_of(path, Ok(b"extra = 1\nuser = 7".into())));
        let log = log.text();
        let [reloaded, failed] = log.lines().collect::<Vec<_>>()[..] else {
            panic!("one line each:\n{log}")
        };
        assert!(
            reloaded.contains("INFO") && reloaded.contains("users=1"),
            "{log}"
        );
        assert!(failed.contains("ERROR"), "{log}");
        assert!(failed.contains("`extra` is no known key"), "{log}");
        assert!(failed.contains("`user` is an integer"), "{log}");
        assert!(!log.contains(HASH), "{log}");
    }

    #[test]
    fn a_first_file_that_is_missing_or_wrong_is_an_error_that_names_it() {
        let missing = Users::from_file(Path::new("/nowhere/users.toml")).unwrap_err();
        assert!(
            missing
                .to_string()
                .starts_with("cannot read the users file /nowhere/users.toml: ")
        );
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users.toml");
        fs::write(&path, "").unwrap();
        let wrong = Users::from_file(&path).unwrap_err();
        assert!(
            wrong
                .to_string()
                .contains("users.toml is wrong:\n`user` is missing"),
            "{wrong}"
        );
    }

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Log {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }
}
