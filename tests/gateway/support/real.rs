//! A bucket of a server that is no double, by what `make clouds` says in the environment.

use std::env;

use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, parse_url_opts};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

/// A directory of its own in the bucket.
pub(crate) struct Real {
    url: String,
    options: Vec<(String, String)>,
    objects: Box<dyn ObjectStore>,
    directory: Path,
}

/// The scheme of the bucket's URL.
pub(crate) fn scheme() -> String {
    let bucket = variable("CLOUD_BUCKET");
    let scheme = bucket.split(':').next();
    scheme.unwrap_or_default().to_owned()
}

/// Whether the server does not look at all conditions, so that nothing keeps two gateways apart.
pub(crate) fn is_for_one_gateway() -> bool {
    env::var_os("CLOUD_ALONE").is_some()
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("no {name}: make clouds"))
}

impl Real {
    pub(crate) fn from_environment() -> Self {
        let directory = format!("world-{:016x}", rand::random::<u64>());
        let url = format!("{}/{directory}", variable("CLOUD_BUCKET"));
        let options = variable("CLOUD_OPTIONS");
        let options = options.lines().filter_map(|line| line.split_once('='));
        let options: Vec<_> = options
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let parsed = url.parse().expect("a URL");
        let (objects, directory) = parse_url_opts(&parsed, options.clone()).expect("a bucket");
        Self {
            url,
            options,
            objects,
            directory,
        }
    }

    /// The settings that lead there. What the store knows is tried, as a gateway does that is told nothing.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let options = self.options.iter();
        let options = options.map(|(name, value)| (format!("store.options.{name}"), value.clone()));
        let url = ("store.url".to_owned(), self.url.clone());
        options.chain([url]).collect()
    }

    /// What lies at a key.
    pub(crate) fn object(&self, key: &str) -> Option<Vec<u8>> {
        let key = key.split('/').fold(self.directory.clone(), Path::join);
        let read = async {
            match self.objects.get(&key).await {
                Ok(object) => Some(object.bytes().await.expect("its bytes").to_vec()),
                Err(Error::NotFound { .. }) => None,
                Err(error) => panic!("{key}: {error}"),
            }
        };
        block_in_place(|| Handle::current().block_on(read))
    }
}
