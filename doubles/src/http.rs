//! The HTTP server that all doubles stand behind.
//!
//! A request's body is always read to its end, even when the request is refused, so that a client sees the
//! refusal and not a broken connection.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
pub use s3s::Body;
use s3s::dto::StreamingBlob;
use tokio::net::{TcpListener, TcpStream};

/// What requests are answered by.
pub trait Service: Clone + Send + Sync + 'static {
    /// What is held for as long as a client is connected.
    fn connect(&self) -> impl Send + 'static {}

    /// The answer to a request. An error closes the connection.
    fn answer(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = io::Result<Response<Body>>> + Send;
}

/// Serves until dropped. The bytes of all requests are added to `received`.
pub async fn serve(listener: TcpListener, service: impl Service, received: Arc<AtomicU64>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let connected = service.connect();
        let (service, received) = (service.clone(), Arc::clone(&received));
        tokio::spawn(async move {
            connection(stream, service, received).await;
            drop(connected);
        });
    }
}

/// A body of these chunks.
pub fn stream<E>(chunks: impl Stream<Item = Result<Bytes, E>> + Send + Sync + 'static) -> Body
where
    E: std::error::Error + Send + Sync + 'static,
{
    Body::from(StreamingBlob::wrap(chunks))
}

async fn connection(stream: TcpStream, service: impl Service, received: Arc<AtomicU64>) {
    let _ = stream.set_nodelay(true);
    let handle = service_fn(|request| answer(request, &service, &received));
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), handle);
    // It ends with an error whenever a client goes away or an answer is meant to be lost.
    let _ = connection.await;
}

async fn answer(
    request: Request<Incoming>,
    service: &impl Service,
    received: &Arc<AtomicU64>,
) -> io::Result<Response<Body>> {
    let (parts, incoming) = request.into_parts();
    received.fetch_add(head_of(&parts), Ordering::SeqCst);
    let incoming = Shared::new(incoming, Arc::clone(received));
    let body = Body::http_body(incoming.clone());
    let response = service.answer(Request::from_parts(parts, body)).await;
    incoming.drain().await;
    response
}

/// Bytes of a request before its body, as HTTP/1.1 writes them.
fn head_of(parts: &Parts) -> u64 {
    let line = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri).len();
    let header = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    (line + parts.headers.iter().map(header).sum::<usize>() + 2) as u64
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

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        self.poll(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inspect(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inspect(HttpBody::size_hint)
    }
}
