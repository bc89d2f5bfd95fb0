//! One store of each kind, for tests, and how a test is made for each.

use doubles::{Protocol, Server};
use futures::future::LocalBoxFuture;
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
    /// Whether it is found out which conditions the store knows, as a gateway does.
    tries: bool,
    _folder: Option<TempDir>,
}

impl Fixture {
    pub(crate) fn memory() -> Self {
        Self {
            url: "memory://".to_owned(),
            options: Vec::new(),
            root: Path::default(),
            server: None,
            tries: false,
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
            tries: false,
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
        // As stores do that keep objects in folders.
        server.refuse_content_of_directories();
        server.keep_metadata_of_directories();
        let root = Path::from("some/prefix");
        Self {
            url: format!("{}/{root}", server.url()),
            options: server.options(),
            root,
            server: Some(server),
            tries: false,
            _folder: None,
        }
    }

    /// The double of an S3 server that passes over conditions in silence.
    pub(crate) fn ignoring() -> Self {
        let fixture = Self::s3();
        if let Some(server) = &fixture.server {
            server.ignore_conditions();
        }
        Self {
            tries: true,
            ..fixture
        }
    }

    /// A server that is no double: all under one directory of its bucket, which nobody else has.
    pub(crate) fn real(bucket: &str, options: Vec<(String, String)>) -> Self {
        let root = Path::from(format!("some/{:016x}", rand::random::<u64>()));
        Self {
            url: format!("{bucket}/{root}"),
            options,
            root,
            server: None,
            tries: true,
            _folder: None,
        }
    }

    /// Whether it is a server that is no double.
    pub(crate) fn is_real(&self) -> bool {
        self.tries && self.server.is_none()
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
        let retries = if self.is_real() { "10s" } else { "2s" };
        let retries = ("STORE__RETRY_TIMEOUT".to_owned(), retries.to_owned());
        // Requests of doubles are counted, and faults planned: nothing is asked at the start.
        let conditions = if self.tries { "try" } else { "trust" };
        let conditions = ("STORE__CONDITIONS".to_owned(), conditions.to_owned());
        self.options
            .iter()
            .map(option)
            .chain([url, retries, conditions])
            .collect()
    }
}

/// A behaviour by its name, to be tried on any store.
pub(crate) type Behaviour = (&'static str, fn(Fixture) -> LocalBoxFuture<'static, ()>);

/// Makes a test of each behaviour for each kind of store, so that a failure of one hides no other, and the list
/// `BEHAVIOURS` of all for stores that come from outside. A behaviour is a function of what `ready` beside it makes of a
/// [`Fixture`]. In front of the behaviours stand stores that not every suite is for.
macro_rules! on_each_store {
    ($([$store:ident])* $($behaviour:ident)*) => {
        on_each_store!(@on memory: $($behaviour)*);
        on_each_store!(@on local: $($behaviour)*);
        on_each_store!(@on s3: $($behaviour)*);
        on_each_store!(@on google: $($behaviour)*);
        on_each_store!(@on azure: $($behaviour)*);
        on_each_store!(@more [$($store)*] ($($behaviour)*));

        #[allow(dead_code, reason = "some need doubles alone")]
        pub(crate) const BEHAVIOURS: &[$crate::storage::store::fixture::Behaviour] = &[$(
            (stringify!($behaviour), |fixture| Box::pin(async move { $behaviour(ready(fixture).await).await }))
        ),*];
    };
    (@more [] $behaviours:tt) => {};
    (@more [$store:ident] ($($behaviour:ident)*)) => {
        on_each_store!(@on $store: $($behaviour)*);
    };
    (@on $store:ident: $($behaviour:ident)*) => {
        mod $store {
            use $crate::storage::store::fixture::Fixture;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$behaviour(super::ready(Fixture::$store()).await).await;
                }
            )*
        }
    };
}

pub(crate) use on_each_store;
