//! What certificates say.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::auth::CertificateName;

/// Until when a certificate is valid; `None` if it can't be read.
pub(super) fn expiry(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// All that a client's certificate may be called by, each name of its kind: its fingerprint, the common names of its
/// subject, and its alternative names of DNS, mail and URI. The handshake has verified it.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<CertificateName> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let mut names = vec![fingerprint(certificate)];
    let common = parsed.subject().iter_common_name();
    let common = common.filter_map(|name| name.as_str().ok());
    names.extend(common.map(|name| CertificateName::CommonName(name.to_owned())));
    // A certificate with the extension twice is none that anybody should trust.
    if let Ok(Some(alternative)) = parsed.subject_alternative_name() {
        let alternative = alternative.value.general_names.iter();
        names.extend(alternative.filter_map(alternative_name));
    }
    names
}

fn fingerprint(certificate: &CertificateDer<'_>) -> CertificateName {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
    CertificateName::Sha256(bytes)
}

fn alternative_name(name: &GeneralName<'_>) -> Option<CertificateName> {
    match name {
        GeneralName::DNSName(name) => Some(CertificateName::Dns((*name).to_owned())),
        GeneralName::RFC822Name(name) => Some(CertificateName::Email((*name).to_owned())),
        GeneralName::URI(name) => Some(CertificateName::Uri((*name).to_owned())),
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
        let mail = "scanner@example.org".try_into().unwrap();
        params.subject_alt_names.push(SanType::Rfc822Name(mail));
        params.not_after = rcgen::date_time_ymd(2030, 1, 2);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let digest: String = digest(&SHA256, certificate.der())
            .as_ref()
            .iter()
            .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let found: Vec<String> = names(certificate.der())
            .iter()
            .map(CertificateName::to_string)
            .collect();
        let wanted = [
            &format!("sha256:{digest}"),
            "cn:scanner 3",
            "dns:scanner.example",
            "uri:spiffe://plant/scanner",
            "email:scanner@example.org",
        ];
        assert_eq!(found, wanted);
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
