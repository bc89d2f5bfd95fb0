//! One gateway among several: keeps its slices, and takes off what is left of others.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::config::{Config, PodName, ServiceName};
use crate::kubernetes::ApiTrouble;
use crate::retry::Retry;
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

use super::api::{Cluster, Present};
use super::slices::{Phase, Ports, Write, addresses, own_slices, uid, writes};

/// The longest wait after a failure.
const RETRY: Duration = Duration::from_secs(4);

/// Looks don't follow each other faster: one change often brings another.
const PAUSE: Duration = Duration::from_millis(100);

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
    /// Since when the own slices say that this gateway ends.
    marked: watch::Sender<Option<Instant>>,
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
        let implicit = listening.get(config.ftp.listen.len());
        let control = [("ftp", listening.first()), ("ftps", implicit)];
        let control = control.into_iter();
        let control = control.filter_map(|(name, address)| Some((name, address?.port())));
        let member = Self {
            service,
            pod,
            ports: Ports {
                control: control.collect(),
                passive: config.passive.own_ports(),
            },
            withdrawal: config.cluster.withdrawal,
            metrics: Arc::clone(metrics),
            shutdown: shutdown.clone(),
            marked: watch::Sender::new(None),
            trouble: Mutex::default(),
            uid: OnceLock::new(),
        };
        member.show(false);
        shutdown.withdraw_first();
        Some(Arc::new(member))
    }

    /// Keeps the slices right, without an end, and withdraws when the process is told to end.
    pub async fn belong(self: Arc<Self>) {
        tokio::join!(self.keep(), self.withdraw());
    }

    /// Waits until the process is told to end and the slices have said so for `cluster.withdrawal`; then begins the
    /// drain. An API server that takes no note holds nothing up for longer than [`NOTE`].
    async fn withdraw(&self) {
        self.shutdown.told().cancelled().await;
        let mut marked = self.marked.subscribe();
        let since = timeout(NOTE, marked.wait_for(Option::is_some)).await;
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

    async fn keep(&self) {
        let mut retry = Retry::up_to(RETRY);
        loop {
            let Err(trouble) = self.stay(&mut retry).await;
            self.fail(&trouble);
            // There may be little time left.
            let told = self.shutdown.told();
            if told.is_cancelled() {
                retry.wait().await;
            } else {
                told.run_until_cancelled(retry.wait()).await;
            }
        }
    }

    /// Goes on for as long as nothing fails.
    async fn stay(&self, retry: &mut Retry) -> Result<Infallible, Trouble> {
        let (cluster, own) = Cluster::reach(&self.service, &self.pod).await?;
        let own = self.uid.get_or_init(|| uid(&own).to_owned());
        let mut looks = 0;
        loop {
            let phase = self.phase();
            if let Some(present) = self.set_right(&cluster, own, phase).await? {
                self.recovered();
                retry.reset();
                looks = 0;
                tokio::select! {
                    changed = cluster.changed(&present) => changed?,
                    () = self.next_phase(phase) => {}
                }
            } else if looks == QUARREL {
                return Err(Trouble::Quarrel);
            }
            looks += 1;
            sleep(PAUSE).await;
        }
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
        let slices = own_slices(&self.service, &self.ports, pod, phase);
        let writes = writes(&present.slices, &slices, &present.pods);
        for write in &writes {
            match cluster.write(write, false).await {
                Ok(()) => tell(write),
                Err(ApiTrouble::Conflict(_) | ApiTrouble::NotFound(_)) => return Ok(None),
                Err(trouble) => return Err(trouble.into()),
            }
        }
        if phase != Phase::Serves || pod.metadata.deletion_timestamp.is_some() {
            self.mark();
        }
        Ok(writes.is_empty().then_some(present))
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
        let name = || self.pod.as_str().to_owned();
        let pod = pod.ok_or_else(|| Trouble::Gone(name()))?;
        if addresses(pod).is_empty() {
            return Err(Trouble::NoAddress(name()));
        }
        Ok(pod)
    }

    /// Tells of a trouble once.
    fn fail(&self, trouble: &Trouble) {
        self.metrics.endpointslice_errors.inc();
        self.show(false);
        let text = trouble.to_string();
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() != Some(&text) {
            tracing::warn!(service = %self.service, trouble = text, "can't keep the EndpointSlices of this pod; get, list and watch on pods are needed, and on endpointslices create, update and delete too");
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
}

fn tell(write: &Write) {
    let (what, slice) = match write {
        Write::Create(slice) => ("created", slice),
        Write::Replace(slice) => ("changed", slice),
        Write::Delete(slice) => ("deleted, its pod is gone", slice),
    };
    let conditions = slice
        .endpoints
        .first()
        .and_then(|it| it.conditions.as_ref());
    let (ready, terminating) = conditions.map_or((None, None), |it| (it.ready, it.terminating));
    let name = slice.metadata.name.as_deref().unwrap_or_default();
    tracing::info!(slice = name, ready, terminating, "EndpointSlice {what}");
}
