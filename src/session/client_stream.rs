//! The client's data connection as a transfer's storage has it: from before it is there.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::transfer::DataStream;

/// The client's end of a transfer. Whoever reads or writes waits until the client is there; if it never comes, that
/// is an error.
#[derive(Debug)]
pub struct ClientStream(State);

#[derive(Debug)]
enum State {
    Awaited(oneshot::Receiver<DataStream>),
    There(DataStream),
    Gone,
}

impl ClientStream {
    pub(super) fn awaited(stream: oneshot::Receiver<DataStream>) -> Self {
        Self(State::Awaited(stream))
    }

    fn poll_there(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&mut DataStream>> {
        if let State::Awaited(stream) = &mut self.0 {
            let stream = ready!(Pin::new(stream).poll(context));
            self.0 = stream.map_or(State::Gone, State::There);
        }
        Poll::Ready(match &mut self.0 {
            State::There(stream) => Ok(stream),
            State::Awaited(_) | State::Gone => Err(io::ErrorKind::NotConnected.into()),
        })
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = ready!(self.poll_there(context))?;
        Pin::new(stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = ready!(self.poll_there(context))?;
        Pin::new(stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = ready!(self.poll_there(context))?;
        Pin::new(stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = ready!(self.poll_there(context))?;
        Pin::new(stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn it_is_waited_for() {
        let (sender, stream) = oneshot::channel();
        let mut client = ClientStream::awaited(stream);
        let (mut ours, theirs) = tokio::io::duplex(16);
        let reading = tokio::spawn(async move {
            let mut read = String::new();
            client.read_to_string(&mut read).await.map(|_| read)
        });
        let theirs: DataStream = Box::new(theirs);
        sender.send(theirs).unwrap();
        ours.write_all(b"at last").await.unwrap();
        drop(ours);
        assert_eq!(reading.await.unwrap().unwrap(), "at last");
    }

    #[tokio::test]
    async fn one_that_never_comes_is_an_error() {
        let (sender, stream) = oneshot::channel();
        drop(sender);
        let mut client = ClientStream::awaited(stream);
        for _ in 0..2 {
            let error = client.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        }
    }
}
