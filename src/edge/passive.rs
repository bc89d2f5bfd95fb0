//! The passive ports: a free one for each data connection that a client announces.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use crate::config::PortRange;
use crate::telemetry::{InUse, Metrics};

/// Strangers may connect before the client does; they are turned away one by one. Where the queue is full, a client's own
/// connection takes a second more.
const BACKLOG: i32 = 128;

/// All passive ports.
#[derive(Debug)]
pub(super) struct PassivePorts {
    range: PortRange,
    metrics: Arc<Metrics>,
}

/// A passive port that waits for its client. Dropping it frees the port.
#[derive(Debug)]
pub(super) struct PassivePort {
    listener: TcpListener,
    port: u16,
    _in_use: InUse,
}

impl PassivePorts {
    pub(super) fn new(range: PortRange, metrics: Arc<Metrics>) -> Self {
        let all = if range.is_any() { 0 } else { range.len() };
        metrics
            .passive_ports
            .set(i64::try_from(all).unwrap_or(i64::MAX));
        Self { range, metrics }
    }

    /// A free port on the host of `address`: every one is tried, from a random one on, so that a stranger can't
    /// foresee which comes next. The data connection gets a receive buffer of `buffer` bytes, or what the
    /// kernel thinks best.
    ///
    /// # Errors
    /// The last port's error, when none is free.
    pub(super) fn open(
        &self,
        mut address: SocketAddr,
        buffer: Option<usize>,
    ) -> io::Result<PassivePort> {
        if self.range.is_any() {
            address.set_port(0);
            return self.listen(address, buffer);
        }
        let count = self.range.len();
        let start = rand::random_range(0..count);
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for step in 0..count {
            let port = self.port((start + step) % count);
            address.set_port(port);
            match self.listen(address, buffer) {
                Ok(port) => return Ok(port),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn port(&self, index: usize) -> u16 {
        self.range
            .first()
            .saturating_add(u16::try_from(index).unwrap_or(u16::MAX))
    }

    fn listen(&self, address: SocketAddr, buffer: Option<usize>) -> io::Result<PassivePort> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if let Some(size) = buffer {
            // The connection inherits it, from its first packet on.
            socket.set_recv_buffer_size(size)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        let port = listener.local_addr()?.port();
        Ok(PassivePort {
            listener,
            port,
            _in_use: InUse::one(&self.metrics.passive_ports_in_use),
        })
    }
}

impl PassivePort {
    /// The port's number.
    pub(super) fn number(&self) -> u16 {
        self.port
    }

    /// Where clients connect.
    pub(super) fn listener(&self) -> &TcpListener {
        &self.listener
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// Two neighbouring ports that are free, and that the kernel does not hand out by itself.
    fn free_pair() -> PortRange {
        let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        let start = rand::random_range(10_000..20_000);
        (start..30_000)
            .find(|port| free(*port) && free(port + 1))
            .and_then(|port| PortRange::new(port..=port + 1))
            .unwrap()
    }

    #[tokio::test]
    async fn every_port_is_used_before_there_is_none() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let ports = PassivePorts::new(free_pair(), Arc::clone(&metrics));
        let address = (Ipv4Addr::LOCALHOST, 21).into();
        let first = ports.open(address, None).unwrap();
        let second = ports.open(address, None).unwrap();
        assert_ne!(first.number(), second.number());
        assert!(ports.open(address, None).is_err());
        assert_eq!(metrics.passive_ports_in_use.get(), 2);
        let freed = first.number();
        drop(first);
        assert_eq!(ports.open(address, None).unwrap().number(), freed);
        assert_eq!(metrics.passive_ports_in_use.get(), 1);
    }
}
