//! What certificates say.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Until when a certificate is valid; `None` if it can't be read.
pub(super) fn expiry(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The names by which a client's certificate may be meant: the common names of its subject, and its
/// alternative names of DNS, mail and URI. The handshake has verified it.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let common = certificate.subject().iter_common_name();
    let mut names: Vec<String> = common
        .filter_map(|name| name.as_str().ok())
        .map(str::to_owned)
        .collect();
    // A certificate with the extension twice is none that anybody should trust.
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        names.extend(
            alternative
                .value
                .general_names
                .iter()
                .filter_map(alternative_name),
        );
    }
    names
}

fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some((*name).to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn names_of_all_kinds_and_the_end_of_its_days() {
        let mut params = CertificateParams::new(vec!["scanner.example".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "scanner 3");
        let uri = "spiffe://plant/scanner".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        params.not_after = rcgen::date_time_ymd(2030, 1, 2);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(
            names(certificate.der()),
            ["scanner 3", "scanner.example", "spiffe://plant/scanner"]
        );
        let expires = humantime::parse_rfc3339("2030-01-02T00:00:00Z").unwrap();
        assert_eq!(expiry(certificate.der()), Some(expires));
    }

    #[test]
    fn what_is_no_certificate_says_nothing() {
        let nonsense = CertificateDer::from(vec![1, 2, 3]);
        assert!(names(&nonsense).is_empty());
        assert_eq!(expiry(&nonsense), None);
    }
}
