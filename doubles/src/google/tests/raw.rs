//! One HTTP request, written by hand.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Server;

/// A request with the right token, unless it gets another.
pub(crate) struct Asking<'s> {
    server: &'s Server,
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl<'s> Asking<'s> {
    pub(crate) fn new(server: &'s Server, method: &str, target: &str) -> Self {
        Self {
            server,
            line: format!("{method} {target} HTTP/1.1"),
            headers: vec![],
            body: vec![],
        }
        .with("authorization", "Bearer ferry-token")
    }

    /// With this header, in place of one of the same name.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) async fn send(self) -> Answer {
        let address = self.server.address();
        let mut stream = TcpStream::connect(address).await.expect("the server");
        stream.write_all(&self.written()).await.expect("a request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an answer");
        Answer::read(&String::from_utf8_lossy(&answer))
    }

    fn written(&self) -> Vec<u8> {
        let len = self.body.len().to_string();
        let always = [
            ("host", "test"),
            ("connection", "close"),
            ("content-length", &len),
        ];
        let given = self.headers.iter().map(|(name, value)| (&**name, &**value));
        let headers = always.into_iter().chain(given);
        let headers = headers.map(|(name, value)| format!("{name}: {value}\r\n"));
        let head = format!("{}\r\n{}\r\n", self.line, headers.collect::<String>());
        [head.as_bytes(), &self.body].concat()
    }
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers = lines.filter_map(|line| line.split_once(": "));
        Self {
            status: status.expect("a status").parse().expect("a number"),
            headers: headers
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.find(name);
        found.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// The text of the first element of this name.
    pub(crate) fn element(&self, name: &str) -> &str {
        let all = self.elements(name);
        all.first()
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// The texts of all elements of this name.
    pub(crate) fn elements(&self, name: &str) -> Vec<&str> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let after = self.body.split(open.as_str()).skip(1);
        after
            .map(|rest| rest.split(close.as_str()).next().expect("a first piece"))
            .collect()
    }

    /// Its status, and the code in its body.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        assert!(
            self.body
                .starts_with("<?xml version='1.0' encoding='UTF-8'?><Error><Code>"),
            "{self:?}"
        );
        (self.status, self.element("Code"))
    }
}
