//! Tries the way to the slices once, for `bucketferry check`.

use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::config::Config;
use crate::kubernetes::ApiTrouble;

use super::api::Cluster;
use super::member::Trouble;
use super::slices::{Phase, Ports, Write, own_slices};

/// Whether the gateway could write its slices, or why not; nothing, if it is not to write any. Nothing is changed.
pub async fn try_out(config: &Config) -> Option<Result<String, String>> {
    let service = config.cluster.service.as_ref()?;
    Some(match look(config).await? {
        Ok(()) => Ok(format!(
            "cluster.service: slices of the Service {service} can be written."
        )),
        Err(trouble) => Err(format!("cluster.service: {service}: {trouble}")),
    })
}

async fn look(config: &Config) -> Option<Result<(), Trouble>> {
    let service = config.cluster.service.as_ref()?;
    let pod = config.cluster.pod.as_ref()?;
    let implicit = config.ftp.implicit_tls_listen.iter();
    let listening: Vec<_> = config.ftp.listen.iter().chain(implicit).copied().collect();
    let trial = async {
        let (cluster, own) = Cluster::reach(service, pod).await?;
        let present = cluster.present().await?;
        if present.has_selector {
            return Err(Trouble::HasSelector);
        }
        let ports = Ports::of(config, &listening);
        let slices = own_slices(service, &ports, &own, Phase::Serves);
        if slices.is_empty() {
            return Err(Trouble::NoAddress(pod.as_str().to_owned()));
        }
        let names: Vec<_> = slices.iter().map(|own| own.metadata.name.clone()).collect();
        for mut slice in slices {
            let name = slice.metadata.name.take();
            slice.metadata.name = name.map(|name| format!("{name}-check"));
            cluster.write(&Write::Create(slice), true).await?;
        }
        let is_own = |slice: &EndpointSlice| names.contains(&slice.metadata.name);
        let own = present
            .slices
            .into_iter()
            .filter(is_own)
            .map(Write::Replace);
        for write in own {
            match cluster.write(&write, true).await {
                // The gateway itself may be at it.
                Ok(()) | Err(ApiTrouble::Conflict(_)) => {}
                Err(trouble) => return Err(trouble.into()),
            }
        }
        Ok(())
    };
    Some(trial.await)
}
