//! What a foreign back-end reads of an upload: it comes to an end only if the gateway says so.
//!
//! A back-end publishes what it has read when its reader ends, and nothing when its reader fails. So the end of the
//! client's data is not the end of the reader: that comes with [`Feed::end`], after the guard has agreed to the commit.
//! A [`Feed`] that is dropped before is a failure, whatever has become of its job.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

/// Chunks that may wait between the two.
const WAITING: usize = 2;

/// Both ends of an upload's content.
pub(super) fn gate() -> (Feed, Gated) {
    let (sender, chunks) = mpsc::channel(WAITING);
    let gated = Gated {
        chunks,
        chunk: Bytes::new(),
        has_ended: false,
    };
    (Feed(sender), gated)
}

#[derive(Debug)]
enum Piece {
    Chunk(Bytes),
    End,
}

/// The gateway's end.
#[derive(Debug)]
pub(super) struct Feed(mpsc::Sender<Piece>);

/// The back-end does not read any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unread;

impl Feed {
    /// Hands a chunk over, and waits while the back-end has enough.
    pub(super) async fn send(&self, chunk: Bytes) -> Result<(), Unread> {
        self.0.send(Piece::Chunk(chunk)).await.map_err(|_| Unread)
    }

    /// Lets the reader end: that was all.
    pub(super) async fn end(self) -> Result<(), Unread> {
        self.0.send(Piece::End).await.map_err(|_| Unread)
    }
}

/// The back-end's end.
#[derive(Debug)]
pub struct Gated {
    chunks: mpsc::Receiver<Piece>,
    chunk: Bytes,
    has_ended: bool,
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() && !self.has_ended {
            match ready!(self.chunks.poll_recv(context)) {
                Some(Piece::Chunk(chunk)) => self.chunk = chunk,
                Some(Piece::End) => self.has_ended = true,
                None => return Poll::Ready(Err(given_up())),
            }
        }
        let bytes = self.chunk.len().min(buffer.remaining());
        buffer.put_slice(&self.chunk[..bytes]);
        self.chunk.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

fn given_up() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the upload was given up before its end",
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn it_ends_when_the_gateway_says_so() {
        let (feed, mut gated) = gate();
        feed.send(Bytes::from_static(b"all ")).await.unwrap();
        feed.send(Bytes::from_static(b"of it")).await.unwrap();
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            gated.read_to_end(&mut read).await.map(|_| (read, gated))
        });
        feed.end().await.unwrap();
        let (read, mut gated) = reading.await.unwrap().unwrap();
        assert_eq!(read, b"all of it");
        // And it stays ended.
        assert_eq!(gated.read(&mut [0; 8]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_feed_that_is_dropped_is_a_failure_and_no_end() {
        let (feed, mut gated) = gate();
        feed.send(Bytes::from_static(b"half of it")).await.unwrap();
        drop(feed);
        let mut read = Vec::new();
        let failed = gated.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::ConnectionAborted);
        // And it stays one.
        assert!(gated.read(&mut [0; 8]).await.is_err());
    }

    #[tokio::test]
    async fn a_back_end_that_has_gone_is_noticed() {
        let (feed, gated) = gate();
        drop(gated);
        assert_eq!(feed.send(Bytes::from_static(b"a")).await, Err(Unread));
        assert_eq!(feed.end().await, Err(Unread));
    }
}
