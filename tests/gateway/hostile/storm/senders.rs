//! Honest uploads, at the pace of devices.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::support::ftp::Client;
use crate::support::noise;

/// What one of them sends at a time, and how often.
const CHUNK: usize = 32 * 1024;
const TICK: Duration = Duration::from_millis(125);

/// Chunks of a file: 1 MiB, in about 4 s.
const CHUNKS: usize = 32;

/// Devices that send file after file.
pub(super) struct Senders {
    sent: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    all: JoinSet<Option<String>>,
}

impl Senders {
    /// So many begin, spread over the time of one file, each in a session of its own.
    pub(super) async fn begin(gateway: SocketAddr, from: IpAddr, count: usize) -> Self {
        let (sent, over) = (Arc::default(), Arc::default());
        let bytes: Arc<Vec<u8>> = Arc::new(noise(CHUNK * CHUNKS));
        let mut all = JoinSet::new();
        for nth in 0..count {
            let client = Client::connect_from(from, gateway).await;
            let mut client = client.expect("a connection");
            client.set_deadline(Duration::from_mins(2));
            client.expect_reply(220).await;
            client.login("ferry", "secret").await;
            let (sent, over, bytes) = (Arc::clone(&sent), Arc::clone(&over), Arc::clone(&bytes));
            all.spawn(async move { send(client, nth, &bytes, &sent, &over).await });
        }
        Self { sent, over, all }
    }

    /// MiB/s that the gateway takes of them.
    pub(super) async fn speed(&self, during: Duration) -> f64 {
        let before = self.sent.load(Ordering::Relaxed);
        sleep(during).await;
        let sent = self.sent.load(Ordering::Relaxed) - before;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let mebibytes = sent as f64 / (1024.0 * 1024.0);
        mebibytes / during.as_secs_f64()
    }

    /// Waits for the last files. The replies of those that were not stored.
    pub(super) async fn end(mut self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        while let Some(one) = self.all.join_next().await {
            failed.extend(one.expect("a sender"));
        }
        failed
    }
}

/// Sends until all is over. The reply, if a file was not stored.
async fn send(
    mut client: Client,
    nth: usize,
    bytes: &[u8],
    sent: &AtomicU64,
    over: &AtomicBool,
) -> Option<String> {
    while !over.load(Ordering::Relaxed) {
        let mut data = client.open_data().await;
        let first = client.command(&format!("STOR device{nth}")).await;
        if !first.is_preliminary() {
            return Some(first.text());
        }
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for chunk in bytes.chunks(CHUNK) {
            ticks.tick().await;
            if data.write_all(chunk).await.is_err() {
                break;
            }
            sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        let _ = data.shutdown().await;
        drop(data);
        let reply = client.reply().await;
        if reply.code != 226 {
            return Some(reply.text());
        }
    }
    None
}
