//! Connections in clear and encrypted, for both sides of a measurement.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Context as _;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, server};

/// Who the certificate is for.
const NAME: &str = "localhost";

/// rustls asks for 4 KiB at a time; the floor is not to pay for so many system calls.
const READ_BUFFER: usize = 64 * 1024;

/// A client's connection.
#[derive(Debug)]
pub(crate) enum Wire {
    /// As it is.
    Clear(TcpStream),
    /// By TLS.
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// A certificate of its own for one measurement, and the client that trusts it.
#[derive(Clone)]
pub(crate) struct Tls {
    folder: Arc<tempfile::TempDir>,
    connector: TlsConnector,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([NAME.to_owned()])?;
        let folder = tempfile::tempdir()?;
        std::fs::write(certificate_in(folder.path()), cert.pem())?;
        std::fs::write(key_in(folder.path()), signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone())?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            folder: Arc::new(folder),
            connector: Arc::new(config).into(),
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn encrypt(&self, stream: TcpStream) -> anyhow::Result<Wire> {
        let name = ServerName::try_from(NAME)?;
        let stream = self.connector.connect(name, stream).await?;
        Ok(Wire::Encrypted(Box::new(stream)))
    }
}

pub(crate) fn certificate_in(folder: &Path) -> PathBuf {
    folder.join("cert.pem")
}

pub(crate) fn key_in(folder: &Path) -> PathBuf {
    folder.join("key.pem")
}

/// The floor's side, with the certificate in this folder.
pub(crate) fn acceptor(folder: &Path) -> anyhow::Result<TlsAcceptor> {
    let certificate = CertificateDer::from_pem_file(certificate_in(folder));
    let key = PrivateKeyDer::from_pem_file(key_in(folder));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.context("no certificate")?],
            key.context("no key")?,
        )?;
    Ok(Arc::new(config).into())
}

/// The floor's side of a handshake.
pub(crate) async fn accept(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> io::Result<server::TlsStream<BufReader<TcpStream>>> {
    let stream = BufReader::with_capacity(READ_BUFFER, stream);
    acceptor.accept(stream).await
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Encrypted(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(context, buffer),
            Self::Encrypted(stream) => Pin::new(stream).poll_write(context, buffer),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
