//! The client's data connection: announced, awaited or dialled, checked.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::session::Session;
use crate::telemetry::{LineKind, Metrics};

use super::active::Target;
use super::buffers::{Buffers, Flow};
use super::descriptors::Permit;
use super::lines::Lines;
use super::passive::PassivePort;
use super::proxy_protocol::{DataSocket, LateHeader, Proxied, Proxies, Says, identify};
use super::sockets::{contains, prepare, unmapped};

/// So many connections to one port may be asked at once for whom they are. Each is a descriptor.
const MAX_ARRIVING: usize = 4;

/// So many are taken from the port's queue before the transfer is asked for: the transfer has a descriptor for one.
const MAX_AHEAD: usize = 1;

/// A data connection that the client has arranged for its next transfer.
#[derive(Debug)]
pub(super) struct Arranged {
    way: Way,
    /// What the transfer may take, up to its end.
    buffers: Buffers,
    _permit: Permit,
}

/// How it comes to be.
#[derive(Debug)]
pub(super) enum Way {
    /// `PASV` or `EPSV`: the client will connect to a port.
    Passive(Waiting),
    /// `PORT` or `EPRT`: we connect to the client.
    Active(Dialling),
    /// It is there, or will never be.
    Done,
}

/// A port, and who has connected there. It outlives the wait for it, which may be broken off and begun again.
pub(super) struct Waiting {
    port: PassivePort,
    /// Before the transfer was asked for. What is given up of them is reset.
    arrived: VecDeque<DataSocket>,
    arriving: FuturesUnordered<BoxFuture<'static, Proxied>>,
}

/// A client to connect to. Once begun, it outlives the wait for it, too.
pub(super) struct Dialling {
    target: Target,
    from: SocketAddr,
    buffer: Option<usize>,
    dial: Option<BoxFuture<'static, io::Result<TcpStream>>>,
}

/// Who may connect, and until when.
pub(super) struct Expected<'a> {
    pub(super) peer: IpAddr,
    pub(super) trusted: &'a [IpNet],
    pub(super) proxies: &'a Proxies,
    /// Whether the client sends anything on the connection: a file, or the beginning of a handshake.
    pub(super) client_speaks: bool,
    pub(super) until: Instant,
    pub(super) metrics: &'a Metrics,
    pub(super) lines: &'a Lines,
}

impl Arranged {
    pub(super) fn passive(port: PassivePort, buffers: Buffers, permit: Permit) -> Self {
        let waiting = Waiting {
            port,
            arrived: VecDeque::new(),
            arriving: FuturesUnordered::new(),
        };
        Self {
            way: Way::Passive(waiting),
            buffers,
            _permit: permit,
        }
    }

    /// Nothing happens before the transfer.
    pub(super) fn active(
        target: Target,
        from: SocketAddr,
        buffers: Buffers,
        permit: Permit,
    ) -> Self {
        let dialling = Dialling {
            target,
            from,
            buffer: buffers.receive(),
            dial: None,
        };
        Self {
            way: Way::Active(dialling),
            buffers,
            _permit: permit,
        }
    }

    /// Whether a port is open for the client.
    pub(super) fn is_passive(&self) -> bool {
        matches!(self.way, Way::Passive(_))
    }

    /// Whether its port was taken back, and nobody has connected before that.
    pub(super) fn is_taken_back(&self) -> bool {
        match &self.way {
            Way::Passive(waiting) => waiting.is_taken_back(),
            Way::Active(_) | Way::Done => false,
        }
    }

    /// Whether we connect to the client, not it to us.
    pub(super) fn is_active(&self) -> bool {
        matches!(self.way, Way::Active(_))
    }

    /// Bounds what the kernel keeps of the transfer's data connection.
    ///
    /// # Errors
    /// The system's, if the connection is gone.
    pub(super) fn bound(&self, socket: &DataSocket, flow: Flow) -> io::Result<()> {
        self.buffers.apply(socket.tcp(), flow)
    }

    /// Waits for the data connection, or makes it. Safe to cancel.
    ///
    /// # Errors
    /// When none comes in time, or the system has no sockets left.
    pub(super) async fn establish(&mut self, expected: &Expected<'_>) -> io::Result<DataSocket> {
        let connection = async {
            match &mut self.way {
                Way::Passive(waiting) => waiting.client(expected).await,
                Way::Active(dialling) => dialling.client().await,
                Way::Done => Err(io::ErrorKind::NotConnected.into()),
            }
        };
        tokio::time::timeout_at(expected.until, connection).await?
    }

    /// Turns strangers away, while the transfer is still to come: they must not fill the port's queue. It has no end, and is
    /// safe to cancel.
    pub(super) async fn turn_away(&mut self, expected: &Expected<'_>) {
        if let Way::Passive(waiting) = &mut self.way {
            waiting.gather(expected).await;
        }
        std::future::pending::<()>().await;
    }

    /// Ends the wait, and frees the port for another as soon as what this returns is dropped.
    pub(super) fn free(&mut self) -> Way {
        std::mem::replace(&mut self.way, Way::Done)
    }
}

impl Way {
    /// Says why there is no data connection.
    pub(super) fn log_failure(self, lines: &Lines, session: &Session, error: &io::Error) {
        let (session, peer) = (session.id(), session.peer().ip());
        match self {
            Self::Active(Dialling { target, .. }) => {
                if lines.permit(LineKind::ActiveFailed, peer) {
                    tracing::warn!(
                        %session,
                        client = %target,
                        %error,
                        "can't connect to a client in active mode; behind NAT or a firewall it has to use passive mode"
                    );
                }
            }
            Self::Passive(_) | Self::Done => {
                tracing::debug!(%session, %error, "no data connection");
            }
        }
    }
}

impl Waiting {
    fn is_taken_back(&self) -> bool {
        !self.port.may_accept() && self.arrived.is_empty() && self.arriving.is_empty()
    }

    /// Takes from the queue what may be the client's, and a few at most.
    async fn gather(&mut self, expected: &Expected<'_>) {
        while self.arrived.len() + self.arriving.len() < MAX_AHEAD {
            let Ok((stream, peer)) = self.port.accept().await else {
                return;
            };
            if let Some(socket) = self.admit(stream, unmapped(peer), expected)
                && socket.linger(Some(Duration::ZERO)).is_ok()
            {
                self.port.claim();
                self.arrived.push_back(socket);
            }
        }
    }

    /// One that may be the client's already, or that a proxy has yet to say whose it is.
    fn admit(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        expected: &Expected<'_>,
    ) -> Option<DataSocket> {
        if expected.proxies.contains(peer.ip()) {
            self.arriving.push(identify(stream, peer, expected.proxies));
            return None;
        }
        expected.direct(stream, peer, self.port.number())
    }

    /// The first connection of the client itself: any other may be somebody who wants its data.
    async fn client(&mut self, expected: &Expected<'_>) -> io::Result<DataSocket> {
        if let Some(socket) = self.arrived.pop_front() {
            socket.linger(None)?;
            prepare(socket.tcp())?;
            return Ok(socket);
        }
        loop {
            if self.is_taken_back() {
                return Err(io::ErrorKind::NotConnected.into());
            }
            let arriving = &mut self.arriving;
            let may_accept = arriving.len() < MAX_ARRIVING && self.port.may_accept();
            let socket = tokio::select! {
                Some(proxied) = arriving.next() => expected.behind_proxy(proxied, self.port.number()),
                accepted = self.port.accept(), if may_accept => {
                    match accepted {
                        Ok((stream, peer)) => self.admit(stream, unmapped(peer), expected),
                        Err(_) if !self.port.may_accept() => None,
                        Err(error) => return Err(error),
                    }
                }
            };
            if let Some(socket) = socket {
                self.port.claim();
                prepare(socket.tcp())?;
                return Ok(socket);
            }
        }
    }
}

impl Dialling {
    async fn client(&mut self) -> io::Result<DataSocket> {
        let Self {
            target,
            from,
            buffer,
            dial,
        } = self;
        let dial = dial.get_or_insert_with(|| target.dial(*from, *buffer).boxed());
        let stream = dial.await?;
        prepare(&stream)?;
        Ok(DataSocket::new(stream))
    }
}

impl Expected<'_> {
    fn direct(&self, stream: TcpStream, peer: SocketAddr, port: u16) -> Option<DataSocket> {
        if self.admits(peer.ip()) {
            return Some(DataSocket::new(stream));
        }
        self.refuse(peer.ip(), port, "see passive.trusted_networks");
        None
    }

    fn behind_proxy(&self, proxied: Proxied, port: u16) -> Option<DataSocket> {
        let Proxied {
            stream,
            proxy,
            says,
        } = proxied;
        match says {
            Says::Client(client) => return self.direct(stream, client, port),
            // Only of somebody who is logged in from the proxy itself.
            Says::Own if proxy.ip() == self.peer => return Some(DataSocket::new(stream)),
            Says::Own => self.refuse(proxy.ip(), port, "it is the proxy's own"),
            Says::Nothing if self.client_speaks || contains(self.trusted, proxy.ip()) => {
                return Some(self.awaiting_header(stream, proxy));
            }
            Says::Nothing => self.refuse(
                proxy.ip(),
                port,
                "it has brought no PROXY header, and will not; let the balancer send it at once, have \
                 clients use TLS, or add the balancer to passive.trusted_networks",
            ),
            Says::Nonsense(error) => self.proxies.refused(proxy, &error),
        }
        None
    }

    /// Whose it is shows before the first byte of it counts.
    fn awaiting_header(&self, stream: TcpStream, proxy: SocketAddr) -> DataSocket {
        let header = LateHeader {
            client: self.peer,
            trusted: self.trusted.to_vec(),
            may_be_absent: contains(self.trusted, proxy.ip()),
            refused: self.metrics.data_connections_refused.clone(),
            proxy: proxy.ip(),
            lines: self.lines.clone(),
        };
        DataSocket::awaiting_header(stream, header)
    }

    fn admits(&self, address: IpAddr) -> bool {
        address == self.peer || contains(self.trusted, address)
    }

    fn refuse(&self, peer: IpAddr, port: u16, advice: &str) {
        self.metrics.data_connections_refused.inc();
        if self.lines.permit(LineKind::StrangerAtPort, peer) {
            tracing::warn!(
                %peer,
                client = %self.peer,
                port,
                "data connection from a stranger refused; {advice}"
            );
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("port", &self.port)
            .field("arrived", &self.arrived.len())
            .field("arriving", &self.arriving.len())
            .finish()
    }
}

impl fmt::Debug for Dialling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialling")
            .field("target", &self.target)
            .field("from", &self.from)
            .field("begun", &self.dial.is_some())
            .finish_non_exhaustive()
    }
}
