//! Certificates of an authority of the tests' own, and the client's side of TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::client::{Resumption, Tls12Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::ftp::Client;

/// An authority, and the files of the server's certificate.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What a client brings to a handshake.
pub(crate) struct Hello {
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    pub(crate) alpn: &'static [&'static [u8]],
    pub(crate) resumes: bool,
    /// As old clients of TLS 1.2 do: by the session's id.
    pub(crate) without_tickets: bool,
    pub(crate) certificate: Option<(String, String)>,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            versions: rustls::DEFAULT_VERSIONS,
            alpn: &[],
            resumes: true,
            without_tickets: false,
            certificate: None,
        }
    }
}

pub(crate) const TLS12: Hello = Hello {
    versions: &[&rustls::version::TLS12],
    alpn: &[],
    resumes: true,
    without_tickets: false,
    certificate: None,
};

impl Authority {
    /// An authority, and a certificate for `localhost` on disk.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "tests' authority");
        let key = KeyPair::generate().expect("a key");
        let authority = Self {
            folder: tempfile::tempdir().expect("a folder"),
            issuer: CertifiedIssuer::self_signed(params, key).expect("an authority"),
        };
        std::fs::write(authority.path("ca.pem"), authority.issuer.pem()).expect("a file");
        authority.renew(2040);
        authority
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a new certificate for the server, valid to the beginning of this year.
    pub(crate) fn renew(&self, until: i32) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        replace(&self.path("cert.pem"), &certificate.pem());
        replace(&self.path("key.pem"), &key.serialize_pem());
    }

    /// A client's certificate and key.
    pub(crate) fn client(&self, common_name: &str) -> (String, String) {
        self.client_with(|params| {
            let name = &mut params.distinguished_name;
            name.push(DnType::CommonName, common_name);
        })
    }

    /// The same, with whatever is asked for in it.
    pub(crate) fn client_with(&self, ask: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name = DistinguishedName::new();
        ask(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// The settings of a gateway with this certificate, and others.
    pub(crate) fn settings(&self, others: &[(&str, &str)]) -> Vec<(String, String)> {
        let file = |name| self.path(name).display().to_string();
        let mut settings = vec![
            ("tls.certificate".to_owned(), file("cert.pem")),
            ("tls.private_key".to_owned(), file("key.pem")),
            ("tls.client_ca".to_owned(), file("ca.pem")),
            ("tls.reload_interval".to_owned(), "50ms".to_owned()),
        ];
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        settings.extend(others.iter().map(owned));
        settings
    }

    /// A server's side, with the certificate for `localhost`.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let chain = CertificateDer::pem_file_iter(self.path("cert.pem")).expect("a certificate");
        let chain = chain.map(|it| it.expect("a certificate")).collect();
        let key = PrivateKeyDer::from_pem_file(self.path("key.pem")).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate and its key");
        TlsAcceptor::from(Arc::new(config))
    }

    /// A client's side; those made of one connector share its tickets.
    pub(crate) fn connector(&self, hello: Hello) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("the authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(hello.versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match hello.certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::from_pem_slice(certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
                let chain = vec![chain.expect("a certificate")];
                builder
                    .with_client_auth_cert(chain, key.expect("a key"))
                    .expect("a pair")
            }
        };
        config.alpn_protocols = hello.alpn.iter().map(|name| name.to_vec()).collect();
        if !hello.resumes {
            config.resumption = Resumption::disabled();
        }
        if hello.without_tickets {
            let resumption = Resumption::in_memory_sessions(10);
            config.resumption = resumption.tls12_resumption(Tls12Resumption::SessionIdOnly);
        }
        TlsConnector::from(Arc::new(config))
    }
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("a file");
    std::fs::rename(new, path).expect("a file");
}

/// The client's side of a handshake.
pub(crate) async fn handshake(
    connector: &TlsConnector,
    stream: TcpStream,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").expect("a name");
    connector.connect(name, stream).await
}

impl Client {
    /// `AUTH TLS` and the handshake.
    pub(crate) async fn secure(mut self, connector: &TlsConnector) -> Client<TlsStream<TcpStream>> {
        self.expect("AUTH TLS", 234).await;
        self.encrypt(connector).await
    }

    /// The handshake alone.
    pub(crate) async fn encrypt(self, connector: &TlsConnector) -> Client<TlsStream<TcpStream>> {
        self.upgrade(async |stream| handshake(connector, stream).await.expect("a handshake"))
            .await
    }
}

impl Client<TlsStream<TcpStream>> {
    /// `PBSZ 0` and `PROT P`.
    pub(crate) async fn protect_data(&mut self) {
        self.expect("PBSZ 0", 200).await;
        self.expect("PROT P", 200).await;
    }

    /// A passive data connection, a command, and the handshake after the 150.
    pub(crate) async fn begin_encrypted(
        &mut self,
        connector: &TlsConnector,
        command: &str,
    ) -> TlsStream<TcpStream> {
        let data = self.open_data().await;
        self.expect(command, 150).await;
        handshake(connector, data).await.expect("a handshake")
    }
}
