//! The private line to one session's libunftp.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use bytes::BytesMut;
use socket2::{Domain, Socket, Type};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{Reply, Request};

/// Longest reply that is waited for to be whole; libunftp's are far shorter.
const MAX_REPLY: usize = 64 * 1024;

/// What the system says when a connection has not been made at once.
const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

/// What libunftp may take to answer what it does by itself.
const OWN_ANSWER: Duration = Duration::from_secs(10);

/// The line to libunftp is broken; the session can't go on.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The sockets failed.
    #[error("the line to the FTP session broke: {0}")]
    Io(#[from] io::Error),
    /// libunftp hung up.
    #[error("the FTP session ended by itself")]
    Closed,
    /// libunftp said something else than it has to.
    #[error("the FTP session answered {0} where it should not")]
    Unexpected(String),
}

/// The line to one session's libunftp. Closing it ends that session.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    received: BytesMut,
    address: Ipv4Addr,
    /// The private data connection, which carries nothing: the runtime need not watch it.
    data: Option<Socket>,
    restarted: bool,
}

impl Link {
    pub(super) async fn greeted(stream: TcpStream, address: Ipv4Addr) -> Result<Self, LinkError> {
        let mut link = Self {
            stream,
            received: BytesMut::new(),
            address,
            data: None,
            restarted: false,
        };
        link.expect(220).await?;
        Ok(link)
    }

    /// Sends a command and waits for its reply, however long the store takes.
    ///
    /// # Errors
    /// When the line is broken.
    pub async fn call(&mut self, request: Request<'_>) -> Result<Reply, LinkError> {
        self.send(request).await?;
        self.reply().await
    }

    /// Starts a transfer: the restart offset, libunftp's private data connection, the verb. All of it is
    /// sent at once: libunftp keeps the verb until it has the connection.
    ///
    /// # Errors
    /// When the line is broken.
    pub async fn start_transfer(
        &mut self,
        request: Request<'_>,
        offset: u64,
    ) -> Result<(), LinkError> {
        let mut lines = String::new();
        if offset > 0 {
            lines.push_str(&Request::Rest(offset).to_string());
            self.restarted = true;
        }
        lines.push_str(&Request::Pasv.to_string());
        lines.push_str(&request.to_string());
        self.stream.write_all(lines.as_bytes()).await?;
        if offset > 0 {
            self.expect(350).await?;
        }
        let reply = self.expect(227).await?;
        let port = passive_port(&reply).ok_or_else(|| LinkError::Unexpected(reply.to_wire()))?;
        self.data = Some(knock(self.address, port)?);
        Ok(())
    }

    /// The reply that ends the transfer. Safe to cancel.
    ///
    /// # Errors
    /// When the line is broken.
    pub async fn transfer_reply(&mut self) -> Result<Reply, LinkError> {
        loop {
            // libunftp says 150 before it has looked; the guard says it when it is true.
            let reply = self.reply().await?;
            if !reply.is_preliminary() {
                return Ok(reply);
            }
        }
    }

    /// Cleans up after a transfer: its data connection, and the offset that libunftp would keep.
    ///
    /// # Errors
    /// When the line is broken.
    pub async fn end_transfer(&mut self) -> Result<(), LinkError> {
        if let Some(data) = self.data.take() {
            // A reset leaves no TIME_WAIT behind: thousands of small files a minute would
            // otherwise use this address's ports up.
            data.set_linger(Some(Duration::ZERO))?;
        }
        if std::mem::take(&mut self.restarted) {
            self.send(Request::Rest(0)).await?;
            self.expect(350).await?;
        }
        Ok(())
    }

    async fn send(&mut self, request: Request<'_>) -> Result<(), LinkError> {
        let line = request.to_string();
        Ok(self.stream.write_all(line.as_bytes()).await?)
    }

    /// The reply to something that libunftp does without asking the store.
    async fn expect(&mut self, code: u16) -> Result<Reply, LinkError> {
        let reply = tokio::time::timeout(OWN_ANSWER, self.reply())
            .await
            .map_err(|_| LinkError::Unexpected("nothing".to_owned()))??;
        if reply.code == code {
            Ok(reply)
        } else {
            Err(LinkError::Unexpected(reply.to_wire()))
        }
    }

    /// The next reply. What has arrived of it stays when the future is dropped.
    async fn reply(&mut self) -> Result<Reply, LinkError> {
        loop {
            let taken = Reply::take(&mut self.received);
            match taken.map_err(|_| LinkError::Unexpected("no reply".to_owned()))? {
                Some(reply) => return Ok(reply),
                None if self.received.len() > MAX_REPLY => {
                    return Err(LinkError::Unexpected("a reply without end".to_owned()));
                }
                None => {}
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(LinkError::Closed);
            }
        }
    }
}

/// Begins to connect to libunftp's private data port, from the session's own address. On loopback, to a
/// port that listens, that succeeds; libunftp begins when it has, and nobody else needs to know.
fn knock(address: Ipv4Addr, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddrV4::new(address, 0).into())?;
    match socket.connect(&SocketAddrV4::new(address, port).into()) {
        Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// A connected pair of sockets on one loopback address.
pub(super) async fn pair(address: Ipv4Addr) -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((address, 0)).await?;
    let SocketAddr::V4(listening) = listener.local_addr()? else {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    };
    let ours = connect(address, listening).await?;
    let us = ours.local_addr()?;
    loop {
        let (theirs, peer) = listener.accept().await?;
        // Another local process could have been faster.
        if peer == us {
            theirs.set_nodelay(true)?;
            return Ok((ours, theirs));
        }
    }
}

async fn connect(from: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let stream = socket.connect(SocketAddr::V4(to)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The port in `227 Entering Passive Mode (h1,h2,h3,h4,p1,p2)`.
fn passive_port(reply: &Reply) -> Option<u16> {
    let text = reply.lines.first()?;
    let numbers = text.split_once('(')?.1.split_once(')')?.0;
    let mut last_two = numbers.rsplit(',').map(str::parse::<u8>);
    let low = last_two.next()?.ok()?;
    let high = last_two.next()?.ok()?;
    Some(u16::from_be_bytes([high, low]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_a_227() {
        let reply = Reply::new(227, "Entering Passive Mode (127,0,0,1,117,48)");
        assert_eq!(passive_port(&reply), Some(30_000));
        assert_eq!(passive_port(&Reply::new(227, "none")), None);
        assert_eq!(passive_port(&Reply::new(227, "(1,2,3,4,5,999)")), None);
    }
}
