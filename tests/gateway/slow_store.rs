//! A store may be slow. It is given up when nothing moves, and not before.

use std::time::{Duration, Instant};

use crate::support::{Gateway, MIB, Store, noise};

const SETTINGS: [(&str, &str); 2] = [
    ("upload.part_size", "32 MiB"),
    ("store.request_timeout", "2s"),
];

fn gateway() -> Gateway {
    Gateway::with(Store::s3(), &SETTINGS)
}

fn limit_bandwidth(gateway: &Gateway, bytes_per_second: usize) {
    let server = gateway.store.server();
    server.limit_bandwidth(bytes_per_second as u64);
}

/// The first part takes twice as long as nothing may move. Of so large a part the kernel holds only the
/// smaller part.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_may_take_longer_than_the_request_timeout() {
    let gateway = gateway();
    limit_bandwidth(&gateway, 8 * MIB);
    let mut client = gateway.client().await;
    let bytes = noise(40 * MIB);
    let started = Instant::now();
    assert_eq!(client.store("slow.bin", &bytes).await.code, 226);
    assert!(
        started.elapsed() > Duration::from_secs(3),
        "it was not slow"
    );
    assert!(gateway.store.object("slow.bin").unwrap() == bytes);
    let parts =
        r#"bucketferry_store_requests_total{operation="put_part",outcome="ok",store="default"}"#;
    assert!(
        (gateway.metric(parts) - 2.0).abs() < f64::EPSILON,
        "tried again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stops_reading_is_given_up() {
    let gateway = gateway();
    let server = gateway.store.server();
    server.stall("UploadPart", Duration::from_mins(10));
    let mut client = gateway.client().await;
    let started = Instant::now();
    let reply = client.store("stuck.bin", &noise(33 * MIB)).await;
    assert_eq!(reply.code, 451, "{}", reply.text());
    assert!(started.elapsed() < Duration::from_secs(15));
    server.heal();
    assert_eq!(gateway.store.object("stuck.bin"), None);
}
