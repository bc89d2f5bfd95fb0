//! From `store.url` and `[store.options]` to an open store.
//!
//! The builders read their own environment variables first (`AWS_*`, `GOOGLE_*`, `AZURE_*`), so
//! credentials come as the cloud's own tools find them; `[store.options]` wins over those.

use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use thiserror::Error;
use url::Url;

use crate::config;

use super::directories::Directories;
use super::key::KeySpace;
use super::markers::S3Markers;

/// Attempts of one request; the time limit usually ends them first.
const MAX_RETRIES: usize = 10;

/// Why a store can't be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// An option that the store does not know.
    #[error(
        "store.options.{key}: unknown for {store}; allowed are the option names of object_store"
    )]
    UnknownOption {
        /// The option.
        key: String,
        /// The kind of store.
        store: &'static str,
    },
    /// A URL without a bucket, or with parts that mean nothing.
    #[error("store.url: {0}")]
    Url(String),
    /// Options that contradict each other, or lack something.
    #[error("store: {0}")]
    Options(#[source] object_store::Error),
    /// The local folder.
    #[error("store.url: can't use the folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An open store and what goes with its kind.
pub(super) struct Opened {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) keys: KeySpace,
    pub(super) directories: Directories,
}

pub(super) fn open(config: &config::Store) -> Result<Opened, OpenError> {
    let url = config.url.as_url();
    match url.scheme() {
        "s3" => open_s3(config, url),
        "gs" => open_gcs(config, url),
        "az" => open_azure(config, url),
        "memory" => Ok(open_memory()),
        _ => open_local(url),
    }
}

fn open_s3(config: &config::Store, url: &Url) -> Result<Opened, OpenError> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket(url)?)
        .with_client_options(client_options(config))
        .with_retry(retries(config));
    for (key, value) in config.options.iter() {
        builder = builder.with_config(known_option::<AmazonS3ConfigKey>(key, "s3")?, value);
    }
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
    let unsigned = builder.get_config_value(&AmazonS3ConfigKey::SkipSignature);
    let s3 = Arc::new(builder.build().map_err(OpenError::Options)?);
    let markers = S3Markers::new(
        Arc::clone(&s3),
        region.unwrap_or_else(|| "us-east-1".to_owned()),
        unsigned.as_deref() == Some("true"),
        &client_options(config).with_allow_http(true),
    )
    .map_err(OpenError::Options)?;
    Ok(Opened {
        store: s3,
        keys: KeySpace::new(prefix(url)?, false),
        directories: Directories::S3(markers),
    })
}

fn open_gcs(config: &config::Store, url: &Url) -> Result<Opened, OpenError> {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket(url)?)
        .with_client_options(client_options(config))
        .with_retry(retries(config));
    for (key, value) in config.options.iter() {
        builder = builder.with_config(known_option::<GoogleConfigKey>(key, "gs")?, value);
    }
    Ok(Opened {
        store: Arc::new(builder.build().map_err(OpenError::Options)?),
        keys: KeySpace::new(prefix(url)?, false),
        directories: Directories::Implied,
    })
}

fn open_azure(config: &config::Store, url: &Url) -> Result<Opened, OpenError> {
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(bucket(url)?)
        .with_client_options(client_options(config))
        .with_retry(retries(config));
    for (key, value) in config.options.iter() {
        builder = builder.with_config(known_option::<AzureConfigKey>(key, "az")?, value);
    }
    Ok(Opened {
        store: Arc::new(builder.build().map_err(OpenError::Options)?),
        keys: KeySpace::new(prefix(url)?, false),
        directories: Directories::Implied,
    })
}

fn open_memory() -> Opened {
    Opened {
        store: Arc::new(InMemory::new()),
        keys: KeySpace::new(Path::default(), false),
        directories: Directories::memory(),
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
        store: Arc::new(store),
        keys: KeySpace::new(Path::default(), true),
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

fn known_option<K: std::str::FromStr>(key: &str, store: &'static str) -> Result<K, OpenError> {
    key.to_ascii_lowercase()
        .parse()
        .map_err(|_| OpenError::UnknownOption {
            key: key.to_owned(),
            store,
        })
}

/// A limit on the whole of a request would cut a long download short: what counts is that
/// something moves.
fn client_options(config: &config::Store) -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_read_timeout(config.request_timeout)
        .with_connect_timeout(config.request_timeout.min(Duration::from_secs(5)))
}

fn retries(config: &config::Store) -> RetryConfig {
    RetryConfig {
        max_retries: MAX_RETRIES,
        retry_timeout: config.retry_timeout,
        ..RetryConfig::default()
    }
}
