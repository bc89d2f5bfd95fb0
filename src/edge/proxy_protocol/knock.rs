//! A data connection from a proxy: whose it is.

use std::net::SocketAddr;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::TcpStream;

use crate::config::ProxyHeader;

use super::header::{Header, HeaderError, Reading};
use super::{Proxies, read, speaks};

/// A data connection that a proxy has opened.
pub(in crate::edge) struct Knock {
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

/// Finds out. It takes a moment, in which others may knock.
pub(in crate::edge) fn knock(
    stream: TcpStream,
    proxy: SocketAddr,
    proxies: &Proxies,
) -> BoxFuture<'static, Knock> {
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
        Knock {
            stream,
            proxy,
            says,
        }
    }
    .boxed()
}
