//! Sessions that take as much memory as they can, one by one: the price that the account has for each holds.

use std::net::SocketAddr;
use std::time::Duration;

use bucketferry::memory::{DOWNLOAD, SESSION};
use socket2::SockRef;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::ftp::Client;
use crate::support::process::Process;
use crate::support::tls::{Authority, Hello};
use crate::support::{Gateway, MIB, Store, borrowed, noise};

/// Sessions of each test.
const SESSIONS: usize = 60;

/// Nothing is shared out here: what grows is sessions.
const NOTHING_SHARED: [(&str, &str); 2] =
    [("download.memory", "0"), ("limits.socket_memory", "8 MiB")];

/// Lines that wait for the end of a transfer.
const LINES: usize = 4;

/// The most that the process takes more than `before`, while nobody reads, for each session.
async fn grown(process: &Process, before: usize) -> u64 {
    let mut most = 0;
    for _ in 0..60 {
        most = most.max(process.anonymous_memory().saturating_sub(before));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (most / SESSIONS) as u64
}

async fn narrow(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    SockRef::from(&socket).set_recv_buffer_size(4096).unwrap();
    socket.connect(to).await.unwrap()
}

/// A gateway with a certificate, that has served one transfer already.
async fn serve(store: &Store, authority: &Authority) -> (Process, usize) {
    let settings = authority.settings(&NOTHING_SHARED);
    let process = Process::serve(store, &borrowed(&settings)).await;
    let mut client = Client::connect_as(process.address, "ferry", "secret").await;
    client.retrieve("large").await;
    let before = process.anonymous_memory();
    (process, before)
}

fn large() -> Store {
    let store = Store::s3();
    store.put("large", &noise(16 * MIB));
    store
}

/// Downloads by TLS whose clients read nothing, with lines that wait for their end.
#[tokio::test(flavor = "multi_thread")]
async fn dear_sessions_by_retr() {
    let (store, authority) = (large(), Authority::new());
    let (process, before) = serve(&store, &authority).await;
    let connector = authority.connector(Hello::default());
    let mut held = Vec::new();
    for _ in 0..SESSIONS {
        let (client, _) = Client::connect(process.address).await;
        let mut client = client.secure(&connector).await;
        client.login("ferry", "secret").await;
        client.protect_data().await;
        let data = narrow(client.pasv().await).await;
        client.expect("RETR large", 150).await;
        let data = crate::support::tls::handshake(&connector, data)
            .await
            .unwrap();
        for _ in 0..LINES {
            client.send(&format!("CWD {}", "x".repeat(4000))).await;
        }
        held.push((client, data));
    }
    let each = grown(&process, before).await;
    assert!(each < SESSION + DOWNLOAD, "{each} bytes each");
}

/// Uploads by TLS that have begun and bring nothing.
#[tokio::test(flavor = "multi_thread")]
async fn dear_sessions_by_stor() {
    let (store, authority) = (large(), Authority::new());
    let (process, before) = serve(&store, &authority).await;
    let connector = authority.connector(Hello::default());
    let mut held = Vec::new();
    for number in 0..SESSIONS {
        let (client, _) = Client::connect(process.address).await;
        let mut client = client.secure(&connector).await;
        client.login("ferry", "secret").await;
        client.protect_data().await;
        let data = TcpStream::connect(client.pasv().await).await.unwrap();
        client.expect(&format!("STOR {number}"), 150).await;
        let data = crate::support::tls::handshake(&connector, data)
            .await
            .unwrap();
        for _ in 0..LINES {
            client.send(&format!("CWD {}", "x".repeat(4000))).await;
        }
        held.push((client, data));
    }
    let each = grown(&process, before).await;
    assert!(each < SESSION, "{each} bytes each");
}

/// Long lines that wait for the end of a transfer: those of 16 KiB do, more of them end the session.
#[tokio::test(flavor = "multi_thread")]
async fn dear_sessions_by_long_lines() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    let (_data, _) = client.begin("STOR a").await;
    let line = format!("CWD {}", "x".repeat(4000));
    for _ in 0..LINES {
        client.send(&line).await;
    }
    client.expect_silence(Duration::from_millis(300)).await;
    client.send(&line).await;
    client.send(&line).await;
    client.expect_close_soon().await;
    gateway.wait_for("bucketferry_sessions", 0.0).await;
}

/// What the kernel takes of the bytes that `sender` sends and nobody reads.
async fn taken(sender: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> usize {
    let mut taken = 0;
    loop {
        let write = tokio::time::timeout(Duration::from_secs(1), sender.write(bytes)).await;
        match write {
            Ok(Ok(written)) if taken < 64 * MIB => taken += written,
            _ => return taken,
        }
    }
}

async fn narrow_both_ways(to: SocketAddr) -> TcpStream {
    let data = narrow(to).await;
    SockRef::from(&data).set_send_buffer_size(4096).unwrap();
    data
}

/// Commands whose replies nobody reads: their buffers at the control connection are small.
#[tokio::test(flavor = "multi_thread")]
async fn dear_sessions_by_unread_replies() {
    let gateway = Gateway::on(Store::folder());
    let mut control = narrow_both_ways(gateway.address()).await;
    let login = b"USER ferry\r\nPASS secret\r\n";
    control.write_all(login).await.unwrap();
    let taken = taken(&mut control, &b"NOOP\r\n".repeat(100)).await;
    assert!(taken < 96 * 1024, "{taken} bytes");
}

/// Bytes that a client sends during its download, and that nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn dear_sessions_by_data_the_wrong_way() {
    let gateway = Gateway::on(large());
    let mut client = gateway.client().await;
    let mut data = narrow_both_ways(client.pasv().await).await;
    client.expect("RETR large", 150).await;
    let taken = taken(&mut data, &[0; 4096]).await;
    assert!(taken < 256 * 1024, "{taken} bytes");
}
