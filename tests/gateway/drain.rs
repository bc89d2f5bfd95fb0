//! SIGTERM: what runs may finish, what idles is sent away, what comes is refused.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::ftp::Client;
use crate::support::process::Process;
use crate::support::{Gateway, MIB, Store, noise};

#[tokio::test(flavor = "multi_thread")]
async fn a_running_upload_ends_with_226() {
    for store in Store::each() {
        let process = Process::serve(&store, &[]).await;
        let mut idle = Client::connect_as(process.address, "ferry", "secret").await;
        let mut client = Client::connect_as(process.address, "ferry", "secret").await;
        let mut data = client.open_data().await;
        client.expect("STOR a.bin", 150).await;
        let bytes = noise(200 * MIB);
        let started = Instant::now();
        for (second, chunk) in bytes.chunks(20 * MIB).enumerate() {
            data.write_all(chunk).await.unwrap();
            if second == 2 {
                process.terminate();
                idle.expect_reply(421).await;
                idle.expect_close().await;
                assert_refused(&process).await;
            }
            let due = Duration::from_secs(second as u64 + 1);
            tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
        }
        drop(data);
        client.expect_reply(226).await;
        client.expect_reply(421).await;
        client.expect_close().await;
        assert_eq!(process.ended().await.code(), Some(0));
        assert!(store.object("a.bin").unwrap() == bytes);
    }
}

async fn assert_refused(process: &Process) {
    let Ok(mut stream) = TcpStream::connect(process.address).await else {
        return;
    };
    // It was in the queue when the listener closed: a reset, or a 421, but no greeting.
    let mut heard = String::new();
    let _ = stream.read_to_string(&mut heard).await;
    assert!(heard.is_empty() || heard.starts_with("421 "), "{heard}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_grace_what_is_left_is_aborted_and_leaves_nothing() {
    let settings = [("shutdown.grace", "500ms"), ("upload.part_size", "5 MiB")];
    let gateway = Gateway::with(Store::s3(), &settings);
    gateway.store.put("a.bin", b"the old object");
    let mut client = gateway.client().await;
    let mut data = client.open_data().await;
    client.expect("STOR a.bin", 150).await;
    data.write_all(&noise(12 * MIB)).await.unwrap();
    let Gateway {
        inner,
        store,
        shutdown,
        ..
    } = gateway;
    shutdown.begin();
    let ended = tokio::spawn(inner.finished());
    client.expect_reply(426).await;
    client.expect_reply(421).await;
    assert!(!ended.await.unwrap().unwrap(), "not in peace");
    assert_eq!(store.object("a.bin").unwrap(), b"the old object");
    store.assert_no_leftovers();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_gateway_ends_at_once() {
    let process = Process::serve(&Store::folder(), &[]).await;
    let started = Instant::now();
    process.terminate();
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let process = Process::serve(&Store::folder(), &[]).await;
    let mut client = Client::connect_as(process.address, "ferry", "secret").await;
    let _data = client.open_data().await;
    client.expect("STOR a.bin", 150).await;
    process.terminate();
    let mut idle = TcpStream::connect(process.address).await;
    while idle.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        idle = TcpStream::connect(process.address).await;
    }
    process.signal(rustix::process::Signal::INT);
    assert_eq!(process.ended().await.code(), Some(143));
}

/// There is no API server to take note. The gateway waits for it for a few seconds only, and serves clients meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn without_kubernetes_a_gateway_of_several_serves_and_ends() {
    let settings = [
        ("passive.ports", "32100-32129"),
        ("passive.share", "1/3"),
        ("cluster.service", "ftp/ferry"),
        ("cluster.pod", "ferry-1"),
    ];
    let gateway = Gateway::with(Store::folder(), &settings);
    let mut client = gateway.client().await;
    let reply = client.expect("EPSV", 229).await;
    let port = reply.lines[0].split('|').nth(3).unwrap();
    let port: u16 = port.parse().unwrap();
    assert!((32_110..=32_119).contains(&port), "{port}");
    let metrics = gateway.inner.metrics();
    let current = metrics.endpointslices_current.clone();
    assert_eq!(current.with_label_values(&["ftp/ferry"]).get(), 0);
    assert!(metrics.endpointslice_errors.get() > 0);
    let started = Instant::now();
    gateway.shutdown.begin();
    // Others may still be sent here by nodes that have not heard of it.
    gateway.client().await.expect("NOOP", 200).await;
    let Gateway { inner, .. } = gateway;
    client.expect_reply(421).await;
    assert!(inner.finished().await.unwrap());
    let took = started.elapsed();
    assert!(
        (Duration::from_secs(4)..Duration::from_secs(8)).contains(&took),
        "{took:?}"
    );
}

/// A rename is work as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_rename_finishes() {
    let gateway = Gateway::on(Store::s3());
    for index in 0..20 {
        gateway.store.put(&format!("old/{index}"), &noise(index));
    }
    let server = gateway.store.server();
    server.stall("CopyObject", Duration::from_millis(300));
    let mut client = gateway.client().await;
    client.expect("RNFR old", 350).await;
    client.send("RNTO new").await;
    server.wait_for("CopyObject", 1).await;
    gateway.shutdown.begin();
    client.expect_reply(250).await;
    client.expect_reply(421).await;
    let Gateway { inner, store, .. } = gateway;
    assert!(inner.finished().await.unwrap());
    assert_eq!(store.keys().len(), 20);
    assert!(store.keys().iter().all(|key| key.starts_with("new/")));
}
