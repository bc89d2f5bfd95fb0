//! Tries the way to the slices once, for `bucketferry check`.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::kubernetes::ApiTrouble;

use super::api::Cluster;
use super::slices::{Phase, Ports, Write, own_slices, target, writes};

/// What the gateway would do with its slices, or why it can't; nothing, if it is not to write any. Nothing is changed.
pub async fn try_out(config: &Config) -> Option<Result<String, String>> {
    let service = config.cluster.service.as_ref()?;
    Some(match look(config).await? {
        Ok(count) => Ok(format!(
            "cluster.service: the Service {service} has slices of {count} pods, and those of this one can be written."
        )),
        Err(trouble) => Err(format!("cluster.service: {service}: {trouble}")),
    })
}

async fn look(config: &Config) -> Option<Result<usize, ApiTrouble>> {
    let service = config.cluster.service.as_ref()?;
    let pod = config.cluster.pod.as_ref()?;
    let trial = async {
        let (cluster, own) = Cluster::reach(service, pod).await?;
        let present = cluster.present().await?;
        let ports = Ports {
            control: vec![("ftp", 2121)],
            passive: config.passive.own_ports(),
        };
        let own = own_slices(service, &ports, &own, Phase::Serves);
        for write in writes(&present.slices, &own, &present.pods) {
            if matches!(write, Write::Create(_) | Write::Replace(_)) {
                cluster.write(&write, true).await?;
            }
        }
        let pods: BTreeSet<_> = present.slices.iter().filter_map(target).collect();
        Ok(pods.len())
    };
    Some(trial.await)
}
