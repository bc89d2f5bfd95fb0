//! The way to the API server of Kubernetes.

use std::error::Error;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::service::Trouble;

/// A client for the cluster that the gateway runs in, or for that of the file in `$KUBECONFIG`.
///
/// Nothing else is looked for, as other programs do: a `.kube/config` in the home directory may name
/// programs to run, and the home directory may be one that clients can write to.
pub(super) async fn client() -> Result<Client, Trouble> {
    let no_cluster = |error: &dyn Error| Trouble::NoCluster(with_sources(error));
    let file = Kubeconfig::from_env().map_err(|error| no_cluster(&error))?;
    let has_proxy = file.as_ref().is_some_and(names_a_proxy);
    let mut config = match file {
        Some(file) => Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .map_err(|error| no_cluster(&error))?,
        None => Config::incluster().map_err(|error| no_cluster(&error))?,
    };
    // Whoever asks does it again by itself, and says why.
    config.default_retry = false;
    if !has_proxy {
        // It comes from the environment, where it is meant for the store.
        config.proxy_url = None;
    }
    // The file may name a program that makes the token.
    let building = tokio::task::spawn_blocking(|| Client::try_from(config));
    let client = building.await.map_err(|error| no_cluster(&error))?;
    client.map_err(|error| no_cluster(&error))
}

fn names_a_proxy(file: &Kubeconfig) -> bool {
    let mut clusters = file
        .clusters
        .iter()
        .filter_map(|named| named.cluster.as_ref());
    clusters.any(|cluster| cluster.proxy_url.is_some())
}

/// The error and all that led to it, on one line.
pub(super) fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
