//! Bytes that nobody looks at, moved as cheaply as the kernel lets us: what measures must cost less
//! than what is measured.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use rustix::net::{RecvFlags, recv};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::wire::Wire;

/// One write of blank bytes.
const BLOCK: usize = 1024 * 1024;

static BLANK: [u8; BLOCK] = [0; BLOCK];

/// What the kernel may queue of what a client sends. By default it is 4 MiB each: a thousand clients on
/// one host would fill all its memory for TCP, and it would drop what arrives.
const SEND_BUFFER: u32 = 64 * 1024;

/// Connects a client.
pub(crate) async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.connect(address).await
}

/// Writes this many blank bytes.
pub(crate) async fn send_blank(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: u64,
) -> io::Result<()> {
    let mut rest = bytes;
    while rest > 0 {
        let block = rest.min(BLOCK as u64);
        stream.write_all(blank(block)).await?;
        rest -= block;
    }
    Ok(())
}

/// At most [`BLOCK`] blank bytes.
fn blank(bytes: u64) -> &'static [u8] {
    let bytes = usize::try_from(bytes).unwrap_or(BLOCK);
    &BLANK[..bytes.min(BLOCK)]
}

/// Throws away what a connection brings.
#[derive(Debug)]
pub(crate) struct Skipper {
    /// The kernel wants its length and, told to truncate, never writes to it: it takes no memory.
    room: Vec<u8>,
}

impl Skipper {
    pub(crate) fn new() -> Self {
        Self {
            room: vec![0; BLOCK],
        }
    }

    /// Throws away what is there, at most `most` bytes. 0 is the end of the stream.
    pub(crate) async fn some(&mut self, stream: &mut Wire, most: u64) -> io::Result<u64> {
        let room = usize::try_from(most).unwrap_or(BLOCK).min(BLOCK);
        match stream {
            Wire::Clear(stream) => self.some_clear(stream, most).await,
            Wire::Encrypted(stream) => Ok(stream.read(&mut self.room[..room]).await? as u64),
        }
    }

    /// The same in clear, where the kernel need not even copy them.
    async fn some_clear(&mut self, stream: &TcpStream, most: u64) -> io::Result<u64> {
        let room = usize::try_from(most).unwrap_or(BLOCK).min(BLOCK);
        let room = &mut self.room[..room];
        let skipped = stream
            .async_io(Interest::READABLE, || {
                let (_, bytes) = recv(stream, &mut *room, RecvFlags::TRUNC)?;
                Ok(bytes)
            })
            .await?;
        Ok(skipped as u64)
    }

    /// Throws away all that comes, and counts it.
    pub(crate) async fn all(&mut self, stream: &mut Wire) -> io::Result<u64> {
        let mut total = 0;
        loop {
            match self.some(stream, u64::MAX).await? {
                0 => return Ok(total),
                skipped => total += skipped,
            }
        }
    }
}

/// Listens, and says where on standard output, for whoever has started this process.
pub(crate) async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on {address}"))?;
    println!("listening on {}", listener.local_addr()?);
    Ok(listener)
}

/// Thousands of sessions need more open files than a shell usually grants.
pub(crate) fn raise_open_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        eprintln!("bench: can't raise the limit on open files: {error}");
    }
}
