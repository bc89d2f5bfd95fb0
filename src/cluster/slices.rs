//! What the slices of a Service should say, and which writes make them say it. Nothing here asks anybody.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::config::{Config, PortRange, ServiceName};

/// Says who writes a slice. The controllers of Kubernetes leave those of others alone.
const MANAGER: &str = "endpointslice.kubernetes.io/managed-by";

/// Gateways.
const OURS: &str = "bucketferry";

/// They write the slices of Services with a selector, and from `Endpoints` those of others. When a Service loses its
/// selector, both leave what they have written as it is, for ever.
const CONTROLLERS: [&str; 2] = [
    "endpointslice-controller.k8s.io",
    "endpointslicemirroring-controller.k8s.io",
];

/// Says to which Service a slice belongs.
pub(super) const SERVICE: &str = "kubernetes.io/service-name";

/// Kubernetes 1.35 and later copies it from the node to its pods.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The ports on which a gateway can be reached, as the Service names them.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    /// `ftp`, and `ftps` if there is one.
    control: Vec<(&'static str, u16)>,
    passive: PortRange,
}

impl Ports {
    /// Those of a gateway that listens on these addresses, of which as many as `ftp.listen` has are the first.
    pub(super) fn of(config: &Config, listening: &[SocketAddr]) -> Self {
        let implicit = listening.get(config.ftp.listen.len());
        let control = [("ftp", listening.first()), ("ftps", implicit)].into_iter();
        let control = control.filter_map(|(name, address)| Some((name, address?.port())));
        Self {
            control: control.collect(),
            passive: config.passive.own_ports(),
        }
    }
}

/// How far the own process is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It serves.
    Serves,
    /// It was told to end, and takes clients for a while yet.
    Withdraws,
    /// It takes nobody any more; sessions that it has may go on.
    Drains,
}

/// A change to one slice, in the order in which they are to be made.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Write {
    Create(EndpointSlice),
    /// It has the version that it takes the place of.
    Replace(EndpointSlice),
    /// This version of it.
    Delete(EndpointSlice),
}

/// What a slice is for. Control ports come last: who gets a control connection needs the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Data,
    Control,
}

impl Role {
    const ALL: [Self; 2] = [Self::Data, Self::Control];

    fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Control => "control",
        }
    }

    /// Of a slice by its name, which ends in the role and the family.
    fn of(slice: &EndpointSlice) -> Option<Self> {
        let (name, _family) = slice.metadata.name.as_deref()?.rsplit_once('-')?;
        Self::ALL
            .into_iter()
            .find(|role| name.ends_with(role.name()))
    }
}

/// What the slices of the own pod should be. Nothing, while the pod has no address.
pub(super) fn own_slices(
    service: &ServiceName,
    ports: &Ports,
    pod: &Pod,
    phase: Phase,
) -> Vec<EndpointSlice> {
    let families = addresses(pod);
    let each = Role::ALL.into_iter().flat_map(|role| {
        let families = families.iter();
        families.map(move |address| (role, *address))
    });
    each.map(|(role, address)| slice(service, ports, pod, role, address, phase))
        .collect()
}

fn slice(
    service: &ServiceName,
    ports: &Ports,
    pod: &Pod,
    role: Role,
    address: IpAddr,
    phase: Phase,
) -> EndpointSlice {
    let (suffix, family) = match address {
        IpAddr::V4(_) => ("ipv4", "IPv4"),
        IpAddr::V6(_) => ("ipv6", "IPv6"),
    };
    let name = name(pod);
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{}-{suffix}", role.name())),
            namespace: Some(service.namespace.clone()),
            labels: Some(labels(service)),
            // With the pod, Kubernetes removes its slices too.
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: name.to_owned(),
                uid: uid(pod).to_owned(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        ports: Some(endpoint_ports(ports, role)),
        endpoints: vec![Endpoint {
            addresses: vec![address.to_string()],
            conditions: Some(conditions(role, pod, phase)),
            node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            zone: label(pod, ZONE).map(str::to_owned),
            target_ref: Some(ObjectReference {
                kind: Some("Pod".to_owned()),
                namespace: pod.metadata.namespace.clone(),
                name: Some(name.to_owned()),
                uid: Some(uid(pod).to_owned()),
                ..ObjectReference::default()
            }),
            ..Endpoint::default()
        }],
    }
}

fn labels(service: &ServiceName) -> BTreeMap<String, String> {
    BTreeMap::from([
        (SERVICE.to_owned(), service.name.clone()),
        (MANAGER.to_owned(), OURS.to_owned()),
    ])
}

fn endpoint_ports(ports: &Ports, role: Role) -> Vec<EndpointPort> {
    let named = |(name, port): (String, u16)| EndpointPort {
        name: Some(name),
        port: Some(i32::from(port)),
        protocol: Some("TCP".to_owned()),
        ..EndpointPort::default()
    };
    match role {
        Role::Control => {
            let control = ports.control.iter();
            let control = control.map(|(name, port)| ((*name).to_owned(), *port));
            control.map(named).collect()
        }
        Role::Data => {
            let passive = ports.passive.iter();
            let passive = passive.map(|port| (format!("passive-{port}"), port));
            passive.map(named).collect()
        }
    }
}

/// What a pod's endpoints are good for, by the API server's word and by what its own process knows.
///
/// Data connections can go nowhere else, so they are "ready" for as long as the pod is there. Not every proxy falls back
/// to endpoints that are only "serving".
fn conditions(role: Role, pod: &Pod, phase: Phase) -> EndpointConditions {
    let terminating = phase != Phase::Serves || pod.metadata.deletion_timestamp.is_some();
    let (ready, serving) = match role {
        Role::Data => (true, true),
        Role::Control => {
            let serving = is_ready(pod) && phase != Phase::Drains;
            (serving && !terminating, serving)
        }
    };
    EndpointConditions {
        ready: Some(ready),
        serving: Some(serving),
        terminating: Some(terminating),
    }
}

/// The writes that are to be made, those to the own slices and those to others', given all slices of the Service. `own` is
/// what those of the own pod should be, and `pods` are all pods that are there, read after the slices.
pub(super) fn writes(
    present: &[EndpointSlice],
    own: &[EndpointSlice],
    pods: &[Pod],
) -> (Vec<Write>, Vec<Write>) {
    let is_own = |slice: &EndpointSlice| {
        own.iter()
            .any(|own| own.metadata.name == slice.metadata.name)
    };
    let own_writes = own.iter().filter_map(|own| {
        let mut present = present.iter();
        own_write(
            present.find(|it| it.metadata.name == own.metadata.name),
            own,
        )
    });
    let others = present.iter().filter(|slice| !is_own(slice));
    let others = others.filter_map(|slice| match manager(slice) {
        Some(OURS) => write_for_another(slice, pods),
        Some(manager) if CONTROLLERS.contains(&manager) => Some(Write::Delete(slice.clone())),
        _ => None,
    });
    (own_writes.collect(), others.collect())
}

/// The writes of a pod whose Service is not for several gateways any more: it has a selector, and slices by Kubernetes.
pub(super) fn farewell(present: &[EndpointSlice], uid: &str) -> Vec<Write> {
    let own = present
        .iter()
        .filter(|slice| manager(slice) == Some(OURS) && uids(slice).any(|of| of == uid));
    own.cloned().map(Write::Delete).collect()
}

fn manager(slice: &EndpointSlice) -> Option<&str> {
    let labels = slice.metadata.labels.as_ref()?;
    labels.get(MANAGER).map(String::as_str)
}

/// Whether it was made from the `Endpoints` of the Service. It would be made anew as long as they are there.
pub(super) fn is_mirrored(slice: &EndpointSlice) -> bool {
    manager(slice) == Some(CONTROLLERS[1])
}

/// What others have added to the metadata, such as a webhook that labels everything, stays.
fn own_write(present: Option<&EndpointSlice>, own: &EndpointSlice) -> Option<Write> {
    let Some(present) = present else {
        return Some(Write::Create(own.clone()));
    };
    if present.address_type != own.address_type {
        // It can't be changed.
        return Some(Write::Delete(present.clone()));
    }
    let mut labels = present.metadata.labels.clone().unwrap_or_default();
    labels.extend(own.metadata.labels.clone().unwrap_or_default());
    let added = present.metadata.owner_references.iter().flatten();
    let added = added.filter(|owner| owner.kind != "Pod").cloned();
    let mut owners = own.metadata.owner_references.clone().unwrap_or_default();
    owners.extend(added);
    let wanted = EndpointSlice {
        metadata: ObjectMeta {
            labels: Some(labels),
            owner_references: Some(owners),
            ..present.metadata.clone()
        },
        ..own.clone()
    };
    (wanted != *present).then_some(Write::Replace(wanted))
}

/// Takes something away, or nothing is to be done: only a pod itself says that it can be had.
fn write_for_another(slice: &EndpointSlice, pods: &[Pod]) -> Option<Write> {
    let Some(pod) = pods.iter().find(|pod| is_of(slice, pod)) else {
        return Some(Write::Delete(slice.clone()));
    };
    let should = conditions(Role::of(slice)?, pod, Phase::Serves);
    let mut less = slice.clone();
    for endpoint in &mut less.endpoints {
        let now = endpoint.conditions.get_or_insert_default();
        now.ready = Some(now.ready != Some(false) && should.ready == Some(true));
        now.serving = Some(now.serving != Some(false) && should.serving == Some(true));
        now.terminating = Some(now.terminating == Some(true) || should.terminating == Some(true));
    }
    (less != *slice).then_some(Write::Replace(less))
}

/// The name of the pod that the slice is of.
pub(super) fn target(slice: &EndpointSlice) -> Option<&str> {
    let target = slice.endpoints.first()?.target_ref.as_ref()?;
    target.name.as_deref()
}

/// Whether the slice is of this very pod, not of another of its name.
fn is_of(slice: &EndpointSlice, pod: &Pod) -> bool {
    uids(slice).any(|of| of == uid(pod)) && !is_over(pod)
}

/// Of the pods that it is of.
fn uids(slice: &EndpointSlice) -> impl Iterator<Item = &str> {
    let targets = slice.endpoints.iter();
    let targets = targets.filter_map(|it| it.target_ref.as_ref());
    targets.filter_map(|target| target.uid.as_deref())
}

/// Whether its containers have ended for good, as when it was evicted.
fn is_over(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// By the API server's word.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|it| it.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// One of each family, IPv4's first.
pub(super) fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let known = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ips.as_ref());
    let known = known.into_iter().flatten();
    let mut addresses: Vec<IpAddr> = known.filter_map(|it| it.ip.parse().ok()).collect();
    addresses.sort();
    addresses.dedup_by_key(|address| address.is_ipv4());
    addresses
}

pub(super) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub(super) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub(super) fn label<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let labels = pod.metadata.labels.as_ref()?;
    labels.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodCondition, PodIP, PodSpec, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn service() -> ServiceName {
        ServiceName {
            namespace: "ftp".to_owned(),
            name: "ferry".to_owned(),
        }
    }

    fn ports() -> Ports {
        let mut config = Config::default();
        config.passive.ports = PortRange::new(30_010..=30_011).unwrap();
        let listening = ["[::]:2121", "[::]:2990"].map(|it| it.parse().unwrap());
        Ports::of(&config, &listening)
    }

    fn pod(name: &str, uid: &str, is_ready: bool) -> Pod {
        let condition = |kind: &str, holds: bool| PodCondition {
            type_: kind.to_owned(),
            status: if holds { "True" } else { "False" }.to_owned(),
            ..PodCondition::default()
        };
        let ips = ["fd00::7", "10.0.0.7"].map(|ip| PodIP { ip: ip.to_owned() });
        Pod {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some("ftp".to_owned()),
                uid: Some(uid.to_owned()),
                labels: Some(BTreeMap::from([(ZONE.to_owned(), "a".to_owned())])),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                node_name: Some("node".to_owned()),
                ..PodSpec::default()
            }),
            status: Some(PodStatus {
                pod_ips: Some(ips.to_vec()),
                conditions: Some(vec![
                    condition("Initialized", true),
                    condition("Ready", is_ready),
                ]),
                ..PodStatus::default()
            }),
        }
    }

    fn ending(mut pod: Pod) -> Pod {
        let now = "2026-01-01T00:00:00Z".parse().map(Time);
        pod.metadata.deletion_timestamp = now.ok();
        assert!(pod.metadata.deletion_timestamp.is_some());
        pod
    }

    fn slices(pod: &Pod, phase: Phase) -> Vec<EndpointSlice> {
        own_slices(&service(), &ports(), pod, phase)
    }

    /// As the API server keeps it.
    fn kept(mut slice: EndpointSlice) -> EndpointSlice {
        slice.metadata.resource_version = Some("7".to_owned());
        slice.metadata.uid = Some("a-slice".to_owned());
        slice
    }

    fn all_kept(pod: &Pod, phase: Phase) -> Vec<EndpointSlice> {
        slices(pod, phase).into_iter().map(kept).collect()
    }

    /// All writes.
    fn writes(present: &[EndpointSlice], own: &[EndpointSlice], pods: &[Pod]) -> Vec<Write> {
        let (own, others) = super::writes(present, own, pods);
        own.into_iter().chain(others).collect()
    }

    fn names(slices: &[EndpointSlice]) -> Vec<&str> {
        let names = slices.iter().map(|slice| slice.metadata.name.as_deref());
        names.map(Option::unwrap).collect()
    }

    /// Ready, serving, terminating; of the control ports or of the others.
    fn told(slices: &[EndpointSlice], role: Role) -> (bool, bool, bool) {
        let slice = slices.iter().find(|slice| Role::of(slice) == Some(role));
        let conditions = slice.unwrap().endpoints[0].conditions.clone().unwrap();
        let [ready, serving, terminating] =
            [conditions.ready, conditions.serving, conditions.terminating].map(Option::unwrap);
        (ready, serving, terminating)
    }

    #[test]
    fn a_pod_has_its_control_ports_in_one_slice_and_the_passive_ones_in_another_for_each_family() {
        let slices = slices(&pod("ferry-1", "u", true), Phase::Serves);
        let all = [
            "ferry-1-data-ipv4",
            "ferry-1-data-ipv6",
            "ferry-1-control-ipv4",
            "ferry-1-control-ipv6",
        ];
        assert_eq!(names(&slices), all);
        let ports = |slice: &EndpointSlice| {
            let ports = slice.ports.iter().flatten();
            ports
                .map(|port| (port.name.clone().unwrap(), port.port.unwrap()))
                .collect::<Vec<_>>()
        };
        let named = |name: &str, port| (name.to_owned(), port);
        assert_eq!(
            ports(&slices[0]),
            [
                named("passive-30010", 30_010),
                named("passive-30011", 30_011)
            ]
        );
        assert_eq!(ports(&slices[3]), [named("ftp", 2121), named("ftps", 2990)]);
        assert_eq!(
            (
                &*slices[0].address_type,
                &*slices[0].endpoints[0].addresses[0]
            ),
            ("IPv4", "10.0.0.7")
        );
        assert_eq!(
            (
                &*slices[3].address_type,
                &*slices[3].endpoints[0].addresses[0]
            ),
            ("IPv6", "fd00::7")
        );
        let endpoint = &slices[0].endpoints[0];
        assert_eq!(
            (endpoint.node_name.as_deref(), endpoint.zone.as_deref()),
            (Some("node"), Some("a"))
        );
        let target = endpoint.target_ref.clone().unwrap();
        assert_eq!(
            (target.kind.as_deref(), target.uid.as_deref()),
            (Some("Pod"), Some("u"))
        );
        assert_eq!(
            slices[0].metadata.owner_references.as_ref().unwrap()[0].uid,
            "u"
        );
    }

    #[test]
    fn control_connections_go_to_who_is_ready_and_data_connections_to_who_is_there() {
        let ready = pod("ferry-1", "u", true);
        let unready = pod("ferry-1", "u", false);
        for (pod, phase, control, data) in [
            (
                &ready,
                Phase::Serves,
                (true, true, false),
                (true, true, false),
            ),
            (
                &unready,
                Phase::Serves,
                (false, false, false),
                (true, true, false),
            ),
            (
                &ready,
                Phase::Withdraws,
                (false, true, true),
                (true, true, true),
            ),
            (
                &ready,
                Phase::Drains,
                (false, false, true),
                (true, true, true),
            ),
            (
                &ending(ready.clone()),
                Phase::Serves,
                (false, true, true),
                (true, true, true),
            ),
            (
                &ending(unready.clone()),
                Phase::Serves,
                (false, false, true),
                (true, true, true),
            ),
        ] {
            let slices = slices(pod, phase);
            assert_eq!(told(&slices, Role::Control), control, "{phase:?}");
            assert_eq!(told(&slices, Role::Data), data, "{phase:?}");
        }
    }

    #[test]
    fn the_own_slices_are_made_and_then_left_alone_while_they_are_right() {
        let own = pod("ferry-1", "u", true);
        let wanted = slices(&own, Phase::Serves);
        let made: Vec<_> = wanted.iter().cloned().map(Write::Create).collect();
        assert_eq!(writes(&[], &wanted, std::slice::from_ref(&own)), made);
        let present = all_kept(&own, Phase::Serves);
        assert_eq!(writes(&present, &wanted, std::slice::from_ref(&own)), []);
    }

    /// A pod of a `StatefulSet` has the name of the one before.
    #[test]
    fn slices_of_the_pod_before_are_taken_over_on_the_condition_of_their_version() {
        let (old, new) = (pod("ferry-1", "old", true), pod("ferry-1", "new", false));
        let wanted = slices(&new, Phase::Serves);
        let writes = writes(&all_kept(&old, Phase::Serves), &wanted, &[new]);
        assert_eq!(writes.len(), 4);
        for write in writes {
            let Write::Replace(slice) = write else {
                panic!("{write:?}")
            };
            assert_eq!(slice.metadata.resource_version.as_deref(), Some("7"));
            assert_eq!(slice.metadata.owner_references.unwrap()[0].uid, "new");
            assert_eq!(
                slice.endpoints[0]
                    .target_ref
                    .clone()
                    .unwrap()
                    .uid
                    .as_deref(),
                Some("new")
            );
        }
    }

    #[test]
    fn slices_of_another_pod_are_only_made_to_say_less() {
        let own = pod("ferry-1", "own", true);
        let own_slices = slices(&own, Phase::Serves);
        let other = |is_ready| pod("ferry-2", "other", is_ready);
        let of_others = |was: &Pod, phase, is: &Pod| {
            let mut present = all_kept(was, phase);
            present.extend(all_kept(&own, Phase::Serves));
            writes(&present, &own_slices, &[own.clone(), is.clone()])
        };
        // It has become ready, and will say so itself.
        assert_eq!(of_others(&other(false), Phase::Serves, &other(true)), []);
        // It knows that it ends, which the API server does not.
        assert_eq!(of_others(&other(true), Phase::Drains, &other(true)), []);
        let unready = of_others(&other(true), Phase::Serves, &other(false));
        assert_eq!(unready.len(), 2, "{unready:?}");
        for write in unready {
            let Write::Replace(slice) = write else {
                panic!("{write:?}")
            };
            assert_eq!(told(&[slice], Role::Control), (false, false, false));
        }
        let ending = of_others(&other(true), Phase::Serves, &ending(other(true)));
        let ending = ending.into_iter().map(|write| match write {
            Write::Replace(slice) => slice,
            write => panic!("{write:?}"),
        });
        let ending: Vec<_> = ending.collect();
        assert_eq!(told(&ending, Role::Control), (false, true, true));
        assert_eq!(told(&ending, Role::Data), (true, true, true));
    }

    #[test]
    fn what_others_add_to_the_metadata_stays_and_is_no_reason_to_write() {
        let own = pod("ferry-1", "own", true);
        let mut present = all_kept(&own, Phase::Serves);
        for slice in &mut present {
            let labels = slice.metadata.labels.get_or_insert_default();
            labels.insert("costs".to_owned(), "us".to_owned());
            let owners = slice.metadata.owner_references.get_or_insert_default();
            owners.push(OwnerReference {
                kind: "Team".to_owned(),
                ..OwnerReference::default()
            });
        }
        let pods = [own.clone()];
        assert_eq!(writes(&present, &slices(&own, Phase::Serves), &pods), []);
        let writes = writes(&present, &slices(&own, Phase::Withdraws), &pods);
        assert_eq!(writes.len(), 4);
        for write in writes {
            let Write::Replace(slice) = write else {
                panic!("{write:?}")
            };
            assert!(slice.metadata.labels.unwrap().contains_key("costs"));
            assert_eq!(slice.metadata.owner_references.unwrap().len(), 2);
        }
    }

    /// The Service had a selector once.
    #[test]
    fn what_the_controllers_of_kubernetes_have_left_is_removed_and_nothing_of_others() {
        let own = pod("ferry-1", "own", true);
        let by = |name: &str, manager: &str| {
            let mut slice = all_kept(&own, Phase::Serves).remove(0);
            slice.metadata.name = Some(name.to_owned());
            let labels = slice.metadata.labels.get_or_insert_default();
            labels.insert(MANAGER.to_owned(), manager.to_owned());
            slice
        };
        let [controller, mirroring] = CONTROLLERS;
        let mut present = all_kept(&own, Phase::Serves);
        present.push(by("ferry-x", controller));
        present.push(by("ferry-y", mirroring));
        present.push(by("ferry-z", "somebody"));
        let pods = [own.clone()];
        let writes = writes(&present, &slices(&own, Phase::Serves), &pods);
        let removed = present[4..6].iter().cloned().map(Write::Delete);
        assert_eq!(writes, removed.collect::<Vec<_>>());
        assert!(is_mirrored(&present[5]) && !is_mirrored(&present[4]));
    }

    #[test]
    fn who_leaves_a_service_takes_its_own_slices_along() {
        let (own, other) = (pod("ferry-1", "own", true), pod("ferry-2", "other", true));
        let mut present = all_kept(&other, Phase::Serves);
        let mine = all_kept(&own, Phase::Serves);
        present.extend(mine.clone());
        let removed: Vec<_> = mine.into_iter().map(Write::Delete).collect();
        assert_eq!(farewell(&present, "own"), removed);
    }

    #[test]
    fn slices_of_pods_that_are_gone_or_over_are_removed() {
        let own = pod("ferry-1", "own", true);
        let own_slices = slices(&own, Phase::Serves);
        let other = pod("ferry-2", "other", true);
        let mut present = all_kept(&other, Phase::Serves);
        present.extend(all_kept(&own, Phase::Serves));
        let removed: Vec<_> = all_kept(&other, Phase::Serves)
            .into_iter()
            .map(Write::Delete)
            .collect();
        let mut evicted = other.clone();
        evicted.status.as_mut().unwrap().phase = Some("Failed".to_owned());
        let successor = pod("ferry-2", "successor", true);
        for now in [None, Some(evicted), Some(successor)] {
            let pods: Vec<_> = std::iter::once(own.clone()).chain(now).collect();
            assert_eq!(writes(&present, &own_slices, &pods), removed);
        }
    }
}
