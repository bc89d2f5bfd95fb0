//! A service that does wrong what a test has planned.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::{Method, Request, Response, StatusCode};
use s3s::Body;
use s3s::dto::StreamingBlob;
use tokio::time::{Sleep, sleep};

use crate::faults::{Fault, Faults, Visit};
use crate::http::Service;

/// What an answer with limited bandwidth sends at once.
const PIECE: usize = 64 * 1024;

/// A service and the faults that it is to have.
#[derive(Clone)]
pub(crate) struct Faulty<S> {
    service: S,
    faults: Arc<Faults>,
}

impl<S> Faulty<S> {
    pub(crate) fn new(service: S, faults: Arc<Faults>) -> Self {
        Self { service, faults }
    }
}

impl<S: Service + 'static> Service for Faulty<S> {
    fn connect(&self) -> impl Send + 'static {
        self.faults.connect()
    }

    /// The request has a [`Visit`] among its extensions.
    async fn answer(&self, mut request: Request<Body>) -> io::Result<Response<Body>> {
        let _in_hand = self.faults.take_in_hand();
        let visit = Visit::default();
        request.extensions_mut().insert(visit.clone());
        let asked = format!("{} {}", request.method(), request.uri());
        let request = match self.faults.bandwidth() {
            Some(bandwidth) => {
                request.map(|body| Body::http_body_unsync(Paced::new(body, bandwidth)))
            }
            None => request,
        };
        let request = if request.method() == Method::PUT && self.faults.has_flips() {
            request.map(|body| damaged(body, visit.clone()))
        } else {
            request
        };
        let response = if self.faults.has_late_ones() {
            self.answer_or_hang_up(request, &visit).await
        } else {
            self.service.answer(request).await
        };
        if !visit.is_admitted() {
            self.faults.log(format!("Rejected {asked}"));
        }
        let response = spoil(response?, &visit)?;
        Ok(match self.faults.answer_bandwidth() {
            Some(bandwidth) => response.map(|body| slowed(body, bandwidth)),
            None => response,
        })
    }
}

impl<S: Service + 'static> Faulty<S> {
    /// The answer; or an error, which closes the connection, while the request is still to be done.
    async fn answer_or_hang_up(
        &self,
        request: Request<Body>,
        visit: &Visit,
    ) -> io::Result<Response<Body>> {
        let (head, mut body) = request.into_parts();
        let whole = body.store_all_limited(usize::MAX).await;
        let whole = whole.map_err(io::Error::other)?;
        let request = Request::from_parts(head, Body::from(whole));
        let service = self.service.clone();
        let in_hand = self.faults.take_in_hand();
        let mut answer = tokio::spawn(async move {
            let _in_hand = in_hand;
            service.answer(request).await
        });
        tokio::select! {
            answer = &mut answer => answer.map_err(io::Error::other)?,
            () = visit.is_late() => Err(io::Error::other("the request is meant to be late")),
        }
    }
}

/// What the visit has been told to do wrong, done.
fn spoil(mut response: Response<Body>, visit: &Visit) -> io::Result<Response<Body>> {
    match visit.fault() {
        None | Some(Fault::Late(_) | Fault::FlipBit | Fault::Slow(_) | Fault::RefuseBusy) => {
            Ok(response)
        }
        Some(Fault::LoseAnswer) => Err(io::Error::other("the answer is meant to be lost")),
        Some(Fault::SayNothing) => Ok(Response::new(Body::empty())),
        Some(Fault::BreakAnswer(after)) => Ok(response.map(|body| broken(body, after))),
        Some(Fault::DoneBut(status)) => {
            let mut failure = Response::new(Body::empty());
            *failure.status_mut() = StatusCode::from_u16(status).expect("a status");
            Ok(failure)
        }
        Some(Fault::Refuse(status)) => {
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            Ok(response)
        }
    }
}

/// `body` with a bit flipped in each chunk, if it was decided so by the time it is read.
fn damaged(body: Body, visit: Visit) -> Body {
    let chunks = body.map(move |chunk| {
        let chunk = chunk.map_err(io::Error::other)?;
        if !matches!(visit.fault(), Some(Fault::FlipBit)) {
            return Ok(chunk);
        }
        let mut damaged = chunk.to_vec();
        if let Some(first) = damaged.first_mut() {
            *first ^= 1;
        }
        Ok::<_, io::Error>(Bytes::from(damaged))
    });
    Body::from(StreamingBlob::wrap(chunks))
}

/// `body` up to `after` bytes, then an error, which closes the connection.
fn broken(body: Body, after: u64) -> Body {
    let chunks = body.scan(after, |left, chunk| {
        let chunk = chunk
            .map_err(io::Error::other)
            .map(|chunk| chunk.slice(..chunk.len().min(*left as usize)));
        *left -= chunk.as_ref().map_or(0, Bytes::len) as u64;
        std::future::ready(Some(chunk))
    });
    let chunks =
        chunks.take_while(|chunk| std::future::ready(!chunk.as_ref().is_ok_and(Bytes::is_empty)));
    let end = stream::once(async {
        // hyper throws away what it has not sent when a body fails: let the bytes go out first.
        sleep(Duration::from_millis(100)).await;
        Err(io::Error::other("the answer is meant to break"))
    });
    Body::from(StreamingBlob::wrap(chunks.chain(end)))
}

/// `body` in pieces of 64 KiB, each as late as the bandwidth has it.
fn slowed(body: Body, bandwidth: u64) -> Body {
    let began = tokio::time::Instant::now();
    let pieces = body.flat_map(|chunk| {
        let chunk = chunk.expect("a body from memory");
        let starts = (0..chunk.len()).step_by(PIECE);
        let pieces = starts.map(move |at| chunk.slice(at..chunk.len().min(at + PIECE)));
        stream::iter(pieces.collect::<Vec<_>>())
    });
    let pieces = pieces.scan(0, |sent, piece| {
        *sent += piece.len();
        std::future::ready(Some((*sent, piece)))
    });
    let paced = pieces.then(move |(sent, piece)| async move {
        let due = Duration::from_secs_f64(sent as f64 / bandwidth as f64);
        tokio::time::sleep_until(began + due).await;
        Ok::<_, std::convert::Infallible>(piece)
    });
    Body::from(StreamingBlob::wrap(paced))
}

/// A request's body, read no faster than the bandwidth allows.
struct Paced {
    body: Body,
    bandwidth: u64,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    fn new(body: Body, bandwidth: u64) -> Self {
        Self {
            body,
            bandwidth,
            pause: None,
        }
    }

    fn pause_for(&mut self, frame: &Frame<Bytes>) {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let time = Duration::from_secs_f64(bytes as f64 / self.bandwidth as f64);
        self.pause = Some(Box::pin(sleep(time)));
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = s3s::StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, s3s::StdError>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            self.pause_for(frame);
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
