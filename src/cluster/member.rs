//! One gateway among several: keeps its slices, and takes off what is left of others.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::config::{Config, PodName, ServiceName};
use crate::kubernetes::ApiTrouble;
use crate::retry::Retry;
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

use super::api::{Cluster, Present};
use super::slices::{Phase, Ports, Write, addresses, farewell, own_slices, uid, writes};

/// The longest wait after a failure.
const RETRY: Duration = Duration::from_secs(4);

/// The wait after a failure once the process was told to end.
const HURRY: Duration = Duration::from_millis(500);

/// Looks don't follow each other faster: one change often brings another.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between looks that find nothing to do, one soon after the other.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Looks that find it changed by others before it could be set right; more are a quarrel.
const QUARREL: u32 = 20;

/// How long a process that was told to end waits for the API server to take note.
const NOTE: Duration = Duration::from_secs(5);

/// A gateway that shares a Service with others.
#[derive(Debug)]
pub struct Member {
    service: ServiceName,
    pod: PodName,
    ports: Ports,
    withdrawal: Duration,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    /// Whether the own slices have been right.
    entered: watch::Sender<bool>,
    /// Since when the own slices say that this gateway ends.
    marked: watch::Sender<Option<Instant>>,
    /// Since when it waits for that.
    told: OnceLock<Instant>,
    /// What the log says of each slice: ready and terminating.
    logged: Mutex<BTreeMap<String, [Option<bool>; 2]>>,
    trouble: Mutex<Option<String>>,
    /// Which of the pods that may come to have its name is the own one.
    uid: OnceLock<String>,
}

/// Why the slices may not be as they should be.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Api(#[from] ApiTrouble),
    #[error("the pod {0} has no address yet")]
    NoAddress(String),
    #[error("the pod {0} is no longer there, or another one has its name")]
    Gone(String),
    #[error("the Service has a selector, so Kubernetes writes its slices, and not the gateways")]
    HasSelector,
    #[error("there is a slice {0} already, which is not of this Service")]
    Taken(String),
    #[error("somebody else changes the slices again and again")]
    Quarrel,
}

impl Member {
    /// As the configuration says, if it says so. `listening` are the addresses of the control listeners, those of
    /// `ftp.listen` first.
    #[must_use]
    pub fn of(
        config: &Config,
        listening: &[SocketAddr],
        metrics: &Arc<Metrics>,
        shutdown: &Shutdown,
    ) -> Option<Arc<Self>> {
        let service = config.cluster.service.clone()?;
        let pod = config.cluster.pod.clone()?;
        let member = Self {
            service,
            pod,
            ports: Ports::of(config, listening),
            withdrawal: config.cluster.withdrawal,
            metrics: Arc::clone(metrics),
            shutdown: shutdown.clone(),
            entered: watch::Sender::new(false),
            marked: watch::Sender::new(None),
            told: OnceLock::new(),
            logged: Mutex::default(),
            trouble: Mutex::default(),
            uid: OnceLock::new(),
        };
        member.show(false);
        shutdown.withdraw_first();
        Some(Arc::new(member))
    }

    /// Returns once the slices have been right for the first time.
    pub async fn entered(&self) {
        let mut entered = self.entered.subscribe();
        // It lives as long as `self`.
        let _ = entered.wait_for(|entered| *entered).await;
    }

    /// Waits until the process is told to end and the slices have said so for `cluster.withdrawal`; then begins the
    /// drain. An API server that takes no note holds nothing up for longer than [`NOTE`].
    pub async fn withdraw(self: Arc<Self>) {
        self.shutdown.told().cancelled().await;
        let told = *self.told.get_or_init(Instant::now);
        let mut marked = self.marked.subscribe();
        let since = timeout_at(told + NOTE, marked.wait_for(Option::is_some)).await;
        let since = since.ok().and_then(Result::ok).and_then(|since| *since);
        match since {
            Some(since) => {
                tracing::info!(service = %self.service, withdrawal = ?self.withdrawal, "taken off the Service, clients that still come are served");
                sleep_until(since + self.withdrawal).await;
            }
            None => {
                tracing::warn!(service = %self.service, "can't be taken off the Service, the API server takes no note");
            }
        }
        self.shutdown.withdrawn();
    }

    /// Keeps the slices right, without an end.
    pub async fn keep(self: Arc<Self>) {
        let mut retry = Retry::up_to(RETRY);
        let told = self.shutdown.told();
        loop {
            let ended = if told.is_cancelled() {
                Some(Box::pin(self.stay(&mut retry)).await)
            } else {
                // Who is told to end has little time: whatever is waited for, it begins anew, and with a new connection.
                told.run_until_cancelled(Box::pin(self.stay(&mut retry)))
                    .await
            };
            let Some(Err(trouble)) = ended else { continue };
            self.fail(&trouble);
            if told.is_cancelled() {
                sleep(HURRY).await;
            } else {
                told.run_until_cancelled(retry.wait()).await;
            }
        }
    }

    /// Goes on for as long as nothing fails.
    async fn stay(&self, retry: &mut Retry) -> Result<Infallible, Trouble> {
        let (cluster, own) = Cluster::reach(&self.service, &self.pod).await?;
        let own = self.adopt(&own)?;
        let (mut looks, mut pause) = (0, PAUSE);
        loop {
            let began = Instant::now();
            let phase = self.phase();
            if let Some(present) = self.set_right(&cluster, own, phase).await? {
                self.recovered();
                retry.reset();
                looks = 0;
                tokio::select! {
                    changed = cluster.changed(&present) => changed?,
                    () = self.next_phase(phase) => {}
                }
                let is_soon = began.elapsed() < LONGEST_PAUSE;
                pause = if is_soon {
                    (pause * 2).min(LONGEST_PAUSE)
                } else {
                    PAUSE
                };
            } else if looks == QUARREL {
                return Err(Trouble::Quarrel);
            } else {
                looks += 1;
                pause = PAUSE;
            }
            sleep(pause).await;
        }
    }

    /// Which pod the own one is: of its name there may be another by now.
    fn adopt(&self, pod: &Pod) -> Result<&str, Trouble> {
        if let Some(uid) = self.uid.get() {
            return Ok(uid);
        }
        let addresses = addresses(pod);
        let name = || self.pod.as_str().to_owned();
        if addresses.is_empty() {
            return Err(Trouble::NoAddress(name()));
        }
        let is_here = |address: &IpAddr| UdpSocket::bind((*address, 0)).is_ok();
        if !addresses.iter().any(is_here) {
            return Err(Trouble::Gone(name()));
        }
        Ok(self.uid.get_or_init(|| uid(pod).to_owned()))
    }

    fn phase(&self) -> Phase {
        if self.shutdown.draining().is_cancelled() {
            Phase::Drains
        } else if self.shutdown.told().is_cancelled() {
            Phase::Withdraws
        } else {
            Phase::Serves
        }
    }

    async fn next_phase(&self, phase: Phase) {
        match phase {
            Phase::Serves => self.shutdown.told().cancelled().await,
            Phase::Withdraws => self.shutdown.draining().cancelled().await,
            Phase::Drains => std::future::pending().await,
        }
    }

    /// Reads what there is and makes it what it should be. Nothing, if somebody else was faster, or if there were
    /// writes: then it has to be read again.
    async fn set_right(
        &self,
        cluster: &Cluster,
        own: &str,
        phase: Phase,
    ) -> Result<Option<Present>, Trouble> {
        let present = cluster.present().await?;
        let pod = self.find(own, &present)?;
        let (own_writes, others) = if present.has_selector {
            (farewell(&present.slices, own), Vec::new())
        } else {
            let slices = own_slices(&self.service, &self.ports, pod, phase);
            writes(&present.slices, &slices, &present.pods)
        };
        for write in &own_writes {
            match (cluster.write(write, false).await, write) {
                (Ok(()), write) => self.tell(write),
                (Err(ApiTrouble::Conflict(_)), Write::Create(slice)) => {
                    return Err(Trouble::Taken(name_of(slice).to_owned()));
                }
                (Err(ApiTrouble::Conflict(_) | ApiTrouble::NotFound(_)), _) => return Ok(None),
                (Err(trouble), _) => return Err(trouble.into()),
            }
        }
        if present.has_selector {
            self.mark();
            return Err(Trouble::HasSelector);
        }
        if phase != Phase::Serves || pod.metadata.deletion_timestamp.is_some() {
            self.mark();
        }
        if own_writes.is_empty() {
            self.entered.send_replace(true);
        }
        // Whatever comes of these, the own ones are right.
        let has_tidied = self.tidy(cluster, &others).await?;
        Ok((own_writes.is_empty() && has_tidied).then_some(present))
    }

    /// Makes changes to the slices of others. Returns whether there were none.
    async fn tidy(&self, cluster: &Cluster, others: &[Write]) -> Result<bool, Trouble> {
        let mut failure = None;
        for write in others {
            match cluster.write(write, false).await {
                Ok(()) => self.tell(write),
                // Its own pod or another one was faster.
                Err(ApiTrouble::Conflict(_) | ApiTrouble::NotFound(_)) => {}
                Err(trouble) => failure = Some(trouble),
            }
        }
        match failure {
            Some(trouble) => Err(trouble.into()),
            None => Ok(others.is_empty()),
        }
    }

    fn mark(&self) {
        self.marked.send_if_modified(|marked| {
            let is_new = marked.is_none();
            marked.get_or_insert_with(Instant::now);
            is_new
        });
    }

    /// The own pod as it is now.
    fn find<'a>(&self, own: &str, present: &'a Present) -> Result<&'a Pod, Trouble> {
        let mut pods = present.pods.iter();
        let pod = pods.find(|pod| uid(pod) == own);
        pod.ok_or_else(|| Trouble::Gone(self.pod.as_str().to_owned()))
    }

    /// Tells of a trouble once.
    fn fail(&self, trouble: &Trouble) {
        if let Trouble::NoAddress(_) = trouble {
            // Its first container often runs before Kubernetes knows.
            return;
        }
        self.metrics.endpointslice_errors.inc();
        self.show(false);
        let text = trouble.to_string();
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() != Some(&text) {
            tracing::warn!(service = %self.service, trouble = text, "can't keep the EndpointSlices of this pod; the rights that are needed: get, list and watch on pods; list, watch, create, update and delete on endpointslices; get on the Service, and delete on its endpoints");
        }
        *known = Some(text);
    }

    fn recovered(&self) {
        self.show(true);
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if known.take().is_some() {
            tracing::info!(service = %self.service, "the EndpointSlices of this pod are right again");
        }
    }

    fn show(&self, is_current: bool) {
        let gauges = &self.metrics.endpointslices_current;
        let service = self.service.to_string();
        gauges.with_label_values(&[&service]).set(is_current.into());
    }

    /// Tells of what has changed for clients.
    fn tell(&self, write: &Write) {
        let (what, slice) = match write {
            Write::Create(slice) => ("created", slice),
            Write::Replace(slice) => ("changed", slice),
            Write::Delete(slice) => ("deleted", slice),
        };
        let conditions = slice
            .endpoints
            .first()
            .and_then(|it| it.conditions.as_ref());
        let (ready, terminating) = conditions.map_or((None, None), |it| (it.ready, it.terminating));
        let name = name_of(slice);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = match write {
            Write::Delete(_) => {
                logged.remove(name);
                false
            }
            Write::Create(_) | Write::Replace(_) => {
                let before = logged.insert(name.to_owned(), [ready, terminating]);
                before == Some([ready, terminating])
            }
        };
        if !is_known {
            tracing::info!(slice = name, ready, terminating, "EndpointSlice {what}");
        }
    }
}

fn name_of(slice: &EndpointSlice) -> &str {
    slice.metadata.name.as_deref().unwrap_or_default()
}
