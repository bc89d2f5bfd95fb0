//! Listings that are asked for and not read.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use crate::support::ftp::Client;
use crate::support::process::Process;
use crate::support::{MIB, Store};

/// Sessions that read nothing.
const SESSIONS: usize = 90;

/// What all listings may take here.
const LISTINGS: usize = 16 * MIB;

/// What sessions and the gateway's own threads take besides, more or less.
const BESIDES: usize = 20 * MIB;

/// A bucket with 5,000 long names in `d`: 5 MiB, more than the kernel takes of an unread reply.
fn crowded() -> Store {
    let store = Store::s3();
    for number in 0..5000 {
        store.put(&format!("d/{number:05}{}", "x".repeat(1000)), b"");
    }
    store
}

/// A connection with next to no room for what the gateway sends.
async fn narrow(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    SockRef::from(&socket).set_recv_buffer_size(1).unwrap();
    socket.connect(to).await.unwrap()
}

async fn logged_in(process: &Process) -> Client {
    let mut client = Client::over(narrow(process.address).await).unwrap();
    client.expect_reply(220).await;
    client.login("ferry", "secret").await;
    client
}

/// The most that the process takes more than `before`, while everybody asks and nobody reads.
async fn most(process: &Process, before: usize) -> usize {
    let began = Instant::now();
    let mut most = 0;
    while began.elapsed() < Duration::from_secs(12) {
        most = most.max(process.anonymous_memory().saturating_sub(before));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    most
}

async fn assert_bounded(process: &Process, before: usize) {
    let grown = most(process, before).await;
    assert!(grown < LISTINGS + BESIDES, "{grown} bytes more");
    // Others hear soon that there is no room, if there is none, and can do everything else.
    let mut other = Client::connect_as(process.address, "ferry", "secret").await;
    other.set_deadline(Duration::from_secs(30));
    let reply = other.command("STAT d").await;
    assert!(matches!(reply.code, 213 | 451), "{}", reply.text());
    assert_eq!(other.store("file", b"bytes").await.code, 226);
}

/// Once they are gone, there is room again.
async fn assert_over(process: &Process) {
    let mut other = Client::connect_as(process.address, "ferry", "secret").await;
    other.set_deadline(Duration::from_secs(30));
    let (listing, reply) = other.list("MLSD", "d").await;
    assert_eq!((reply.code, listing.lines().count()), (226, 5000));
    assert_eq!(other.expect("STAT d", 213).await.lines.len(), 5002);
}

async fn serve(store: &Store) -> Process {
    Process::serve(store, &[("limits.listing_memory", "16 MiB")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_listings_by_stat() {
    let store = crowded();
    let process = serve(&store).await;
    let before = process.anonymous_memory();
    let mut held = Vec::new();
    for _ in 0..SESSIONS {
        let mut client = logged_in(&process).await;
        client.send("STAT d").await;
        held.push(client);
    }
    assert_bounded(&process, before).await;
    drop(held);
    assert_over(&process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_listings_by_mlsd() {
    let store = crowded();
    let process = serve(&store).await;
    let before = process.anonymous_memory();
    let mut held = Vec::new();
    for _ in 0..SESSIONS {
        let mut client = logged_in(&process).await;
        let port = client.pasv().await;
        let data = narrow(port).await;
        client.send("MLSD d").await;
        held.push((client, data));
    }
    assert_bounded(&process, before).await;
    drop(held);
    assert_over(&process).await;
}
