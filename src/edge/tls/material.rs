//! From the files that `[tls]` names to what rustls serves with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use thiserror::Error;

use crate::config::{ClientAuth, Config, RequireTls, TlsVersion, read_guarded};

use super::binding::{Binding, Bound, Takes};
use super::certificate;

/// What is spoken inside; a client that says it wants anything else is not one of ours (ALPACA).
const ALPN: &[u8] = b"ftp";

/// Tickets for a control connection. Most clients use one again and again, some each for one connection only;
/// those of rustls keep eight.
const TICKETS: usize = 8;

/// Sessions of TLS 1.2 that are remembered for clients without tickets.
const MAX_REMEMBERED_SESSIONS: usize = 10_000;

/// Why there can be no TLS as `[tls]` says.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A setting that makes no sense without a certificate.
    #[error("{setting}: there is no TLS without a certificate; set tls.certificate")]
    NoCertificate {
        /// The setting.
        setting: &'static str,
    },
    /// Clients are to show certificates, but nobody says whose.
    #[error("tls.client_auth: set tls.client_ca to the authorities whose certificates are taken")]
    NoAuthority,
    /// A file can't be read.
    #[error("{setting}: can't read {}: {reason}", path.display())]
    Read {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{setting}: {}: {found}", path.display())]
    Content {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        found: String,
    },
    /// The library refuses what it was given.
    #[error("tls: {0}")]
    Refused(#[from] rustls::Error),
}

/// What is to be read, and the terms.
#[derive(Debug)]
pub(super) struct Files {
    certificate: PathBuf,
    private_key: PathBuf,
    client_ca: Option<PathBuf>,
    terms: crate::config::Tls,
    sessions: usize,
}

/// What the files hold.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Written {
    certificate: Vec<u8>,
    private_key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// It holds a key.
impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written").finish_non_exhaustive()
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Purpose {
    /// Commands and replies.
    Control,
    /// Data that the client writes.
    Upload,
    /// Data that it reads.
    Download,
}

/// One certificate, ready to serve with.
#[derive(Debug)]
pub(super) struct Material {
    config: ServerConfig,
    /// What it was made of.
    pub(super) written: Written,
    pub(super) expires: SystemTime,
    pub(super) allow_unclean_close: bool,
    pub(super) require_session_reuse: bool,
}

impl Files {
    /// Those of the configuration; `None` if it has no certificate, and needs none.
    pub(super) fn of(config: &Config) -> Result<Option<Self>, TlsError> {
        let tls = &config.tls;
        let Some(certificate) = tls.certificate.clone() else {
            let senseless = [
                (tls.private_key.is_some(), "tls.private_key"),
                (tls.require != RequireTls::None, "tls.require"),
                (tls.client_auth != ClientAuth::Off, "tls.client_auth"),
                (
                    !config.ftp.implicit_tls_listen.is_empty(),
                    "ftp.implicit_tls_listen",
                ),
            ];
            let first = senseless.iter().find(|(is_set, _)| *is_set);
            return first.map_or(Ok(None), |(_, setting)| {
                Err(TlsError::NoCertificate { setting })
            });
        };
        if tls.client_auth != ClientAuth::Off && tls.client_ca.is_none() {
            return Err(TlsError::NoAuthority);
        }
        Ok(Some(Self {
            private_key: tls.private_key.clone().unwrap_or(certificate.clone()),
            certificate,
            client_ca: tls.client_ca.clone(),
            terms: tls.clone(),
            sessions: config.limits.max_sessions,
        }))
    }

    /// Reads them all.
    pub(super) fn read(&self) -> Result<Written, TlsError> {
        let client_ca = self.client_ca.as_deref();
        Ok(Written {
            certificate: read("tls.certificate", &self.certificate)?,
            private_key: read("tls.private_key", &self.private_key)?,
            client_ca: client_ca
                .map(|path| read("tls.client_ca", path))
                .transpose()?,
        })
    }

    /// What they make.
    pub(super) fn material(&self, written: Written) -> Result<Material, TlsError> {
        let chain = certificates("tls.certificate", &self.certificate, &written.certificate)?;
        let expires = chain.first().and_then(certificate::expiry);
        let expires = expires.ok_or_else(|| TlsError::Content {
            setting: "tls.certificate",
            path: self.certificate.clone(),
            found: "the first certificate in it can't be read".to_owned(),
        })?;
        let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(versions(self.terms.min_version))?
            .with_client_cert_verifier(self.verifier(&written)?)
            .with_single_cert(chain, self.key(&written)?)
            .map_err(|error| self.unfit_pair(&error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.ticketer = Ticketer::new()?;
        config.session_storage =
            ServerSessionMemoryCache::new((2 * self.sessions).min(MAX_REMEMBERED_SESSIONS));
        Ok(Material {
            config,
            written,
            expires,
            allow_unclean_close: self.terms.allow_unclean_close,
            require_session_reuse: self.terms.require_session_reuse,
        })
    }

    fn key(&self, written: &Written) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&written.private_key).map_err(|error| TlsError::Content {
            setting: "tls.private_key",
            path: self.private_key.clone(),
            found: match error {
                pem::Error::NoItemsFound => {
                    "no private key in it (PEM of PKCS#8, PKCS#1 or SEC1, not encrypted)".to_owned()
                }
                other => format!("not PEM: {other}"),
            },
        })
    }

    fn unfit_pair(&self, error: &rustls::Error) -> TlsError {
        TlsError::Content {
            setting: "tls.private_key",
            path: self.private_key.clone(),
            found: format!(
                "it does not go with the certificate in {}: {error}",
                self.certificate.display()
            ),
        }
    }

    fn verifier(&self, written: &Written) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let (Some(path), Some(text)) = (&self.client_ca, &written.client_ca) else {
            return Ok(Arc::new(NoClientAuth));
        };
        let unfit = |found: String| TlsError::Content {
            setting: "tls.client_ca",
            path: path.clone(),
            found,
        };
        let mut roots = RootCertStore::empty();
        for authority in certificates("tls.client_ca", path, text)? {
            roots
                .add(authority)
                .map_err(|error| unfit(error.to_string()))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        let verifier = match self.terms.client_auth {
            ClientAuth::Off => return Ok(Arc::new(NoClientAuth)),
            ClientAuth::Request => verifier.allow_unauthenticated(),
            ClientAuth::Require => verifier,
        };
        verifier.build().map_err(|error| unfit(error.to_string()))
    }
}

impl Material {
    /// What a connection is served with. The tickets of other control connections than its own are worth
    /// nothing on a data connection.
    pub(super) fn config(&self, purpose: Purpose, binding: &Binding) -> Arc<ServerConfig> {
        let mut config = self.config.clone();
        config.ticketer = Arc::new(Bound {
            inner: Arc::clone(&self.config.ticketer),
            binding: binding.clone(),
            takes: match purpose {
                Purpose::Control => Takes::Any,
                Purpose::Upload | Purpose::Download => Takes::Own,
            },
        });
        config.session_storage = Arc::new(Bound {
            inner: Arc::clone(&self.config.session_storage),
            binding: binding.clone(),
            takes: match purpose {
                // A ticket is written anew when it was used, what is remembered is not: it would keep the
                // number of another control connection.
                Purpose::Control if self.require_session_reuse => Takes::Nothing,
                Purpose::Control => Takes::Any,
                Purpose::Upload | Purpose::Download => Takes::Own,
            },
        });
        config.send_tls13_tickets = tickets(purpose);
        Arc::new(config)
    }
}

/// Whoever only writes does not read tickets: when it closes, what it has not read resets the connection, and
/// what it has written last is lost. It resumes with what it was given elsewhere.
fn tickets(purpose: Purpose) -> usize {
    match purpose {
        Purpose::Control => TICKETS,
        Purpose::Download => 1,
        Purpose::Upload => 0,
    }
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    read_guarded(path).map_err(|reason| TlsError::Read {
        setting,
        path: path.to_owned(),
        reason,
    })
}

fn certificates(
    setting: &'static str,
    path: &Path,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unfit = |found: String| TlsError::Content {
        setting,
        path: path.to_owned(),
        found,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|error| unfit(format!("not PEM: {error}")))?;
    if found.is_empty() {
        return Err(unfit("no certificate in it (PEM)".to_owned()));
    }
    Ok(found)
}

fn versions(least: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match least {
        TlsVersion::V1_2 => rustls::DEFAULT_VERSIONS,
        TlsVersion::V1_3 => const { &[&rustls::version::TLS13] },
    }
}
