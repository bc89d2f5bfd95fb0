//! The PROXY protocol, versions 1 and 2: who is behind a load balancer.
//!
//! Balancers in `ftp.trusted_proxies` begin each connection with a header that names the client and the
//! address it has connected to. From them it is required: without it nobody knows who speaks, so such a
//! connection is nobody's, and closed. From anybody else a header is an attempt to be someone else, and
//! closes the connection too.
//!
//! Until its header is there, a connection is no session. It counts towards no address, so there may be
//! only a few of them at once, and none for long; see [`Proxies::header_permit`].

mod header;
mod late;
mod proxied;

#[cfg(any(fuzzing, test))]
pub use header::proxy;
pub(super) use header::{looks_like_one, may_become_one};
pub(super) use late::{DataSocket, LateHeader};
pub(super) use proxied::{Proxied, Says, identify};

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::config::ProxyHeader;
use crate::telemetry::{InUse, LineKind, Metrics};

use super::lines::Lines;
use super::sockets::{contains, unmapped};
use header::{Header, HeaderError, Reading};

/// What a header that comes first needs to be here: some round trips to a balancer far away. Where it
/// comes late, clients wait so long for the greeting.
const GREET_AFTER: Duration = Duration::from_millis(200);

/// One in so many sessions may be one that nobody knows yet.
const WAITING_SHARE: usize = 4;

/// So many may wait for their header however few sessions there may be.
const MIN_WAITING: usize = 8;

/// The load balancers that speak for their clients.
#[derive(Debug)]
pub(super) struct Proxies {
    trusted: Vec<IpNet>,
    when: ProxyHeader,
    timeout: Duration,
    login_timeout: Duration,
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    lines: Lines,
}

/// The place of a connection whose header has not come yet.
#[derive(Debug)]
pub(super) struct HeaderPermit {
    _permit: OwnedSemaphorePermit,
    _in_use: InUse,
}

/// Who has connected to what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// The client.
    pub(super) peer: SocketAddr,
    /// What the client has connected to: an address of the balancer, where there is one.
    pub(super) local: SocketAddr,
    /// What the connection has come to here.
    pub(super) socket: SocketAddr,
    /// When the client was greeted, if it was.
    pub(super) greeted: Option<Instant>,
    /// The connection ends at a balancer, beyond which the client is.
    pub(super) is_proxied: bool,
}

impl Arrival {
    /// One without a balancer.
    ///
    /// # Errors
    /// When the connection is gone.
    pub(super) fn direct(stream: &TcpStream, peer: SocketAddr) -> io::Result<Self> {
        let local = unmapped(stream.local_addr()?);
        Ok(Self {
            peer,
            local,
            socket: local,
            greeted: None,
            is_proxied: false,
        })
    }

    fn by(mut self, header: Header) -> Self {
        if let Header::Client {
            source,
            destination,
        } = header
        {
            self.peer = source;
            self.local = destination;
            self.is_proxied = true;
        }
        self
    }
}

impl Proxies {
    /// Those of the configuration, for so many sessions at most.
    pub(super) fn new(
        ftp: &crate::config::Ftp,
        max_sessions: usize,
        metrics: Arc<Metrics>,
        lines: Lines,
    ) -> Self {
        let places = (max_sessions / WAITING_SHARE).max(MIN_WAITING);
        Self {
            trusted: ftp.trusted_proxies.clone(),
            when: ftp.proxy_header,
            timeout: ftp.proxy_header_timeout,
            login_timeout: ftp.login_timeout,
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            metrics,
            lines,
        }
    }

    /// Whether connections from here begin with a header.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        contains(&self.trusted, address)
    }

    /// A place to wait for a header in; `None` when too many do so already.
    pub(super) fn header_permit(&self) -> Option<HeaderPermit> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(HeaderPermit {
            _permit: permit,
            _in_use: InUse::one(&self.metrics.proxy_headers_awaited),
        })
    }

    /// Who is behind a control connection from a proxy. `greeting` is for a client that says nothing before
    /// it has heard something: it is sent if the header comes only then.
    ///
    /// # Errors
    /// When there is no header; the reason is counted and logged.
    pub(super) async fn arrival(
        &self,
        stream: &mut TcpStream,
        proxy: SocketAddr,
        greeting: Option<&[u8]>,
    ) -> Result<Arrival, HeaderError> {
        let mut arrival = Arrival::direct(stream, proxy)?;
        let mut within = self.timeout;
        if let (Some(greeting), ProxyHeader::Late) = (greeting, self.when)
            && !speaks(stream).await?
        {
            arrival.greeted = Some(Instant::now());
            timeout(self.timeout, stream.write_all(greeting))
                .await
                .map_err(|_| HeaderError::TimedOut)??;
            within = self.login_timeout;
        }
        let header = read(stream, &mut Reading::default(), within).await;
        let header = header.inspect_err(|error| self.refused(proxy, error))?;
        let arrival = arrival.by(header);
        tracing::debug!(%proxy, client = %arrival.peer, to = %arrival.local, "PROXY header");
        Ok(arrival)
    }

    /// Counts and logs a header that was none.
    pub(super) fn refused(&self, proxy: SocketAddr, error: &HeaderError) {
        let Some(reason) = error.label() else {
            tracing::debug!(%proxy, %error, "connection from a trusted proxy");
            return;
        };
        self.count(reason);
        let missing = matches!(error, HeaderError::Missing | HeaderError::TimedOut);
        let advice = match self.when {
            ProxyHeader::First if missing => {
                "; have the proxy send the header (ftp.proxy_header = \"late\" if it sends it only after \
                 its client's first byte), or take it out of ftp.trusted_proxies"
            }
            _ => "",
        };
        if self.lines.permit(LineKind::ProxyHeaderRefused, proxy.ip()) {
            tracing::warn!(%proxy, reason, "connection from a trusted proxy refused: {error}{advice}");
        }
    }

    /// Counts and logs a client that pretends to be a proxy.
    pub(super) fn pretended(&self, peer: SocketAddr) {
        self.count("stranger");
        if self
            .lines
            .permit(LineKind::ProxyHeaderOfStranger, peer.ip())
        {
            tracing::warn!(
                %peer,
                reason = "stranger",
                "connection refused: it begins with a PROXY header, but {} is not in ftp.trusted_proxies",
                peer.ip()
            );
        }
    }

    fn count(&self, reason: &str) {
        let refused = &self.metrics.proxy_headers_refused;
        refused.with_label_values(&[reason]).inc();
    }
}

/// Whether anything comes soon.
async fn speaks(stream: &TcpStream) -> io::Result<bool> {
    match timeout(GREET_AFTER, stream.peek(&mut [0])).await {
        Ok(peeked) => peeked.map(|_| true),
        Err(_) => Ok(false),
    }
}

/// The header, if it comes in time.
async fn read(
    stream: &TcpStream,
    reading: &mut Reading,
    within: Duration,
) -> Result<Header, HeaderError> {
    let header = poll_fn(|context| reading.poll(stream, context));
    timeout(within, header)
        .await
        .unwrap_or(Err(HeaderError::TimedOut))
}
