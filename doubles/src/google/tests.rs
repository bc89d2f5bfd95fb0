//! The double against the client that the gateway uses, and against requests that this client can't make.

mod classes;
mod client;
mod composing;
mod conditions;
mod copying;
mod listing;
mod multipart;
mod raw;
mod reading;
mod refusing;

use crate::{Protocol, Server};

use raw::Asking;

fn start() -> Server {
    Server::start(Protocol::Google)
}

/// A request for an object of the server's bucket, its key percent-encoded.
fn ask<'s>(server: &'s Server, method: &'static str, target: &str) -> Asking<'s> {
    Asking::new(server, method, &format!("/ferry-bucket/{target}"))
}

/// A request for the bucket itself.
fn ask_bucket<'s>(server: &'s Server, method: &'static str, query: &str) -> Asking<'s> {
    Asking::new(server, method, &format!("/ferry-bucket{query}"))
}

/// Puts an object, and gives its generation.
async fn put(server: &Server, target: &str, body: &str) -> String {
    let answer = ask(server, "PUT", target).body(body).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("x-goog-generation").to_owned()
}
