//! Where the records of TLS begin and end.
//!
//! rustls says the same of a connection that ends between two records as of one that ends within one, but
//! only the first can be the end of a client that knows no `close_notify`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Type, version, length (RFC 8446, section 5.1).
const HEADER: usize = 5;

/// A stream of records, and how far the one that is read has come.
#[derive(Debug)]
pub(super) struct Records<S> {
    inner: S,
    header: [u8; HEADER],
    /// Bytes of the header that are here.
    known: usize,
    /// Bytes of the body that are not.
    left: usize,
}

impl<S> Records<S> {
    pub(super) fn of(inner: S) -> Self {
        Self {
            inner,
            header: [0; HEADER],
            known: 0,
            left: 0,
        }
    }

    /// Whether all that was read is whole records.
    pub(super) fn is_between(&self) -> bool {
        self.known == 0
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.known < HEADER {
                self.header[self.known] = *first;
                self.known += 1;
                bytes = rest;
                let [.., high, low] = self.header;
                self.left = usize::from(u16::from_be_bytes([high, low]));
            } else {
                let body = self.left.min(bytes.len());
                self.left -= body;
                bytes = &bytes[body..];
            }
            if self.known == HEADER && self.left == 0 {
                self.known = 0;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Records<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.follow(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Records<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_seen_however_the_bytes_come() {
        let bytes = [
            &[23, 3, 3, 0, 3, 1, 2, 3][..],
            &[23, 3, 3, 0, 0],
            &[23, 3, 3, 1, 0],
            &[7; 256],
        ]
        .concat();
        let ends = [0, 8, 13, bytes.len()];
        for piece in 1..bytes.len() {
            let mut records = Records::of(());
            let mut read = 0;
            for bytes in bytes.chunks(piece) {
                records.follow(bytes);
                read += bytes.len();
                assert_eq!(records.is_between(), ends.contains(&read), "{read}");
            }
        }
    }
}
