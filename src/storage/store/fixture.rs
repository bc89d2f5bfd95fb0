//! One store of each kind, for tests, and how a test is made for each.

use doubles::{Protocol, Server};
use object_store::path::Path;
use tempfile::TempDir;

/// Where a store of some kind lies, until this is dropped.
pub(crate) struct Fixture {
    url: String,
    options: Vec<(String, String)>,
    /// The key under which everything lies.
    pub(crate) root: Path,
    /// The double of a bucket's service.
    pub(crate) server: Option<Server>,
    _folder: Option<TempDir>,
}

impl Fixture {
    pub(crate) fn memory() -> Self {
        Self {
            url: "memory://".to_owned(),
            options: Vec::new(),
            root: Path::default(),
            server: None,
            _folder: None,
        }
    }

    pub(crate) fn local() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            url: format!("file://{}", folder.path().display()),
            options: Vec::new(),
            root: Path::default(),
            server: None,
            _folder: Some(folder),
        }
    }

    pub(crate) fn s3() -> Self {
        Self::bucket(Protocol::S3)
    }

    pub(crate) fn google() -> Self {
        Self::bucket(Protocol::Google)
    }

    pub(crate) fn azure() -> Self {
        Self::bucket(Protocol::Azure)
    }

    fn bucket(protocol: Protocol) -> Self {
        let server = Server::start(protocol);
        server.refuse_content_of_directories();
        let root = Path::from("some/prefix");
        Self {
            url: format!("{}/{root}", server.url()),
            options: server.options(),
            root,
            server: Some(server),
            _folder: None,
        }
    }

    /// Whether it is gone with its process.
    pub(crate) fn is_memory(&self) -> bool {
        self.url.starts_with("memory:")
    }

    /// Whether it speaks S3's protocol.
    pub(crate) fn is_s3(&self) -> bool {
        self.url.starts_with("s3:")
    }

    /// Whether it speaks Azure's protocol.
    pub(crate) fn is_azure(&self) -> bool {
        self.url.starts_with("az:")
    }

    /// Whether it speaks Google's protocol.
    pub(crate) fn is_google(&self) -> bool {
        self.url.starts_with("gs:")
    }

    /// The settings that lead there, each by the name of its variable without our prefix.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let option =
            |(name, value): &(String, String)| (format!("STORE__OPTIONS__{name}"), value.clone());
        let url = ("STORE__URL".to_owned(), self.url.clone());
        let retries = ("STORE__RETRY_TIMEOUT".to_owned(), "2s".to_owned());
        // Requests are counted, and faults planned: nothing is asked at the start.
        let trust = ("STORE__CONDITIONS".to_owned(), "trust".to_owned());
        self.options
            .iter()
            .map(option)
            .chain([url, retries, trust])
            .collect()
    }
}

/// Makes a test of each behaviour for each kind of store, so that a failure of one hides no other. A behaviour is a
/// function of a [`Fixture`].
macro_rules! on_each_store {
    ($($behaviour:ident)*) => {
        on_each_store!(@on memory: $($behaviour)*);
        on_each_store!(@on local: $($behaviour)*);
        on_each_store!(@on s3: $($behaviour)*);
        on_each_store!(@on google: $($behaviour)*);
        on_each_store!(@on azure: $($behaviour)*);
    };
    (@on $store:ident: $($behaviour:ident)*) => {
        mod $store {
            use $crate::storage::store::fixture::Fixture;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$behaviour(Fixture::$store().into()).await;
                }
            )*
        }
    };
}

pub(crate) use on_each_store;
