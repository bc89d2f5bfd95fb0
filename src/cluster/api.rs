//! Requests to the API server: reads and watches of pods and slices, writes of slices.

use std::pin::pin;
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;

use crate::config::{PodName, ServiceName};
use crate::kubernetes::{ANSWER, ApiTrouble, answer, client};

use super::slices::{SERVICE, Write, is_mirrored, label, name as pod_name, target};

/// How long one watch lasts, if nothing ends it. Short, because a connection may be dead without a sign.
const WATCH: Duration = Duration::from_secs(30);

/// What the pods of one workload have in common, as Kubernetes recommends it.
const WORKLOAD: [&str; 2] = ["app.kubernetes.io/name", "app.kubernetes.io/instance"];

/// The pods of a workload, and the slices that they write.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pods: Api<Pod>,
    slices: Api<EndpointSlice>,
    services: Api<Service>,
    endpoints: Api<Endpoints>,
    service: String,
    pods_selector: String,
    slices_selector: String,
}

/// All that there is, and the versions from which changes can be watched.
#[derive(Debug)]
pub(super) struct Present {
    /// Kubernetes itself writes slices of the Service.
    pub(super) has_selector: bool,
    pub(super) slices: Vec<EndpointSlice>,
    pub(super) pods: Vec<Pod>,
    slices_version: String,
    pods_version: String,
}

impl Cluster {
    /// The way there, and the own pod.
    pub(super) async fn reach(
        service: &ServiceName,
        pod: &PodName,
    ) -> Result<(Self, Pod), ApiTrouble> {
        let client = client().await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), &service.namespace);
        let own = answer(pods.get(pod.as_str())).await?;
        let cluster = Self {
            pods,
            slices: Api::namespaced(client.clone(), &service.namespace),
            services: Api::namespaced(client.clone(), &service.namespace),
            endpoints: Api::namespaced(client, &service.namespace),
            service: service.name.clone(),
            pods_selector: workload(&own),
            slices_selector: format!("{SERVICE}={}", service.name),
        };
        Ok((cluster, own))
    }

    /// The slices, and then the pods: so what is said of a pod is never older than its slices.
    pub(super) async fn present(&self) -> Result<Present, ApiTrouble> {
        let service = answer(self.services.get(&self.service)).await?;
        let selector = service.spec.and_then(|spec| spec.selector);
        let slices = ListParams::default().labels(&self.slices_selector);
        let slices = answer(self.slices.list(&slices)).await?;
        let pods = ListParams::default().labels(&self.pods_selector);
        let pods = answer(self.pods.list(&pods)).await?;
        let others = self.unselected(&slices.items, &pods.items).await?;
        Ok(Present {
            has_selector: selector.is_some_and(|selector| !selector.is_empty()),
            slices: slices.items,
            pods: pods.items.into_iter().chain(others).collect(),
            slices_version: slices.metadata.resource_version.unwrap_or_default(),
            pods_version: pods.metadata.resource_version.unwrap_or_default(),
        })
    }

    /// The pods of slices that are no replicas of the own one, if they are there: another workload may share the Service.
    async fn unselected(
        &self,
        slices: &[EndpointSlice],
        pods: &[Pod],
    ) -> Result<Vec<Pod>, ApiTrouble> {
        let mut found = Vec::new();
        for name in slices.iter().filter_map(target) {
            let is_known = |pods: &[Pod]| pods.iter().any(|pod| pod_name(pod) == name);
            if !is_known(pods) && !is_known(&found) {
                found.extend(answer(self.pods.get_opt(name)).await?);
            }
        }
        Ok(found)
    }

    /// Makes a change, if the slice is still the one that it was decided on.
    pub(super) async fn write(&self, write: &Write, dry_run: bool) -> Result<(), ApiTrouble> {
        let post = PostParams {
            dry_run,
            field_manager: None,
        };
        match write {
            Write::Create(slice) => answer(self.slices.create(&post, slice)).await.map(drop),
            Write::Replace(slice) => {
                let name = slice.metadata.name.as_deref().unwrap_or_default();
                answer(self.slices.replace(name, &post, slice))
                    .await
                    .map(drop)
            }
            Write::Delete(slice) => {
                let name = slice.metadata.name.as_deref().unwrap_or_default();
                let this = DeleteParams {
                    dry_run,
                    preconditions: Some(Preconditions {
                        uid: slice.metadata.uid.clone(),
                        resource_version: slice.metadata.resource_version.clone(),
                    }),
                    ..DeleteParams::default()
                };
                answer(self.slices.delete(name, &this)).await?;
                if is_mirrored(slice) && !dry_run {
                    let plain = DeleteParams::default();
                    answer(self.endpoints.delete(&self.service, &plain)).await?;
                }
                Ok(())
            }
        }
    }

    /// Returns when something is not any more as it was, or when it is time to look again.
    pub(super) async fn changed(&self, since: &Present) -> Result<(), ApiTrouble> {
        tokio::select! {
            changed = first_event(&self.slices, &self.slices_selector, &since.slices_version) => changed,
            changed = first_event(&self.pods, &self.pods_selector, &since.pods_version) => changed,
        }
    }
}

/// Selects the pods that are replicas of the same, or all of the namespace if this one does not say what it is.
fn workload(pod: &Pod) -> String {
    let labels = WORKLOAD.map(|name| Some(format!("{name}={}", label(pod, name)?)));
    let labels: Option<Vec<_>> = labels.into_iter().collect();
    labels.unwrap_or_default().join(",")
}

async fn first_event<K>(api: &Api<K>, selector: &str, version: &str) -> Result<(), ApiTrouble>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let seconds = u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX);
    let only = WatchParams::default().labels(selector).timeout(seconds);
    let events = answer(api.watch_metadata(&only, version)).await?;
    let event = tokio::time::timeout(WATCH + ANSWER, event(events)).await;
    event.map_err(|_| ApiTrouble::Silent)?
}

async fn event<K>(
    events: impl Stream<Item = kube::Result<WatchEvent<PartialObjectMeta<K>>>>,
) -> Result<(), ApiTrouble> {
    let mut events = pin!(events);
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_) => {
                return Ok(());
            }
            WatchEvent::Error(status) => {
                return match ApiTrouble::from(&*status) {
                    // What there is, is read anew.
                    ApiTrouble::Expired(_) => Ok(()),
                    trouble => Err(trouble),
                };
            }
        }
    }
    Ok(())
}
