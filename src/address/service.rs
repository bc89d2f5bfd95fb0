//! Follows the address of a Service of Kubernetes: what its load balancer has been given.
//!
//! Promises:
//! - It asks for one Service by its name, and needs the rights to `get` and `watch` that one alone.
//! - An API server that goes away, restarts, ends a watch or forbids one takes nothing away of what is
//!   known. It is asked again soon, and then less and less often, up to the interval.
//!
//! Each watch begins with what there is (without a `resourceVersion`), and none is gone on with. So there is
//! no version that could have expired, and nothing to list; for one object that costs nothing.

use std::error::Error;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, WatchEvent, WatchParams};
use kube::core::Status;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::dns::{Names, Resolver, Retry, keep_up_to_date};
use super::known::Known;

/// How long one watch lasts, if nothing ends it. Short, because a connection may be dead without a sign.
const WATCH: Duration = Duration::from_mins(2);

/// How long the API server may take to answer, or to end a watch that is over.
const ANSWER: Duration = Duration::from_secs(15);

/// Watches don't begin more often.
const PAUSE: Duration = Duration::from_secs(1);

/// A Service by its name.
#[derive(Debug, Clone)]
pub(super) struct ServiceName {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Why the address of a Service is not to be had now.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error("there is no Kubernetes to ask: {0}")]
    NoCluster(String),
    #[error("there is no such Service")]
    NoService,
    #[error("its load balancer has no address yet")]
    NoAddress,
    #[error(
        "the API server forbids it; the rights to get and to watch this Service are needed: {0}"
    )]
    Forbidden(String),
    #[error("the API server does not answer")]
    Silent,
    #[error("the API server: {0}")]
    Server(String),
}

/// Watches the Service without an end, and the names that its load balancer may have.
pub(super) async fn follow(
    known: Arc<Known>,
    service: ServiceName,
    resolver: impl Resolver + Clone,
    interval: Duration,
) {
    let (tell, mut told) = watch::channel(Names::default());
    let learn = async {
        while told.changed().await.is_ok() {
            let names = told.borrow_and_update().clone();
            let learning = keep_up_to_date(Arc::clone(&known), names, resolver.clone(), interval);
            // What is looked up for the names of before is given up.
            tokio::select! {
                biased;
                changed = told.changed() => if changed.is_ok() { told.mark_changed() },
                () = learning => {}
            }
        }
    };
    tokio::join!(watch_for_ever(&known, &service, &tell, interval), learn);
}

async fn watch_for_ever(
    known: &Known,
    service: &ServiceName,
    tell: &watch::Sender<Names>,
    interval: Duration,
) {
    let mut retry = Retry::up_to(interval);
    loop {
        let began = Instant::now();
        match service.watch(tell).await {
            Ok(()) => retry = Retry::up_to(interval),
            Err(trouble) => {
                known.fail(&trouble.to_string());
                retry.wait().await;
            }
        }
        sleep_until(began + PAUSE).await;
    }
}

impl ServiceName {
    /// What the load balancer has now, for `bucketferry check`.
    pub(super) async fn look(&self) -> Result<Names, Trouble> {
        self.get(&self.api().await?).await
    }

    /// Tells of each address until the watch ends.
    async fn watch(&self, tell: &watch::Sender<Names>) -> Result<(), Trouble> {
        let api = self.api().await?;
        tell.send_replace(self.get(&api).await?);
        let seconds = u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX);
        let only = WatchParams::default()
            .fields(&format!("metadata.name={}", self.name))
            .timeout(seconds)
            .disable_bookmarks();
        let events = tokio::time::timeout(ANSWER, api.watch(&only, "")).await;
        let mut events = pin!(events.map_err(|_| Trouble::Silent)??);
        loop {
            let event = tokio::time::timeout(WATCH + ANSWER, events.try_next()).await;
            match event.map_err(|_| Trouble::Silent)?? {
                Some(WatchEvent::Added(service) | WatchEvent::Modified(service)) => {
                    tell.send_replace(names(&service)?);
                }
                Some(WatchEvent::Deleted(_)) => return Err(Trouble::NoService),
                Some(WatchEvent::Bookmark(_)) => {}
                // Expired: the next watch begins with what there is.
                Some(WatchEvent::Error(status)) if status.code == 410 => return Ok(()),
                Some(WatchEvent::Error(status)) => return Err(of_status(&status)),
                None => return Ok(()),
            }
        }
    }

    async fn api(&self) -> Result<Api<Service>, Trouble> {
        let client = kube::Client::try_default().await;
        let client = client.map_err(|error| Trouble::NoCluster(with_sources(&error)))?;
        Ok(Api::namespaced(client, &self.namespace))
    }

    async fn get(&self, api: &Api<Service>) -> Result<Names, Trouble> {
        let service = tokio::time::timeout(ANSWER, api.get(&self.name)).await;
        names(&service.map_err(|_| Trouble::Silent)??)
    }
}

/// What the load balancer of a Service has: addresses, or names of them.
fn names(service: &Service) -> Result<Names, Trouble> {
    let status = service.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
    let mut names = Names::default();
    for point in ingress.into_iter().flatten() {
        let address = point.ip.as_ref().and_then(|ip| ip.parse::<Ipv4Addr>().ok());
        names.addresses.extend(address);
        names.names.extend(point.hostname.clone());
    }
    if names.is_empty() {
        return Err(Trouble::NoAddress);
    }
    Ok(names)
}

impl From<kube::Error> for Trouble {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => of_status(&status),
            error => Self::Server(with_sources(&error)),
        }
    }
}

fn of_status(status: &Status) -> Trouble {
    match status.code {
        401 | 403 => Trouble::Forbidden(status.message.clone()),
        404 => Trouble::NoService,
        code => Trouble::Server(format!("{code} {}", status.message)),
    }
}

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
