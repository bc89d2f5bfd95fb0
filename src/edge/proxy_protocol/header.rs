//! One header, from the first byte of a connection to the last of its own, and not one further.
//!
//! How long it is shows only while it is read: version 1 ends with its line, version 2 tells its length in
//! the sixteenth byte. So what has arrived is looked at first, and only what belongs to the header is
//! taken: whatever follows is FTP, TLS or a file.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use ppp::{v1, v2};
use thiserror::Error;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::super::sockets::unmapped;

/// How a header of version 1 begins.
const TEXT: &[u8] = b"PROXY ";

/// How a header of version 2 begins.
const SIGNATURE: &[u8] = v2::PROTOCOL_PREFIX;

/// Longest line of version 1, its end included.
const MAX_TEXT: usize = 107;

/// The part of version 2 whose end tells the length of the rest.
const FIXED: usize = SIGNATURE.len() + 4;

/// Longest header of version 2: addresses need 36 bytes, what balancers add some hundred.
const MAX_BINARY: usize = 4 * 1024;

/// How much of what has arrived is looked at once.
const GLANCE: usize = 512;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::edge) enum Header {
    /// The proxy speaks for itself, as when it asks whether we live.
    Own,
    /// The proxy speaks for a client.
    Client {
        /// Where the client is.
        source: SocketAddr,
        /// Where it has connected to.
        destination: SocketAddr,
    },
}

/// Why there is no header.
#[derive(Debug, Error)]
pub(in crate::edge) enum HeaderError {
    /// The connection ended before.
    #[error("closed before its PROXY header was there")]
    Closed,
    /// The connection broke before.
    #[error("lost before its PROXY header was there: {0}")]
    Broken(#[from] io::Error),
    /// It took too long.
    #[error("no PROXY header in time")]
    TimedOut,
    /// Something else came.
    #[error("something else came where a PROXY header was due")]
    Missing,
    /// It has no end, or an end too far away.
    #[error("the PROXY header is longer than {0} bytes")]
    TooLong(usize),
    /// It makes no sense, or speaks of what is no TCP connection.
    #[error("the PROXY header is not valid: {0}")]
    Invalid(String),
}

impl HeaderError {
    /// The metric label; a connection that only came and went is not counted, as probes do that.
    pub(super) fn label(&self) -> Option<&'static str> {
        match self {
            Self::Closed | Self::Broken(_) => None,
            Self::TimedOut => Some("timeout"),
            Self::Missing => Some("missing"),
            Self::TooLong(_) => Some("too_long"),
            Self::Invalid(_) => Some("invalid"),
        }
    }
}

/// Whether a client begins as a proxy would.
pub(in crate::edge) fn looks_like_one(beginning: &[u8]) -> bool {
    beginning.starts_with(TEXT) || beginning.starts_with(SIGNATURE)
}

/// Whether this is the beginning of a header whose first bytes are line ends.
pub(in crate::edge) fn may_become_one(beginning: &[u8]) -> bool {
    beginning.len() < SIGNATURE.len() && SIGNATURE.starts_with(beginning)
}

/// A header that is being read.
#[derive(Debug, Default)]
pub(in crate::edge) struct Reading {
    taken: Vec<u8>,
}

impl Reading {
    /// The header, when it has arrived; what was read of it stays here until then.
    pub(in crate::edge) fn poll(
        &mut self,
        stream: &TcpStream,
        context: &mut Context<'_>,
    ) -> Poll<Result<Header, HeaderError>> {
        loop {
            let mut room = [0; GLANCE];
            let mut glance = ReadBuf::new(&mut room);
            ready!(stream.poll_peek(context, &mut glance))?;
            if glance.filled().is_empty() {
                return Poll::Ready(Err(HeaderError::Closed));
            }
            if self.take(stream, glance.filled())? {
                return Poll::Ready(parse(&self.taken));
            }
        }
    }

    /// Whether nothing of it has arrived.
    pub(in crate::edge) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// Takes what belongs to the header of the bytes that come next; whether it is complete then.
    fn take(&mut self, stream: &TcpStream, next: &[u8]) -> Result<bool, HeaderError> {
        let before = self.taken.len();
        self.taken.extend_from_slice(next);
        let length = length(&self.taken)?;
        self.taken.truncate(length.unwrap_or(usize::MAX));
        let mut room = [0; GLANCE];
        let read = stream.try_read(&mut room[..self.taken.len() - before])?;
        self.taken.truncate(before + read);
        Ok(length == Some(self.taken.len()))
    }
}

/// How long a header is that begins with these bytes. Where it does not show yet, all of them belong to it.
fn length(bytes: &[u8]) -> Result<Option<usize>, HeaderError> {
    let (length, limit) = if begins_like(TEXT, bytes) {
        let line_end = bytes.iter().position(|byte| *byte == b'\n');
        let so_far = (bytes.len() >= MAX_TEXT).then_some(usize::MAX);
        (line_end.map(|end| end + 1).or(so_far), MAX_TEXT)
    } else if begins_like(SIGNATURE, bytes) {
        let rest = bytes.get(FIXED - 2..FIXED);
        let rest = rest.map(|rest| usize::from(rest[0]) << 8 | usize::from(rest[1]));
        (rest.map(|rest| FIXED + rest), MAX_BINARY)
    } else {
        return Err(HeaderError::Missing);
    };
    match length {
        Some(length) if length > limit => Err(HeaderError::TooLong(limit)),
        length => Ok(length),
    }
}

/// As far as they go.
fn begins_like(beginning: &[u8], bytes: &[u8]) -> bool {
    bytes.iter().zip(beginning).all(|(one, other)| one == other)
}

/// Reads a whole header.
fn parse(header: &[u8]) -> Result<Header, HeaderError> {
    if header.starts_with(SIGNATURE) {
        parse_binary(header)
    } else {
        parse_text(header)
    }
}

fn parse_text(header: &[u8]) -> Result<Header, HeaderError> {
    let header = v1::Header::try_from(header).map_err(invalid)?;
    Ok(match header.addresses {
        v1::Addresses::Unknown => Header::Own,
        v1::Addresses::Tcp4(pair) => client(
            (pair.source_address, pair.source_port),
            (pair.destination_address, pair.destination_port),
        ),
        v1::Addresses::Tcp6(pair) => client(
            (pair.source_address, pair.source_port),
            (pair.destination_address, pair.destination_port),
        ),
    })
}

fn parse_binary(header: &[u8]) -> Result<Header, HeaderError> {
    let header = v2::Header::try_from(header).map_err(invalid)?;
    if header.command == v2::Command::Local {
        return Ok(Header::Own);
    }
    match (header.addresses, header.protocol) {
        (v2::Addresses::Unspecified, _) => Ok(Header::Own),
        (v2::Addresses::IPv4(pair), v2::Protocol::Stream) => Ok(client(
            (pair.source_address, pair.source_port),
            (pair.destination_address, pair.destination_port),
        )),
        (v2::Addresses::IPv6(pair), v2::Protocol::Stream) => Ok(client(
            (pair.source_address, pair.source_port),
            (pair.destination_address, pair.destination_port),
        )),
        (v2::Addresses::Unix(_), _) => Err(invalid("it names a Unix socket")),
        (_, protocol) => Err(invalid(format!("it is for {protocol:?}, not TCP"))),
    }
}

fn client(source: impl Into<SocketAddr>, destination: impl Into<SocketAddr>) -> Header {
    Header::Client {
        source: unmapped(source.into()),
        destination: unmapped(destination.into()),
    }
}

fn invalid(why: impl Display) -> HeaderError {
    HeaderError::Invalid(why.to_string())
}

/// Reads a header, as it would be read of a proxy whose bytes come one by one.
///
/// # Panics
/// When a promise is broken.
#[cfg(any(fuzzing, test))]
pub fn proxy(bytes: &[u8]) {
    let whole = length(bytes);
    for end in 0..bytes.len() {
        // What is known of the length never changes, and nothing is taken that could be the client's.
        match (length(&bytes[..end]), &whole) {
            (Ok(Some(early)), whole) => {
                let late = whole.as_ref().ok().copied().flatten();
                assert_eq!(Some(early), late);
            }
            (Err(_), whole) => assert!(whole.is_err(), "refused, and then not"),
            (Ok(None), _) => {}
        }
    }
    let begins = looks_like_one(bytes) || may_become_one(bytes) || TEXT.starts_with(bytes);
    assert_eq!(begins, !matches!(whole, Err(HeaderError::Missing)));
    let Ok(Some(header)) = whole.map(|length| length.and_then(|length| bytes.get(..length))) else {
        return;
    };
    assert!(header.len() <= MAX_BINARY && looks_like_one(header));
    if header.starts_with(TEXT) {
        assert!(header.ends_with(b"\n") && header.len() <= MAX_TEXT);
    }
    if let Ok(Header::Client { source, .. }) = parse(header) {
        let ip = source.ip();
        assert_eq!(ip, ip.to_canonical(), "IPv4 in the guise of IPv6");
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};

    use tokio::net::TcpListener;

    use super::*;

    /// A header of version 2.
    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap();
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend(length.to_be_bytes());
        header.extend(body);
        header
    }

    const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0, 21];

    fn v6() -> Vec<u8> {
        let mut body = Vec::new();
        for text in ["2001:db8::1", "2001:db8::2"] {
            let address: std::net::Ipv6Addr = text.parse().unwrap();
            body.extend(address.octets());
        }
        body.extend([0x30, 0x39, 0, 21]);
        body
    }

    fn with(body: &[u8], more: &[u8]) -> Vec<u8> {
        [body, more].concat()
    }

    fn named(source: &str, destination: &str) -> String {
        let source = source.parse().unwrap();
        let destination = destination.parse().unwrap();
        format!(
            "{:?}",
            Header::Client {
                source,
                destination
            }
        )
    }

    /// Sends `pieces` one by one and then `rest`; the header, and what is left to read.
    async fn received(pieces: &[&[u8]], rest: &[u8]) -> (Result<Header, HeaderError>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        let stream = listener.accept().await.unwrap().0;
        let mut reading = Reading::default();
        let mut outcome = None;
        for (nth, piece) in pieces.iter().enumerate() {
            assert!(outcome.is_none(), "piece {nth} came after the end");
            client.write_all(piece).unwrap();
            if nth + 1 == pieces.len() {
                client.write_all(rest).unwrap();
                client.shutdown(std::net::Shutdown::Write).unwrap();
                outcome = Some(poll_fn(|context| reading.poll(&stream, context)).await);
            } else {
                let read = poll_fn(|context| Poll::Ready(reading.poll(&stream, context)));
                match read.await {
                    Poll::Ready(early) => outcome = Some(early),
                    Poll::Pending => {}
                }
            }
        }
        let mut stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        let mut left = Vec::new();
        stream.read_to_end(&mut left).unwrap();
        (outcome.unwrap(), left)
    }

    fn shown(outcome: &Result<Header, HeaderError>) -> String {
        match outcome {
            Ok(header) => format!("{header:?}"),
            Err(error) => error.to_string(),
        }
    }

    /// Header, what it says.
    fn valid() -> Vec<(Vec<u8>, String)> {
        let own = || format!("{:?}", Header::Own);
        let client4 = || named("192.0.2.1:12345", "198.51.100.2:21");
        let client6 = || named("[2001:db8::1]:12345", "[2001:db8::2]:21");
        let longest6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        vec![
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 21\r\n".to_vec(),
                client4(),
            ),
            (
                b"PROXY TCP6 2001:db8::1 2001:db8::2 12345 21\r\n".to_vec(),
                client6(),
            ),
            (
                b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 12345 21\r\n".to_vec(),
                client4(),
            ),
            (
                format!("PROXY TCP6 {longest6} {longest6} 65535 65535\r\n").into_bytes(),
                named(
                    &format!("[{longest6}]:65535"),
                    &format!("[{longest6}]:65535"),
                ),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), own()),
            (b"PROXY UNKNOWN ::1 ::1 1 2\r\n".to_vec(), own()),
            (binary(0x21, 0x11, V4), client4()),
            (binary(0x21, 0x21, &v6()), client6()),
            // What balancers add: a TLV of 3 bytes, and thousands of bytes of padding.
            (
                binary(0x21, 0x11, &with(V4, &[0xea, 0, 3, 1, 2, 3])),
                client4(),
            ),
            (binary(0x21, 0x21, &with(&v6(), &[4; 4000])), client6()),
            (binary(0x20, 0x00, b""), own()),
            (binary(0x20, 0x11, V4), own()),
            (binary(0x21, 0x00, b""), own()),
        ]
    }

    #[tokio::test]
    async fn headers_are_read_and_nothing_behind_them() {
        for (header, says) in valid() {
            for rest in [&b""[..], b"USER a\r\n", b"\n\n"] {
                let (outcome, left) = received(&[&header], rest).await;
                assert_eq!(shown(&outcome), says, "{}", header.escape_ascii());
                assert_eq!(left, rest, "{}", header.escape_ascii());
            }
        }
    }

    #[tokio::test]
    async fn headers_may_come_in_pieces() {
        for (header, says) in valid().into_iter().filter(|(header, _)| header.len() < 200) {
            let pieces: Vec<_> = header.chunks(1).collect();
            let (outcome, left) = received(&pieces, b"rest").await;
            assert_eq!(shown(&outcome), says, "{}", header.escape_ascii());
            assert_eq!(left, b"rest");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let too_long_text = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100], b"\r\n"].concat();
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (b"USER ferry\r\n".to_vec(), "missing"),
            (b"PASS secret\r\n".to_vec(), "missing"),
            (b"PROXX TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), "missing"),
            (b"\x16\x03\x01\x02\x00".to_vec(), "missing"),
            (b"\r\n\r\n\0\r\nQUIX\n".to_vec(), "missing"),
            (b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n".to_vec(), "invalid"),
            (b"PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n".to_vec(), "invalid"),
            (b"PROXY TCP4 ::1 ::2 1 2\r\n".to_vec(), "invalid"),
            (b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), "invalid"),
            (
                b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n".to_vec(),
                "invalid",
            ),
            (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n".to_vec(), "invalid"),
            (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n".to_vec(), "invalid"),
            (b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), "invalid"),
            (b"PROXY \xff\xfe\r\n".to_vec(), "invalid"),
            (b"PROXY \r\n".to_vec(), "invalid"),
            (too_long_text, "too_long"),
            ([b"PROXY ".as_slice(), &[b'x'; 5000]].concat(), "too_long"),
            // Version, command, family and protocol that there are not, or not here.
            (binary(0x11, 0x11, V4), "invalid"),
            (binary(0x22, 0x11, V4), "invalid"),
            (binary(0x21, 0x41, V4), "invalid"),
            (binary(0x21, 0x13, V4), "invalid"),
            (binary(0x21, 0x12, V4), "invalid"),
            (binary(0x21, 0x31, &[0; 216]), "invalid"),
            (binary(0x21, 0x11, &V4[1..]), "invalid"),
            (binary(0x21, 0x21, V4), "invalid"),
            (binary(0x21, 0x11, &[0; 4081]), "too_long"),
            (binary(0x21, 0x11, &[0; 65535]), "too_long"),
        ];
        for (bytes, label) in cases {
            let (outcome, _) = received(&[&bytes], b"").await;
            let error = outcome.expect_err(&bytes.escape_ascii().to_string());
            assert_eq!(error.label(), Some(label), "{}", bytes.escape_ascii());
        }
    }

    #[tokio::test]
    async fn a_header_that_is_cut_off_is_none() {
        for (header, _) in valid().into_iter().filter(|(header, _)| header.len() < 200) {
            for length in 0..header.len() {
                let (outcome, _) = received(&[&header[..length]], b"").await;
                let error = outcome.expect_err("no header");
                assert_eq!(error.label(), None, "{}", header[..length].escape_ascii());
            }
        }
    }

    #[test]
    fn clients_that_begin_like_a_proxy() {
        assert!(looks_like_one(b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2"));
        assert!(looks_like_one(SIGNATURE));
        assert!(!looks_like_one(b"PROXYX"));
        assert!(!looks_like_one(b"USER PROXY "));
        assert!(!looks_like_one(b"\r\n\r\n"));
    }
}
