//! Connections of the admin endpoint: how many there are, how long each lasts, and which of them gives way.
//!
//! Promises:
//! - At most [`MAX_CONNECTIONS`] are open. When all are and another comes, the oldest that has not yet sent its
//!   request is closed. So half requests, however many, keep nobody from an answer.
//! - Each connection carries one request: none is idle between two.
//! - A request's head has [`HEADER_TIMEOUT`] and [`MAX_HEAD`], and its client has [`ANSWER_TIMEOUT`] to read the
//!   answer.
//! - A request for anything but `/livez` is answered with 503 while too many others are being answered.
//!
//! All connections are part of one task, so a panic in one of them is the panic of a supervised task.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::IntGauge;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::memory::{ADMIN_CONNECTION, ADMIN_CONNECTIONS, ADMIN_SCRAPES};
use crate::telemetry::Held;

/// Connections that are open at once.
pub(super) const MAX_CONNECTIONS: usize = ADMIN_CONNECTIONS;

/// Of those, answers of `/metrics`: each holds a text of up to a few MiB until its client has read it.
pub(super) const MAX_SCRAPES: usize = ADMIN_SCRAPES;

/// Answers of everything else but `/livez`. The rest of [`MAX_CONNECTIONS`], 8, is kept for `/livez`.
const MAX_OTHERS: usize = 48;

/// The longest that a client may take for the head of its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest that a client may take to read its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest head of a request, in bytes.
pub(super) const MAX_HEAD: usize = 16 * 1024;

/// The kernel's send buffer of a connection, in bytes; the kernel takes up to twice as much.
pub(super) const SEND_BUFFER: usize = 32 * 1024;

/// The kernel's receive buffer of a connection: no more than a head.
const RECEIVE_BUFFER: usize = MAX_HEAD;

/// The pause after the system could not give a connection.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Gives the listener's connections their buffers: they inherit them.
pub(super) fn bound(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_send_buffer_size(SEND_BUFFER)
}

/// Answers requests with `router`, until it can't listen any more. The socket stays open then: clients wait in it.
/// `memory` shows what connections may take.
pub(super) async fn serve(
    listener: &TcpListener,
    router: Router,
    memory: IntGauge,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
    let places = Rc::new(Places::default());
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = open.next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if let Some(place) = Places::take(&places) {
                        let held = Held::bytes(&memory, ADMIN_CONNECTION);
                        open.push(connection(stream, place, held, router.clone()));
                    }
                }
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "the admin endpoint can't accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// Whether only the connection that was to be accepted is gone.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// One connection, to its end.
async fn connection(stream: TcpStream, place: Place, _held: Held, router: Router) {
    let gives_way = place.gives_way.clone();
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| answer(request, &place, &router));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let served = timeout(HEADER_TIMEOUT + ANSWER_TIMEOUT, served);
    // How it ended matters to nobody but the client.
    let _ = gives_way.run_until_cancelled(served).await;
}

async fn answer(
    request: Request<Incoming>,
    place: &Place,
    router: &TowerToHyperService<Router>,
) -> Result<Response, Infallible> {
    if place.requested(request.uri().path()) {
        router.call(request).await
    } else {
        let busy = "too many other requests are being answered, try again later\n";
        Ok((StatusCode::SERVICE_UNAVAILABLE, busy).into_response())
    }
}

/// The places of connections.
#[derive(Debug)]
struct Places {
    next: Cell<u64>,
    open: Cell<usize>,
    /// Connections whose request has not come yet, the oldest first.
    waiting: RefCell<BTreeMap<u64, CancellationToken>>,
    scrapes: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            next: Cell::default(),
            open: Cell::default(),
            waiting: RefCell::default(),
            scrapes: Arc::new(Semaphore::new(MAX_SCRAPES)),
            others: Arc::new(Semaphore::new(MAX_OTHERS)),
        }
    }
}

impl Places {
    /// A place for a new connection, if need be that of the oldest that still waits for its request. `None` if all
    /// are being answered.
    fn take(places: &Rc<Self>) -> Option<Place> {
        if places.open.get() >= MAX_CONNECTIONS {
            let (_, oldest) = places.waiting.borrow_mut().pop_first()?;
            oldest.cancel();
        }
        let number = places.next.replace(places.next.get() + 1);
        let gives_way = CancellationToken::new();
        let waiting = gives_way.clone();
        places.waiting.borrow_mut().insert(number, waiting);
        places.open.set(places.open.get() + 1);
        Some(Place {
            places: Rc::clone(places),
            number,
            gives_way,
            permit: Cell::default(),
        })
    }
}

/// The place of one connection. Dropping it frees the place.
struct Place {
    places: Rc<Places>,
    number: u64,
    /// Fires when another connection gets this place.
    gives_way: CancellationToken,
    permit: Cell<Option<OwnedSemaphorePermit>>,
}

impl Place {
    /// The head of the request has come. Returns whether it may be answered now.
    fn requested(&self, path: &str) -> bool {
        self.places.waiting.borrow_mut().remove(&self.number);
        let semaphore = match path {
            "/livez" => return true,
            "/metrics" => &self.places.scrapes,
            _ => &self.places.others,
        };
        let permit = Arc::clone(semaphore).try_acquire_owned().ok();
        let may = permit.is_some();
        self.permit.set(permit);
        may
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.waiting.borrow_mut().remove(&self.number);
        self.places.open.set(self.places.open.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(places: &Rc<Places>) -> Vec<Place> {
        (0..MAX_CONNECTIONS)
            .map(|_| Places::take(places).unwrap())
            .collect()
    }

    #[test]
    fn the_oldest_that_waits_for_its_request_gives_way() {
        let places = Rc::default();
        let held = all(&places);
        assert!(held[0].requested("/readyz"));
        let _more = Places::take(&places).unwrap();
        let gone: Vec<_> = held
            .iter()
            .filter(|place| place.gives_way.is_cancelled())
            .map(|place| place.number)
            .collect();
        assert_eq!(gone, [1]);
    }

    #[test]
    fn places_are_free_again() {
        let places = Rc::default();
        drop(all(&places));
        assert_eq!(places.open.get(), 0);
        assert!(places.waiting.borrow().is_empty());
        let held = all(&places);
        assert!(held.iter().all(|place| !place.gives_way.is_cancelled()));
    }

    #[test]
    fn eight_places_are_kept_for_livez() {
        let places = Rc::default();
        let held = all(&places);
        let asked = |path: &str| held.iter().filter(|place| place.requested(path)).count();
        assert_eq!(asked("/metrics"), MAX_SCRAPES);
        drop(held);
        let held = all(&places);
        let asked = |path: &str| held.iter().filter(|place| place.requested(path)).count();
        assert_eq!(asked("/anything"), MAX_OTHERS);
        assert_eq!(MAX_CONNECTIONS - MAX_SCRAPES - MAX_OTHERS, 8);
        assert!(held[MAX_CONNECTIONS - 1].requested("/livez"));
    }
}
