//! Downloads: one version of the object, as fast as several streams bring it, in memory that has a limit.

use std::time::{Duration, Instant};

use doubles::Server;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::{Gateway, MIB, Store, noise};

/// Parts of 1 MiB, so that a small file has many.
const SMALL_PARTS: (&str, &str) = ("download.part_size", "1 MiB");

/// More than sockets hold on the way.
const LARGE: usize = 64 * MIB;

#[tokio::test(flavor = "multi_thread")]
async fn parts_read_ahead_come_in_order() {
    for concurrency in ["1", "2", "4", "64"] {
        let settings = [SMALL_PARTS, ("download.concurrency", concurrency)];
        let store = if concurrency == "2" {
            Store::google()
        } else {
            Store::s3()
        };
        let gateway = Gateway::with(store, &settings);
        let bytes = noise(37 * MIB + 12_345);
        gateway.store.put("a.bin", &bytes);
        let mut client = gateway.client().await;
        for offset in [0, 1, MIB, 36 * MIB + 1] {
            client.expect(&format!("REST {offset}"), 350).await;
            let (rest, reply) = client.retrieve("a.bin").await;
            assert_eq!(reply.code, 226, "{}", reply.text());
            assert!(rest == bytes[offset..], "{concurrency} at {offset}");
        }
        assert!(server(&gateway).count("GetObject") > 8, "in parts");
        gateway
            .wait_for(r#"bucketferry_memory_bytes{use="downloads"}"#, 0.0)
            .await;
    }
}

/// A small file costs one request, an empty one a look more.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_is_one_request() {
    let gateway = Gateway::on(Store::s3());
    gateway.store.put("a.txt", b"small");
    gateway.store.put("empty", b"");
    let mut client = gateway.client().await;
    assert_eq!(client.retrieve("a.txt").await.0, b"small");
    client.expect("REST 2", 350).await;
    assert_eq!(client.retrieve("a.txt").await.0, b"all");
    let server = server(&gateway);
    assert_eq!(
        (server.count("GetObject"), server.count("HeadObject")),
        (2, 0)
    );
    let (empty, reply) = client.retrieve("empty").await;
    assert_eq!((empty.len(), reply.code), (0, 226));
}

/// Far away, a store gives each stream only so much.
#[tokio::test(flavor = "multi_thread")]
async fn several_streams_are_faster_than_one() {
    let mut took = Vec::new();
    for concurrency in ["1", "4"] {
        let settings = [SMALL_PARTS, ("download.concurrency", concurrency)];
        let gateway = Gateway::with(Store::s3(), &settings);
        let bytes = noise(16 * MIB);
        gateway.store.put("a.bin", &bytes);
        let mut client = gateway.client().await;
        server(&gateway).limit_answers(8 * MIB as u64);
        let began = Instant::now();
        assert!(client.retrieve("a.bin").await.0 == bytes);
        took.push(began.elapsed());
    }
    assert!(took[0] > took[1] * 2, "one, four: {took:?}");
}

/// Clients that take nothing have read ahead what there is memory for, and no more; others go on.
#[tokio::test(flavor = "multi_thread")]
async fn read_ahead_has_a_limit_and_nobody_waits_for_it() {
    let settings = [SMALL_PARTS, ("download.memory", "3 MiB")];
    let gateway = Gateway::with(Store::s3(), &settings);
    let bytes = noise(LARGE);
    gateway.store.put("a.bin", &bytes);
    let mut idle = Vec::new();
    for _ in 0..5 {
        let mut client = gateway.client().await;
        let mut data = client.open_data().await;
        client.expect("RETR a.bin", 150).await;
        read(&mut data, 10 * MIB).await;
        idle.push((client, data));
        let used = gateway.metric(r#"bucketferry_memory_bytes{use="downloads"}"#);
        assert!(used <= 3.0 * 1_048_576.0, "{used}");
    }
    let mut client = gateway.client().await;
    assert!(client.retrieve("a.bin").await.0 == bytes);
    for (mut client, mut data) in idle {
        assert!(read(&mut data, LARGE).await == bytes[10 * MIB..]);
        client.expect_reply(226).await;
    }
}

/// What the client has got is of one version, and it hears that it has not got it all.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_meanwhile_is_no_mixture() {
    for (concurrency, offset, replacement) in [
        ("4", 0, Some(noise(LARGE + 1))),
        ("4", 5, Some(vec![7; LARGE])),
        ("1", 0, Some(vec![7; LARGE])),
        ("1", 5, None),
    ] {
        let settings = [SMALL_PARTS, ("download.concurrency", concurrency)];
        let gateway = Gateway::with(Store::s3(), &settings);
        let bytes = noise(LARGE);
        gateway.store.put("a.bin", &bytes);
        let mut client = gateway.client().await;
        client.expect(&format!("REST {offset}"), 350).await;
        let mut data = client.open_data().await;
        client.expect("RETR a.bin", 150).await;
        match replacement {
            Some(other) => gateway.store.put("a.bin", &other),
            None => server(&gateway).delete("a.bin"),
        }
        let got = read(&mut data, LARGE).await;
        client.expect_reply(426).await;
        assert!(bytes[offset..].starts_with(&got), "{concurrency}");
        let aborted = "bucketferry_transfers_total{direction=\"download\",outcome=\"replaced\"}";
        gateway.wait_for(aborted, 1.0).await;
    }
}

/// A stream that breaks is taken up where it broke, unless the object is another one by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_is_taken_up_on_the_same_version_only() {
    for replaced in [false, true] {
        let gateway = Gateway::with(Store::s3(), &[("download.part_size", "128 MiB")]);
        let bytes = noise(LARGE);
        gateway.store.put("a.bin", &bytes);
        server(&gateway).break_next_answer("GetObject", 1, 50 * MIB as u64);
        let mut client = gateway.client().await;
        let mut data = client.open_data().await;
        client.expect("RETR a.bin", 150).await;
        if replaced {
            gateway.store.put("a.bin", &vec![7; LARGE]);
        }
        let got = read(&mut data, LARGE).await;
        client.expect_reply(if replaced { 426 } else { 226 }).await;
        assert!(bytes.starts_with(&got));
        assert_eq!(got.len() == LARGE, !replaced);
    }
}

/// The store's library has lost its patience by then; a client that is slow must not pay for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_again_and_again_is_taken_up() {
    for part_size in ["1 MiB", "128 MiB"] {
        let settings = [
            ("store.retry_timeout", "1ms"),
            ("download.part_size", part_size),
        ];
        let gateway = Gateway::with(Store::s3(), &settings);
        let bytes = noise(8 * MIB);
        gateway.store.put("a.bin", &bytes);
        let mut client = gateway.client().await;
        server(&gateway).break_next_answer("GetObject", 3, MIB as u64 / 2);
        let (got, reply) = client.retrieve("a.bin").await;
        assert_eq!(reply.code, 226, "{}", reply.text());
        assert!(got == bytes);
        // One that brings nothing is the end of it.
        server(&gateway).break_next_answer("GetObject", usize::MAX, 0);
        assert_eq!(client.retrieve("a.bin").await.1.code, 451);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dies_stops_the_reads() {
    let gateway = Gateway::with(Store::s3(), &[SMALL_PARTS]);
    gateway.store.put("a.bin", &noise(LARGE));
    let server = server(&gateway);
    server.limit_answers(4 * MIB as u64);
    let mut client = gateway.client().await;
    let mut data = client.open_data().await;
    client.expect("RETR a.bin", 150).await;
    read(&mut data, 4 * MIB).await;
    client.hang_up();
    drop(data);
    gateway
        .wait_for(
            "bucketferry_transfers_in_flight{direction=\"download\"}",
            0.0,
        )
        .await;
    gateway
        .wait_for(r#"bucketferry_memory_bytes{use="downloads"}"#, 0.0)
        .await;
    // What was on its way is counted when it arrives.
    server.wait_until_idle().await;
    let asked = server.count("GetObject");
    assert!(asked < 20, "{asked}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.count("GetObject"), asked);
}

/// Uploads have memory of their own: downloads that hold all of theirs don't slow them.
#[tokio::test(flavor = "multi_thread")]
async fn idle_downloads_do_not_hold_uploads_up() {
    let settings = [SMALL_PARTS, ("upload.memory", "32 MiB")];
    let gateway = Gateway::with(Store::s3(), &settings);
    gateway.store.put("a.bin", &noise(LARGE));
    let mut idle = Vec::new();
    for _ in 0..4 {
        let mut client = gateway.client().await;
        let data = client.open_data().await;
        client.expect("RETR a.bin", 150).await;
        idle.push((client, data));
    }
    let mut client = gateway.client().await;
    assert_eq!(client.store("b.bin", &noise(LARGE)).await.code, 226);
}

fn server(gateway: &Gateway) -> &Server {
    gateway.store.server()
}

/// Up to `most` bytes, fewer if the connection ends before.
async fn read(data: &mut TcpStream, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut data = data.take(most as u64);
    let all = data.read_to_end(&mut bytes);
    let read = tokio::time::timeout(Duration::from_secs(30), all).await;
    // An error is an end as well; the reply says what it means.
    let _ = read.expect("bytes in time");
    bytes
}
