//! Which address clients are told to open their passive data connections to.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use toml::Value;

use super::cluster::ServiceName;
use crate::config::setting::{Setting, found, text};

/// Longest name that DNS has, in characters.
const LONGEST_NAME: usize = 253;

/// Longest part of such a name.
const LONGEST_LABEL: usize = 63;

/// The address that clients are told to open passive data connections to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PassiveAddress {
    /// The one that their control connection came to.
    Connection,
    /// Always this one. A 227 has room for no other kind.
    Ip(Ipv4Addr),
    /// What this name stands for.
    Dns(String),
    /// What the load balancer of a Kubernetes Service has.
    Service(ServiceName),
}

impl PassiveAddress {
    fn from_text(text: &str) -> Result<Self, Option<&'static str>> {
        if text == "connection" {
            return Ok(Self::Connection);
        }
        if let Some(name) = text.strip_prefix("dns:") {
            return if is_dns_name(name) {
                Ok(Self::Dns(name.to_ascii_lowercase()))
            } else {
                Err(Some("no name that DNS could have"))
            };
        }
        if let Some(service) = text.strip_prefix("service:") {
            return Self::service(service);
        }
        match text.parse() {
            Ok(IpAddr::V4(address)) if can_be_reached(address) => Ok(Self::Ip(address)),
            Ok(IpAddr::V6(_)) => Err(Some(
                "the reply to PASV has no room for an IPv6 address; EPSV needs none",
            )),
            _ => Err(None),
        }
    }

    fn service(text: &str) -> Result<Self, Option<&'static str>> {
        ServiceName::from_text(text)
            .map(Self::Service)
            .ok_or(Some("after `service:` come NAMESPACE/NAME"))
    }
}

/// Whether it can be somebody's address, which clients are told.
pub(crate) fn can_be_reached(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast()
}

/// Letters, digits, hyphens and underscores between dots; one more dot may be at the end.
fn is_dns_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=LONGEST_LABEL).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= LONGEST_NAME && name.split('.').all(is_label)
}

impl fmt::Display for PassiveAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection => f.write_str("connection"),
            Self::Ip(ip) => ip.fmt(f),
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Service(service) => write!(f, "service:{service}"),
        }
    }
}

impl Setting for PassiveAddress {
    fn allowed() -> String {
        "`connection`, an IPv4 address that clients can reach, `dns:NAME`, or `service:NAMESPACE/NAME`"
            .to_owned()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        match Self::from_text(text(value)?) {
            Ok(address) => Ok(address),
            Err(Some(reason)) => Err(format!("{} ({reason})", found(value))),
            Err(None) => Err(found(value)),
        }
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

/// Other addresses for the clients of some networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressOverrides(BTreeMap<IpNet, PassiveAddress>);

impl FromIterator<(IpNet, PassiveAddress)> for AddressOverrides {
    fn from_iter<I: IntoIterator<Item = (IpNet, PassiveAddress)>>(overrides: I) -> Self {
        Self(overrides.into_iter().collect())
    }
}

impl AddressOverrides {
    /// Each network with its address.
    pub fn iter(&self) -> impl Iterator<Item = (&IpNet, &PassiveAddress)> {
        self.0.iter()
    }

    /// Reads pairs, and says what is wrong with every one that can't be.
    fn from_pairs<'a>(pairs: impl Iterator<Item = (&'a str, Value)>) -> Result<Self, String> {
        let mut overrides = Self::default();
        let mut wrong = Vec::new();
        for (network, address) in pairs {
            match pair(network, &address) {
                Ok((network, address)) => {
                    if overrides.0.insert(network, address).is_some() {
                        wrong.push(format!("found the network {network} twice"));
                    }
                }
                Err(found) => wrong.push(found),
            }
        }
        if wrong.is_empty() {
            Ok(overrides)
        } else {
            Err(wrong.join(", "))
        }
    }
}

fn pair(network: &str, address: &Value) -> Result<(IpNet, PassiveAddress), String> {
    let network = IpNet::parse(&Value::String(network.to_owned()))?;
    match PassiveAddress::parse(address)? {
        PassiveAddress::Service(_) => Err(format!("{} (not for a network)", found(address))),
        address => Ok((network, address)),
    }
}

/// A table, or one text with commas: `10.0.0.0/8=connection,192.0.2.0/24=dns:ftp.example.com`.
impl Setting for AddressOverrides {
    fn allowed() -> String {
        "a table whose keys are networks or IP addresses, and whose values are `connection`, an IPv4 \
         address or `dns:NAME`; or one text such as `10.0.0.0/8=connection,192.0.2.0/24=192.0.2.1`"
            .to_owned()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::Table(table) => Self::from_pairs(
                table
                    .iter()
                    .map(|(network, address)| (network.as_str(), address.clone())),
            ),
            Value::String(text) if text.trim().is_empty() => Ok(Self::default()),
            Value::String(text) => {
                let pairs: Option<Vec<_>> =
                    text.split(',').map(|pair| pair.split_once('=')).collect();
                let pairs = pairs.ok_or_else(|| found(value))?;
                Self::from_pairs(pairs.into_iter().map(|(network, address)| {
                    (network.trim(), Value::String(address.trim().to_owned()))
                }))
            }
            _ => Err(found(value)),
        }
    }

    fn show(&self) -> Value {
        let pairs = self.0.iter();
        Value::Table(
            pairs
                .map(|(network, address)| (network.to_string(), address.show()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rule::Anything;
    use crate::config::setting::Written;

    fn parse(text: &str) -> Result<PassiveAddress, String> {
        PassiveAddress::parse(&Value::String(text.to_owned()))
    }

    #[test]
    fn an_address_is_the_connections_own_an_ip_or_a_name() {
        assert_eq!(parse("connection"), Ok(PassiveAddress::Connection));
        assert_eq!(
            parse("192.0.2.7"),
            Ok(PassiveAddress::Ip([192, 0, 2, 7].into()))
        );
        for name in ["ftp.example.com", "ftp", "a-b.c_d.", &"x".repeat(63)] {
            let address = parse(&format!("dns:{name}"));
            assert_eq!(address, Ok(PassiveAddress::Dns(name.to_owned())));
        }
        assert_eq!(
            parse("dns:FTP.Example.COM"),
            Ok(PassiveAddress::Dns("ftp.example.com".to_owned()))
        );
    }

    #[test]
    fn what_no_client_can_reach_is_refused() {
        for text in [
            "",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "ftp.example.com",
            "::",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        for name in [
            "",
            ".",
            "a..b",
            "a b",
            "ä",
            "a/b",
            &"x".repeat(64),
            &"x.".repeat(127),
        ] {
            let refused = parse(&format!("dns:{name}"));
            assert_eq!(refused.is_err(), name != "x.".repeat(127), "{name}");
        }
        assert!(parse("2001:db8::1").is_err_and(|error| error.contains("EPSV needs none")));
    }

    #[test]
    fn a_service_is_named_with_its_namespace() {
        let service = parse("service:ftp/gateway-0").unwrap();
        assert_eq!(service.to_string(), "service:ftp/gateway-0");
        let refused = overrides("10.0.0.0/8=service:ftp/gateway-0");
        assert!(refused.is_err_and(|error| error.contains("not for a network")));
        for text in [
            "ftp", "ftp/", "/ftp", "ftp/-a", "ftp/A", "ftp/a/b", "ftp/a.b",
        ] {
            let refused = parse(&format!("service:{text}"));
            assert!(
                refused.is_err_and(|error| error.contains("NAMESPACE/NAME")),
                "{text}"
            );
        }
    }

    fn overrides(text: &str) -> Result<AddressOverrides, String> {
        Written::Text(text.to_owned()).read(&Anything)
    }

    #[test]
    fn overrides_are_a_table_or_a_text() {
        let table = r#"{ "10.0.0.0/8" = "connection", "192.0.2.1" = "dns:a.example.com" }"#;
        let both = overrides(table).unwrap();
        assert_eq!(
            overrides("10.0.0.0/8 = connection, 192.0.2.1/32=dns:a.example.com"),
            Ok(both.clone())
        );
        assert_eq!(AddressOverrides::parse(&both.show()), Ok(both));
        assert_eq!(overrides(""), Ok(AddressOverrides::default()));
    }

    #[test]
    fn all_that_is_wrong_with_overrides_is_told() {
        let error = overrides("ten=connection,10.0.0.0/8=nine,192.0.2.0/24=192.0.2.1").unwrap_err();
        assert_eq!(error, r#"found "ten", found "nine""#);
        let error = overrides("10.0.0.0/8=connection,10.1.0.0/8=connection").unwrap_err();
        assert_eq!(error, "found the network 10.0.0.0/8 twice");
        assert!(overrides("10.0.0.0/8").is_err());
        assert!(overrides("7").is_err());
    }
}
