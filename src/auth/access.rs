//! Who wants to log in, and from where and when a user may: the keys of the users file for it.

use std::net::IpAddr;
use std::time::SystemTime;

use chrono::DateTime;
use ipnet::IpNet;
use toml::Value;

use super::certificate_name::CertificateName;
use super::fault::{kind, shown};
use crate::config::RequireTls;

/// A client, as far as a login depends on it.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its address.
    pub peer: IpAddr,
    /// Its control connection is encrypted.
    pub is_encrypted: bool,
    /// The names of its certificate, which was verified; empty if it showed none.
    pub certificate: Vec<CertificateName>,
}

impl Client {
    /// A client in clear at this address.
    pub fn in_clear(peer: IpAddr) -> Self {
        Self {
            peer,
            is_encrypted: false,
            certificate: Vec::new(),
        }
    }
}

/// Why a client is not the user that it says it is, or may not be. For logs and metrics; a client must not be able to
/// tell one from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// There is no user of that name.
    UnknownUser,
    /// There is, but the password is not theirs.
    WrongPassword,
    /// The password may be right, but the client's certificate is not theirs, or it has none.
    WrongCertificate,
    /// The password was right and came in clear, where this user must encrypt.
    TlsRequired,
    /// The user's `allow` does not have the client's address.
    AddressNotAllowed,
    /// The user is `disabled`.
    Disabled,
    /// It is before the user's `not_before`.
    NotYetValid,
    /// The user's `expires` is over.
    Expired,
}

impl Denied {
    /// The label of a metric: `unknown_user`, `wrong_password`, `wrong_certificate`, `tls_required`,
    /// `address_not_allowed`, `disabled`, `not_yet_valid` or `expired`.
    pub fn label(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown_user",
            Self::WrongPassword => "wrong_password",
            Self::WrongCertificate => "wrong_certificate",
            Self::TlsRequired => "tls_required",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::Disabled => "disabled",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
        }
    }
}

/// The terms on which a user may be logged in. The default has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The networks from which the user may come; if empty, all of them.
    pub allow: Vec<IpNet>,
    /// Nobody may be this user for now.
    pub disabled: bool,
    /// From when on.
    pub not_before: Option<SystemTime>,
    /// Until when: at this moment it is over.
    pub expires: Option<SystemTime>,
}

impl Access {
    /// Why a client at this address may not be the user at this time; `None` if it may.
    pub(super) fn refusal(&self, peer: IpAddr, now: SystemTime) -> Option<Denied> {
        if self.disabled {
            Some(Denied::Disabled)
        } else if self.not_before.is_some_and(|begin| now < begin) {
            Some(Denied::NotYetValid)
        } else if self.expires.is_some_and(|end| now >= end) {
            Some(Denied::Expired)
        } else if !self.admits(peer) {
            Some(Denied::AddressNotAllowed)
        } else {
            None
        }
    }

    fn admits(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.allow.is_empty() || self.allow.iter().any(|network| network.contains(&peer))
    }
}

/// What networks may be, for error messages.
pub(super) const ALLOWED_NETWORKS: &str = "a list of networks or addresses, such as [\"192.0.2.0/24\", \"2001:db8::7\"]; not an empty one";

/// Reads networks, or says what was found instead.
pub(super) fn networks(value: &Value) -> Result<Vec<IpNet>, String> {
    let networks = value.as_array().ok_or_else(|| kind(value).to_owned())?;
    if networks.is_empty() {
        return Err("an empty list".to_owned());
    }
    let unknown: Vec<String> = networks.iter().filter_map(|it| network(it).err()).collect();
    if unknown.is_empty() {
        networks.iter().map(network).collect()
    } else {
        Err(format!("a list with {}", unknown.join(", ")))
    }
}

fn network(value: &Value) -> Result<IpNet, String> {
    let text = value.as_str().ok_or_else(|| kind(value).to_owned())?;
    let network = text.parse().ok();
    let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network.ok_or_else(|| shown(text))
}

/// What a user may have to encrypt, for error messages.
pub(super) const ALLOWED_REQUIRE_TLS: &str = "\"none\", \"control\" or \"all\"";

/// Reads what a user must encrypt, or says what was found instead.
pub(super) fn require_tls(value: &Value) -> Result<RequireTls, String> {
    match value.as_str().ok_or_else(|| kind(value).to_owned())? {
        "none" => Ok(RequireTls::None),
        "control" => Ok(RequireTls::Control),
        "all" => Ok(RequireTls::All),
        other => Err(shown(other)),
    }
}

/// What `disabled` may be, for error messages.
pub(super) const ALLOWED_DISABLED: &str = "true or false";

/// Reads whether a user is disabled, or says what was found instead.
pub(super) fn disabled(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| match value {
        Value::String(text) => shown(text),
        other => kind(other).to_owned(),
    })
}

/// What a time may be, for error messages.
pub(super) const ALLOWED_TIMES: &str = "a time with its offset (RFC 3339), such as \"2030-01-31T18:00:00Z\" or \"2030-01-31T18:00:00+01:00\"";

/// Reads a time, as a text or as TOML has times, or says what was found instead.
pub(super) fn time(value: &Value) -> Result<SystemTime, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Datetime(time) => time.to_string(),
        other => return Err(kind(other).to_owned()),
    };
    let time = DateTime::parse_from_rfc3339(&text);
    time.map(SystemTime::from).map_err(|_| shown(&text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn value(text: &str) -> Value {
        let table = format!("it = {text}").parse::<toml::Table>().unwrap();
        table.get("it").unwrap().clone()
    }

    fn peer(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_hold_as_those_of_the_gateway_do() {
        let allow = networks(&value("[\"192.0.2.0/24\", \"2001:db8::7\"]")).unwrap();
        let access = Access {
            allow,
            ..Access::default()
        };
        let refusal = |text| access.refusal(peer(text), SystemTime::now());
        for inside in ["192.0.2.9", "::ffff:192.0.2.9", "2001:db8::7"] {
            assert_eq!(refusal(inside), None, "{inside}");
        }
        for outside in ["192.0.3.1", "2001:db8::8"] {
            assert_eq!(refusal(outside), Some(Denied::AddressNotAllowed));
        }
        assert_eq!(
            Access::default().refusal(peer("::1"), SystemTime::now()),
            None
        );
    }

    #[test]
    fn a_time_begins_and_ends_at_its_moment() {
        let (begin, end) = (
            value("\"2030-01-31T18:00:00+01:00\""),
            value("2030-02-01T00:00:00Z"),
        );
        let access = Access {
            not_before: Some(time(&begin).unwrap()),
            expires: Some(time(&end).unwrap()),
            ..Access::default()
        };
        let at = |text: &str| access.refusal(peer("::1"), humantime::parse_rfc3339(text).unwrap());
        assert_eq!(at("2030-01-31T16:59:59Z"), Some(Denied::NotYetValid));
        assert_eq!(at("2030-01-31T17:00:00Z"), None);
        assert_eq!(at("2030-01-31T23:59:59Z"), None);
        assert_eq!(at("2030-02-01T00:00:00Z"), Some(Denied::Expired));
    }

    #[test]
    fn whoever_is_disabled_is_so_at_all_times() {
        let access = Access {
            disabled: true,
            ..Access::default()
        };
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        assert_eq!(
            access.refusal(peer("::1"), long_ago),
            Some(Denied::Disabled)
        );
    }

    #[test]
    fn what_means_nothing_is_said() {
        for (text, found) in [
            ("[]", "an empty list"),
            ("\"192.0.2.0/24\"", "a text"),
            (
                "[\"192.0.2.0/33\", 7]",
                "a list with \"192.0.2.0/33\", an integer",
            ),
        ] {
            assert_eq!(networks(&value(text)).unwrap_err(), found);
        }
        for (text, found) in [
            ("2030-01-31", "\"2030-01-31\""),
            ("2030-01-31T18:00:00", "\"2030-01-31T18:00:00\""),
            ("\"tomorrow\"", "\"tomorrow\""),
            ("7", "an integer"),
        ] {
            assert_eq!(time(&value(text)).unwrap_err(), found);
        }
        assert_eq!(disabled(&value("\"no\"")).unwrap_err(), "\"no\"");
        assert_eq!(disabled(&value("1")).unwrap_err(), "an integer");
    }
}
