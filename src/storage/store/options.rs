//! What `store.url`, `[store.options]` and the environment say, as the builders of `object_store` take it.
//!
//! The builders read their own environment variables first (`AWS_*`, `GOOGLE_*`, `AZURE_*`), so
//! credentials come as the cloud's own tools find them; `[store.options]` wins over those.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use thiserror::Error;
use url::Url;

use crate::config;

/// Attempts of one request; `store.retry_timeout` is to end them.
const MAX_RETRIES: usize = 1000;

/// The longest wait between two attempts: what comes back is noticed soon.
const MAX_BACKOFF: Duration = Duration::from_secs(3);

/// The most connections that are kept when nobody uses them.
const MAX_IDLE: usize = 256;

/// Why a store can't be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The store of this name can't be, for the same reasons as the default one.
    #[error("stores.{0}")]
    Named(String, #[source] Box<OpenError>),
    /// Two stores of which one is in the other: what lies there would have two names, and two gateways' worth of care.
    #[error(
        "stores.{inner}.url: it is, or lies in, the place of the store {outer}, or the other way round; allowed: places \
         of their own. For a part of one store, use a prefix in `home` or `[[user.mount]]`"
    )]
    OnePlace {
        /// One of them.
        outer: String,
        /// The other.
        inner: String,
    },
    /// Options that the store does not know.
    #[error(
        "store.options: found {keys:?}, unknown for {store}; allowed are the option names of object_store"
    )]
    UnknownOptions {
        /// The options.
        keys: Vec<String>,
        /// The kind of store.
        store: &'static str,
    },
    /// Options that the driver does not know.
    #[error(
        "store.options: found {keys:?}, unknown to store.driver {driver:?}; allowed: {allowed}"
    )]
    OptionsOfDriver {
        /// The options.
        keys: Vec<String>,
        /// The driver.
        driver: &'static str,
        /// Those that it knows.
        allowed: String,
    },
    /// Whom the driver is to trust.
    #[error(
        "store.driver: {driver:?} needs the system's certificate authorities, and there are none; install ca-certificates"
    )]
    NoAuthorities {
        /// The driver.
        driver: &'static str,
    },
    /// Parts that the memory has no room for.
    #[error(
        "upload.part_size: found {found}; allowed: at most a quarter of upload.memory, {memory}"
    )]
    PartSize {
        /// The size.
        found: config::ByteSize,
        /// The memory.
        memory: config::ByteSize,
    },
    /// A driver that does not know this kind of store.
    #[error("store.driver: found {driver:?} with {scheme}://; allowed: {allowed}")]
    Driver {
        /// The driver.
        driver: &'static str,
        /// Of `store.url`.
        scheme: String,
        /// Which it knows.
        allowed: &'static str,
    },
    /// A setting that no back-end but ours can follow.
    #[error(
        "{setting}: store.driver {driver:?} can't do that; leave it out, or take \"object_store\""
    )]
    BeyondDriver {
        /// The setting.
        setting: &'static str,
        /// The driver.
        driver: &'static str,
    },
    /// What the store can't keep with its objects.
    #[error("upload.{}: found {}; allowed: {}; users of other stores can have their own in the users file", .0.setting, .0.found, .0.allowed)]
    Uncarried(config::Uncarried),
    /// An option whose value is of no use.
    #[error("store.options: {key}: {reason}")]
    Option {
        /// The option.
        key: &'static str,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// A URL without a bucket, or with parts that mean nothing.
    #[error("store.url: {0}")]
    Url(String),
    /// Options that contradict each other, or lack something.
    #[error("store.options")]
    Options(#[source] object_store::Error),
    /// What is kept would be swept away.
    #[error(
        "upload.resume_window: found {}; allowed: less than upload.sweep_after, {}",
        humantime::format_duration(*window),
        humantime::format_duration(*sweep)
    )]
    ResumeWindow {
        /// For how long uploads are kept.
        window: Duration,
        /// After how long they are swept.
        sweep: Duration,
    },
    /// The folder for what memory has no room for.
    #[error("upload.spill_dir: can't make files in {path}; create the folder, or leave it out")]
    SpillDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The local folder.
    #[error("store.url: can't use the folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

pub(crate) fn own_url(url: &str) -> Result<Url, OpenError> {
    Url::parse(url).map_err(|error| OpenError::Url(format!("{url}: {error}")))
}

/// The bucket that a URL names.
///
/// # Errors
/// When it names none.
pub fn bucket(url: &Url) -> Result<&str, OpenError> {
    url.host_str()
        .filter(|host| !host.is_empty())
        .ok_or_else(|| {
            OpenError::Url(format!(
                "{url} names no bucket; write {}://BUCKET",
                url.scheme()
            ))
        })
}

pub(crate) fn prefix(url: &Url) -> Result<Path, OpenError> {
    Path::from_url_path(url.path()).map_err(|error| OpenError::Url(error.to_string()))
}

/// What the builder is to be told after our own client options, which would otherwise win over the
/// environment: first the environment's variables, then `[store.options]`, but for options of `ours`.
pub(crate) fn settings<K: FromStr>(
    config: &config::Store,
    prefix: &str,
    store: &'static str,
    ours: &[&str],
) -> Result<Vec<(K, String)>, OpenError> {
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        let key = name
            .starts_with(prefix)
            .then(|| name.to_ascii_lowercase())?;
        // Variables that mean nothing to the store are somebody else's.
        Some((key.parse().ok()?, value))
    });
    let mut settings: Vec<_> = environment.collect();
    let mut keys = Vec::new();
    for (key, value) in config.options.iter().filter(|(key, _)| !ours.contains(key)) {
        match key.parse() {
            Ok(known) => settings.push((known, value.to_owned())),
            Err(_) => keys.push(key.to_owned()),
        }
    }
    if keys.is_empty() {
        Ok(settings)
    } else {
        Err(OpenError::UnknownOptions { keys, store })
    }
}

/// Yes, in the words that `object_store` takes for it.
pub(crate) fn is_true(value: &str) -> bool {
    ["1", "true", "on", "yes", "y"].contains(&value.to_ascii_lowercase().as_str())
}

/// A limit on the whole of a request would cut a long download short: what counts is that
/// something moves.
pub(crate) fn client_options(config: &config::Store) -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_read_timeout(config.request_timeout)
        .with_pool_max_idle_per_host(idle_connections(open_files()))
        .with_connect_timeout(config.request_timeout.min(Duration::from_secs(5)))
}

/// How many connections are kept for the next requests: enough for all that run at once, but no more than
/// an eighth of all open files.
#[must_use]
pub fn idle_connections(open_files: usize) -> usize {
    (open_files / 8).min(MAX_IDLE)
}

/// The system's limit on open files; no limit is a very large one.
pub(crate) fn open_files() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

/// How long a server that gives credentials is waited for.
pub(crate) fn patience(config: &config::Store) -> Duration {
    config.request_timeout.max(config.retry_timeout)
}

pub(crate) fn retries(config: &config::Store) -> RetryConfig {
    RetryConfig {
        max_retries: MAX_RETRIES,
        retry_timeout: config.retry_timeout,
        backoff: BackoffConfig {
            max_backoff: MAX_BACKOFF,
            ..BackoffConfig::default()
        },
    }
}

/// The key under which everything lies, as `store.url` has it: a folder and the memory have their own root.
pub(crate) fn root(config: &config::Store) -> Result<Path, OpenError> {
    let url = config.url.as_url();
    match url.scheme() {
        "file" | "memory" => Ok(Path::default()),
        _ => prefix(url),
    }
}
