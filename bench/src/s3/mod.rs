//! An S3 server that costs little: in memory, without signatures, over connections that stay open.
//!
//! What it knows is what the gateway and the floor ask for: objects (put, get with ranges, head,
//! delete, copy), multipart uploads, listings. Conditions on writes are kept. Two kinds of key need
//! no upload: `blank-SIZE` is an object of that many blank bytes, and `keys-COUNT/` holds that many
//! objects.
//!
//! It stands behind the HTTP server of the tests' stores, and does less work per byte than they: it checks neither
//! signatures nor checksums. It must not be taken for a place to keep anything.

mod api;
mod bucket;
mod listing;
mod request;
mod synthetic;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use doubles::http::{self, Body, Service};
use hyper::Response;

use crate::net;

use bucket::Bucket;
use request::Request;

/// Serves until the process ends.
pub(crate) async fn serve(address: SocketAddr, keep: bool) -> anyhow::Result<()> {
    let listener = net::listen(address).await?;
    let s3 = S3(Arc::new(Bucket::new(keep)));
    http::serve(listener, s3, Arc::default()).await;
    Ok(())
}

#[derive(Clone)]
struct S3(Arc<Bucket>);

impl Service for S3 {
    async fn answer(&self, request: hyper::Request<Body>) -> io::Result<Response<Body>> {
        api::answer(&self.0, Request::new(request)).await
    }
}
