//! Requests as they go over the wire, for what no client library says.

use hyper::Request;
use hyper::header::{HeaderName, HeaderValue};
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::HttpRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Server;

use super::super::{ACCESS_KEY, REGION, SECRET_KEY};

/// What the server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map_or("", |(_, value)| value)
    }

    /// The texts of all elements of this name.
    pub(super) fn elements(&self, name: &str) -> Vec<&str> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let after = self.body.split(open.as_str()).skip(1);
        after
            .map(|rest| rest.split(close.as_str()).next().expect("a first piece"))
            .collect()
    }

    /// Its status, and the code in its body.
    pub(super) fn refusal(&self) -> (u16, &str) {
        (self.status, self.elements("Code").first().unwrap_or(&""))
    }
}

/// Asks for something in the bucket: `target` is a key and a query, escaped.
pub(super) async fn ask(
    server: &Server,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let request = signed(server, method, target, headers, body);
    let mut stream = TcpStream::connect(server.address())
        .await
        .expect("the server");
    let text = format!("{}{body}", head(server, &request));
    stream.write_all(text.as_bytes()).await.expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    parse(&String::from_utf8(answer).expect("text"))
}

fn signed(
    server: &Server,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> HttpRequest {
    let uri = format!("{}/ferry-bucket{target}", server.endpoint());
    let request = Request::builder().method(method).uri(uri);
    let request = headers
        .iter()
        .fold(request, |request, (name, value)| {
            request.header(*name, *value)
        })
        .header("content-length", body.len());
    let mut request = request
        .body(body.to_owned().into())
        .expect("a valid request");
    let credential = AwsCredential {
        key_id: ACCESS_KEY.to_owned(),
        secret_key: SECRET_KEY.to_owned(),
        token: None,
    };
    AwsAuthorizer::new(&credential, "s3", REGION)
        .try_authorize(&mut request, None)
        .expect("a signature");
    request
}

/// A request up to its body. The signature is about the host too, which is not among the headers.
fn head(server: &Server, request: &HttpRequest) -> String {
    let target = request.uri().path_and_query().expect("a path");
    let line = format!("{} {target} HTTP/1.1\r\n", request.method());
    let always = format!("Host: {}\r\nConnection: close\r\n", server.address());
    let lines = request.headers().iter();
    let line_of = |(name, value): (&HeaderName, &HeaderValue)| {
        format!("{name}: {}\r\n", value.to_str().expect("text"))
    };
    line + &always + &lines.map(line_of).collect::<String>() + "\r\n"
}

fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let headers = lines.filter_map(|line| line.split_once(": "));
    Answer {
        status: status.expect("a status").parse().expect("a number"),
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        body: body.to_owned(),
    }
}
