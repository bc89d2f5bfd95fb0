//! What the edge still sees of an upload's data connection while the storage reads from it: whether its client
//! has ended it, and whether that end is proven.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::TcpStream;

use super::proxy_protocol::DataSocket;

/// The numbers of `struct tcp_info` up to `tcpi_rtt`, in steps of 32 bits (`linux/tcp.h`; it only ever grows).
const NUMBERS: usize = 18;

/// The place of `tcpi_rtt` among them, in microseconds.
const RTT: usize = 17;

/// The end of a data connection, before and after it has come.
#[derive(Debug)]
pub(super) struct Ending {
    socket: Weak<TcpStream>,
    round_trip: Option<Duration>,
    close_notify: CloseNotify,
}

/// Whether the client has said under TLS that it sends no more. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct CloseNotify(Arc<AtomicBool>);

impl Ending {
    /// That of a connection that has just been made.
    pub(super) fn of(stream: DataSocket) -> (Self, DataSocket) {
        let round_trip = round_trip(stream.tcp());
        let (stream, socket) = stream.share();
        let ending = Self {
            socket,
            round_trip,
            close_notify: CloseNotify::default(),
        };
        (ending, stream)
    }

    /// Whether the client has ended its side, or the connection is gone. It asks the kernel: what was sent before
    /// the end may still be unread.
    pub(super) fn has_come(&self) -> bool {
        let socket = self.socket.upgrade();
        socket.is_none_or(|socket| is_half_closed(&socket))
    }

    /// How long a packet took to the client and its answer back, when the connection was made. Later on, and on
    /// the control connection, the kernel's figure has the client's delayed acknowledgements in it.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// For the TLS of the connection to say.
    pub(super) fn close_notify(&self) -> &CloseNotify {
        &self.close_notify
    }
}

impl CloseNotify {
    pub(super) fn say(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn was_said(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn is_half_closed(socket: &TcpStream) -> bool {
    let socket = socket.as_fd();
    let mut ends = [PollFd::new(&socket, PollFlags::RDHUP)];
    // A poll that fails tells nothing, so nothing has come.
    let polled = poll(&mut ends, Some(&Timespec::default()));
    polled.is_ok_and(|ready| ready > 0)
}

fn round_trip(socket: &TcpStream) -> Option<Duration> {
    use uapi::c::{IPPROTO_TCP, TCP_INFO};
    let mut numbers = [0_u32; NUMBERS];
    uapi::getsockopt(socket.as_raw_fd(), IPPROTO_TCP, TCP_INFO, &mut numbers).ok()?;
    let microseconds = numbers[RTT];
    (microseconds > 0).then(|| Duration::from_micros(microseconds.into()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        (client.unwrap(), server.unwrap().0)
    }

    /// The order of two connections is told by what has arrived, not by what was read.
    #[tokio::test]
    async fn an_end_is_seen_before_what_came_ahead_of_it_is_read() {
        let (mut client, server) = pair().await;
        let (ending, mut stream) = Ending::of(DataSocket::new(server));
        client.write_all(b"unread").await.unwrap();
        assert!(!ending.has_come());
        client.shutdown().await.unwrap();
        assert!(ending.has_come());
        let mut read = String::new();
        stream.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "unread");
        drop(stream);
        assert!(ending.has_come());
    }

    #[tokio::test]
    async fn a_reset_is_an_end_too() {
        let (client, server) = pair().await;
        let (ending, _stream) = Ending::of(DataSocket::new(server));
        socket2::SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        assert!(ending.has_come());
    }

    #[tokio::test]
    async fn the_round_trip_is_the_handshakes() {
        let (_client, server) = pair().await;
        let (ending, _stream) = Ending::of(DataSocket::new(server));
        let round_trip = ending.round_trip().unwrap();
        // A wrong place in the structure would be a window, a size or a timeout.
        assert!(round_trip < Duration::from_millis(50), "{round_trip:?}");
    }
}
