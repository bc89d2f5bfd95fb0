//! The gateway's own credentials, as the store's library finds them: in settings, in files, or by asking a server for ones
//! that expire.
//!
//! The library alone would take a server that can't give new ones for a store that refuses, or for a file that is not there:
//! it passes on that server's 403 or 404. It asks for new ones minutes before the old ones expire, and fails if it gets none,
//! though the old ones are still good. It asks anew for each request that waits. And it reads files once.

use std::any::Any;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::FutureExt;
use object_store::{CredentialProvider, Error, Result};
use thiserror::Error as ThisError;
use tokio::time::timeout;

/// For so long nobody is asked again who could give none.
const PAUSE: Duration = Duration::from_secs(5);

/// So long new ones are waited for while there are old ones.
const PATIENCE_WITH_OLD: Duration = Duration::from_secs(5);

/// So long it is not looked again whether files have changed.
const FILES_REST: Duration = Duration::from_secs(1);

/// Ones that a store refuses are thrown away, but not more often.
const RENEWAL_REST: Duration = Duration::from_secs(10);

/// What stores say of credentials that are over, or not known yet.
pub(crate) const STALE: &[&str] = &[
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidToken",
    "TokenRefreshRequired",
    "InvalidAccessKeyId",
    "AuthenticationFailed",
];

/// There are no credentials.
#[derive(Debug, Clone, ThisError)]
#[error("the gateway has got no credentials: {0}")]
pub(crate) struct NoCredentials(Arc<str>);

/// What gives credentials, as the library makes it.
pub(crate) type Provider<T> = Arc<dyn CredentialProvider<Credential = T>>;

/// Makes one, which has read all files anew.
type Make<T> = Box<dyn Fn() -> Result<Provider<T>> + Send + Sync>;

/// What throws credentials away that a store has refused.
pub(crate) trait Renew: Send + Sync {
    /// Whether a request that was refused, and that was begun at `began`, has others to try by now.
    fn renew(&self, began: Instant) -> bool;
}

/// Where credentials come from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// They are as they were written.
    Fixed,
    /// A server, and these files.
    Changing(Vec<PathBuf>),
}

/// Credentials of a store, new ones when the old ones expire.
pub(crate) struct Credentials<T> {
    make: Make<T>,
    origin: Origin,
    patience: Duration,
    state: Mutex<State<T>>,
    /// Held by who makes the provider anew, which reads files: others go on meanwhile.
    making: Mutex<()>,
    /// Held by who asks for new ones.
    asking: tokio::sync::Mutex<()>,
}

struct State<T> {
    provider: Provider<T>,
    /// What a provider that is not used any more says late counts for nothing.
    made: Instant,
    renewed: Option<Instant>,
    looked: Instant,
    stamps: Vec<Option<Stamp>>,
    /// What could not be read.
    unreadable: Vec<Option<Stamp>>,
    last: Option<Arc<T>>,
    failed: Option<(Instant, NoCredentials)>,
}

/// What a file looked like from outside: its number, its size, and when it has changed.
type Stamp = (u64, u64, i64, i64);

impl<T> Credentials<T> {
    /// What `make` gives, made anew when one of the files changes. A server is waited for as long as `patience`.
    pub(crate) fn new(
        make: impl Fn() -> Result<Provider<T>> + Send + Sync + 'static,
        origin: Origin,
        patience: Duration,
    ) -> Result<Self> {
        let now = Instant::now();
        let stamps = stamps(&origin);
        Ok(Self {
            state: Mutex::new(State {
                provider: make()?,
                made: now,
                renewed: None,
                looked: now,
                stamps,
                unreadable: Vec::new(),
                last: None,
                failed: None,
            }),
            make: Box::new(make),
            origin,
            patience,
            making: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the provider anew if a file has changed since it was made.
    fn look_at_files(&self) {
        if !matches!(&self.origin, Origin::Changing(files) if !files.is_empty()) {
            return;
        }
        let Some(_making) = self.making() else { return };
        {
            let mut state = self.state();
            if state.looked.elapsed() < FILES_REST {
                return;
            }
            state.looked = Instant::now();
        }
        let stamps = stamps(&self.origin);
        if stamps == self.state().stamps {
            return;
        }
        match (self.make)() {
            Ok(provider) => {
                tracing::info!(from = ?self.origin, "the store's credentials were read again");
                self.state().begin_anew(provider, stamps);
            }
            // It may be half written. It is tried again until it can be read.
            Err(error) => self.keep_old(&error, stamps),
        }
    }

    fn keep_old(&self, error: &Error, stamps: Vec<Option<Stamp>>) {
        let mut state = self.state();
        if state.unreadable != stamps {
            let error = error as &dyn std::error::Error;
            tracing::warn!(error, from = ?self.origin, "can't read the store's credentials, the old ones are kept");
        }
        state.unreadable = stamps;
    }

    /// Whoever is at it may hang on a file. Nobody waits for that.
    fn making(&self) -> Option<MutexGuard<'_, ()>> {
        match self.making.try_lock() {
            Ok(making) => Some(making),
            Err(TryLockError::Poisoned(making)) => Some(making.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The last ones, if new ones were asked for in vain a moment ago, or that.
    fn known(&self) -> Option<Result<Arc<T>>> {
        let state = self.state();
        let (at, why) = state.failed.as_ref()?;
        if at.elapsed() >= PAUSE {
            return None;
        }
        Some(state.last.clone().ok_or_else(|| unauthenticated(why)))
    }

    fn last(&self) -> Option<Arc<T>> {
        self.state().last.clone()
    }

    async fn ask(&self) -> Result<Arc<T>> {
        let (provider, made, last) = {
            let state = self.state();
            (Arc::clone(&state.provider), state.made, state.last.clone())
        };
        let patience = match &last {
            Some(_) => self.patience.min(PATIENCE_WITH_OLD),
            None => self.patience,
        };
        let asked = AssertUnwindSafe(provider.get_credential()).catch_unwind();
        let why = match timeout(patience, asked).await {
            Ok(Ok(Ok(credential))) => {
                self.got(&credential, made);
                return Ok(credential);
            }
            Ok(Ok(Err(error))) => in_full(&error),
            Ok(Err(panic)) => words(panic.as_ref()).to_owned(),
            Err(_) => format!("no answer for {}", humantime::format_duration(patience)),
        };
        let why = NoCredentials(why.into());
        self.got_none(&why, made);
        last.ok_or_else(|| unauthenticated(&why))
    }

    fn got(&self, credential: &Arc<T>, made: Instant) {
        let mut state = self.state();
        if state.made != made {
            return;
        }
        if state.failed.take().is_some() {
            tracing::info!("there are new credentials for the store");
        }
        state.last = Some(Arc::clone(credential));
    }

    fn got_none(&self, why: &NoCredentials, made: Instant) {
        let mut state = self.state();
        if state.made != made {
            return;
        }
        if state.failed.is_none() {
            let are_old_used = state.last.is_some();
            tracing::warn!(error = %why, are_old_used, "can't get new credentials for the store");
        }
        state.failed = Some((Instant::now(), why.clone()));
    }
}

impl<T> State<T> {
    /// The old ones are used until this gives some.
    fn begin_anew(&mut self, provider: Provider<T>, stamps: Vec<Option<Stamp>>) {
        self.provider = provider;
        self.stamps = stamps;
        self.made = Instant::now();
        self.failed = None;
    }
}

#[async_trait]
impl<T: Send + Sync + fmt::Debug + 'static> CredentialProvider for Credentials<T> {
    type Credential = T;

    async fn get_credential(&self) -> Result<Arc<T>> {
        self.look_at_files();
        if let Some(known) = self.known() {
            return known;
        }
        let asking = if let Ok(asking) = self.asking.try_lock() {
            asking
        } else if let Some(last) = self.last() {
            // Another is at it.
            return Ok(last);
        } else {
            self.asking.lock().await
        };
        let answer = match self.known() {
            Some(known) => known,
            None => self.ask().await,
        };
        drop(asking);
        answer
    }
}

impl<T: Send + Sync> Renew for Credentials<T> {
    fn renew(&self, began: Instant) -> bool {
        if matches!(self.origin, Origin::Fixed) {
            return false;
        }
        let making = self.making();
        {
            let mut state = self.state();
            if state.made > began {
                return true;
            }
            let rests = state.renewed.is_some_and(|at| at.elapsed() < RENEWAL_REST);
            if rests || making.is_none() {
                return false;
            }
            state.renewed = Some(Instant::now());
        }
        let stamps = stamps(&self.origin);
        let Ok(provider) = (self.make)() else {
            return false;
        };
        tracing::info!("the store has refused the credentials, others are asked for");
        let mut state = self.state();
        state.last = None;
        state.begin_anew(provider, stamps);
        true
    }
}

/// Secrets stay inside.
impl<T> fmt::Debug for Credentials<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

fn stamps(origin: &Origin) -> Vec<Option<Stamp>> {
    let Origin::Changing(files) = origin else {
        return Vec::new();
    };
    let stamp = |file: &PathBuf| {
        let file = std::fs::metadata(file).ok()?;
        Some((file.ino(), file.len(), file.ctime(), file.ctime_nsec()))
    };
    files.iter().map(stamp).collect()
}

fn unauthenticated(why: &NoCredentials) -> Error {
    Error::Unauthenticated {
        path: "credentials".to_owned(),
        source: Box::new(why.clone()),
    }
}

/// An error and what it comes from, but for what one says that the one before has said.
fn in_full(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

/// The library panics at lifetimes that no clock can hold.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let fixed = panic.downcast_ref::<&str>().copied();
    text.or(fixed).unwrap_or("the answer makes no sense")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    /// Gives numbers, or does as it is told.
    #[derive(Debug, Default)]
    struct Scripted {
        asked: AtomicUsize,
        trouble: Mutex<Option<&'static str>>,
    }

    #[async_trait]
    impl CredentialProvider for Scripted {
        type Credential = usize;

        async fn get_credential(&self) -> Result<Arc<usize>> {
            let number = self.asked.fetch_add(1, Ordering::Relaxed);
            let trouble = *self.trouble.lock().unwrap();
            match trouble {
                None => Ok(Arc::new(number)),
                Some("silence") => std::future::pending().await,
                Some("panic") => std::panic::resume_unwind(Box::new("no such time")),
                Some(_) => Err(Error::NotFound {
                    path: "role".to_owned(),
                    source: "Server returned non-2xx status code: 404".into(),
                }),
            }
        }
    }

    fn credentials(scripted: &Arc<Scripted>) -> Credentials<usize> {
        let scripted = Arc::clone(scripted);
        let make = move || Ok(Arc::clone(&scripted) as Provider<usize>);
        let origin = Origin::Changing(Vec::new());
        Credentials::new(make, origin, Duration::from_secs(30)).unwrap()
    }

    fn is_trouble(error: &Error) -> bool {
        let text = in_full(error);
        matches!(error, Error::Unauthenticated { .. }) && text.contains("has got no credentials")
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_goes_wrong_there_are_no_credentials() {
        for trouble in ["silence", "panic", "404"] {
            let scripted = Arc::new(Scripted::default());
            *scripted.trouble.lock().unwrap() = Some(trouble);
            let error = credentials(&scripted).get_credential().await.unwrap_err();
            assert!(is_trouble(&error), "{trouble}: {error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_waits_for_one_question() {
        let scripted = Arc::new(Scripted::default());
        *scripted.trouble.lock().unwrap() = Some("silence");
        let credentials = credentials(&scripted);
        let began = tokio::time::Instant::now();
        let all = join_all((0..50).map(|_| credentials.get_credential())).await;
        assert!(all.iter().all(|one| is_trouble(one.as_ref().unwrap_err())));
        assert_eq!(scripted.asked.load(Ordering::Relaxed), 1);
        assert!(began.elapsed() < Duration::from_secs(31));
    }

    #[tokio::test(start_paused = true)]
    async fn old_ones_are_used_and_thrown_away_when_the_store_refuses_them() {
        let scripted = Arc::new(Scripted::default());
        let credentials = credentials(&scripted);
        assert_eq!(*credentials.get_credential().await.unwrap(), 0);
        *scripted.trouble.lock().unwrap() = Some("silence");
        let began = tokio::time::Instant::now();
        assert_eq!(*credentials.get_credential().await.unwrap(), 0);
        assert!(began.elapsed() <= PATIENCE_WITH_OLD);
        let now = Instant::now();
        assert!(credentials.renew(now), "others may be had");
        assert!(
            credentials.renew(now),
            "they are there for all who had the old ones"
        );
        assert!(!credentials.renew(Instant::now()), "not again so soon");
        assert!(is_trouble(&credentials.get_credential().await.unwrap_err()));
    }

    /// As Kubernetes changes what it mounts: by a link that leads elsewhere.
    #[tokio::test]
    async fn files_are_read_again_when_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, text) in [("one", "1"), ("two", "2"), ("bad", "x")] {
            std::fs::write(path(name), text).unwrap();
        }
        let point_to = |name: &str| {
            let _ = std::fs::remove_file(path("new"));
            std::os::unix::fs::symlink(path(name), path("new")).unwrap();
            std::fs::rename(path("new"), path("key")).unwrap();
        };
        point_to("one");
        let key = path("key");
        let make = move || {
            let text = std::fs::read_to_string(&key).unwrap();
            let number: usize = text.parse().map_err(|_| Error::NotImplemented {
                operation: text.clone(),
                implementer: String::new(),
            })?;
            Ok(Arc::new(object_store::StaticCredentialProvider::new(number)) as Provider<usize>)
        };
        let origin = Origin::Changing(vec![path("key")]);
        let credentials = Credentials::new(make, origin, Duration::from_secs(1)).unwrap();
        let get = async || *credentials.get_credential().await.unwrap();
        let look_again = || {
            let past = Instant::now().checked_sub(FILES_REST).unwrap();
            credentials.state().looked = past;
        };
        assert_eq!(get().await, 1);
        point_to("two");
        assert_eq!(get().await, 1, "it is not looked at each time");
        look_again();
        assert_eq!(get().await, 2);
        point_to("bad");
        look_again();
        assert_eq!(get().await, 2);
        point_to("one");
        look_again();
        assert_eq!(get().await, 1);
    }

    #[test]
    fn what_is_fixed_is_not_asked_for_again() {
        let make = || {
            Ok(Arc::new(object_store::StaticCredentialProvider::new(1_usize)) as Provider<usize>)
        };
        let credentials = Credentials::new(make, Origin::Fixed, Duration::from_secs(1)).unwrap();
        assert!(!credentials.renew(Instant::now()));
    }

    #[test]
    fn secrets_are_not_shown() {
        let scripted = Arc::new(Scripted::default());
        assert_eq!(
            format!("{:?}", credentials(&scripted)),
            "Credentials { .. }"
        );
    }
}
