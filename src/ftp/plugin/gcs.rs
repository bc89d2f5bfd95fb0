//! `unftp-sbe-gcs`: a bucket of Google's by its JSON API.
//!
//! It is fit because its upload is one request whose body has no length: where the reader fails, the body never ends,
//! and Google stores only what has ended ("Single-request uploads", HTTP/1.1 chunked bodies, RFC 9112, section 8).

use std::error::Error as _;
use std::path::PathBuf;

use unftp_core::storage::{Error, ErrorKind};
use unftp_sbe_gcs::CloudStorage;
use unftp_sbe_gcs::options::AuthMethod;

use crate::config::{self, Driver};
use crate::storage::foreign::{Foreign, Kind};
use crate::storage::{OpenError, bucket};

use super::{Asked, Plugin, by_name};

/// Google's own address.
const GOOGLE: &str = "https://www.googleapis.com";

/// The options that it has, and what each is.
const OPTIONS: [&str; 4] = [
    "google_service_account",
    "google_service_account_key",
    "google_base_url",
    "google_skip_signature",
];

/// What a service account's key must have.
const KEY_FIELDS: [&str; 3] = ["client_email", "private_key", "token_uri"];

/// Opens the bucket of `store.url`. Nothing is asked of it yet.
///
/// # Errors
/// When it is none of Google's, or an option is unknown or can't be used.
pub fn open(config: &config::Store) -> Result<Box<dyn Foreign>, OpenError> {
    let driver = Driver::UnftpSbeGcs.as_str();
    let url = config.url.as_url();
    if url.scheme() != "gs" {
        return Err(OpenError::Driver {
            driver,
            scheme: url.scheme().to_owned(),
            allowed: "gs://",
        });
    }
    let unknown = config.options.iter().map(|(key, _)| key);
    let unknown: Vec<_> = unknown.filter(|key| !OPTIONS.contains(key)).collect();
    if !unknown.is_empty() {
        return Err(OpenError::OptionsOfDriver {
            keys: unknown.into_iter().map(str::to_owned).collect(),
            driver,
            allowed: OPTIONS.join(", "),
        });
    }
    if rustls_native_certs::load_native_certs().certs.is_empty() {
        return Err(OpenError::NoAuthorities { driver });
    }
    let base = config.options.get("google_base_url").unwrap_or(GOOGLE);
    let base = base.trim_end_matches('/').to_owned();
    let credentials = credentials(&config.options)?;
    let back_end =
        CloudStorage::with_api_base(base, bucket(url)?.to_owned(), PathBuf::new(), credentials);
    Ok(Box::new(Plugin::new(back_end, driver, kind)))
}

/// A key, or else what the machine's metadata server gives.
fn credentials(options: &config::StoreOptions) -> Result<AuthMethod, OpenError> {
    if options.get("google_skip_signature") == Some("true") {
        return Ok(AuthMethod::None);
    }
    if let Some(key) = options.get("google_service_account_key") {
        return service_account("google_service_account_key", key.as_bytes().to_vec());
    }
    let name = "google_service_account";
    let Some(path) = options.get(name) else {
        return Ok(AuthMethod::WorkloadIdentity(None));
    };
    let key = std::fs::read(path).map_err(|error| OpenError::Option {
        key: name,
        reason: format!("can't read the file {path}: {error}"),
    })?;
    service_account(name, key)
}

/// What the back-end itself would only look at when it needs a token.
fn service_account(option: &'static str, key: Vec<u8>) -> Result<AuthMethod, OpenError> {
    let parsed: Option<serde_json::Value> = serde_json::from_slice(&key).ok();
    let has = |field: &&&str| parsed.as_ref().is_some_and(|key| key[**field].is_string());
    match KEY_FIELDS.iter().find(|field| !has(field)) {
        None => Ok(AuthMethod::ServiceAccountKey(key)),
        Some(field) => Err(OpenError::Option {
            key: option,
            reason: format!("not the JSON key of a service account, it has no {field:?}"),
        }),
    }
}

/// What its errors mean. It calls a token that it has not got "not available", as if there were no such file: only an
/// answer of the store with that status is one. A list is not found where there is no bucket, and only there.
pub(super) fn kind(asked: Asked, error: &Error) -> Kind {
    match status(error) {
        Some(401) => Kind::Credentials,
        Some(403) => Kind::Denied,
        Some(404) if asked == Asked::Listing || is_about_the_bucket(error) => Kind::NoBucket,
        Some(404) => Kind::Absent,
        Some(507) => Kind::Full,
        Some(408) => Kind::Failed,
        Some(400..=499) => Kind::Refused,
        Some(_) => Kind::Failed,
        // Both come of asking for a token.
        None if error.kind() == ErrorKind::PermanentFileNotAvailable => Kind::Credentials,
        None if error.get_io_error().is_some() => Kind::Credentials,
        None => by_name(asked, error),
    }
}

/// Google says it in words.
fn is_about_the_bucket(error: &Error) -> bool {
    let cause = error.source().map(ToString::to_string);
    cause.is_some_and(|cause| cause.contains("bucket does not exist"))
}

/// The status of the store's answer, which can be had by its text only.
fn status(error: &Error) -> Option<u16> {
    let text = error.source()?.to_string();
    let text = text.strip_prefix("HTTP Error - Status: ")?;
    text.get(..3)?.parse().ok()
}
