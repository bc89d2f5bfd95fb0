//! A data connection as the storage sees it: whatever header it begins with is not part of the file.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::super::contains;
use super::header::{Header, HeaderError, Reading};

/// The client's data connection.
#[derive(Debug)]
pub(in crate::edge) struct DataSocket {
    stream: TcpStream,
    header: Option<Box<LateHeader>>,
}

/// A header that has not come yet: the client's first byte brings it along.
#[derive(Debug)]
struct LateHeader {
    reading: Reading,
    client: IpAddr,
    trusted: Vec<IpNet>,
}

impl DataSocket {
    /// One without a header, or whose header was read.
    pub(in crate::edge) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            header: None,
        }
    }

    /// One whose header will come with its first byte, and must then name `client` or somebody in
    /// `trusted`.
    pub(in crate::edge) fn awaiting_header(
        stream: TcpStream,
        client: IpAddr,
        trusted: &[IpNet],
    ) -> Self {
        let header = LateHeader {
            reading: Reading::default(),
            client,
            trusted: trusted.to_vec(),
        };
        Self {
            stream,
            header: Some(Box::new(header)),
        }
    }

    /// The socket itself, for its options.
    pub(in crate::edge) fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    fn poll_header(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(header) = &mut self.header else {
            return Poll::Ready(Ok(()));
        };
        let says = ready!(header.reading.poll(&self.stream, context));
        header.accepts(says)?;
        self.header = None;
        Poll::Ready(Ok(()))
    }
}

impl LateHeader {
    fn accepts(&self, says: Result<Header, HeaderError>) -> io::Result<()> {
        match says {
            Ok(Header::Client { source, .. })
                if source.ip() == self.client || contains(&self.trusted, source.ip()) =>
            {
                Ok(())
            }
            // An empty file has no first byte.
            Err(HeaderError::Closed) if self.reading.is_empty() => Ok(()),
            Ok(header) => {
                let why = format!("the PROXY header of the data connection says {header:?}");
                Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
            }
            Err(HeaderError::Broken(error)) => Err(error),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

impl AsyncRead for DataSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_header(context))?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for DataSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
