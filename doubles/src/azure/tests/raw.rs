//! Requests as they go over the wire, for what no client library says.

use std::collections::HashMap;

use hyper::Request;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::HttpRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Server;

use super::super::{ACCOUNT, KEY};

/// What the server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The status and Azure's code.
    pub(super) fn failure(&self) -> (u16, &str) {
        (self.status, self.header("x-ms-error-code"))
    }

    pub(super) fn etag(&self) -> &str {
        self.header("etag")
    }
}

/// Asks for something in the container: `target` is a key and a query, escaped.
pub(super) async fn ask(
    server: &Server,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let target = format!("/ferry-bucket{target}");
    send(
        server,
        &signed(server, method, &target, headers, body, KEY),
        body,
    )
    .await
}

/// A request of the account, signed with `key`.
pub(super) fn signed(
    server: &Server,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
    key: &str,
) -> HttpRequest {
    let mut request = unsigned(server, method, target, headers, body);
    let key = AzureAccessKey::try_new(key).expect("a key");
    AzureAuthorizer::new(&AzureCredential::AccessKey(key), ACCOUNT)
        .try_authorize(&mut request)
        .expect("a signature");
    request
}

pub(super) fn unsigned(
    server: &Server,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> HttpRequest {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}{target}", server.endpoint()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if method != "GET" && method != "HEAD" {
        request = request.header("content-length", body.len());
    }
    request
        .body(body.to_owned().into())
        .expect("a valid request")
}

pub(super) async fn send(server: &Server, request: &HttpRequest, body: &str) -> Answer {
    let mut stream = TcpStream::connect(server.address())
        .await
        .expect("the server");
    let text = format!("{}{body}", head(server, request));
    stream.write_all(text.as_bytes()).await.expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    parse(&String::from_utf8(answer).expect("text"))
}

/// A request up to its body.
pub(super) fn head(server: &Server, request: &HttpRequest) -> String {
    let target = request.uri().path_and_query().expect("a path");
    let line = format!("{} {target} HTTP/1.1\r\n", request.method());
    let mut head = format!("{line}Host: {}\r\nConnection: close\r\n", server.address());
    head.push_str(&header_lines(request));
    head + "\r\n"
}

pub(super) fn header_lines(request: &HttpRequest) -> String {
    let lines = request.headers().iter();
    let line = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        format!("{name}: {}\r\n", value.to_str().expect("text"))
    };
    lines.map(line).collect()
}

fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.split("\r\n");
    let status = lines.next().expect("a first line");
    let status = status.split(' ').nth(1).expect("a status");
    let headers = lines.map(|line| line.split_once(": ").expect("a header"));
    Answer {
        status: status.parse().expect("a number"),
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        body: body.to_owned(),
    }
}
