//! The private line to one session's libunftp.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use bytes::BytesMut;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::transfer::Command;
use super::{Reply, Request};

/// Longest reply that is waited for to be whole; libunftp's are far shorter.
const MAX_REPLY: usize = 64 * 1024;

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
    transfer_command: Command,
}

impl Link {
    /// A line to a session that has greeted, and to which its client is known. No password goes over it: who the
    /// client is, was found out before.
    pub(super) async fn logged_in(
        stream: TcpStream,
        transfer_command: Command,
    ) -> Result<Self, LinkError> {
        let mut link = Self {
            stream,
            received: BytesMut::new(),
            transfer_command,
        };
        link.expect(220).await?;
        link.send(Request::User).await?;
        link.expect(331).await?;
        link.send(Request::Pass).await?;
        link.expect(230).await?;
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

    /// Starts the transfer of this number, which the session holds.
    ///
    /// # Errors
    /// When the line is broken.
    pub async fn start_transfer(&mut self, job: u64) -> Result<(), LinkError> {
        let line = format!("SITE {} {job}\r\n", self.transfer_command);
        Ok(self.stream.write_all(line.as_bytes()).await?)
    }

    /// The reply that ends the transfer. Safe to cancel.
    ///
    /// # Errors
    /// When the line is broken.
    pub async fn transfer_reply(&mut self) -> Result<Reply, LinkError> {
        self.reply().await
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
