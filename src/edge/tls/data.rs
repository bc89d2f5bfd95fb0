//! TLS on data connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, ServerConnection};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::session::DataStream;

use super::super::ending::CloseNotify;
use super::super::proxy_protocol::DataSocket;
use super::binding::Family;
use super::material::{Material, Purpose};
use super::records::Records;

/// rustls asks for 4 KiB at a time, which would be a system call each.
const UPLOAD_BUFFER: usize = 64 * 1024;

/// Whoever reads says little.
const DOWNLOAD_BUFFER: usize = 4 * 1024;

/// What the data connections of one control connection use and have to prove.
#[derive(Debug, Clone)]
pub(in super::super) struct DataTls {
    material: Arc<Material>,
    family: Family,
    certificate: Option<CertificateDer<'static>>,
}

/// An encrypted data connection.
pub(in super::super) struct Accepted {
    pub(in super::super) stream: DataStream,
    /// How the handshake went: `full` or `resumed`.
    pub(in super::super) kind: &'static str,
    /// Whether its peer has proven to be the one at the control connection.
    pub(in super::super) is_proven: bool,
}

/// Why a data connection could not be encrypted.
#[derive(Debug, Error)]
pub(in super::super) enum HandshakeError {
    /// It broke, was refused, or took too long.
    #[error("{0}")]
    Failed(#[from] io::Error),
    /// It did not resume the session of its control connection, and has to.
    #[error("it does not resume the control connection's TLS session")]
    NotResumed,
    /// The client has shown one certificate on the control connection, and another or none here.
    #[error("its client certificate is not the control connection's")]
    OtherCertificate,
}

impl DataTls {
    pub(super) fn new(
        material: &Arc<Material>,
        family: Family,
        certificate: Option<&CertificateDer<'_>>,
    ) -> Self {
        Self {
            material: Arc::clone(material),
            family,
            certificate: certificate.map(|certificate| certificate.clone().into_owned()),
        }
    }

    /// Whether the client's data connections have given proof so far: then the next one probably will.
    pub(in super::super) fn resumes(&self) -> bool {
        self.family.resumes()
    }

    /// A data connection was taken for the client's.
    pub(in super::super) fn note_taken(&self, is_proven: bool) {
        self.family.note_taken(is_proven);
    }

    /// The handshake, as soon as the peer begins it.
    ///
    /// # Errors
    /// When it fails, or the peer is not the one at the control connection.
    pub(in super::super) async fn accept(
        self,
        stream: DataSocket,
        purpose: Purpose,
        close_notify: CloseNotify,
    ) -> Result<Accepted, HandshakeError> {
        // Whoever says nothing costs no memory.
        stream.tcp().readable().await?;
        let binding = self.family.data();
        let config = self.material.config(purpose, &binding);
        let buffer = match purpose {
            Purpose::Upload => UPLOAD_BUFFER,
            Purpose::Control | Purpose::Download => DOWNLOAD_BUFFER,
        };
        let stream = Records::of(BufReader::with_capacity(buffer, stream));
        let tls = TlsAcceptor::from(config).accept(stream).await?;
        let connection = tls.get_ref().1;
        let is_proven = self.check(connection)?;
        if is_proven {
            binding.prove();
        }
        let kind = super::kind(connection);
        let encrypted = Encrypted {
            tls,
            close_notify,
            allow_unclean_close: self.material.allow_unclean_close,
        };
        Ok(Accepted {
            stream: Box::new(encrypted),
            kind,
            is_proven,
        })
    }

    /// Whether the peer has proven to be the one at the control connection.
    fn check(&self, connection: &ServerConnection) -> Result<bool, HandshakeError> {
        // It could not have resumed another's.
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            return Ok(true);
        }
        if self.material.require_session_reuse {
            return Err(HandshakeError::NotResumed);
        }
        let shown = connection
            .peer_certificates()
            .and_then(|chain| chain.first());
        if self.certificate.is_some() && shown != self.certificate.as_ref() {
            return Err(HandshakeError::OtherCertificate);
        }
        Ok(self.certificate.is_some())
    }
}

/// An encrypted data connection.
#[derive(Debug)]
struct Encrypted {
    tls: TlsStream<Records<BufReader<DataSocket>>>,
    close_notify: CloseNotify,
    allow_unclean_close: bool,
}

impl Encrypted {
    /// Whether it is only the `close_notify` that is missing. In the middle of a record no client ends.
    fn forgives(&self, error: &io::Error) -> bool {
        let records = self.tls.get_ref().0;
        self.allow_unclean_close
            && error.kind() == io::ErrorKind::UnexpectedEof
            && records.is_between()
    }

    /// The client has said that it will send no more. Many wait for the same word from us before they
    /// close; one that does not is none the worse.
    fn answer_the_end(&mut self, context: &mut Context<'_>) {
        let _ = Pin::new(&mut self.tls).poll_shutdown(context);
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.remaining();
        let read = ready!(Pin::new(&mut self.tls).poll_read(context, buffer));
        match read {
            Ok(()) if buffer.remaining() < before || before == 0 => return Poll::Ready(Ok(())),
            Ok(()) => self.close_notify.say(),
            Err(error) if !self.forgives(&error) => {
                return Poll::Ready(Err(error));
            }
            Err(_) => {}
        }
        self.answer_the_end(context);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(context)
    }
}
