//! Listens, and decides who is let in.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::ftp::Reply;
use crate::listening::listen;
use crate::memory::{CONTROL_SOCKET, SESSION, Use};
use crate::session::{Admitted, Refusal, Session};
use crate::supervise::{Task, unless_told_to_panic};
use crate::telemetry::{Held, InUse, LineKind};

use super::active;
use super::buffers::bound_control;
use super::descriptors::Permit;
use super::guard::Guard;
use super::proxy_protocol::Arrival;
use super::shared::Edge;
use super::sockets::{Beginning, contains, prepare, unmapped};

/// After an error of `accept` (no descriptors left, mostly): long enough for some to be freed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a listener is whose address the system does not tell.
const ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// How long a refused client may take to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a session that has given way may take to say so. Until then it has descriptors beside those of the session
/// that has its place.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(100);

/// An address or a port that can't be used.
#[derive(Debug, Error)]
pub enum BindError {
    /// An address that can't be listened on.
    #[error("{setting}: can't listen on {address}")]
    Listen {
        /// Where it was set.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A port that can't be connected from.
    #[error(
        "active.source_port: can't connect from port {port}; ports below 1024 take CAP_NET_BIND_SERVICE, \
         0 is any free port"
    )]
    SourcePort {
        /// The port.
        port: u16,
        /// Why not.
        source: io::Error,
    },
}

impl Edge {
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

/// The open control listeners.
#[derive(Debug)]
pub(super) struct Listeners(Vec<(TcpListener, Beginning)>);

impl Listeners {
    pub(super) fn bind(ftp: &crate::config::Ftp) -> Result<Self, BindError> {
        let clear = open("ftp.listen", &ftp.listen, Beginning::Clear);
        let tls = open(
            "ftp.implicit_tls_listen",
            &ftp.implicit_tls_listen,
            Beginning::Tls,
        );
        Ok(Self(clear.chain(tls).collect::<Result<_, _>>()?))
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.0
            .iter()
            .filter_map(|(listener, _)| listener.local_addr().ok())
            .collect()
    }

    /// Accepts on all listeners until the gateway drains; the listeners are closed then.
    pub(super) async fn serve(self, edge: Arc<Edge>) {
        let mut loops = JoinSet::new();
        for (listener, beginning) in self.0 {
            let accepting = accept_loop(listener, beginning, Arc::clone(&edge));
            loops.spawn(unless_told_to_panic(Task::Listener, accepting));
        }
        // A panic of one is a panic here.
        loops.join_all().await;
    }
}

fn open(
    setting: &'static str,
    addresses: &[SocketAddr],
    beginning: Beginning,
) -> impl Iterator<Item = Result<(TcpListener, Beginning), BindError>> {
    addresses.iter().map(move |address| {
        let listener = listen(*address, addresses).and_then(|listener| {
            bound_control(&listener)?;
            TcpListener::from_std(listener)
        });
        let listener = listener.map_err(|source| BindError::Listen {
            setting,
            address: *address,
            source,
        })?;
        Ok((listener, beginning))
    })
}

async fn accept_loop(listener: TcpListener, beginning: Beginning, edge: Arc<Edge>) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = edge.shutdown.draining().cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => welcome(
                &edge,
                Incoming {
                    stream,
                    peer: unmapped(peer),
                    beginning,
                },
            ),
            Err(error) => {
                let own = listener.local_addr().map_or(ANY, |own| own.ip());
                if edge.logs(LineKind::AcceptFailed, own) {
                    tracing::warn!(%error, "can't accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection that was accepted; whether it is let in has to be seen.
struct Incoming {
    stream: TcpStream,
    /// Who has connected: the client, or a balancer.
    peer: SocketAddr,
    beginning: Beginning,
}

fn welcome(edge: &Arc<Edge>, incoming: Incoming) {
    let peer = incoming.peer;
    let tasks = edge.registry.tasks();
    if edge.proxies.contains(peer.ip()) {
        tasks.spawn(from_proxy(Arc::clone(edge), incoming));
        return;
    }
    match admit(edge, peer.ip()) {
        Ok(admitted) => {
            let edge = Arc::clone(edge);
            tasks.spawn(async move {
                match Arrival::direct(&incoming.stream, peer) {
                    Ok(arrival) => serve(edge, incoming, arrival, admitted).await,
                    Err(error) => lost(peer, &error),
                }
            });
        }
        Err(refusal) => {
            let refused = refuse(edge, incoming, peer, refusal);
            tasks.spawn(refused);
        }
    }
}

/// A connection from a balancer is let in, or not, once it is known whose it is.
async fn from_proxy(edge: Arc<Edge>, mut incoming: Incoming) {
    let proxy = incoming.peer;
    let waiting = edge.proxies.header_permit();
    let Some(waiting) = waiting else {
        return refuse(&edge, incoming, proxy, Refusal::TooManyUnknown).await;
    };
    let Some(place) = edge.descriptors.session() else {
        return refuse(&edge, incoming, proxy, Refusal::TooFewOpenFiles).await;
    };
    // Who begins with a handshake is not greeted before it.
    let greeting = (incoming.beginning == Beginning::Clear).then(|| edge.greeting().to_wire());
    let greeting = greeting.as_ref().map(String::as_bytes);
    let arrival = tokio::select! {
        biased;
        () = edge.shutdown.draining().cancelled() => {
            return refuse(&edge, incoming, proxy, Refusal::ShuttingDown).await;
        }
        arrival = edge.proxies.arrival(&mut incoming.stream, proxy, greeting) => arrival,
    };
    // Why there is none has been logged.
    let Ok(arrival) = arrival else { return };
    drop(waiting);
    match admit_session(&edge, arrival.peer.ip()) {
        Ok(admitted) => serve(edge, incoming, arrival, (admitted, place)).await,
        Err(refusal) => refuse(&edge, incoming, arrival.peer, refusal).await,
    }
}

fn admit(edge: &Edge, address: IpAddr) -> Result<(Arc<Admitted>, Permit), Refusal> {
    check_admission(edge, address)?;
    edge.descriptors.session_in(|| take_place(edge, address))
}

fn admit_session(edge: &Edge, address: IpAddr) -> Result<Arc<Admitted>, Refusal> {
    check_admission(edge, address)?;
    take_place(edge, address)
}

/// Counts the session that gives way for this one, whatever it is waiting for.
fn take_place(edge: &Edge, address: IpAddr) -> Result<Arc<Admitted>, Refusal> {
    let admitted = edge.registry.admit(address)?;
    if admitted.took_place() {
        let refused = &edge.metrics.sessions_refused;
        let reason = Refusal::GaveWay.label();
        refused.with_label_values(&[reason]).inc();
    }
    Ok(admitted)
}

fn check_admission(edge: &Edge, address: IpAddr) -> Result<(), Refusal> {
    let (allow, deny) = (&edge.config.ftp.allow, &edge.config.ftp.deny);
    if contains(deny, address) || (!allow.is_empty() && !contains(allow, address)) {
        return Err(Refusal::AddressDenied);
    }
    if edge.shutdown.draining().is_cancelled() {
        return Err(Refusal::ShuttingDown);
    }
    Ok(())
}

async fn serve(
    edge: Arc<Edge>,
    incoming: Incoming,
    arrival: Arrival,
    admitted: (Arc<Admitted>, Permit),
) {
    let Incoming {
        stream, beginning, ..
    } = incoming;
    if let Err(error) = prepare_control(&stream) {
        return lost(arrival.peer, &error);
    }
    let cancel = edge.shutdown.aborting().child_token();
    let charset = edge.config.legacy_charset;
    let session = Session::new(arrival.peer, arrival.local, charset, cancel);
    let session = Arc::new(session.on_socket(arrival.socket));
    edge.metrics.sessions_total.inc();
    let in_use = InUse::one(&edge.metrics.sessions);
    let memory = [(Use::Sessions, SESSION), (Use::Sockets, CONTROL_SOCKET)];
    let memory = memory.map(|(of, bytes)| Held::bytes(&edge.metrics.memory_of(of), bytes));
    let admission = Arc::clone(&admitted.0);
    let (shared, named) = (Arc::clone(&edge), Arc::clone(&session));
    let mut guard = Guard::new(edge, session, stream, admission).behind_proxy(arrival.is_proxied);
    if let Some(then) = arrival.greeted {
        guard = guard.greeted(then);
    }
    tokio::select! {
        biased;
        // Whatever the guard waits for, others have the place by now.
        () = given_way(&shared, &named, &admitted.0) => {}
        () = guard.run(beginning) => {}
    }
    drop((in_use, memory, admitted));
}

/// Comes when a session has given way to another, and has had the time to say so.
async fn given_way(edge: &Edge, session: &Session, admitted: &Admitted) {
    admitted.gives_way().cancelled().await;
    let (session, peer) = (session.id(), session.peer());
    if edge.logs(LineKind::SessionRefused, peer.ip()) {
        let reason = Refusal::GaveWay.label();
        tracing::info!(%session, %peer, reason, "session refused");
    }
    tokio::time::sleep(FAREWELL_TIMEOUT).await;
}

fn lost(peer: SocketAddr, error: &io::Error) {
    tracing::debug!(%peer, %error, "connection lost before the greeting");
}

fn prepare_control(stream: &TcpStream) -> io::Result<()> {
    prepare(stream)?;
    // Telnet's urgent byte belongs to the line it is in; out of band it would be lost.
    SockRef::from(stream).set_out_of_band_inline(true)
}

/// Counts it at once, and says it as soon as somebody runs it.
fn refuse(
    edge: &Edge,
    mut incoming: Incoming,
    peer: SocketAddr,
    refusal: Refusal,
) -> impl Future<Output = ()> + use<> {
    let reason = refusal.label();
    let refused = &edge.metrics.sessions_refused;
    refused.with_label_values(&[reason]).inc();
    if edge.logs(LineKind::ConnectionRefused, peer.ip()) {
        tracing::info!(%peer, reason, "connection refused");
    }
    let reply = Reply::new(421, refusal.text()).to_wire();
    async move {
        // Who awaits a handshake could not read it.
        if incoming.beginning == Beginning::Tls {
            return;
        }
        let stream = &mut incoming.stream;
        // A command that nobody has read would turn the end into a reset, which may overtake the reply.
        let _ = stream.try_read(&mut [0; 1024]);
        // A client that does not read its refusal gets none.
        let _ = timeout(REFUSAL_TIMEOUT, stream.write_all(reply.as_bytes())).await;
    }
}
