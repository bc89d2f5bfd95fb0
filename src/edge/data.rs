//! The client's data connection: announced, awaited, checked.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::telemetry::Metrics;

use super::contains;
use super::descriptors::TransferPlace;
use super::listener::{prepare, unmapped};
use super::passive::PassivePort;

/// A data connection that the client has arranged for its next transfer.
#[derive(Debug)]
pub(super) struct Arranged {
    /// `PASV` or `EPSV`: the client will connect to this port. `None` when it has.
    port: Option<PassivePort>,
    /// What the transfer may take, up to its end.
    _place: TransferPlace,
}

/// Who may connect, and until when.
pub(super) struct Expected<'a> {
    pub(super) peer: IpAddr,
    pub(super) trusted: &'a [IpNet],
    pub(super) until: Instant,
    pub(super) metrics: &'a Metrics,
}

impl Arranged {
    pub(super) fn passive(port: PassivePort, place: TransferPlace) -> Self {
        Self {
            port: Some(port),
            _place: place,
        }
    }

    /// Waits for the data connection. Safe to cancel.
    ///
    /// # Errors
    /// When none comes in time, or the system has no sockets left.
    pub(super) async fn establish(&self, expected: &Expected<'_>) -> io::Result<TcpStream> {
        let port = self.port.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let stream = tokio::time::timeout_at(expected.until, accept(port, expected)).await??;
        prepare(&stream)?;
        Ok(stream)
    }

    /// Frees the port for another.
    pub(super) fn free(&mut self) {
        self.port = None;
    }
}

/// The first connection of the client itself: any other may be somebody who wants its data.
async fn accept(port: &PassivePort, expected: &Expected<'_>) -> io::Result<TcpStream> {
    loop {
        let (stream, peer) = port.listener().accept().await?;
        let address = unmapped(peer).ip();
        if address == expected.peer || contains(expected.trusted, address) {
            return Ok(stream);
        }
        expected.metrics.data_connections_refused.inc();
        tracing::warn!(
            peer = %address,
            client = %expected.peer,
            port = port.number(),
            "data connection from a stranger refused; see passive.trusted_networks"
        );
    }
}
