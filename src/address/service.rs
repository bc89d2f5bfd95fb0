//! Follows the address of a Service of Kubernetes: what its load balancer has been given.
//!
//! Promises:
//! - It asks for one Service by its name, and needs the rights to `get` and `watch` that one alone.
//! - An API server that goes away, restarts, ends a watch or forbids one takes nothing away of what is
//!   known, and nor does a Service that is gone or has no address: it is watched until it has one.
//! - A change is learned at once, and after trouble within [`RETRY`]. Only a connection that died
//!   without a sign takes [`WATCH`] to be noticed.
//!
//! Each watch begins with what there is (without a `resourceVersion`), and none is gone on with. So there is
//! no version that could have expired, and nothing to list; for one object that costs nothing.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, WatchEvent, WatchParams};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::ServiceName;
use crate::kubernetes::{self, ANSWER, ApiTrouble, answer};
use crate::retry::Retry;

use super::dns::{Names, Resolver, keep_up_to_date};
use super::known::{Known, Part};

/// How long one watch lasts, if nothing ends it. Short, because a connection may be dead without a sign.
const WATCH: Duration = Duration::from_secs(30);

/// A watch that lasts so long is no trouble any more. One that is granted and fails at once is.
const LASTS: Duration = Duration::from_secs(2);

/// The longest wait after a failure.
const RETRY: Duration = Duration::from_secs(4);

/// Watches don't begin more often.
const PAUSE: Duration = Duration::from_secs(1);

/// Why the address of a Service is not to be had now.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error("there is no such Service")]
    NoService,
    #[error("its load balancer has no address yet")]
    NoAddress,
    #[error(
        "its load balancer has no IPv4 address, and only such a one fits into the reply to PASV"
    )]
    OnlyIpv6,
    #[error(
        "the API server forbids it; the rights to get and to watch this Service are needed: {0}"
    )]
    Forbidden(String),
    #[error(transparent)]
    Api(ApiTrouble),
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
    tokio::join!(watch_for_ever(&known, &service, &tell), learn);
}

async fn watch_for_ever(known: &Known, service: &ServiceName, tell: &watch::Sender<Names>) {
    let mut retry = Retry::up_to(RETRY);
    loop {
        let began = Instant::now();
        let ended = async {
            let watching = begin(service, tell).await?;
            watching.go_on(known, tell, &mut retry).await
        };
        if let Err(trouble) = ended.await {
            known.fail(trouble.part(), &trouble.to_string());
            retry.wait().await;
        } else {
            known.recovered(Part::Api);
            retry.reset();
        }
        sleep_until(began + PAUSE).await;
    }
}

/// A watch that the API server has granted.
struct Watching<Events> {
    /// What the Service has at its beginning.
    now: Result<Names, Trouble>,
    events: Events,
}

/// What the load balancer has now, for `bucketferry check`.
pub(super) async fn look(service: &ServiceName) -> Result<Names, Trouble> {
    get(&api(service).await?, service).await
}

/// Reads the Service, and begins a watch on it.
async fn begin(
    service: &ServiceName,
    tell: &watch::Sender<Names>,
) -> Result<Watching<impl Stream<Item = kube::Result<WatchEvent<Service>>>>, Trouble> {
    let api = api(service).await?;
    let now = match get(&api, service).await {
        Err(trouble) if trouble.part() == Part::Api => return Err(trouble),
        now => now,
    };
    if let Ok(names) = &now {
        // Even if it can't be watched.
        pass_on(names, tell);
    }
    let seconds = u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX);
    let only = WatchParams::default()
        .fields(&format!("metadata.name={}", service.name))
        .timeout(seconds);
    let events = answer(api.watch(&only, "")).await?;
    Ok(Watching { now, events })
}

async fn api(service: &ServiceName) -> Result<Api<Service>, Trouble> {
    let client = kubernetes::client().await?;
    Ok(Api::namespaced(client, &service.namespace))
}

async fn get(api: &Api<Service>, service: &ServiceName) -> Result<Names, Trouble> {
    names(&answer(api.get(&service.name)).await?)
}

impl<Events: Stream<Item = kube::Result<WatchEvent<Service>>>> Watching<Events> {
    /// Tells of what there is and of each change, until the watch ends.
    async fn go_on(
        self,
        known: &Known,
        tell: &watch::Sender<Names>,
        retry: &mut Retry,
    ) -> Result<(), Trouble> {
        take(self.now, known, tell);
        let mut events = pin!(self.events);
        let mut lasts = pin!(sleep(LASTS));
        let mut has_lasted = false;
        loop {
            let event = tokio::select! {
                biased;
                event = tokio::time::timeout(WATCH + ANSWER, events.try_next()) => event,
                () = &mut lasts, if !has_lasted => {
                    has_lasted = true;
                    known.recovered(Part::Api);
                    retry.reset();
                    continue;
                }
            };
            match event
                .map_err(|_| ApiTrouble::Silent)?
                .map_err(ApiTrouble::from)?
            {
                Some(WatchEvent::Added(service) | WatchEvent::Modified(service)) => {
                    take(names(&service), known, tell);
                }
                Some(WatchEvent::Deleted(_)) => take(Err(Trouble::NoService), known, tell),
                Some(WatchEvent::Bookmark(_)) => {}
                Some(WatchEvent::Error(status)) => match ApiTrouble::from(&*status) {
                    // The next watch begins with what there is.
                    ApiTrouble::Expired(_) => return Ok(()),
                    trouble => return Err(trouble.into()),
                },
                None => return Ok(()),
            }
        }
    }
}

fn take(now: Result<Names, Trouble>, known: &Known, tell: &watch::Sender<Names>) {
    match now {
        Ok(names) => {
            known.recovered(Part::Service);
            pass_on(&names, tell);
        }
        Err(trouble) => known.fail(Part::Service, &trouble.to_string()),
    }
}

/// What is the same as before would be looked up for nothing.
fn pass_on(names: &Names, tell: &watch::Sender<Names>) {
    tell.send_if_modified(|told| {
        let is_new = told != names;
        told.clone_from(names);
        is_new
    });
}

/// What the load balancer of a Service has: addresses, or names of them.
fn names(service: &Service) -> Result<Names, Trouble> {
    let status = service.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
    let mut names = Names::default();
    let mut is_ipv6 = false;
    for point in ingress.into_iter().flatten() {
        // A name beside an address is for people.
        match (point.ip.as_deref().map(str::parse), &point.hostname) {
            (Some(Ok(IpAddr::V4(address))), _) => names.addresses.push(address),
            (Some(Ok(IpAddr::V6(_))), _) => is_ipv6 = true,
            (None | Some(Err(_)), Some(name)) => names.names.push(name.clone()),
            (None | Some(Err(_)), None) => {}
        }
    }
    match names.is_empty() {
        false => Ok(names),
        true if is_ipv6 => Err(Trouble::OnlyIpv6),
        true => Err(Trouble::NoAddress),
    }
}

impl Trouble {
    /// Whose it is. A watch tells when one of the Service's own is over.
    fn part(&self) -> Part {
        match self {
            Self::NoService | Self::NoAddress | Self::OnlyIpv6 => Part::Service,
            Self::Forbidden(_) | Self::Api(_) => Part::Api,
        }
    }
}

impl From<ApiTrouble> for Trouble {
    fn from(trouble: ApiTrouble) -> Self {
        match trouble {
            ApiTrouble::NotFound(_) => Self::NoService,
            ApiTrouble::Forbidden(message) => Self::Forbidden(message),
            trouble => Self::Api(trouble),
        }
    }
}
