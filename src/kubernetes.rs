//! The way to the API server of Kubernetes.

use std::error::Error;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Client, Config};
use thiserror::Error;

/// How long the API server may take to answer, or to end a watch that is over.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// Why the API server does not do what it was asked for.
#[derive(Debug, Error)]
pub(crate) enum ApiTrouble {
    #[error("there is no Kubernetes to ask: {0}")]
    NoCluster(String),
    #[error("the API server forbids it: {0}")]
    Forbidden(String),
    #[error("the API server does not have it: {0}")]
    NotFound(String),
    #[error("somebody else has changed it: {0}")]
    Conflict(String),
    #[error("the API server: 410 {0}")]
    Expired(String),
    #[error("the API server does not answer")]
    Silent,
    #[error("the API server: {0}")]
    Server(String),
}

/// What the API server answers.
pub(crate) async fn answer<T>(
    question: impl Future<Output = kube::Result<T>>,
) -> Result<T, ApiTrouble> {
    let answer = tokio::time::timeout(ANSWER, question).await;
    Ok(answer.map_err(|_| ApiTrouble::Silent)??)
}

/// A client for the cluster that the gateway runs in, or for that of the file in `$KUBECONFIG`.
///
/// Nothing else is looked for, as other programs do: a `.kube/config` in the home directory may name
/// programs to run, and the home directory may be one that clients can write to.
pub(crate) async fn client() -> Result<Client, ApiTrouble> {
    let client = tokio::time::timeout(ANSWER, connect()).await;
    client.map_err(|_| ApiTrouble::Silent)?
}

async fn connect() -> Result<Client, ApiTrouble> {
    let no_cluster = |error: &dyn Error| ApiTrouble::NoCluster(with_sources(error));
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

impl From<kube::Error> for ApiTrouble {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::from(&*status),
            error => Self::Server(with_sources(&error)),
        }
    }
}

impl From<&Status> for ApiTrouble {
    fn from(status: &Status) -> Self {
        let message = status.message.clone();
        match status.code {
            401 | 403 => Self::Forbidden(message),
            404 => Self::NotFound(message),
            409 => Self::Conflict(message),
            410 => Self::Expired(message),
            code => Self::Server(format!("{code} {message}")),
        }
    }
}

/// The error and all that led to it, on one line.
fn with_sources(error: &dyn Error) -> String {
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
