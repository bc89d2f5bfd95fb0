//! The control connection as lines in and replies out.
//!
//! Lines come from a peer that may mean harm: their length is bounded, and what a line can't be is
//! an answer, never a failure. The commit barrier has to know what has arrived, which cached readiness
//! would not tell: it asks the kernel itself.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures::FutureExt;
use secrecy::zeroize::{Zeroize, Zeroizing};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::control::Control;
use super::proxy_protocol::{looks_like_one, may_become_one};
use super::tls::{ControlTls, Tls};

/// Longest line, its end included.
pub(super) const MAX_LINE: usize = 4 * 1024;

/// This many bytes without a line end are no FTP client.
pub(super) const MAX_FLOOD: usize = 64 * 1024;

/// This many lines that are too long are no FTP client either.
const MAX_LONG_LINES: u32 = 3;

/// How long a client may leave our reply unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take to close its side after our last reply.
const LINGER: Duration = Duration::from_millis(500);

/// Telnet's IAC (RFC 854): what follows is a Telnet command, not FTP.
const IAC: u8 = 255;

/// What the client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its end and without Telnet commands. It may be a password.
    Text(Zeroizing<Vec<u8>>),
    /// A line longer than [`MAX_LINE`]; it is gone.
    TooLong,
}

impl Line {
    /// Bytes that it holds.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::TooLong => 0,
        }
    }
}

/// Why no more lines come.
#[derive(Debug)]
pub(super) enum Lost {
    /// The client closed the connection.
    Closed,
    /// The connection broke.
    Broken(io::Error),
    /// The client sends too much without a line end.
    Flood,
    /// The client sends too many commands ahead.
    TooFarAhead,
    /// The client begins as a proxy would.
    ProxyHeader,
}

impl Lost {
    /// For the log.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Closed => "closed by the client".to_owned(),
            Self::Broken(error) => error.to_string(),
            Self::Flood => "too many bytes without a line end".to_owned(),
            Self::TooFarAhead => "too many commands sent ahead".to_owned(),
            Self::ProxyHeader => "a PROXY header where none belongs".to_owned(),
        }
    }
}

/// A control connection.
#[derive(Debug)]
pub(super) struct Connection<S = Control> {
    stream: S,
    received: BytesMut,
    /// Bytes of the current line that were thrown away, because it is too long.
    skipped: usize,
    long_lines: u32,
    /// No line has come yet.
    is_new: bool,
}

impl Connection<Control> {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self::over(Control::new(stream))
    }

    /// The next line if it has arrived: `None` means that the kernel holds nothing more.
    pub(super) fn arrived(&mut self) -> Option<Result<Line, Lost>> {
        self.stream.ask_kernel_first();
        self.line().now_or_never()
    }

    /// The TLS handshake. What the client had sent ahead of it is thrown away: anybody on the way could
    /// have put it there. A handshake that fails, or is given up, leaves a connection that is lost.
    pub(super) async fn secure(&mut self, tls: &Tls) -> io::Result<ControlTls> {
        self.received = BytesMut::new();
        self.skipped = 0;
        self.stream.secure(tls).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn over(stream: S) -> Self {
        Self {
            stream,
            received: BytesMut::new(),
            skipped: 0,
            long_lines: 0,
            is_new: true,
        }
    }

    /// The next line. Safe to cancel.
    pub(super) async fn line(&mut self) -> Result<Line, Lost> {
        loop {
            if let Some(line) = self.buffered()? {
                return Ok(line);
            }
            match poll_fn(|context| self.poll_more(context)).await {
                Ok(0) => return Err(Lost::Closed),
                Ok(_) => {}
                Err(error) => return Err(Lost::Broken(error)),
            }
        }
    }

    /// Takes what has arrived into the buffer. It is read onto the stack first: sessions that only
    /// wait, which most do, hold no memory for it.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut stack = [MaybeUninit::uninit(); MAX_LINE];
        let room = MAX_LINE - self.received.len();
        let mut arrived = ReadBuf::uninit(&mut stack[..room]);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut arrived))?;
        // All of it at once: a buffer that grows leaves copies behind.
        self.received.reserve(room);
        self.received.extend_from_slice(arrived.filled());
        let length = arrived.filled().len();
        arrived.filled_mut().zeroize();
        Poll::Ready(Ok(length))
    }

    /// Sends a reply.
    pub(super) async fn send(&mut self, reply: &[u8]) -> Result<(), Lost> {
        let write = async {
            self.stream.write_all(reply).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(WRITE_TIMEOUT, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Lost::Broken(error)),
            Err(_) => Err(Lost::Broken(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Ends our side, and reads on for a moment: what the client has sent and nobody read would
    /// turn the end into a reset, and a reset may overtake the last reply.
    pub(super) async fn close(mut self) {
        let end = async {
            self.stream.shutdown().await?;
            let mut unread = (&mut self.stream).take(MAX_FLOOD as u64);
            tokio::io::copy(&mut unread, &mut tokio::io::sink()).await
        };
        // Whatever comes of it, the connection ends now.
        let _ = tokio::time::timeout(LINGER, end).await;
    }

    /// The next line in the buffer.
    fn buffered(&mut self) -> Result<Option<Line>, Lost> {
        let Some(end) = self.received.iter().position(|byte| *byte == b'\n') else {
            return self.unfinished();
        };
        if self.is_new && may_become_one(&self.received) {
            return Ok(None);
        }
        if std::mem::take(&mut self.is_new) && looks_like_one(&self.received) {
            return Err(Lost::ProxyHeader);
        }
        let line = Wiped(self.received.split_to(end + 1));
        let too_long = std::mem::take(&mut self.skipped) > 0;
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
        if too_long {
            self.long_lines += 1;
            return match self.long_lines {
                MAX_LONG_LINES.. => Err(Lost::Flood),
                _ => Ok(Some(Line::TooLong)),
            };
        }
        Ok(Some(Line::Text(Zeroizing::new(without_telnet(trim_end(
            &line,
        ))))))
    }

    /// No line end yet: a full buffer is thrown away, and the line with it.
    fn unfinished(&mut self) -> Result<Option<Line>, Lost> {
        if self.received.len() >= MAX_LINE {
            self.skipped += self.received.len();
            self.received.clear();
        }
        if self.skipped >= MAX_FLOOD {
            return Err(Lost::Flood);
        }
        Ok(None)
    }
}

/// Received bytes that are wiped when they are done with. What is behind them in the buffer stays.
struct Wiped(BytesMut);

impl Deref for Wiped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.as_mut().zeroize();
    }
}

fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Takes Telnet commands out: `IAC IAC` is the byte 255, `IAC` with WILL, WONT, DO or DONT has an
/// option behind it, any other is two bytes long. (Clients send `IAC IP IAC DM` before `ABOR`.)
fn without_telnet(line: &[u8]) -> Vec<u8> {
    if !line.contains(&IAC) {
        return line.to_vec();
    }
    let mut clean = Vec::with_capacity(line.len());
    let mut rest = line;
    while rest.has_remaining() {
        match *rest {
            [IAC, IAC, ..] => {
                clean.push(IAC);
                rest = &rest[2..];
            }
            [IAC, 251..=254, ..] => rest = &rest[rest.len().min(3)..],
            [IAC, ..] => rest = &rest[rest.len().min(2)..],
            [byte, ..] => {
                clean.push(byte);
                rest = &rest[1..];
            }
            [] => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio::net::TcpListener;

    use super::*;

    fn connection() -> (DuplexStream, Connection<DuplexStream>) {
        let (client, server) = tokio::io::duplex(1024 * 1024);
        (client, Connection::over(server))
    }

    async fn lines_of(bytes: &[u8]) -> Vec<Line> {
        let (mut client, mut connection) = connection();
        client.write_all(bytes).await.unwrap();
        drop(client);
        let mut lines = Vec::new();
        while let Ok(line) = connection.line().await {
            lines.push(line);
        }
        lines
    }

    fn text(line: &[u8]) -> Line {
        Line::Text(line.to_vec().into())
    }

    #[tokio::test]
    async fn lines_end_with_lf_or_crlf() {
        let lines = lines_of(b"USER a\r\nNOOP\nSTAT \r\nhalf").await;
        assert_eq!(lines, [text(b"USER a"), text(b"NOOP"), text(b"STAT ")]);
    }

    #[tokio::test]
    async fn telnet_commands_are_taken_out() {
        let lines =
            lines_of(b"\xff\xf4\xff\xf2ABOR\r\n\xff\xfb\x01NOOP\r\na\xff\xffb\r\n\xff\r\n").await;
        assert_eq!(
            lines,
            [text(b"ABOR"), text(b"NOOP"), text(b"a\xffb"), text(b"")]
        );
    }

    #[tokio::test]
    async fn a_long_line_is_skipped_and_the_next_one_heard() {
        let mut bytes = vec![b'x'; MAX_LINE];
        bytes.extend(b"\r\nNOOP\r\n");
        assert_eq!(lines_of(&bytes).await, [Line::TooLong, text(b"NOOP")]);
        let mut fits = vec![b'x'; MAX_LINE - 2];
        fits.extend(b"\r\n");
        assert_eq!(lines_of(&fits).await, [text(&vec![b'x'; MAX_LINE - 2])]);
    }

    #[tokio::test]
    async fn the_third_long_line_and_an_endless_one_end_it() {
        let (mut client, mut connection) = connection();
        let mut long = vec![b'x'; MAX_LINE + 1];
        long.push(b'\n');
        client.write_all(&long.repeat(3)).await.unwrap();
        assert_eq!(connection.line().await.unwrap(), Line::TooLong);
        assert_eq!(connection.line().await.unwrap(), Line::TooLong);
        assert!(matches!(connection.line().await, Err(Lost::Flood)));

        let (mut client, mut connection) = self::connection();
        client.write_all(&vec![b'x'; MAX_FLOOD]).await.unwrap();
        assert!(matches!(connection.line().await, Err(Lost::Flood)));
        assert!(connection.received.capacity() <= 4 * MAX_LINE);
    }

    /// The commit barrier's question: without waiting for the runtime to notice.
    #[tokio::test]
    async fn what_has_arrived_is_seen_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut connection = Connection::new(listener.accept().await.unwrap().0);
        assert!(connection.arrived().is_none());
        std::io::Write::write_all(&mut &client, b"ABOR\r\n").unwrap();
        assert_eq!(connection.arrived().unwrap().unwrap(), text(b"ABOR"));
        assert!(connection.arrived().is_none());
        drop(client);
        assert!(matches!(connection.arrived(), Some(Err(Lost::Closed))));
    }
}
