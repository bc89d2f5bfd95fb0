//! The operator's endpoint: `/livez`, `/readyz`, `/metrics`.
//!
//! It has a thread and a runtime of its own, so that probes are answered while the data plane is
//! busy, and asks nothing of the store itself: what it says was found out in the background. What its
//! clients can take of it is bounded in `server.rs`.

mod readiness;
mod server;

pub use readiness::Readiness;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::IntGauge;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::listening::listen;
use crate::memory::Use;
use crate::supervise::{Supervisor, Task};
use crate::telemetry::Metrics;

/// The pause before it is tried again, if there are too few descriptors.
const RETRY: Duration = Duration::from_secs(1);

/// Why there is no admin endpoint.
#[derive(Debug, Error)]
pub enum AdminError {
    /// The address can't be listened on.
    #[error("admin.listen: can't listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system has no thread left.
    #[error("can't start the admin thread")]
    Thread(#[source] io::Error),
}

/// A running admin endpoint. It ends with [`Admin::stop`].
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
}

impl Admin {
    /// Listens on `address` and answers in a thread of its own.
    ///
    /// # Errors
    /// When the address can't be listened on, or there is no thread.
    pub fn start(
        address: SocketAddr,
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
    ) -> Result<Self, AdminError> {
        let bind_error = |source| AdminError::Bind { address, source };
        let listener = listen(address, &[address]).map_err(bind_error)?;
        server::bound(&listener).map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        let stop = CancellationToken::new();
        let supervisor = Supervisor::until(stop.clone(), &metrics);
        let memory = metrics.memory_of(Use::Admin);
        let router = router(Shared { metrics, readiness });
        let listener = Arc::new(listener);
        let serve = move || serve(Arc::clone(&listener), router.clone(), memory.clone());
        let thread = supervisor
            .keep_on_thread(Task::Admin, serve)
            .map_err(AdminError::Thread)?;
        Ok(Self {
            address,
            stop,
            thread,
        })
    }

    /// Where it listens; a port that was configured as 0 is the real one here.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it.
    pub fn stop(self) {
        self.stop.cancel();
        // A panic there has been logged.
        let _ = self.thread.join();
    }
}

/// Requests that are under way are dropped at the end: a probe that hangs must not hold it up.
async fn serve(listener: Arc<TcpListener>, router: Router, memory: IntGauge) {
    loop {
        if let Err(error) = server::serve(&listener, router.clone(), memory.clone()).await {
            tracing::error!(%error, "the admin endpoint ended, it begins again");
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let report = shared.readiness.report();
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, report.text).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    match shared.metrics.render() {
        Ok(text) => {
            let format = [(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )];
            (format, text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
