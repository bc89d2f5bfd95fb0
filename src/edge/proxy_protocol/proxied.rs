//! A data connection from a proxy: whose it is.

use std::net::SocketAddr;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::TcpStream;

use crate::config::ProxyHeader;

use super::header::{Header, HeaderError, Reading};
use super::{Proxies, read, speaks};

/// A data connection that a proxy has opened.
pub(in crate::edge) struct Proxied {
    pub(in crate::edge) stream: TcpStream,
    pub(in crate::edge) proxy: SocketAddr,
    pub(in crate::edge) says: Says,
}

/// What it has said of itself.
pub(in crate::edge) enum Says {
    /// It is this client's.
    Client(SocketAddr),
    /// It is the proxy's own.
    Own,
    /// Nothing yet, where the header may come late.
    Nothing,
    /// Nothing that could be understood.
    Nonsense(HeaderError),
}

/// Reads what the proxy says. That takes a moment, in which others may connect.
pub(in crate::edge) fn identify(
    stream: TcpStream,
    proxy: SocketAddr,
    proxies: &Proxies,
) -> BoxFuture<'static, Proxied> {
    let (when, timeout) = (proxies.when, proxies.timeout);
    async move {
        let may_come_late = when == ProxyHeader::Late;
        let says = if may_come_late && matches!(speaks(&stream).await, Ok(false)) {
            Says::Nothing
        } else {
            match read(&stream, &mut Reading::default(), timeout).await {
                Ok(Header::Client { source, .. }) => Says::Client(source),
                Ok(Header::Own) => Says::Own,
                Err(error) => Says::Nonsense(error),
            }
        };
        Proxied {
            stream,
            proxy,
            says,
        }
    }
    .boxed()
}
