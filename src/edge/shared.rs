//! What the listener and all guards share.

use std::net::IpAddr;
use std::sync::Arc;

use encoding_rs::Encoding;

use crate::address::AddressBook;
use crate::config::Config;
use crate::ftp::{Ftp, Reply};
use crate::memory::Use;
use crate::session::Registry;
use crate::shutdown::Shutdown;
use crate::telemetry::{LineKind, Metrics, Xferlog};

use super::bandwidth::Bandwidth;
use super::buffers::SocketMemory;
use super::descriptors::Descriptors;
use super::lines::Lines;
use super::passive::PassivePorts;
use super::proxy_protocol::Proxies;
use super::tls::Tls;

/// What all guards share.
#[derive(Debug)]
pub struct Edge {
    pub(super) config: Settings,
    pub(super) ftp: Ftp,
    pub(super) address: AddressBook,
    pub(super) tls: Option<Tls>,
    pub(super) ports: PassivePorts,
    pub(super) proxies: Proxies,
    pub(super) bandwidth: Bandwidth,
    pub(super) descriptors: Descriptors,
    pub(super) socket_memory: SocketMemory,
    pub(super) registry: Registry,
    pub(super) metrics: Arc<Metrics>,
    pub(super) lines: Lines,
    pub(super) xferlog: Option<Xferlog>,
    pub(super) shutdown: Shutdown,
}

/// The parts of the configuration that concern the edge, as it uses them.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) ftp: crate::config::Ftp,
    pub(super) passive: crate::config::Passive,
    pub(super) active: crate::config::Active,
    pub(super) limits: crate::config::Limits,
    pub(super) on_removal: crate::config::OnRemoval,
    pub(super) require_tls: crate::config::RequireTls,
    pub(super) auth_ssl: bool,
    pub(super) check_allo: bool,
    pub(super) on_control_loss: crate::config::ControlLoss,
    pub(super) settle: crate::config::Settle,
    pub(super) legacy_charset: &'static Encoding,
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
    /// Which lines it may write again and again.
    pub lines: Lines,
    /// The classic transfer log, where one is wanted.
    pub xferlog: Option<Xferlog>,
    /// When to stop.
    pub shutdown: Shutdown,
}

impl Edge {
    /// An edge with these settings.
    #[must_use]
    pub fn new(config: &Config, parts: Parts) -> Self {
        let ports = PassivePorts::new(
            config.passive.own_ports(),
            Arc::clone(&parts.metrics),
            parts.lines.clone(),
        );
        let max_sessions = parts.descriptors.max_sessions();
        let proxies = Proxies::new(
            &config.ftp,
            max_sessions,
            Arc::clone(&parts.metrics),
            parts.lines.clone(),
        );
        Self {
            config: Settings {
                ftp: config.ftp.clone(),
                passive: config.passive.clone(),
                active: config.active.clone(),
                limits: config.limits.clone(),
                on_removal: config.users.on_removal,
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
            socket_memory: SocketMemory::new(
                config.limits.socket_memory,
                parts.metrics.memory_of(Use::Sockets),
            ),
            registry: parts.registry,
            metrics: parts.metrics,
            lines: parts.lines,
            xferlog: parts.xferlog,
            shutdown: parts.shutdown,
        }
    }

    /// Whether one more line of this kind is to be written about somebody there.
    pub(super) fn logs(&self, kind: LineKind, from: IpAddr) -> bool {
        self.lines.permit(kind, from)
    }

    /// What every client is told first.
    pub(super) fn greeting(&self) -> Reply {
        Reply::new(220, &self.config.ftp.greeting)
    }
}

/// The configuration has checked the label; UTF-8 stands for "no old charset".
fn legacy_charset(label: &str) -> &'static Encoding {
    Encoding::for_label(label.as_bytes()).unwrap_or(encoding_rs::UTF_8)
}
