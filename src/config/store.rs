//! Where the bucket is, and what the store's own library is told about it.

mod carried;
mod content_types;
mod driver;
mod metadata;
pub(in crate::config) mod named;
mod places;

pub use carried::{
    LONGEST_TAG, MOST_TAGS, ObjectTags, StorageClass, Uncarried, is_archive, is_in_tags,
};
pub use content_types::ContentTypes;
pub use driver::Driver;
pub use metadata::ObjectMetadata;
pub use named::StoreName;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, absolute};

use toml::Value;
use url::Url;

use super::setting::{Setting, found, found_type, text};

/// The folder that is used when nothing is said about a store.
const DEFAULT_FOLDER: &str = "./bucketferry-data";

/// Schemes whose URL names a bucket (or a container) where others name a host.
const BUCKET_SCHEMES: [&str; 3] = ["s3", "gs", "az"];

/// Schemes without a host.
const LOCAL_SCHEMES: [&str; 2] = ["file", "memory"];

/// The URL of a bucket, or of a place in it.
///
/// Its scheme is one of `s3`, `gs`, `az`, `file` and `memory`; the first three name a bucket; it
/// has no user, password, port, query or fragment, so it can be logged. A folder, written as a
/// path, has become an absolute `file` URL.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    url: Url,
    written: String,
}

impl StoreUrl {
    /// The URL; characters that a URL can't hold are percent-encoded in it, as always in a URL's
    /// path.
    #[must_use]
    pub fn as_url(&self) -> &Url {
        &self.url
    }

    fn from_text(written: &str) -> Result<Self, String> {
        let url = if is_path(written) {
            folder_url(written)?
        } else {
            bucket_url(written)?
        };
        Ok(Self {
            url,
            written: written.to_owned(),
        })
    }
}

/// Only what can't be taken for the name of a bucket: else `my-bucket` would silently keep files
/// off the cloud.
fn is_path(text: &str) -> bool {
    !text.is_empty() && matches!(text.split('/').next(), Some("" | "." | ".."))
}

fn folder_url(folder: &str) -> Result<Url, String> {
    let path = absolute(folder)
        .map_err(|error| format!("found {folder:?}, but there is no current folder ({error})"))?;
    file_url(&path).ok_or_else(|| format!("found {folder:?}"))
}

/// Parsed once more, because that resolves `..` in it.
fn file_url(path: &Path) -> Option<Url> {
    let url = Url::from_file_path(path).ok()?;
    Url::parse(url.as_str()).ok()
}

/// Errors name no more of the text than its scheme: the rest may hold a password or a token.
fn bucket_url(text: &str) -> Result<Url, String> {
    if !text.contains("://") {
        return Err(no_url(text));
    }
    let url =
        Url::parse(text).map_err(|error| format!("found a URL that can't be read ({error})"))?;
    match objection(&url) {
        Some(objection) => Err(format!("found a URL with {objection}")),
        None => Ok(url),
    }
}

fn no_url(text: &str) -> String {
    let value = Value::String(text.to_owned());
    let found = if text.contains('@') {
        found_type(&value)
    } else {
        found(&value)
    };
    format!("{found} (for a folder, begin with `./` or `/`; for a bucket, with a scheme)")
}

/// What makes a URL a bad address of a store.
fn objection(url: &Url) -> Option<String> {
    let scheme = url.scheme();
    let names_bucket = BUCKET_SCHEMES.contains(&scheme);
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    let objection = if !names_bucket && !LOCAL_SCHEMES.contains(&scheme) {
        return Some(format!("the scheme {scheme:?}"));
    } else if !url.username().is_empty() || url.password().is_some() {
        "a user or password: store.options and the cloud's own variables are for credentials"
    } else if url.port().is_some() {
        "a port: the store's endpoint is one of store.options, such as aws_endpoint"
    } else if url.query().is_some() || url.fragment().is_some() {
        "a `?` or `#`: store.options is for what the store is told besides its bucket"
    } else if names_bucket && !has_host {
        "no bucket"
    } else if !names_bucket && has_host {
        "a host: this scheme has three slashes before the path"
    } else {
        return None;
    };
    Some(objection.to_owned())
}

/// The folder `./bucketferry-data`.
impl Default for StoreUrl {
    #[expect(
        clippy::expect_used,
        reason = "an absolute path always has a file URL; a test covers it"
    )]
    fn default() -> Self {
        // Without a current folder, a relative path can only start at the root.
        let path = absolute(DEFAULT_FOLDER).unwrap_or_else(|_| Path::new("/").join(DEFAULT_FOLDER));
        let url = file_url(&path).expect("the path is absolute");
        Self {
            url,
            written: DEFAULT_FOLDER.to_owned(),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

impl Setting for StoreUrl {
    fn allowed() -> String {
        "`s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` (the prefix may be \
         left out), `file:///FOLDER`, `memory://`, or a folder such as `./data` or `/data`"
            .to_owned()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        Self::from_text(text(value)?.trim())
    }

    fn show(&self) -> Value {
        Value::String(self.written.clone())
    }
}

/// What the store's own library is told, by the names that it has for its options.
///
/// Names are in lower case. Values may be secrets: `Debug` does not show them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreOptions(BTreeMap<String, String>);

impl StoreOptions {
    /// The option of that name, which is in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Each option with its value, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, String)> for StoreOptions {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(options: I) -> Self {
        Self(
            options
                .into_iter()
                .map(|(name, value)| (name.to_lowercase(), value))
                .collect(),
        )
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.keys().map(|name| (name, "…")))
            .finish()
    }
}

impl Setting for StoreOptions {
    fn allowed() -> String {
        "options by the names that `object_store` has for them, each a text, a whole number, \
         true or false; in the file also `{ file = \"PATH\" }`"
            .to_owned()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        let table = value.as_table().ok_or_else(|| found_type(value))?;
        table
            .iter()
            .map(|(name, value)| Ok((name.clone(), option_text(value)?)))
            .collect()
    }

    fn show(&self) -> Value {
        Value::Table(
            self.0
                .iter()
                .map(|(name, value)| (name.clone(), Value::String(value.clone())))
                .collect(),
        )
    }

    /// Option by option: those that the later source does not name stay.
    fn replace_by(&mut self, later: Self) {
        self.0.extend(later.0);
    }
}

fn option_text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(_) | Value::Boolean(_) => Ok(value.to_string()),
        _ => Err(found_type(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> String {
        StoreUrl::from_text(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .to_string()
    }

    #[test]
    fn buckets_are_urls() {
        for text in [
            "s3://bucket",
            "s3://my_bucket/a/b",
            "gs://bucket/p",
            "az://container/p",
            "memory://",
            "file:///srv",
        ] {
            assert_eq!(url(text), text);
        }
        assert_eq!(url("S3://bucket"), "s3://bucket");
    }

    #[test]
    fn folders_become_absolute() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(url("./data"), format!("file://{}/data", here.display()));
        assert_eq!(url("/srv/ftp/../data"), "file:///srv/data");
        assert_eq!(url("/srv/a b#c"), "file:///srv/a%20b%23c");
        assert_eq!(
            StoreUrl::default(),
            StoreUrl::from_text("./bucketferry-data").unwrap()
        );
    }

    #[test]
    fn what_is_no_store_is_refused_with_a_reason() {
        for (text, reason) in [
            ("my-bucket", "begin with `./`"),
            ("s3:bucket", "begin with `./`"),
            ("http://bucket", "the scheme \"http\""),
            ("s3://", "no bucket"),
            ("s3:///prefix", "no bucket"),
            ("s3://minio:9000/bucket", "aws_endpoint"),
            ("s3://bucket/a?b", "store.options"),
            ("file://srv/data", "three slashes"),
            ("", "begin with `./`"),
        ] {
            let error = StoreUrl::from_text(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_repeated() {
        for text in [
            "s3://key:hunter2@bucket",
            "http://key:hunter2@bucket",
            "az://c/p?sig=hunter2",
            "s3://k:hunter2@a:x/",
            "k:hunter2@b",
            "k:hunter2@b://",
        ] {
            let error = StoreUrl::from_text(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn debug_hides_the_values_of_options() {
        let options: StoreOptions = [("AWS_Secret".to_owned(), "hunter2".to_owned())]
            .into_iter()
            .collect();
        assert_eq!(format!("{options:?}"), r#"{"aws_secret": "…"}"#);
        assert_eq!(options.get("aws_secret"), Some("hunter2"));
    }
}
