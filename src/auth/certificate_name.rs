//! The names of a client's certificate, each of its kind: a name of one kind is never that of another.
//!
//! Promises: two names are equal only if they are of one kind and, within it, what that kind takes for the same.
//! Must not: read certificates; the edge does.

use std::fmt;

use toml::Value;

use super::fault::{kind, shown};

/// The longest name that may be asked for, in characters.
const LONGEST_NAME: usize = 256;

/// One name of a certificate, or its fingerprint.
#[derive(Debug, Clone)]
pub enum CertificateName {
    /// An alternative name of a host (`dNSName`). Capital letters are small ones.
    Dns(String),
    /// An alternative name of a URI, letter by letter.
    Uri(String),
    /// An alternative name of mail (`rfc822Name`). Capital letters are small ones.
    Email(String),
    /// A common name of the subject. Capital letters are small ones.
    CommonName(String),
    /// The SHA-256 of the whole certificate.
    Sha256([u8; 32]),
}

impl CertificateName {
    fn kind(&self) -> &'static str {
        match self {
            Self::Dns(_) => "dns",
            Self::Uri(_) => "uri",
            Self::Email(_) => "email",
            Self::CommonName(_) => "cn",
            Self::Sha256(_) => "sha256",
        }
    }
}

impl PartialEq for CertificateName {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dns(one), Self::Dns(other))
            | (Self::Email(one), Self::Email(other))
            | (Self::CommonName(one), Self::CommonName(other)) => one.eq_ignore_ascii_case(other),
            (Self::Uri(one), Self::Uri(other)) => one == other,
            (Self::Sha256(one), Self::Sha256(other)) => one == other,
            (
                Self::Dns(_)
                | Self::Uri(_)
                | Self::Email(_)
                | Self::CommonName(_)
                | Self::Sha256(_),
                _,
            ) => false,
        }
    }
}

impl Eq for CertificateName {}

/// As the users file has it.
impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.kind())?;
        match self {
            Self::Dns(name) | Self::Uri(name) | Self::Email(name) | Self::CommonName(name) => {
                f.write_str(name)
            }
            Self::Sha256(digest) => digest.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

/// What a certificate may be called, for error messages.
pub(super) const ALLOWED_CERTIFICATES: &str = "a name of a client's certificate with its kind: \
     \"dns:scanner-3.example\", \"uri:spiffe://plant/scanner-3\", \"email:scanner@example.org\", \"cn:scanner 3\" or \
     \"sha256:\" and 64 hexadecimal digits; without a kind it is \"dns:\"";

/// Reads a name, or says what was found instead.
pub(super) fn certificate_name(value: &Value) -> Result<CertificateName, String> {
    let text = value.as_str().ok_or_else(|| kind(value).to_owned())?;
    parse(text).ok_or_else(|| shown(text))
}

fn parse(text: &str) -> Option<CertificateName> {
    let (kind, name) = text.split_once(':').unwrap_or(("dns", text));
    let is_readable = !name.chars().any(char::is_control);
    if name.is_empty() || name.chars().count() > LONGEST_NAME || !is_readable {
        return None;
    }
    let name_of = |may_be: bool| may_be.then(|| name.to_owned());
    match kind {
        "dns" => name_of(may_be_dns(name)).map(CertificateName::Dns),
        "uri" => name_of(name.contains(':')).map(CertificateName::Uri),
        "email" => name_of(name.contains('@')).map(CertificateName::Email),
        "cn" => Some(CertificateName::CommonName(name.to_owned())),
        "sha256" => digest(name).map(CertificateName::Sha256),
        _ => None,
    }
}

/// Whether a certificate can have such a name of a host: a common name such as `scanner 3` would never be found there.
fn may_be_dns(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte))
}

/// A fingerprint as tools print it: with colons between the bytes, or without.
fn digest(text: &str) -> Option<[u8; 32]> {
    let digits: String = text.chars().filter(|digit| *digit != ':').collect();
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<CertificateName, String> {
        certificate_name(&Value::String(text.to_owned()))
    }

    #[test]
    fn a_name_has_a_kind_and_without_one_it_is_of_a_host() {
        let hex = "0f".repeat(32);
        for (text, shown) in [
            ("scanner-3.example", "dns:scanner-3.example"),
            ("dns:scanner-3.example", "dns:scanner-3.example"),
            ("uri:spiffe://plant/scanner", "uri:spiffe://plant/scanner"),
            ("email:scanner@example.org", "email:scanner@example.org"),
            ("cn:scanner: 3", "cn:scanner: 3"),
            (&format!("sha256:{hex}"), &format!("sha256:{hex}")),
            (
                &format!("sha256:{}", ["0F"; 32].join(":")),
                &format!("sha256:{hex}"),
            ),
        ] {
            assert_eq!(read(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_no_certificate_can_have_is_refused_and_shown() {
        for text in [
            "",
            "dns:",
            "scanner 3",
            "größe.example",
            "spiffe://plant/scanner",
            "DNS:scanner",
            "ip:192.0.2.1",
            "uri:scanner",
            "email:scanner",
            "cn:",
            "cn:a\tb",
            "sha256:0f",
            &format!("sha256:{}", "0g".repeat(32)),
            &format!("cn:{}", "a".repeat(257)),
        ] {
            let found = read(text).unwrap_err();
            assert!(found.starts_with('"'), "{text}: {found}");
        }
        assert_eq!(
            certificate_name(&Value::Integer(3)).unwrap_err(),
            "an integer"
        );
    }

    #[test]
    fn a_name_of_one_kind_is_none_of_another() {
        let text = "a@b:c".to_owned();
        let names = [
            CertificateName::Dns(text.clone()),
            CertificateName::Uri(text.clone()),
            CertificateName::Email(text.clone()),
            CertificateName::CommonName(text),
            CertificateName::Sha256([0; 32]),
        ];
        for (one, name) in names.iter().enumerate() {
            for (other, wanted) in names.iter().enumerate() {
                assert_eq!(name == wanted, one == other, "{name} {wanted}");
            }
        }
    }

    #[test]
    fn letters_are_compared_as_the_kind_does() {
        let of = |text: &str| read(text).unwrap();
        assert_eq!(of("dns:A.example"), of("dns:a.EXAMPLE"));
        assert_eq!(of("email:A@example"), of("email:a@example"));
        assert_eq!(of("cn:Scanner"), of("cn:scanner"));
        assert_ne!(of("uri:spiffe://A"), of("uri:spiffe://a"));
    }
}
