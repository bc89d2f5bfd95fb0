//! A small server that gives credentials, as metadata services and agents of clouds do; what it says is the test's.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::tls::Authority;

/// What it does with a request, of which it sees the text.
pub(crate) enum Answer {
    Says(u16, String),
    Nothing,
}

type Script = Arc<Mutex<Box<dyn FnMut(&str) -> Answer + Send>>>;

pub(crate) struct Identity {
    address: SocketAddr,
    is_encrypted: bool,
    script: Script,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Identity {
    pub(crate) fn start(script: impl FnMut(&str) -> Answer + Send + 'static) -> Self {
        Self::start_with(None, script)
    }

    /// The same over TLS.
    pub(crate) fn start_over_tls(
        authority: &Authority,
        script: impl FnMut(&str) -> Answer + Send + 'static,
    ) -> Self {
        Self::start_with(Some(authority.acceptor()), script)
    }

    fn start_with(
        acceptor: Option<TlsAcceptor>,
        script: impl FnMut(&str) -> Answer + Send + 'static,
    ) -> Self {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("a listener");
        let identity = Self {
            address: listener.local_addr().expect("an address"),
            is_encrypted: acceptor.is_some(),
            script: Arc::new(Mutex::new(Box::new(script))),
            requests: Arc::default(),
        };
        let (script, requests) = (Arc::clone(&identity.script), Arc::clone(&identity.requests));
        tokio::spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((client, _)) = listener.accept().await {
                let (script, requests) = (Arc::clone(&script), Arc::clone(&requests));
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(client, script, requests).await,
                        Some(acceptor) => {
                            if let Ok(client) = acceptor.accept(client).await {
                                serve(client, script, requests).await;
                            }
                        }
                    }
                });
            }
        });
        identity
    }

    /// From now on it does something else.
    pub(crate) fn follow(&self, script: impl FnMut(&str) -> Answer + Send + 'static) {
        *self.script.lock().expect("a script") = Box::new(script);
    }

    pub(crate) fn url(&self) -> String {
        if self.is_encrypted {
            return format!("https://localhost:{}", self.address.port());
        }
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("requests").clone()
    }
}

async fn serve(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    script: Script,
    requests: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.to_lowercase();
    let length = length.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if client.read_exact(&mut body).await.is_err() {
        return;
    }
    let head = head + &String::from_utf8_lossy(&body);
    requests.lock().expect("requests").push(head.clone());
    let answer = script.lock().expect("a script")(&head);
    let Answer::Says(status, body) = answer else {
        std::future::pending::<()>().await;
        return;
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} Answer\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    // Who has gone hears nothing.
    let _ = client.write_all(answer.as_bytes()).await;
    let _ = client.shutdown().await;
}
