//! How fast it may go. The bounds are wide: other tests run beside these.

use std::time::{Duration, Instant};

use crate::support::{Gateway, Store, noise};

/// The seconds that something took.
async fn seconds<T>(work: impl Future<Output = T>) -> (f64, T) {
    let began = Instant::now();
    let done = work.await;
    (began.elapsed().as_secs_f64(), done)
}

#[track_caller]
fn assert_between(least: f64, found: f64, most: f64) {
    assert!(
        (least..most).contains(&found),
        "{found} s, not {least} to {most}"
    );
}

const KIB: usize = 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_as_fast_as_its_rates() {
    let settings = [
        ("limits.upload_rate", "256 KiB"),
        ("limits.download_rate", "512 KiB"),
    ];
    let gateway = Gateway::with(Store::folder(), &settings);
    let mut client = gateway.client().await;
    let bytes = noise(512 * KIB);
    let (took, reply) = seconds(client.store("a.bin", &bytes)).await;
    assert_eq!(reply.code, 226);
    assert_between(1.6, took, 6.0);
    let (took, (read, reply)) = seconds(client.retrieve("a.bin")).await;
    assert_eq!((reply.code, read == bytes), (226, true));
    assert_between(0.7, took, 4.0);
    for direction in ["upload", "download"] {
        let waited = format!(r#"bucketferry_throttled_seconds_total{{direction="{direction}"}}"#);
        assert_between(0.5, gateway.metric(&waited), 6.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_a_user_share_its_rate_equally() {
    let settings = [("limits.upload_rate_per_user", "256 KiB")];
    let gateway = Gateway::with(Store::folder(), &settings);
    let bytes = noise(192 * KIB);
    let upload = async |name: &str| {
        let mut client = gateway.client().await;
        assert_eq!(client.store(name, &bytes).await.code, 226);
    };
    let both = async { tokio::join!(seconds(upload("a")), seconds(upload("b"))) };
    let (all, ((a, ()), (b, ()))) = seconds(both).await;
    assert_between(1.0, all, 6.0);
    assert_between(0.7, a / b, 1.4);
    // It is known of a user that has just been here.
    let (took, ()) = seconds(upload("c")).await;
    assert_between(0.4, took, 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_own_rate_wins() {
    let users = r#"
[[user]]
name = "ferry"
password_hash = "$2b$04$sIBg3lTA25HUz2R.Crw2pehzVO9tDkyvIUcl0ybpRV5MCd.mClZ0m"
download_rate = "100 MiB"
"#;
    let settings = [("limits.download_rate_per_user", "1 KiB")];
    let gateway = Gateway::for_users(Store::folder(), users, &settings);
    gateway.store.put("a.bin", &noise(256 * KIB));
    let address = gateway.address();
    let mut client = crate::support::ftp::Client::connect_as(address, "ferry", "x").await;
    let (took, (read, _)) = seconds(client.retrieve("a.bin")).await;
    assert_eq!(read.len(), 256 * KIB);
    assert_between(0.0, took, 5.0);
}

/// Waiting for its turn is no stall, and listings wait for nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_transfer_does_not_look_stalled() {
    let settings = [
        ("limits.upload_rate_per_user", "2 KiB"),
        ("limits.download_rate", "2 KiB"),
        ("upload.stall_timeout", "500ms"),
        ("download.stall_timeout", "500ms"),
    ];
    let gateway = Gateway::with(Store::folder(), &settings);
    let mut client = gateway.client().await;
    client.set_deadline(Duration::from_secs(20));
    let bytes = noise(5 * KIB);
    let (took, reply) = seconds(client.store("slow.bin", &bytes)).await;
    assert_eq!(reply.code, 226);
    assert_between(2.0, took, 15.0);
    let (took, (read, reply)) = seconds(client.retrieve("slow.bin")).await;
    assert_eq!((reply.code, read == bytes), (226, true));
    assert_between(2.0, took, 15.0);
    for number in 0..100 {
        let name = format!("a file with a long name, number {number}");
        gateway.store.put(&name, b"");
    }
    let (took, (list, reply)) = seconds(client.list("LIST", "")).await;
    assert_eq!((reply.code, list.lines().count()), (226, 101));
    assert_between(0.0, took, 2.0);
}
