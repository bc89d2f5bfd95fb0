//! The passive ports: a free one for each data connection that a client announces, and fair shares when none is free.
//!
//! A connection that is there when its port is taken back stays, also if the session has not accepted it yet: it may be
//! busy with the store. See [`handover`].

mod handover;
mod held;

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::config::PortRange;
use crate::telemetry::{InUse, LineKind, Metrics};

use super::lines::Lines;

use handover::Handover;
use held::{Held, Port};

pub(super) use held::Holder;

/// Strangers may connect before the client does; they are turned away one by one. Where the queue is full, a client's own
/// connection takes a second more.
const BACKLOG: i32 = 128;

/// All passive ports.
#[derive(Debug)]
pub(super) struct PassivePorts {
    range: PortRange,
    metrics: Arc<Metrics>,
    lines: Lines,
    held: Arc<Mutex<Held<Open>>>,
}

/// A passive port that waits for its client. Dropping it frees the port.
#[derive(Debug)]
pub(super) struct PassivePort {
    /// In the table of all ports.
    number: u64,
    port: u16,
    listener: Arc<TcpListener>,
    handover: Arc<Handover>,
    held: Arc<Mutex<Held<Open>>>,
}

/// What closes a port whose holder need not cooperate: its task may be waiting for something else.
#[derive(Debug)]
struct Open {
    listener: Arc<TcpListener>,
    handover: Arc<Handover>,
    _in_use: InUse,
}

impl PassivePorts {
    pub(super) fn new(range: PortRange, metrics: Arc<Metrics>, lines: Lines) -> Self {
        let all = if range.is_any() { 0 } else { range.len() };
        metrics
            .passive_ports
            .set(i64::try_from(all).unwrap_or(i64::MAX));
        Self {
            range,
            metrics,
            lines,
            held: Arc::default(),
        }
    }

    /// A free port on the host of `address`: every one is tried, from a random one on, so that a stranger can't
    /// foresee which comes next. If none is free, one is taken back from a holder of more than its share. The data
    /// connection gets a receive buffer of `buffer` bytes, or what the kernel thinks best.
    ///
    /// # Errors
    /// The last port's error, when none is free.
    pub(super) fn open(
        &self,
        holder: Holder,
        mut address: SocketAddr,
        buffer: Option<usize>,
    ) -> io::Result<PassivePort> {
        let mut held = lock(&self.held);
        let listener = if self.range.is_any() {
            address.set_port(0);
            listen(address, buffer)
        } else {
            self.listen_on_a_free_one(&held, address, buffer)
        };
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => self
                .take_back(&mut held, &holder, address)
                .map_or(Err(error), |freed| listen(freed, buffer))?,
        };
        self.hold(&mut held, listener, holder)
    }

    fn listen_on_a_free_one(
        &self,
        held: &Held<Open>,
        mut address: SocketAddr,
        buffer: Option<usize>,
    ) -> io::Result<TcpListener> {
        let count = self.range.len();
        let start = rand::random_range(0..count);
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for step in 0..count {
            address.set_port(self.port((start + step) % count));
            if held.contains(address) {
                continue;
            }
            match listen(address, buffer) {
                Ok(listener) => return Ok(listener),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Closes a port of the largest holder, and says which it was.
    fn take_back(
        &self,
        held: &mut Held<Open>,
        asker: &Holder,
        address: SocketAddr,
    ) -> Option<SocketAddr> {
        let Port {
            address,
            holder,
            closing,
            ..
        } = held.take_back(asker, address.ip())?;
        closing.handover.begin(&closing.listener, holder.origin);
        // It listens no more, so another socket can; whoever waits for a connection there is woken by it.
        if let Err(error) = SockRef::from(&closing.listener).shutdown(Shutdown::Both) {
            tracing::debug!(%address, %error, "can't close a passive port");
            return None;
        }
        self.metrics.passive_ports_taken_back.inc();
        if self
            .lines
            .permit(LineKind::PassivePortTakenBack, holder.origin)
        {
            tracing::warn!(
                from = holder.user,
                origin = %holder.origin,
                to = asker.user,
                port = address.port(),
                "no passive port is free, taking one back from the user who holds most"
            );
        }
        Some(address)
    }

    fn hold(
        &self,
        held: &mut Held<Open>,
        listener: TcpListener,
        holder: Holder,
    ) -> io::Result<PassivePort> {
        let address = listener.local_addr()?;
        let listener = Arc::new(listener);
        let handover = Arc::new(Handover::default());
        let open = Open {
            listener: Arc::clone(&listener),
            handover: Arc::clone(&handover),
            _in_use: InUse::one(&self.metrics.passive_ports_in_use),
        };
        Ok(PassivePort {
            number: held.add(address, holder, open),
            port: address.port(),
            listener,
            handover,
            held: Arc::clone(&self.held),
        })
    }

    fn port(&self, index: usize) -> u16 {
        self.range
            .first()
            .saturating_add(u16::try_from(index).unwrap_or(u16::MAX))
    }
}

fn listen(address: SocketAddr, buffer: Option<usize>) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if let Some(size) = buffer {
        // The connection inherits it, from its first packet on.
        socket.set_recv_buffer_size(size)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Every change under this lock is complete before anything in it can panic.
fn lock(held: &Mutex<Held<Open>>) -> MutexGuard<'_, Held<Open>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PassivePort {
    /// The port's number.
    pub(super) fn number(&self) -> u16 {
        self.port
    }

    /// The next connection; once the port is taken back, one that was there before. Safe to cancel.
    ///
    /// # Errors
    /// The system's; when the port is taken back, and no connection is left.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        if let Some(queued) = self.handover.next() {
            return Ok(queued);
        }
        let accepted = self.listener.accept().await;
        // The port may have been taken back during the wait, which ends it.
        accepted.or_else(|error| self.handover.next().ok_or(error))
    }

    /// Whether [`Self::accept`] may give a connection, now or later.
    pub(super) fn may_accept(&self) -> bool {
        !self.handover.is_over()
    }

    /// Notes that the client has connected: others' ports are taken back before this one.
    pub(super) fn claim(&self) {
        lock(&self.held).claim(self.number);
    }
}

impl Drop for PassivePort {
    fn drop(&mut self) {
        lock(&self.held).remove(self.number);
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

    fn holder(user: &str) -> Holder {
        Holder {
            user: user.to_owned(),
            origin: std::net::IpAddr::from(Ipv4Addr::LOCALHOST).into(),
        }
    }

    fn anna() -> Holder {
        holder("anna")
    }

    /// Its holder sits in `accept`, or does something else altogether.
    #[tokio::test]
    async fn a_port_is_taken_back_without_its_holder() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let ports = PassivePorts::new(free_pair(), Arc::clone(&metrics), Lines::default());
        let address = (Ipv4Addr::LOCALHOST, 21).into();
        let first = ports.open(anna(), address, None).unwrap();
        let second = ports.open(anna(), address, None).unwrap();
        let mut waiting = Box::pin(first.accept());
        assert!(futures::poll!(&mut waiting).is_pending());
        let taken = ports.open(holder("bert"), address, None).unwrap();
        assert_eq!(taken.number(), first.number());
        assert!(!first.may_accept() && second.may_accept());
        assert_eq!(metrics.passive_ports_in_use.get(), 2);
        assert_eq!(metrics.passive_ports_taken_back.get(), 1);
        let woken = tokio::time::timeout(std::time::Duration::from_secs(5), waiting).await;
        assert!(woken.expect("it is woken").is_err());
        let there = std::net::TcpStream::connect(("127.0.0.1", taken.number())).unwrap();
        let (_, peer) = taken.accept().await.unwrap();
        assert_eq!(peer, there.local_addr().unwrap());
        // What the former holder drops is no longer its port.
        drop(first);
        assert!(ports.open(holder("bert"), address, None).is_err());
    }

    /// Its holder waits for the store, and has accepted nothing. Strangers are in front of its client.
    #[tokio::test]
    async fn a_connection_that_nobody_has_accepted_outlives_its_port() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let ports = PassivePorts::new(free_pair(), Arc::clone(&metrics), Lines::default());
        let address = (Ipv4Addr::LOCALHOST, 21).into();
        let first = ports.open(anna(), address, None).unwrap();
        let _second = ports.open(anna(), address, None).unwrap();
        let there = SocketAddr::from((Ipv4Addr::LOCALHOST, first.number()));
        let from = |local: [u8; 4]| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::from((local, 0)).into()).unwrap();
            socket.connect(&there.into()).unwrap();
            std::net::TcpStream::from(socket)
        };
        let _strangers: Vec<_> = (0..10).map(|_| from([127, 0, 0, 2])).collect();
        let mut client = from([127, 0, 0, 1]);
        let _taken = ports.open(holder("bert"), address, None).unwrap();
        assert!(first.may_accept());
        let (stream, peer) = first.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(!first.may_accept() && first.accept().await.is_err());
        io::Write::write_all(&mut client, b"whole").unwrap();
        drop(client);
        let mut received = Vec::new();
        let mut stream = stream;
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut received)
            .await
            .unwrap();
        assert_eq!(received, b"whole");
    }

    #[tokio::test]
    async fn every_port_is_used_before_there_is_none() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let ports = PassivePorts::new(free_pair(), Arc::clone(&metrics), Lines::default());
        let address = (Ipv4Addr::LOCALHOST, 21).into();
        let first = ports.open(anna(), address, None).unwrap();
        let second = ports.open(anna(), address, None).unwrap();
        assert_ne!(first.number(), second.number());
        assert!(ports.open(anna(), address, None).is_err());
        assert_eq!(metrics.passive_ports_in_use.get(), 2);
        let freed = first.number();
        drop(first);
        assert_eq!(ports.open(anna(), address, None).unwrap().number(), freed);
        assert_eq!(metrics.passive_ports_in_use.get(), 1);
    }
}
