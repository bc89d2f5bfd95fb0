//! An S3 server that costs little: in memory, without signatures, over connections that stay open.
//!
//! What it knows is what the gateway and the floor ask for: objects (put, get with ranges, head,
//! delete, copy), multipart uploads, listings. Conditions on writes are kept. Two kinds of key need
//! no upload: `blank-SIZE` is an object of that many blank bytes, and `keys-COUNT/` holds that many
//! objects.
//!
//! Promises: less work per byte and per request than any client of it can have. Must not: be taken
//! for a place to keep anything.

mod api;
mod bucket;
mod http;
mod listing;
mod synthetic;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::net;

use bucket::Bucket;
use http::Connection;

/// Serves until the process ends.
pub(crate) async fn serve(address: SocketAddr, keep: bool) -> anyhow::Result<()> {
    let listener = net::listen(address).await?;
    let bucket = Arc::new(Bucket::new(keep));
    loop {
        let (stream, _) = listener.accept().await?;
        let bucket = Arc::clone(&bucket);
        tokio::spawn(async move {
            // A client that hangs up half-way, as one does that gives an upload up, is its own end.
            let _ = answer_all(&bucket, stream).await;
        });
    }
}

async fn answer_all(bucket: &Bucket, stream: TcpStream) -> std::io::Result<()> {
    let mut connection = Connection::new(stream)?;
    while let Some(request) = connection.request().await? {
        let response = api::answer(bucket, &mut connection, &request).await?;
        connection.respond(response).await?;
    }
    Ok(())
}
