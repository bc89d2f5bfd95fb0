//! The socket of a control connection, in clear or encrypted.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::tls::{ControlTls, Tls};

/// The socket of a control connection.
#[derive(Debug)]
pub(super) enum Control {
    /// In clear.
    Clear(Eager),
    /// Encrypted.
    Encrypted(Box<TlsStream<Eager>>),
    /// Neither any more: a handshake was begun, and has not succeeded.
    Gone,
}

impl Control {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self::Clear(Eager {
            stream,
            asks_first: false,
        })
    }

    /// Makes the next read ask the kernel.
    pub(super) fn ask_kernel_first(&mut self) {
        match self {
            Self::Clear(socket) => socket.asks_first = true,
            Self::Encrypted(tls) => tls.get_mut().0.asks_first = true,
            Self::Gone => {}
        }
    }

    /// The TLS handshake.
    pub(super) async fn secure(&mut self, tls: &Tls) -> io::Result<ControlTls> {
        let Self::Clear(socket) = std::mem::replace(self, Self::Gone) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let (stream, control) = tls.secure(socket).await?;
        *self = Self::Encrypted(Box::new(stream));
        Ok(control)
    }
}

impl AsyncRead for Control {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Clear(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Encrypted(tls) => Pin::new(tls).poll_read(context, buffer),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Control {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Clear(socket) => Pin::new(socket).poll_write(context, buffer),
            Self::Encrypted(tls) => Pin::new(tls).poll_write(context, buffer),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Clear(socket) => Pin::new(socket).poll_flush(context),
            Self::Encrypted(tls) => Pin::new(tls).poll_flush(context),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Clear(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Encrypted(tls) => Pin::new(tls).poll_shutdown(context),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

/// A socket whose reads can ask the kernel before they ask the runtime.
///
/// The runtime learns of new bytes only when it polls; between two polls its readiness is a memory.
/// The commit barrier must not publish an object whose client has already gone, so a read that
/// says "nothing there" has to mean it. And where urgent data begins, a read ends early; the runtime takes
/// that for the end of what is there. So after a read, the kernel is asked until it has nothing more. After
/// that, the runtime's word is good enough, and costs nothing.
#[derive(Debug)]
pub(super) struct Eager {
    stream: TcpStream,
    asks_first: bool,
}

impl Eager {
    fn poll_runtime(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.asks_first = read.is_ready();
        read
    }
}

impl AsyncRead for Eager {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.asks_first {
            return self.poll_runtime(context, buffer);
        }
        let room = buffer.initialize_unfilled();
        let socket = self.stream.as_fd();
        match retry_on_intr(|| recv(socket, &mut *room, RecvFlags::DONTWAIT)) {
            Ok((read, _)) => {
                buffer.advance(read);
                Poll::Ready(Ok(()))
            }
            Err(Errno::AGAIN) => {
                self.asks_first = false;
                self.poll_runtime(context, buffer)
            }
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

impl AsyncWrite for Eager {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    /// Without this an alert that comes behind another message would stay unsent.
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
