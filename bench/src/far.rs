//! Clients that are far away: each of their connections goes through a relay that holds everything back for a while.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// What is read at once.
const BLOCK: usize = 64 * 1024;

/// Blocks that are on their way at once, in one direction of one connection.
const ON_THE_WAY: usize = 256;

/// Connects to somebody who is this far away, in each direction.
pub(crate) async fn dial(address: SocketAddr, delay: Duration) -> anyhow::Result<TcpStream> {
    if delay.is_zero() {
        return Ok(crate::net::dial(address).await?);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let near = crate::net::dial(listener.local_addr()?).await?;
    let (relayed, _) = listener.accept().await?;
    tokio::time::sleep(delay).await;
    let far = TcpStream::connect(address)
        .await
        .context("can't connect the relay")?;
    tokio::time::sleep(delay).await;
    relayed.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (from_client, to_client) = relayed.into_split();
    let (from_server, to_server) = far.into_split();
    tokio::spawn(carry(from_client, to_server, delay));
    tokio::spawn(carry(from_server, to_client, delay));
    Ok(near)
}

/// One direction, to its end. A connection that breaks ends here; whoever is at its ends says so.
async fn carry(mut from: OwnedReadHalf, to: OwnedWriteHalf, delay: Duration) {
    let (sender, on_the_way) = mpsc::channel(ON_THE_WAY);
    let delivery = tokio::spawn(deliver(on_the_way, to));
    loop {
        let mut block = BytesMut::with_capacity(BLOCK);
        let read = from.read_buf(&mut block).await;
        let due = Instant::now() + delay;
        let ended = !matches!(read, Ok(1..));
        if sender.send((due, block.freeze())).await.is_err() || ended {
            break;
        }
    }
    drop(sender);
    let _ = delivery.await;
}

async fn deliver(mut on_the_way: mpsc::Receiver<(Instant, Bytes)>, mut to: OwnedWriteHalf) {
    while let Some((due, block)) = on_the_way.recv().await {
        tokio::time::sleep_until(due.into()).await;
        let delivered = if block.is_empty() {
            to.shutdown().await
        } else {
            to.write_all(&block).await
        };
        if delivered.is_err() {
            return;
        }
    }
}
