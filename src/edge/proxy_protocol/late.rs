//! A data connection as the storage sees it: whatever header it begins with is not part of the file.

use std::io;
use std::net::{IpAddr, Shutdown};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ipnet::IpNet;
use prometheus::IntCounter;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::telemetry::LineKind;

use super::super::lines::Lines;
use super::super::sockets::contains;
use super::header::{Header, HeaderError, Reading};

/// The client's data connection.
#[derive(Debug)]
pub(in crate::edge) struct DataSocket {
    socket: Socket,
    header: Option<Box<(LateHeader, Reading)>>,
    /// Dropping it sends a reset; only a shutdown makes its end an orderly one.
    resets: bool,
}

/// The socket of a data connection.
#[derive(Debug)]
enum Socket {
    Own(TcpStream),
    /// The edge can still ask the kernel about it. It is closed all the same when the storage drops its end.
    Shared(Arc<TcpStream>),
}

/// A header that has not come yet: the client's first byte brings it along.
#[derive(Debug)]
pub(in crate::edge) struct LateHeader {
    /// Whom it must name.
    pub(in crate::edge) client: IpAddr,
    /// Or somebody here.
    pub(in crate::edge) trusted: Vec<IpNet>,
    /// An empty file has no first byte, and nobody to tell whose it is.
    pub(in crate::edge) may_be_absent: bool,
    /// Counts those that it does not let in.
    pub(in crate::edge) refused: IntCounter,
    /// Through whom it came.
    pub(in crate::edge) proxy: IpAddr,
    pub(in crate::edge) lines: Lines,
}

impl DataSocket {
    /// One without a header, or whose header was read.
    pub(in crate::edge) fn new(stream: TcpStream) -> Self {
        Self {
            socket: Socket::Own(stream),
            header: None,
            resets: false,
        }
    }

    /// One whose header will come with its first byte.
    pub(in crate::edge) fn awaiting_header(stream: TcpStream, header: LateHeader) -> Self {
        Self {
            socket: Socket::Own(stream),
            header: Some(Box::new((header, Reading::default()))),
            resets: false,
        }
    }

    /// The socket itself, for its options.
    pub(in crate::edge) fn tcp(&self) -> &TcpStream {
        match &self.socket {
            Socket::Own(stream) => stream,
            Socket::Shared(stream) => stream,
        }
    }

    /// The same, whose every end but a shutdown is a reset: what is cut off must not look whole to a client that
    /// only reads to the end. The kernel sees to it, also if the process dies.
    ///
    /// # Errors
    /// When the connection is gone.
    pub(in crate::edge) fn reset_unless_shut_down(mut self) -> io::Result<Self> {
        self.linger(Some(Duration::ZERO))?;
        self.resets = true;
        Ok(self)
    }

    /// What its end does with what has not arrived yet.
    ///
    /// # Errors
    /// When the connection is gone.
    pub(in crate::edge) fn linger(&self, time: Option<Duration>) -> io::Result<()> {
        SockRef::from(self.tcp()).set_linger(time)
    }

    /// The same, and a view of the socket that lasts as long as this.
    pub(in crate::edge) fn share(self) -> (Self, Weak<TcpStream>) {
        let Self {
            socket,
            header,
            resets,
        } = self;
        let stream = match socket {
            Socket::Own(stream) => Arc::new(stream),
            Socket::Shared(stream) => stream,
        };
        let view = Arc::downgrade(&stream);
        let shared = Self {
            socket: Socket::Shared(stream),
            header,
            resets,
        };
        (shared, view)
    }

    fn poll_header(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(late) = &mut self.header else {
            return Poll::Ready(Ok(()));
        };
        let (header, reading) = late.as_mut();
        let stream = match &self.socket {
            Socket::Own(stream) => stream,
            Socket::Shared(stream) => stream,
        };
        let says = ready!(reading.poll(stream, context));
        header.accepts(says, reading.is_empty())?;
        self.header = None;
        Poll::Ready(Ok(()))
    }
}

impl LateHeader {
    fn accepts(&self, says: Result<Header, HeaderError>, nothing_came: bool) -> io::Result<()> {
        match says {
            Ok(Header::Client { source, .. }) if self.admits(source.ip()) => Ok(()),
            Ok(Header::Client { source, .. }) => {
                let peer = source.ip();
                self.refuse(&format!("it is {peer}'s"))
            }
            Ok(Header::Own) => self.refuse("it is the proxy's own"),
            Err(HeaderError::Closed) if nothing_came && self.may_be_absent => Ok(()),
            Err(HeaderError::Broken(error)) => Err(error),
            Err(error) => self.refuse(&error.to_string()),
        }
    }

    fn admits(&self, address: IpAddr) -> bool {
        address == self.client || contains(&self.trusted, address)
    }

    fn refuse(&self, reason: &str) -> io::Result<()> {
        self.refused.inc();
        let client = self.client;
        if self.lines.permit(LineKind::LateHeaderRefused, self.proxy) {
            tracing::warn!(reason, %client, "data connection refused, for its late PROXY header");
        }
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

impl AsyncRead for DataSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_header(context))?;
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for DataSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.resets) {
            self.linger(None)?;
        }
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = match self.get_mut() {
            Self::Own(stream) => return Pin::new(stream).poll_read(context, buffer),
            Self::Shared(stream) => stream,
        };
        loop {
            ready!(stream.poll_read_ready(context))?;
            match stream.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|_| ())),
            }
        }
    }
}

/// Whoever is read from through a shared socket is written to little: the messages of TLS.
impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Own(stream) => Pin::new(stream).poll_write(context, buffer),
            Self::Shared(stream) => poll_shared(stream, context, |stream| stream.try_write(buffer)),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Own(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Self::Shared(stream) => {
                poll_shared(stream, context, |stream| stream.try_write_vectored(buffers))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// A socket of the kernel's holds nothing back.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Own(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Shared(stream) => Poll::Ready(SockRef::from(&**stream).shutdown(Shutdown::Write)),
        }
    }
}

fn poll_shared(
    stream: &TcpStream,
    context: &mut Context<'_>,
    write: impl Fn(&TcpStream) -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        match write(stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}
