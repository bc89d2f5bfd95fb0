//! TLS on control and data connections (RFC 4217), by rustls.
//!
//! A session keeps the keys and the certificate that it began with: what is exchanged on disk holds for
//! those who come later. Its data connections use the same, and resume its own session where they can.

mod binding;
mod certificate;
mod data;
mod material;
mod records;

pub(super) use data::{Accepted, DataTls, HandshakeError};
pub(super) use material::Purpose;
pub use material::TlsError;

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::{HandshakeKind, ProtocolVersion, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::session::Secured;
use crate::supervise::blocking;
use crate::telemetry::Metrics;

use binding::Family;
use material::{Files, Material};

/// The certificate and the terms of TLS that are in force; clones share them.
#[derive(Debug, Clone)]
pub struct Tls {
    files: Arc<Files>,
    current: Arc<RwLock<Arc<Material>>>,
}

impl Tls {
    /// Reads what `[tls]` names. `None` without a certificate. It blocks: for the start.
    ///
    /// # Errors
    /// When settings contradict each other, or a file can't be used: says which, and what to do.
    pub fn load(config: &Config) -> Result<Option<Self>, TlsError> {
        let Some(files) = Files::of(config)? else {
            return Ok(None);
        };
        let material = files.material(files.read()?)?;
        Ok(Some(Self {
            files: Arc::new(files),
            current: Arc::new(RwLock::new(Arc::new(material))),
        }))
    }

    /// Looks at the files every `interval` until `stop`, and puts in force what they hold now. What can't
    /// be used changes nothing; it is logged once, and shown by a metric until it is mended.
    pub async fn watch(self, interval: Duration, metrics: Arc<Metrics>, stop: CancellationToken) {
        self.show_certificate(&metrics, "TLS is on");
        let mut trouble = None;
        while stop
            .run_until_cancelled(tokio::time::sleep(interval))
            .await
            .is_some()
        {
            let (files, current) = (Arc::clone(&self.files), self.current());
            let Some(look) = blocking(move || files.look(&current)).await else {
                return;
            };
            trouble = self.adopt(look, trouble, &metrics);
        }
    }

    /// A key and a certificate can't be exchanged at once, so what is broken is believed the second time.
    fn adopt(
        &self,
        look: Result<Option<Material>, TlsError>,
        before: Option<Trouble>,
        metrics: &Metrics,
    ) -> Option<Trouble> {
        match look {
            Ok(material) => {
                if let Some(material) = material {
                    self.put_in_force(material, metrics);
                }
                metrics.tls_files_broken.set(0);
                None
            }
            Err(error) => {
                let reason = error.to_string();
                let again = before.filter(|before| before.reason == reason);
                if again.as_ref().is_some_and(|trouble| !trouble.told) {
                    tracing::error!(reason, "TLS files not reloaded, the old certificate stays");
                    metrics.tls_reloads.with_label_values(&["failed"]).inc();
                    metrics.tls_files_broken.set(1);
                }
                let told = again.is_some();
                Some(Trouble { reason, told })
            }
        }
    }

    fn put_in_force(&self, material: Material, metrics: &Metrics) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(material);
        metrics.tls_reloads.with_label_values(&["reloaded"]).inc();
        self.show_certificate(metrics, "TLS certificate reloaded");
    }

    fn show_certificate(&self, metrics: &Metrics, what: &str) {
        let expires = self.expires();
        let shown = humantime::format_rfc3339_seconds(expires);
        if expires < SystemTime::now() {
            tracing::error!(expires = %shown, "{what}, but the certificate has expired");
        } else {
            tracing::info!(expires = %shown, "{what}");
        }
        metrics.show_expiry(expires);
    }

    /// When the certificate in force expires, or has expired.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.current().expires
    }

    fn current(&self) -> Arc<Material> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The handshake of a control connection.
    ///
    /// # Errors
    /// When it fails, for whatever reason.
    pub(super) async fn secure<S>(&self, stream: S) -> io::Result<(TlsStream<S>, ControlTls)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let material = self.current();
        let family = Family::new();
        let config = material.config(Purpose::Control, &family.control());
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let tls = ControlTls::new(stream.get_ref().1, &material, family);
        Ok((stream, tls))
    }
}

/// Why the files can't be used, and whether that was logged.
#[derive(Debug)]
struct Trouble {
    reason: String,
    told: bool,
}

impl Files {
    /// What the files hold now; `None` if that is what is in force.
    fn look(&self, current: &Material) -> Result<Option<Material>, TlsError> {
        let written = self.read()?;
        if written == current.written {
            return Ok(None);
        }
        self.material(written).map(Some)
    }
}

impl Metrics {
    fn show_expiry(&self, expires: SystemTime) {
        let since_epoch = expires.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since_epoch.unwrap_or_default().as_secs();
        self.tls_certificate_expiry
            .set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }
}

/// What is known of an encrypted control connection.
#[derive(Debug)]
pub(super) struct ControlTls {
    /// For the session: logs, and users that are bound to certificates.
    pub(super) secured: Secured,
    /// For its data connections.
    pub(super) data: DataTls,
    /// `full` or `resumed`.
    pub(super) kind: &'static str,
}

impl ControlTls {
    fn new(connection: &ServerConnection, material: &Arc<Material>, family: Family) -> Self {
        let certificate = connection
            .peer_certificates()
            .and_then(|chain| chain.first());
        Self {
            secured: Secured {
                protocol: protocol(connection),
                certificate: certificate.map(certificate::names).unwrap_or_default(),
            },
            data: DataTls::new(material, family, certificate),
            kind: kind(connection),
        }
    }
}

fn protocol(connection: &ServerConnection) -> &'static str {
    match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS 1.2",
    }
}

fn kind(connection: &ServerConnection) -> &'static str {
    match connection.handshake_kind() {
        Some(HandshakeKind::Resumed) => "resumed",
        _ => "full",
    }
}
