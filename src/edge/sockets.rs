//! Sockets of clients, and the addresses at their ends.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Below the 350 s after which an AWS balancer forgets a quiet connection.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// How a control connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// In clear; `AUTH TLS` may come.
    Clear,
    /// With a TLS handshake.
    Tls,
}

/// What every socket of a client gets: small replies at once, and a sign of life for balancers.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE / 4)
        .with_retries(4);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// IPv4 addresses as such, also where an IPv6 socket shows them mapped.
pub(super) fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(canonical) => SocketAddr::new(canonical.into(), address.port()),
        // A link-local address is none without its scope.
        IpAddr::V6(_) => address,
    }
}

/// Whether `networks` contains `address`.
pub(super) fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_is_unmapped_and_a_scope_is_kept() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(
            unmapped(address("[::ffff:192.0.2.1]:21")),
            address("192.0.2.1:21")
        );
        let link_local = address("[fe80::1%2]:21");
        assert_eq!(unmapped(link_local), link_local);
    }
}
