//! Lines from a client, however they arrive, and the commands in them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use tokio::io::{AsyncRead, ReadBuf, join, sink};

use super::command::{Argument, Command, ParseError, VERBS};
use super::connection::{Connection, Line, Lost, MAX_FLOOD, MAX_LINE};
pub use super::proxy_protocol::proxy;
use super::proxy_protocol::{looks_like_one, may_become_one};

/// Reads lines, and the command in each. The first byte says in which pieces the rest arrives.
///
/// # Panics
/// When a promise is broken.
pub fn command(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else {
        return;
    };
    if looks_like_one(bytes) || may_become_one(bytes) {
        // That is refused, or waited for; see `proxy`.
        return;
    }
    let whole = lines(bytes, usize::MAX);
    let pieces = lines(bytes, usize::from(*size).max(1));
    assert_eq!(whole, pieces, "it matters in which pieces lines arrive");
    if bytes.len() < MAX_FLOOD {
        assert_eq!(whole.0, naive(bytes));
    }
    for line in whole.0 {
        if let Line::Text(line) = line {
            assert!(line.len() < MAX_LINE && !line.contains(&b'\n'));
            parse(&line);
        }
    }
    for line in bytes.split(|byte| *byte == b'\n') {
        parse(line);
    }
}

/// All lines, and why there are no more.
fn lines(bytes: &[u8], piece: usize) -> (Vec<Line>, String) {
    let mut connection = Connection::over(join(Pieces { bytes, piece }, sink()));
    let mut lines = Vec::new();
    loop {
        match connection.line().now_or_never() {
            Some(Ok(line)) => lines.push(line),
            Some(Err(lost)) => {
                assert!(matches!(lost, Lost::Closed | Lost::Flood));
                return (lines, lost.reason());
            }
            None => return (lines, "it waits for nothing".to_owned()),
        }
    }
}

/// The lines as one would read them by hand. The third that is too long ends it.
fn naive(bytes: &[u8]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut too_long = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(text) = line.strip_suffix(b"\n") else {
            break;
        };
        if line.len() <= MAX_LINE {
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            lines.push(Line::Text(without_telnet(text).into()));
            continue;
        }
        too_long += 1;
        if too_long == 3 {
            break;
        }
        lines.push(Line::TooLong);
    }
    lines
}

/// Byte by byte: whether the one before was IAC, or asked for an option.
fn without_telnet(line: &[u8]) -> Vec<u8> {
    let (mut command, mut option) = (false, false);
    let mut clean = Vec::new();
    for byte in line {
        match byte {
            _ if option => option = false,
            251..=254 if command => (command, option) = (false, true),
            255 if !command => command = true,
            255 => {
                clean.push(255);
                command = false;
            }
            _ if command => command = false,
            byte => clean.push(*byte),
        }
    }
    clean
}

fn parse(line: &[u8]) {
    match Command::parse(line) {
        Ok(command) => {
            let Command { spec, argument } = &command;
            assert!(VERBS.contains(spec));
            assert!(line.ends_with(argument));
            assert!(!argument.iter().any(|byte| b"\0\r\n".contains(byte)));
            assert!(spec.argument == Argument::Optional || !argument.is_empty());
            let again = [spec.name.as_bytes(), b" ", argument].concat();
            let again = Command::parse(&again);
            assert!(again.is_ok_and(|it| it.spec == *spec && it.argument == *argument));
        }
        Err(ParseError::ArgumentMissing(spec)) => {
            assert!(line.trim_ascii().eq_ignore_ascii_case(spec.name.as_bytes()));
        }
        Err(ParseError::UnknownVerb | ParseError::ControlCharacter) => {}
    }
}

/// Bytes that arrive piece by piece.
struct Pieces<'a> {
    bytes: &'a [u8],
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let size = self.piece.min(buffer.remaining()).min(self.bytes.len());
        let (piece, rest) = self.bytes.split_at(size);
        buffer.put_slice(piece);
        self.bytes = rest;
        Poll::Ready(Ok(()))
    }
}
