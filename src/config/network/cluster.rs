//! Names of Kubernetes: of the Service that several gateways are behind, and of a gateway's own pod.

use std::fmt;

use toml::Value;

use crate::config::setting::{Setting, found, text};

/// Longest label that DNS has, in characters.
const LONGEST_LABEL: usize = 63;

/// Longest name that DNS has, in characters.
const LONGEST_NAME: usize = 253;

/// A Service of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceName {
    /// Where the Service is.
    pub namespace: String,
    /// What it is called.
    pub name: String,
}

impl ServiceName {
    /// Of `NAMESPACE/NAME`.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        (is_label(namespace) && is_label(name)).then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Setting for ServiceName {
    fn allowed() -> String {
        "a Service of Kubernetes as NAMESPACE/NAME".to_owned()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        Self::from_text(text(value)?).ok_or_else(|| found(value))
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

/// The name of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName(String);

impl PodName {
    /// As Kubernetes has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Setting for PodName {
    fn allowed() -> String {
        "the name of a pod: small letters, digits, hyphens and dots".to_owned()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        let name = text(value)?;
        if name.len() <= LONGEST_NAME && name.split('.').all(is_label) {
            Ok(Self(name.to_owned()))
        } else {
            Err(found(value))
        }
    }

    fn show(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// A label of DNS in small letters (RFC 1123).
fn is_label(name: &str) -> bool {
    (1..=LONGEST_LABEL).contains(&name.len())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(text: &str) -> Result<ServiceName, String> {
        ServiceName::parse(&Value::String(text.to_owned()))
    }

    fn pod(text: &str) -> Result<PodName, String> {
        PodName::parse(&Value::String(text.to_owned()))
    }

    #[test]
    fn a_service_is_named_with_its_namespace() {
        assert_eq!(
            service("ftp/gateway-0").unwrap().to_string(),
            "ftp/gateway-0"
        );
        for text in [
            "", "ftp", "ftp/", "/ftp", "ftp/-a", "ftp/A", "ftp/a/b", "ftp/a.b",
        ] {
            assert!(service(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pod_has_a_name_that_dns_could_have() {
        assert_eq!(pod("ferry-0.a").unwrap().as_str(), "ferry-0.a");
        for text in [
            "",
            "Ferry",
            "a/b",
            "a..b",
            "-a",
            &"a".repeat(64),
            &"a.".repeat(130),
        ] {
            assert!(pod(text).is_err(), "{text}");
        }
    }
}
