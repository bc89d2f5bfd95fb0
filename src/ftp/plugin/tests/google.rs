//! A server in the place of Google, which answers as it is told.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use md5::{Digest, Md5};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// Reads it to its end and answers with this status.
    Status(u16),
    /// The same, before it has read the body.
    Early(u16),
    /// Reads it to its end and answers with this JSON.
    Json(String),
    /// Answers with these bytes, and says that so many would come.
    Content(Bytes, usize),
    /// Reads it to its end and closes the connection.
    Close,
    /// Reads it to its end and says nothing.
    Silence,
}

impl Answer {
    /// The metadata of an object with this content.
    pub(super) fn stored(content: &[u8]) -> Self {
        let md5 = BASE64_STANDARD.encode(Md5::digest(content));
        let size = content.len();
        Self::Json(format!(
            r#"{{"name":"a","updated":"2026-01-01T00:00:00Z","size":"{size}","md5Hash":"{md5}"}}"#
        ))
    }
}

/// A request, as the server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) line: String,
    /// Of its body.
    pub(super) bytes: usize,
    /// The body came to its end.
    pub(super) ended: bool,
}

/// A server that answers one request after the other as it is told, each on a connection of its own.
pub(super) struct Google {
    pub(super) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    accepted: Arc<AtomicUsize>,
    open: Arc<tokio::sync::RwLock<()>>,
}

impl Google {
    pub(super) async fn start(answers: impl Into<VecDeque<Answer>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let google = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            seen: Arc::default(),
            accepted: Arc::default(),
            open: Arc::default(),
        };
        let accepted = Arc::clone(&google.accepted);
        let (seen, open, mut answers) = (
            Arc::clone(&google.seen),
            Arc::clone(&google.open),
            answers.into(),
        );
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = answers.pop_front().unwrap_or(Answer::Status(404));
                let (seen, open) = (Arc::clone(&seen), Arc::clone(&open).read_owned().await);
                accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    // The client may be gone.
                    let _ = serve(stream, answer, &seen).await;
                    drop(open);
                });
            }
        });
        google
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    /// None of the uploads has come to its end, when all connections are closed.
    pub(super) async fn assert_none_ended(&self, one_has_begun: bool) {
        while one_has_begun && self.accepted.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(self.open.write().await);
        let seen = self.seen();
        let uploads = seen.iter().filter(|seen| seen.line.starts_with("POST "));
        let (begun, ended) = (
            uploads.clone().count(),
            uploads.filter(|seen| seen.ended).count(),
        );
        assert!(begun > 0 || !one_has_begun, "{seen:?}");
        assert_eq!(ended, 0, "{seen:?}");
    }
}

async fn serve(stream: TcpStream, answer: Answer, seen: &Mutex<Vec<Seen>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut line, mut chunked) = (String::new(), false);
    if stream.read_line(&mut line).await? == 0 {
        return Ok(());
    }
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await?;
        let header = header.trim_end().to_ascii_lowercase();
        chunked |= header == "transfer-encoding: chunked";
        if header.is_empty() {
            break;
        }
    }
    let note = |bytes, ended| {
        let line = line.trim_end().to_owned();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(Seen { line, bytes, ended });
    };
    if let Answer::Early(status) = answer {
        note(0, false);
        return say(&mut stream, status, b"{}", 2).await;
    }
    let (bytes, ended) = if chunked {
        body(&mut stream).await
    } else {
        (0, true)
    };
    note(bytes, ended);
    match answer {
        Answer::Status(status) | Answer::Early(status) => say(&mut stream, status, b"{}", 2).await,
        Answer::Json(json) => say(&mut stream, 200, json.as_bytes(), json.len()).await,
        Answer::Content(content, length) => say(&mut stream, 200, &content, length).await,
        Answer::Close => Ok(()),
        Answer::Silence => {
            stream.read_u8().await?;
            Ok(())
        }
    }
}

/// How many bytes came, and whether they came to an end.
async fn body(stream: &mut BufReader<TcpStream>) -> (usize, bool) {
    let mut bytes = 0;
    loop {
        let mut size = String::new();
        if !matches!(stream.read_line(&mut size).await, Ok(1..)) {
            return (bytes, false);
        }
        let Ok(size) = usize::from_str_radix(size.trim_end(), 16) else {
            return (bytes, false);
        };
        let mut chunk = vec![0; size + 2];
        if stream.read_exact(&mut chunk).await.is_err() {
            return (bytes, false);
        }
        bytes += size;
        if size == 0 {
            return (bytes, true);
        }
    }
}

async fn say(
    stream: &mut BufReader<TcpStream>,
    status: u16,
    body: &[u8],
    length: usize,
) -> io::Result<()> {
    let head =
        format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.shutdown().await?;
    // Else what the client is still sending would reset the connection, and take the answer with it.
    tokio::io::copy(stream, &mut tokio::io::sink()).await?;
    Ok(())
}
