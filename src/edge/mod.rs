//! Every socket that faces a client.
//!
//! [`Edge::bind`] opens the listeners; [`Edge::serve`] admits connections, each to a guard of its
//! own, until the gateway drains. The guard is the FTP server that the client sees: it answers what
//! concerns the connection itself, hands the rest to the [`ftp`](crate::ftp) session behind it, and
//! keeps a transfer's data connection out of libunftp's reach.

mod active;
mod bandwidth;
mod command;
mod connection;
mod control;
mod data;
mod descriptors;
mod ending;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod guard;
mod listener;
mod passive;
mod proxy_protocol;
mod tls;

pub use descriptors::{Descriptors, StoreConnections, raise_open_files};
pub use listener::BindError;
pub use tls::{Tls, TlsError};

use std::net::SocketAddr;
use std::sync::Arc;

use encoding_rs::Encoding;
use ipnet::IpNet;

use crate::address::AddressBook;
use crate::config::Config;
use crate::ftp::{Ftp, Reply};
use crate::session::Registry;
use crate::shutdown::Shutdown;
use crate::telemetry::{Metrics, Xferlog};

use bandwidth::Bandwidth;
use listener::Listeners;
use passive::PassivePorts;
use proxy_protocol::Proxies;

/// What all guards share.
#[derive(Debug)]
pub struct Edge {
    config: Settings,
    ftp: Ftp,
    address: AddressBook,
    tls: Option<Tls>,
    ports: PassivePorts,
    proxies: Proxies,
    bandwidth: Bandwidth,
    descriptors: Descriptors,
    registry: Registry,
    metrics: Arc<Metrics>,
    xferlog: Option<Xferlog>,
    shutdown: Shutdown,
}

/// The parts of the configuration that concern the edge, as it uses them.
#[derive(Debug)]
struct Settings {
    ftp: crate::config::Ftp,
    passive: crate::config::Passive,
    active: crate::config::Active,
    limits: crate::config::Limits,
    require_tls: crate::config::RequireTls,
    auth_ssl: bool,
    check_allo: bool,
    on_control_loss: crate::config::ControlLoss,
    settle: crate::config::Settle,
    legacy_charset: &'static Encoding,
}

/// What the edge is built from.
#[derive(Debug)]
pub struct Parts {
    /// The sessions behind the guards.
    pub ftp: Ftp,
    /// What a 227 advertises.
    pub address: AddressBook,
    /// What encrypts, where there is a certificate.
    pub tls: Option<Tls>,
    /// What sessions and transfers are made of.
    pub descriptors: Descriptors,
    /// All sessions.
    pub registry: Registry,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// The classic transfer log, where one is wanted.
    pub xferlog: Option<Xferlog>,
    /// When to stop.
    pub shutdown: Shutdown,
}

impl Edge {
    /// An edge with these settings.
    #[must_use]
    pub fn new(config: &Config, parts: Parts) -> Self {
        let ports = PassivePorts::new(config.passive.ports, Arc::clone(&parts.metrics));
        let max_sessions = parts.descriptors.max_sessions();
        let proxies = Proxies::new(&config.ftp, max_sessions, Arc::clone(&parts.metrics));
        Self {
            config: Settings {
                ftp: config.ftp.clone(),
                passive: config.passive.clone(),
                active: config.active.clone(),
                limits: config.limits.clone(),
                require_tls: config.tls.require,
                auth_ssl: config.tls.auth_ssl,
                check_allo: config.upload.check_allo,
                on_control_loss: config.upload.on_control_loss,
                settle: config.upload.settle,
                legacy_charset: legacy_charset(&config.ftp.fallback_charset),
            },
            ftp: parts.ftp,
            address: parts.address,
            tls: parts.tls,
            ports,
            proxies,
            bandwidth: Bandwidth::new(&config.limits, &parts.metrics),
            descriptors: parts.descriptors,
            registry: parts.registry,
            metrics: parts.metrics,
            xferlog: parts.xferlog,
            shutdown: parts.shutdown,
        }
    }

    /// Opens the listeners.
    ///
    /// # Errors
    /// When an address can't be listened on, or a port not be connected from.
    pub fn bind(self) -> Result<BoundEdge, BindError> {
        if self.config.active.enabled {
            let port = self.config.active.source_port;
            active::try_source_port(port)
                .map_err(|source| BindError::SourcePort { port, source })?;
        }
        let listeners = Listeners::bind(&self.config.ftp)?;
        Ok(BoundEdge {
            edge: Arc::new(self),
            listeners,
        })
    }
}

impl Edge {
    /// What every client is told first.
    fn greeting(&self) -> Reply {
        Reply::new(220, &self.config.ftp.greeting)
    }
}

/// An edge whose listeners are open.
#[derive(Debug)]
pub struct BoundEdge {
    edge: Arc<Edge>,
    listeners: Listeners,
}

impl BoundEdge {
    /// Where clients can connect; a port that was configured as 0 is the real one here.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.addresses()
    }

    /// Serves clients until the gateway drains, then stops listening.
    pub async fn serve(self) {
        self.listeners.serve(self.edge).await;
    }
}

/// Whether `networks` contains `address`.
fn contains(networks: &[IpNet], address: std::net::IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// The configuration has checked the label; UTF-8 stands for "no old charset".
fn legacy_charset(label: &str) -> &'static Encoding {
    Encoding::for_label(label.as_bytes()).unwrap_or(encoding_rs::UTF_8)
}
