//! As much of HTTP/1.1 as an S3 client speaks: one request after the other, each with the length of
//! its body.

use std::fmt::Write;
use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::net::{Skipper, send_blank};

/// Longest head of a request.
const MAX_HEAD: usize = 64 * 1024;

/// A connection of a client.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    received: BytesMut,
    skipper: Skipper,
}

/// A request without its body.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// What comes after the bucket's name; empty for the bucket itself.
    pub(super) key: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    /// How long its body is.
    pub(super) length: u64,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Response {
    status: u16,
    headers: String,
    body: Body,
}

/// What follows the head of an answer.
#[derive(Debug)]
pub(super) enum Body {
    /// Nothing, although so many bytes are announced: `HEAD`.
    Announced(u64),
    /// XML.
    Text(String),
    /// Blank bytes.
    Blank(u64),
    /// Kept bytes.
    Kept(Vec<Bytes>),
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: BytesMut::new(),
            skipper: Skipper::new(),
        })
    }

    /// The next request, or `None` when the client has closed the connection.
    pub(super) async fn request(&mut self) -> io::Result<Option<Request>> {
        loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                let head = self.received.split_to(end + 4);
                return Request::parse(&head).map(Some).ok_or_else(malformed);
            }
            if self.received.len() > MAX_HEAD {
                return Err(malformed());
            }
            self.received.reserve(8 * 1024);
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The body of a request, to keep.
    pub(super) async fn body(&mut self, length: u64) -> io::Result<Bytes> {
        let length = usize::try_from(length).map_err(|_| malformed())?;
        self.received
            .reserve(length.saturating_sub(self.received.len()));
        while self.received.len() < length {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.received.split_to(length).freeze())
    }

    /// Throws the body of a request away.
    pub(super) async fn skip(&mut self, length: u64) -> io::Result<()> {
        let here = self
            .received
            .len()
            .min(usize::try_from(length).unwrap_or(usize::MAX));
        let rest = length - self.received.split_to(here).len() as u64;
        self.skipper.exactly(&self.stream, rest).await
    }

    pub(super) async fn respond(&mut self, response: Response) -> io::Result<()> {
        let mut head = response.head();
        match response.body {
            Body::Announced(_) => self.stream.write_all(head.as_bytes()).await,
            Body::Text(text) => {
                // In one write: small answers are most of them.
                head.push_str(&text);
                self.stream.write_all(head.as_bytes()).await
            }
            Body::Blank(bytes) => {
                self.stream.write_all(head.as_bytes()).await?;
                send_blank(&mut self.stream, bytes).await
            }
            Body::Kept(chunks) => {
                self.stream.write_all(head.as_bytes()).await?;
                for chunk in chunks {
                    self.stream.write_all(&chunk).await?;
                }
                Ok(())
            }
        }
    }
}

impl Request {
    fn parse(head: &[u8]) -> Option<Self> {
        let head = std::str::from_utf8(head).ok()?;
        let (first, rest) = head.split_once("\r\n")?;
        let mut words = first.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = path.strip_prefix('/')?;
        let (_bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let mut request = Self {
            method: method.to_owned(),
            key: decode(key),
            query: parameters(query),
            headers: rest.split("\r\n").filter_map(header).collect(),
            length: 0,
        };
        if let Some(length) = request.header("content-length") {
            request.length = length.parse().ok()?;
        }
        Some(request)
    }

    /// A header, by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }

    /// A parameter behind the question mark.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        value(&self.query, name)
    }
}

impl Response {
    pub(super) fn new(status: u16, body: Body) -> Self {
        Self {
            status,
            headers: String::new(),
            body,
        }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self::new(status, Body::Text(String::new()))
    }

    pub(super) fn text(text: String) -> Self {
        Self::new(200, Body::Text(text))
    }

    /// An error as S3 words it.
    pub(super) fn error(status: u16, code: &str) -> Self {
        let text = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
        Self::new(status, Body::Text(text))
    }

    pub(super) fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        // Writing into a string can't fail.
        let _ = write!(self.headers, "{name}: {value}\r\n");
        self
    }

    fn head(&self) -> String {
        let length = match &self.body {
            Body::Announced(bytes) | Body::Blank(bytes) => *bytes,
            Body::Text(text) => text.len() as u64,
            Body::Kept(chunks) => chunks.iter().map(|chunk| chunk.len() as u64).sum(),
        };
        // A 204 has no body, and some clients take the word of a length for one.
        let length = match self.status {
            204 => String::new(),
            _ => format!("content-length: {length}\r\n"),
        };
        let (status, headers) = (self.status, &self.headers);
        format!("HTTP/1.1 {status} S3\r\n{length}{headers}\r\n")
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no request that S3 knows")
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}

fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
}

fn parameters(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(&value.replace('+', " "))))
        .collect()
}

fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let (_, value) = pairs.iter().find(|(known, _)| known == name)?;
    Some(value)
}

/// Undoes percent-encoding; what is no code stays as it is.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%')
            .then(|| text_of(tail.get(..2)?))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn text_of(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_apart() {
        let head =
            b"PUT /b/a%20b/c?partNumber=2&uploadId=x%2F HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
        let request = Request::parse(head).unwrap();
        assert_eq!(request.key, "a b/c");
        assert_eq!(request.length, 5);
        assert_eq!(request.parameter("uploadId"), Some("x/"));
        assert_eq!(request.parameter("uploads"), None);
    }

    #[test]
    fn the_bucket_itself_has_no_key() {
        let request = Request::parse(b"GET /b?list-type=2 HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(request.key, "");
        assert_eq!(request.parameter("list-type"), Some("2"));
    }

    #[test]
    fn what_is_no_code_stays() {
        assert_eq!(decode("a%2"), "a%2");
        assert_eq!(decode("%zz%41"), "%zzA");
    }
}
