//! When to give a request up: when nothing moves, and not before, however long it takes.
//!
//! What moves is the request's body on its way up, piece by piece, and the answer's on its way down.
//! A piece has moved when the client has taken it; the kernel may hold some more. So when the last one
//! has been taken, the answer may take as much longer as the sending has taken.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use object_store::client::{HttpError, HttpErrorKind};
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// Nothing moved for so long.
#[derive(Debug, Error)]
#[error("nothing moved for {}, see store.request_timeout", humantime::format_duration(*.0))]
struct NothingMoved(Duration);

fn nothing_moved(limit: Duration) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, NothingMoved(limit))
}

/// Watches one request until its answer begins.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    began: Instant,
    moves: Arc<Moves>,
}

/// What the body of a request tells whoever waits for the answer.
#[derive(Debug, Default)]
struct Moves {
    /// When something moved last, in microseconds from the beginning.
    last: AtomicU64,
    /// Everything has been taken.
    all: AtomicBool,
}

impl Patience {
    /// Patience for a request that begins now, and may stand still for `limit`.
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            began: Instant::now(),
            moves: Arc::default(),
        }
    }

    /// The request's body, watched.
    pub(crate) fn watch<B>(&self, body: B) -> Watched<B> {
        Watched {
            body,
            began: self.began,
            moves: Arc::clone(&self.moves),
        }
    }

    /// Waits for the answer as long as something moves.
    pub(crate) async fn with<T>(&self, answer: impl Future<Output = T>) -> Result<T, HttpError> {
        let mut answer = pin!(answer);
        loop {
            let end = self.end();
            match timeout_at(end, answer.as_mut()).await {
                Ok(answer) => return Ok(answer),
                Err(_) if self.end() > end => {}
                Err(_) => return Err(nothing_moved(self.limit)),
            }
        }
    }

    /// When it ends, if nothing moves from now on.
    fn end(&self) -> Instant {
        let last = Duration::from_micros(self.moves.last.load(Ordering::Acquire));
        let in_the_kernel = if self.moves.all.load(Ordering::Acquire) {
            last
        } else {
            Duration::ZERO
        };
        self.began + last + in_the_kernel + self.limit
    }
}

/// A request's body that notes when it moves.
#[derive(Debug)]
pub(crate) struct Watched<B> {
    body: B,
    began: Instant,
    moves: Arc<Moves>,
}

impl<B: Body + Unpin> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.moves.last.store(micros, Ordering::Release);
        if frame.is_none() || self.body.is_end_stream() {
            self.moves.all.store(true, Ordering::Release);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body that ends in an error when nothing of it comes for too long.
pub(crate) struct Patient<B: Body> {
    body: B,
    limit: Option<Duration>,
    /// Runs while the next piece is awaited.
    pause: Option<Pin<Box<Sleep>>>,
    error: fn(B::Error) -> HttpError,
}

impl<B: Body> Patient<B> {
    /// The body of an answer that may stand still for `limit`, or for ever.
    pub(crate) fn new(body: B, limit: Option<Duration>, error: fn(B::Error) -> HttpError) -> Self {
        Self {
            body,
            limit,
            pause: None,
            error,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Patient<B> {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.pause = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(self.error)));
        }
        let Some(limit) = self.limit else {
            return Poll::Pending;
        };
        let new = || Box::pin(sleep_until(Instant::now() + limit));
        ready!(self.pause.get_or_insert_with(new).as_mut().poll(context));
        Poll::Ready(Some(Err(nothing_moved(limit))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// Gives one byte after each pause.
    struct Slow(VecDeque<Duration>, Option<Pin<Box<Sleep>>>);

    impl Slow {
        fn new(pauses: &[u64]) -> Self {
            let pauses = pauses.iter().map(|seconds| Duration::from_secs(*seconds));
            Self(pauses.collect(), None)
        }
    }

    impl Body for Slow {
        type Data = Bytes;
        type Error = HttpError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
            let Some(pause) = self.0.front().copied() else {
                return Poll::Ready(None);
            };
            let new = || Box::pin(tokio::time::sleep(pause));
            ready!(self.1.get_or_insert_with(new).as_mut().poll(context));
            self.1 = None;
            self.0.pop_front();
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    async fn frames<B: Body<Error = HttpError> + Unpin>(mut body: B) -> Result<usize, HttpError> {
        let mut frames = 0;
        while !body.is_end_stream() {
            let next = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
            let Some(frame) = next.await else { break };
            frame?;
            frames += 1;
        }
        Ok(frames)
    }

    /// Sends a body with these pauses, and the answer comes so much later.
    async fn request(pauses: &[u64], answer: u64) -> Result<usize, HttpError> {
        let patience = Patience::new(LIMIT);
        let body = patience.watch(Slow::new(pauses));
        let request = async {
            let frames = frames(body).await;
            tokio::time::sleep(Duration::from_secs(answer)).await;
            frames
        };
        patience.with(request).await?
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_request_is_waited_for_as_long_as_it_moves() {
        assert_eq!(request(&[29, 29, 29, 29], 0).await.unwrap(), 4);
        assert_eq!(request(&[], 29).await.unwrap(), 0);
        // The kernel may hold half of it.
        assert_eq!(request(&[20, 20], 69).await.unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_stands_still_is_given_up() {
        for (pauses, answer) in [(&[31][..], 0), (&[1, 31], 0), (&[], 31), (&[20, 20], 71)] {
            let error = request(pauses, answer).await.unwrap_err();
            assert_eq!(error.kind(), HttpErrorKind::Timeout);
            assert!(
                error.to_string().contains("nothing moved for 30s"),
                "{error}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn so_is_an_answer() {
        let answer = |pauses| frames(Patient::new(Slow::new(pauses), Some(LIMIT), |error| error));
        assert_eq!(answer(&[29, 29, 29]).await.unwrap(), 3);
        let error = answer(&[29, 31]).await.unwrap_err();
        assert_eq!(error.kind(), HttpErrorKind::Timeout);
    }
}
