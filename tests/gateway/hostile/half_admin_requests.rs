//! Peers that reach the admin endpoint, and take what they can of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::ftp::Client;
use crate::support::process::{Process, get, try_get};
use crate::support::{MIB, Memory, Store};

/// The longest that an answer may take for a probe to be content: Kubernetes waits for a second.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Of the password `x`, by bcrypt at its lowest cost.
const HASH: &str = "$2b$04$sIBg3lTA25HUz2R.Crw2pehzVO9tDkyvIUcl0ybpRV5MCd.mClZ0m";

async fn probe(admin: SocketAddr, path: &str) -> u16 {
    let answer = timeout(PROBE_TIMEOUT, get(admin, path)).await;
    answer.unwrap_or_else(|_| panic!("{path} in time")).0
}

async fn is_scraped(admin: SocketAddr) -> bool {
    let answer = try_get(admin, "/metrics").await;
    answer.is_ok_and(|(status, _)| status == 200)
}

/// A connection on which part of a request has been sent.
async fn half(admin: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHo").await;
    stream
}

/// All that still comes, and how long it takes to end.
async fn end_of(stream: &mut TcpStream) -> (String, Duration) {
    let began = Instant::now();
    let mut answer = Vec::new();
    let read = timeout(Duration::from_mins(1), stream.read_to_end(&mut answer)).await;
    let _closed_or_reset = read.expect("an end");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer, began.elapsed())
}

fn open_files(process: &Process) -> usize {
    let open = std::fs::read_dir(format!("/proc/{}/fd", process.pid()));
    open.unwrap().count()
}

/// A thousand of them: probes and clients are answered, and few stay open.
#[tokio::test(flavor = "multi_thread")]
async fn half_admin_requests() {
    let store = Store::folder();
    let process = Process::serve_with_open_files(&store, &[], 1024).await;
    let (files, memory) = (open_files(&process), process.anonymous_memory());
    let mut held = Vec::new();
    for round in 0..10 {
        for _ in 0..100 {
            held.push(half(process.admin).await);
        }
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(probe(process.admin, path).await, 200, "{path}, {round}");
        }
        let mut client = Client::connect_as(process.address, "ferry", "secret").await;
        assert_eq!(client.store("file", b"bytes").await.code, 226);
    }
    let more = open_files(&process).saturating_sub(files);
    assert!(more < 100, "{more} more files are open");
    let grown = process.anonymous_memory().saturating_sub(memory);
    assert!(grown < 16 * MIB, "{grown} bytes more");
    drop(held);
}

/// Half requests that nothing else pushes out, silent ones and those that go on byte by byte.
#[tokio::test(flavor = "multi_thread")]
async fn half_admin_requests_that_stay() {
    let process = Process::serve(&Memory, &[]).await;
    let mut silent = half(process.admin).await;
    let mut slow = half(process.admin).await;
    let (mut reading, mut writing) = slow.split();
    let byte_by_byte = async {
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let mut rest = Vec::new();
    let began = Instant::now();
    let slow_end = async {
        tokio::select! {
            () = byte_by_byte => {}
            _ = reading.read_to_end(&mut rest) => {}
        }
        began.elapsed()
    };
    let ((_, silent), slow) = tokio::join!(end_of(&mut silent), slow_end);
    for end in [silent, slow] {
        assert!(
            (Duration::from_secs(3)..Duration::from_secs(10)).contains(&end),
            "{end:?}"
        );
    }
}

/// A head of 16 KiB is too long; what comes after it is not even read.
#[tokio::test(flavor = "multi_thread")]
async fn endless_admin_headers() {
    let process = Process::serve(&Memory, &[]).await;
    let mut stream = TcpStream::connect(process.admin).await.unwrap();
    let field = format!("x: {}\r\n", "y".repeat(1000));
    let head = format!("GET /livez HTTP/1.1\r\n{}", field.repeat(20));
    stream.write_all(head.as_bytes()).await.unwrap();
    let (answer, after) = end_of(&mut stream).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    assert!(after < Duration::from_secs(3), "{after:?}");
    assert_eq!(probe(process.admin, "/livez").await, 200);

    // One that is long, but not too long.
    let mut stream = TcpStream::connect(process.admin).await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\n{}\r\n", field.repeat(10));
    stream.write_all(head.as_bytes()).await.unwrap();
    let (answer, _) = end_of(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

/// Metrics that are asked for and not read: they keep nobody from probes, and come to an end.
#[tokio::test(flavor = "multi_thread")]
async fn unread_metrics() {
    let user = |number| {
        format!(
            "[[user]]\nname = \"{number}-{0}\"\npassword_hash = \"{HASH}\"\n",
            "x".repeat(100)
        )
    };
    let users: String = (0..500).map(user).collect();
    let process = Process::serve_users(&Memory, &users, &[]).await;
    let text = get(process.admin, "/metrics").await.1;
    assert!(
        text.len() > 150_000,
        "it is more than the kernel takes: {}",
        text.len()
    );
    let mut held = Vec::new();
    for _ in 0..100 {
        let socket = TcpSocket::new_v4().unwrap();
        SockRef::from(&socket).set_recv_buffer_size(1).unwrap();
        let mut stream = socket.connect(process.admin).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        held.push(stream);
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(probe(process.admin, path).await, 200, "{path}");
    }
    let (status, body) = get(process.admin, "/metrics").await;
    assert_eq!(status, 503, "of {} bytes", text.len());
    assert!(body.contains("try again later"), "{body}");
    let began = Instant::now();
    while !is_scraped(process.admin).await {
        assert!(began.elapsed() < Duration::from_secs(30), "they never end");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    drop(held);
}
