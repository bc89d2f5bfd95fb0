//! From `store.url` and `[store.options]` to an open store.
//!
//! The builders read their own environment variables first (`AWS_*`, `GOOGLE_*`, `AZURE_*`), so
//! credentials come as the cloud's own tools find them; `[store.options]` wins over those.

use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use thiserror::Error;
use url::Url;

use crate::config;
use crate::telemetry::Metrics;

use crate::storage::key::KeySpace;
use crate::storage::store::assembly::Means;
use crate::storage::store::attributes::Names;
use crate::storage::store::azure::keys::{AzureKeys, Container};
use crate::storage::store::directories::Directories;
use crate::storage::store::gcs::keys::{GOOGLE, GcsKeys};
use crate::storage::store::gcs::upload::PLACE;
use crate::storage::store::http::connector::PatientConnector;
use crate::storage::store::http::requests::url_of;
use crate::storage::store::memory::MemoryKeys;
use crate::storage::store::raw::Raw;
use crate::storage::store::s3::keys::S3Keys;
use crate::storage::store::s3::signed::{SignedS3, Signing};

/// Attempts of one request; `store.retry_timeout` is to end them.
const MAX_RETRIES: usize = 1000;

/// The longest wait between two attempts: what comes back is noticed soon.
const MAX_BACKOFF: Duration = Duration::from_secs(3);

/// The most connections that are kept when nobody uses them.
const MAX_IDLE: usize = 256;

/// Why a store can't be opened.
#[derive(Debug, Error)]
pub enum OpenError {
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

/// An open store and what goes with its kind.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) means: Means,
    pub(crate) keys: KeySpace,
    pub(crate) directories: Directories,
    /// The bucket by its keys, if it is one.
    pub(crate) raw: Option<Arc<dyn Raw>>,
    /// What metadata is called, where the store keeps any.
    pub(crate) metadata: Option<Names>,
}

pub(crate) fn open(config: &config::Store, metrics: &Arc<Metrics>) -> Result<Opened, OpenError> {
    let url = config.url.as_url();
    match url.scheme() {
        "s3" => open_s3(config, metrics, url),
        "gs" => open_gcs(config, metrics, url),
        "az" => open_azure(config, metrics, url),
        "memory" => Ok(open_memory()),
        _ => open_local(url),
    }
}

fn open_s3(config: &config::Store, metrics: &Arc<Metrics>, url: &Url) -> Result<Opened, OpenError> {
    let mut client = client_options(config);
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket(url)?)
        .with_client_options(client.clone())
        .with_http_connector(PatientConnector)
        .with_retry(retries(config));
    let settings = settings::<AmazonS3ConfigKey>(config, "AWS_", "s3")?;
    if is_aws_itself(&settings) {
        // A signature over the payload costs a SHA-256 of every byte. TLS protects the way to AWS, and
        // this checksum the way from our memory to its disks, for a tenth of the price.
        builder = builder
            .with_unsigned_payload(true)
            .with_checksum_algorithm(Checksum::CRC64NVME);
    }
    // With a customer's own key, copies would need it in headers that only object_store has.
    let is_customer_key = |key: &AmazonS3ConfigKey| key.as_ref() == "aws_sse_customer_key_base64";
    let copies = !settings.iter().any(|(key, _)| is_customer_key(key));
    for (key, value) in settings {
        if let AmazonS3ConfigKey::Client(key) = key {
            client = client.with_config(key, value.clone());
        }
        builder = builder.with_config(key, value);
    }
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
    let unsigned = builder.get_config_value(&AmazonS3ConfigKey::SkipSignature);
    let express = builder.get_config_value(&AmazonS3ConfigKey::S3Express);
    let s3 = Arc::new(builder.build().map_err(OpenError::Options)?);
    let signing = Signing {
        bucket: bucket(url)?.to_owned(),
        region: region.unwrap_or_else(|| "us-east-1".to_owned()),
        unsigned: unsigned.is_some_and(|value| is_true(&value)),
    };
    let signed = SignedS3::new(
        Arc::clone(&s3),
        signing,
        &client,
        config.retry_timeout,
        Arc::clone(metrics),
    );
    let signed = Arc::new(signed.map_err(OpenError::Options)?);
    Ok(Opened {
        store: s3,
        means: if express.is_some_and(|value| is_true(&value)) {
            // Its requests are signed with sessions of their own.
            Means::Store
        } else {
            Means::s3(Arc::clone(&signed), copies)
        },
        keys: KeySpace::new(prefix(url)?, false),
        raw: Some(Arc::new(S3Keys::new(Arc::clone(&signed)))),
        directories: Directories::S3(signed),
        metadata: Some(Names::HYPHENED),
    })
}

/// Whether the requests go to AWS: other stores have endpoints of their own, and may not know its
/// newer checksums.
fn is_aws_itself(settings: &[(AmazonS3ConfigKey, String)]) -> bool {
    use AmazonS3ConfigKey::{Endpoint, S3Endpoint};
    !settings
        .iter()
        .any(|(key, _)| matches!(key, Endpoint | S3Endpoint))
}

fn open_gcs(
    config: &config::Store,
    metrics: &Arc<Metrics>,
    url: &Url,
) -> Result<Opened, OpenError> {
    let mut client = client_options(config);
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket(url)?)
        .with_client_options(client.clone())
        .with_http_connector(PatientConnector)
        .with_retry(retries(config));
    for (key, value) in settings::<GoogleConfigKey>(config, "GOOGLE_", "gs")? {
        if let GoogleConfigKey::Client(key) = key {
            client = client.with_config(key, value.clone());
        }
        builder = builder.with_config(key, value);
    }
    let base = builder.get_config_value(&GoogleConfigKey::BaseUrl);
    let base = own_url(base.as_deref().unwrap_or(GOOGLE))?;
    let unsigned = builder.get_config_value(&GoogleConfigKey::SkipSignature);
    let store = Arc::new(builder.build().map_err(OpenError::Options)?);
    let raw = GcsKeys::new(
        Arc::clone(&store),
        url_of(&base, bucket(url)?),
        unsigned.is_some_and(|value| is_true(&value)),
        &client,
        config.retry_timeout,
        Arc::clone(metrics),
    );
    let raw = Arc::new(raw.map_err(OpenError::Options)?);
    Ok(Opened {
        directories: Directories::Marked,
        raw: Some(Arc::clone(&raw) as _),
        store,
        means: Means::Google(raw, prefix(url)?),
        keys: KeySpace::new(prefix(url)?, false).but_for(PLACE),
        metadata: Some(Names::HYPHENED),
    })
}

fn open_azure(
    config: &config::Store,
    metrics: &Arc<Metrics>,
    url: &Url,
) -> Result<Opened, OpenError> {
    let mut client = client_options(config);
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(bucket(url)?)
        .with_client_options(client.clone())
        .with_http_connector(PatientConnector)
        .with_retry(retries(config));
    for (key, value) in settings::<AzureConfigKey>(config, "AZURE_", "az")? {
        if let AzureConfigKey::Client(key) = key {
            client = client.with_config(key, value.clone());
        }
        builder = builder.with_config(key, value);
    }
    let container = container(&builder, bucket(url)?)?;
    if container.emulated {
        client = client.with_allow_http(true);
    }
    let store = Arc::new(builder.build().map_err(OpenError::Options)?);
    let raw = AzureKeys::new(
        Arc::clone(&store),
        container.at,
        &client,
        config.retry_timeout,
        Arc::clone(metrics),
    );
    let raw = Arc::new(raw.map_err(OpenError::Options)?);
    Ok(Opened {
        directories: Directories::Marked,
        raw: Some(Arc::clone(&raw) as _),
        store,
        means: Means::Azure(raw),
        keys: KeySpace::new(prefix(url)?, false),
        metadata: Some(Names::IDENTIFIERS),
    })
}

/// A container, and whether it is an emulator's.
struct AzureContainer {
    at: Container,
    emulated: bool,
}

/// Where the library will find the container: it does not tell.
fn container(builder: &MicrosoftAzureBuilder, name: &str) -> Result<AzureContainer, OpenError> {
    let value = |key| builder.get_config_value(&key);
    let flag = |key| value(key).is_some_and(|value| is_true(&value));
    let emulated = flag(AzureConfigKey::UseEmulator);
    let account = value(AzureConfigKey::AccountName);
    let account = account.unwrap_or_else(|| "devstoreaccount1".to_owned());
    let url = if emulated {
        let url = std::env::var("AZURITE_BLOB_STORAGE_URL");
        let url = own_url(url.as_deref().unwrap_or("http://127.0.0.1:10000"))?;
        url_of(&url, &account)
    } else {
        let domain = if flag(AzureConfigKey::UseFabricEndpoint) {
            "blob.fabric.microsoft.com"
        } else {
            "blob.core.windows.net"
        };
        let endpoint = value(AzureConfigKey::Endpoint);
        own_url(&endpoint.unwrap_or_else(|| format!("https://{account}.{domain}")))?
    };
    let at = Container {
        url: url_of(&url, name),
        account,
        unsigned: flag(AzureConfigKey::SkipSignature),
    };
    Ok(AzureContainer { at, emulated })
}

fn own_url(url: &str) -> Result<Url, OpenError> {
    Url::parse(url).map_err(|error| OpenError::Url(format!("{url}: {error}")))
}

fn open_memory() -> Opened {
    let store = Arc::new(InMemory::new());
    Opened {
        raw: Some(Arc::new(MemoryKeys::new(Arc::clone(&store)))),
        store,
        means: Means::Store,
        keys: KeySpace::new(Path::default(), false),
        directories: Directories::Marked,
        metadata: Some(Names::HYPHENED),
    }
}

fn open_local(url: &Url) -> Result<Opened, OpenError> {
    let root = url
        .to_file_path()
        .map_err(|()| OpenError::Url(format!("{url} is not a path on this machine")))?;
    let folder_error = |source| OpenError::Folder {
        path: root.clone(),
        source,
    };
    std::fs::create_dir_all(&root).map_err(folder_error)?;
    writable(&root).map_err(folder_error)?;
    let store = LocalFileSystem::new_with_prefix(&root)
        .map_err(OpenError::Options)?
        .with_fsync(true);
    Ok(Opened {
        directories: Directories::Local(store.clone()),
        means: Means::Local(store.clone()),
        raw: None,
        store: Arc::new(store),
        keys: KeySpace::new(Path::default(), true),
        metadata: None,
    })
}

/// A folder that can't be written is better found at the start than by the first upload.
fn writable(root: &FsPath) -> io::Result<()> {
    rustix::fs::access(
        root,
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
    )?;
    Ok(())
}

fn bucket(url: &Url) -> Result<&str, OpenError> {
    url.host_str()
        .filter(|host| !host.is_empty())
        .ok_or_else(|| {
            OpenError::Url(format!(
                "{url} names no bucket; write {}://BUCKET",
                url.scheme()
            ))
        })
}

fn prefix(url: &Url) -> Result<Path, OpenError> {
    Path::from_url_path(url.path()).map_err(|error| OpenError::Url(error.to_string()))
}

/// What the builder is to be told after our own client options, which would otherwise win over the
/// environment: first the environment's variables, then `[store.options]`.
fn settings<K: FromStr>(
    config: &config::Store,
    prefix: &str,
    store: &'static str,
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
    for (key, value) in config.options.iter() {
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
fn client_options(config: &config::Store) -> ClientOptions {
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
fn open_files() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

fn retries(config: &config::Store) -> RetryConfig {
    RetryConfig {
        max_retries: MAX_RETRIES,
        retry_timeout: config.retry_timeout,
        backoff: BackoffConfig {
            max_backoff: MAX_BACKOFF,
            ..BackoffConfig::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_with_an_endpoint_of_its_own_is_not_aws() {
        let named = |name: &str| {
            let key: AmazonS3ConfigKey = name.parse().unwrap();
            is_aws_itself(&[(key, "https://store.example".to_owned())])
        };
        assert!(!named("aws_endpoint"));
        assert!(!named("aws_endpoint_url"));
        assert!(!named("aws_endpoint_url_s3"));
        assert!(named("aws_metadata_endpoint"));
        assert!(is_aws_itself(&[]));
    }
}
