//! The HTTP side: connections, the body of each request on its way in, and the faults of answers.
//!
//! A request's body is always read to its end, even when the request is refused, so that a client sees the
//! refusal and not a broken connection.

use std::io;
use std::net::TcpListener as StdListener;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::dto::StreamingBlob;
use s3s::service::S3Service;
use s3s::{Body, S3Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

use super::faults::{Decision, Fault, Faults};
use super::google;

/// What an answer with limited bandwidth sends at once.
const PIECE: usize = 64 * 1024;

/// Serves until dropped.
pub(super) async fn serve(listener: StdListener, service: S3Service, faults: Arc<Faults>) {
    listener
        .set_nonblocking(true)
        .expect("a listener that doesn't block");
    let listener = TcpListener::from_std(listener).expect("a listener in the runtime");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let connected = faults.connect();
        let (service, faults) = (service.clone(), Arc::clone(&faults));
        tokio::spawn(async move {
            connection(stream, service, faults).await;
            drop(connected);
        });
    }
}

async fn connection(stream: TcpStream, service: S3Service, faults: Arc<Faults>) {
    let _ = stream.set_nodelay(true);
    let handle = service_fn(|request| answer(request, &service, &faults));
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), handle);
    // It ends with an error whenever a client goes away or an answer is meant to be lost.
    let _ = connection.await;
}

async fn answer(
    mut request: Request<Incoming>,
    service: &S3Service,
    faults: &Faults,
) -> io::Result<Response<Body>> {
    let _in_hand = faults.take_in_hand();
    let visit = Visit::default();
    request.extensions_mut().insert(visit.clone());
    let asked = format!("{} {}", request.method(), request.uri());
    let (mut parts, incoming) = request.into_parts();
    if faults.google.get().is_some() {
        google::read(&mut parts.headers);
    }
    faults.received(head_of(&parts));
    let incoming = Shared::new(incoming, Arc::clone(&faults.received));
    let mut body = Body::http_body(Upload::new(incoming.clone(), faults.bandwidth()));
    if let Some(bucket) = faults.google.get()
        && google::is_compose(&parts)
    {
        faults.log(format!("Compose {}", parts.uri.path()));
        let body = body.store_all_limited(1 << 20).await;
        return Ok(google::compose(
            &parts,
            &body.expect("a short body"),
            bucket,
        ));
    }
    let response = service.call(Request::from_parts(parts, body)).await;
    incoming.drain().await;
    if visit.0.admitted.get().is_none() {
        faults.log(format!("Rejected {asked}"));
    }
    let response = response.map_err(|error| io::Error::other(format!("{error:?}")))?;
    let mut response = visit.apply(response)?;
    if faults.google.get().is_some() {
        google::write(response.headers_mut());
    }
    Ok(match faults.answer_bandwidth() {
        Some(bandwidth) => response.map(|body| slowed(body, bandwidth)),
        None => response,
    })
}

/// Bytes of a request before its body, as HTTP/1.1 writes them.
fn head_of(parts: &Parts) -> u64 {
    let line = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri).len();
    let header = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    (line + parts.headers.iter().map(header).sum::<usize>() + 2) as u64
}

/// One request, as the gate and the connection both see it.
#[derive(Clone, Default)]
pub(super) struct Visit(Arc<Decision>);

impl Visit {
    pub(super) fn admit(&self) {
        let _ = self.0.admitted.set(());
    }

    pub(super) fn strike(&self, fault: Fault) -> S3Result<()> {
        self.0.strike(fault)
    }

    fn apply(&self, mut response: Response<Body>) -> io::Result<Response<Body>> {
        match self.0.fault.get() {
            None => Ok(response),
            Some(Fault::LoseAnswer) => Err(io::Error::other("the answer is meant to be lost")),
            Some(Fault::BreakAnswer(after)) => Ok(response.map(|body| broken(body, *after))),
            Some(Fault::Refuse(status)) => {
                *response.status_mut() = StatusCode::from_u16(*status).expect("a status");
                Ok(response)
            }
        }
    }
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

/// A request's body, still within reach when the operation has let go of it.
#[derive(Clone)]
struct Shared {
    incoming: Arc<Mutex<Incoming>>,
    received: Arc<AtomicU64>,
}

impl Shared {
    fn new(incoming: Incoming, received: Arc<AtomicU64>) -> Self {
        let incoming = Arc::new(Mutex::new(incoming));
        Self { incoming, received }
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let mut incoming = self.incoming.lock().expect("the body");
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.received.fetch_add(bytes as u64, Ordering::SeqCst);
        }
        Poll::Ready(frame)
    }

    async fn drain(&self) {
        while let Some(Ok(_)) = std::future::poll_fn(|context| self.poll(context)).await {}
    }

    fn inspect<T>(&self, look: impl FnOnce(&Incoming) -> T) -> T {
        look(&self.incoming.lock().expect("the body"))
    }
}

/// A request's body, read no faster than the bandwidth allows.
struct Upload {
    incoming: Shared,
    bandwidth: Option<u64>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    fn new(incoming: Shared, bandwidth: Option<u64>) -> Self {
        Self {
            incoming,
            bandwidth,
            pause: None,
        }
    }

    fn pause_for(&mut self, frame: &Frame<Bytes>) {
        let Some(bandwidth) = self.bandwidth else {
            return;
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.pause = Some(Box::pin(sleep(Duration::from_secs_f64(
            bytes as f64 / bandwidth as f64,
        ))));
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let frame = ready!(self.incoming.poll(context));
        if let Some(Ok(frame)) = &frame {
            self.pause_for(frame);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.inspect(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.inspect(HttpBody::size_hint)
    }
}
