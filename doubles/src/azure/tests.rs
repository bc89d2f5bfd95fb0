//! The double, held against a client of Azure and against the words of its protocol.

mod access;
mod blobs;
mod blocks;
mod client;
mod copies;
mod listing;
mod names;
mod raw;
mod tiers;

use raw::{Answer, ask};

use crate::{Protocol, Server};

const BLOCK_BLOB: (&str, &str) = ("x-ms-blob-type", "BlockBlob");

fn start() -> Server {
    Server::start(Protocol::Azure)
}

async fn put(server: &Server, key: &str, body: &str) -> Answer {
    put_if(server, key, body, &[]).await
}

/// Puts a blob with further headers.
async fn put_if(server: &Server, key: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
    let headers = [&[BLOCK_BLOB], headers].concat();
    ask(server, "PUT", key, &headers, body).await
}

async fn get(server: &Server, key: &str, headers: &[(&str, &str)]) -> Answer {
    ask(server, "GET", key, headers, "").await
}

async fn head(server: &Server, key: &str) -> Answer {
    ask(server, "HEAD", key, &[], "").await
}
