//! What two settings say that can't both hold, though each of them could.
//!
//! It is told where the later of the two was written.

use super::error::{ConfigError, Origin, Problem};
use super::key::Key;
use super::network::MOST_SHARED;
use super::sections::Config;

/// Where each setting was written last.
pub(super) type Origins = std::collections::HashMap<Key, Origin>;

/// All of it.
pub(super) fn contradictions(config: &Config, origins: &Origins) -> Vec<ConfigError> {
    [
        share_of_any(config),
        small_share(config),
        no_pod(config),
        large_share(config),
    ]
    .into_iter()
    .flatten()
    .filter_map(|contradiction| contradiction.located(origins))
    .collect()
}

/// A setting that can't hold beside another.
struct Contradiction {
    setting: &'static str,
    found: String,
    allowed: String,
}

impl Contradiction {
    /// Nothing, if nobody wrote the setting: then it is its default, which goes with every other.
    fn located(self, origins: &Origins) -> Option<ConfigError> {
        let key = Key::from_dotted(self.setting);
        let origin = origins.get(&key)?.clone();
        let (found, allowed) = (self.found, self.allowed);
        Some(ConfigError::new(
            origin,
            &key,
            Problem::Value { found, allowed },
        ))
    }
}

fn share_of_any(config: &Config) -> Option<Contradiction> {
    let share = config.passive.share?;
    config.passive.ports.is_any().then(|| Contradiction {
        setting: "passive.share",
        found: format!("found {share}, and passive.ports is 0"),
        allowed: "a share of ports that are named: set passive.ports to a range".to_owned(),
    })
}

fn small_share(config: &Config) -> Option<Contradiction> {
    let share = config.passive.share?;
    let ports = config.passive.ports;
    let is_too_small = !ports.is_any() && ports.len() < usize::from(share.count());
    is_too_small.then(|| Contradiction {
        setting: "passive.share",
        found: format!("found {share}, and passive.ports has only {}", ports.len()),
        allowed: "a port for each share, at least".to_owned(),
    })
}

fn no_pod(config: &Config) -> Option<Contradiction> {
    let service = config.cluster.service.as_ref()?;
    config.cluster.pod.is_none().then(|| Contradiction {
        setting: "cluster.service",
        found: format!("found \"{service}\", and cluster.pod is not set"),
        allowed: "a Service beside the name of the gateway's own pod".to_owned(),
    })
}

fn large_share(config: &Config) -> Option<Contradiction> {
    let service = config.cluster.service.as_ref()?;
    let ports = config.passive.own_ports();
    let found = match config.passive.share {
        _ if ports.is_any() => "and passive.ports is 0".to_owned(),
        _ if ports.len() <= MOST_SHARED => return None,
        share => format!(
            "and the ports {ports} of {} are {}",
            share.map_or("passive.ports".to_owned(), |share| format!(
                "passive.share {share}"
            )),
            ports.len()
        ),
    };
    Some(Contradiction {
        setting: "cluster.service",
        found: format!("found \"{service}\", {found}"),
        allowed: format!(
            "a Service for at most {MOST_SHARED} passive ports of each pod: set passive.share, or fewer passive.ports"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigFile, Sources};
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let file = ConfigFile {
            path: "b.toml".into(),
            text: text.to_owned(),
        };
        let sources = Sources {
            file: Some(file),
            ..Sources::default()
        };
        Config::load(&sources).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_share_needs_ports_to_share() {
        let refused = load("[passive]\nports = 0\nshare = \"0/3\"").unwrap_err();
        assert!(
            refused.starts_with("b.toml:3: passive.share: found 0/3, and passive.ports is 0;"),
            "{refused}"
        );
        let refused = load("[passive]\nports = \"30000-30001\"\nshare = \"0/3\"").unwrap_err();
        assert!(
            refused.contains("passive.ports has only 2; allowed: a port for each"),
            "{refused}"
        );
        load("[passive]\nports = \"30000-30002\"\nshare = \"0/3\"").unwrap();
    }

    #[test]
    fn a_service_needs_a_pod_and_few_ports() {
        let refused = load("[cluster]\nservice = \"a/b\"").unwrap_err();
        assert!(
            refused.starts_with(
                "b.toml:2: cluster.service: found \"a/b\", and cluster.pod is not set"
            ),
            "{refused}"
        );
        let both = "[cluster]\nservice = \"a/b\"\npod = \"b-0\"\n[passive]\n";
        let refused = load(&format!("{both}ports = \"30000-30099\"")).unwrap_err();
        assert!(
            refused.contains("the ports 30000-30099 of passive.ports are 100; allowed:"),
            "{refused}"
        );
        let refused = load(&format!("{both}ports = \"30000-30299\"\nshare = \"2/3\"")).unwrap_err();
        assert!(
            refused.contains("the ports 30200-30299 of passive.share 2/3 are 100"),
            "{refused}"
        );
        assert!(
            load(&format!("{both}ports = 0"))
                .unwrap_err()
                .contains("passive.ports is 0")
        );
        load(&format!("{both}ports = \"30000-30098\"")).unwrap();
        load(&format!("{both}ports = \"30000-30296\"\nshare = \"2/3\"")).unwrap();
        load(both).unwrap();
    }
}
