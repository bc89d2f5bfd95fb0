//! Memory that is short: those who are slow must not hold up those who are fast.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::ftp::Client;
use crate::support::{Gateway, MIB, Store, eventually, noise};

/// Of its 20 MiB, the memory has 15 for anyone and 5 for finishing.
const SETTINGS: [(&str, &str); 2] = [("upload.memory", "20 MiB"), ("upload.part_size", "5 MiB")];

/// Clients that have sent most of a part and then stop.
async fn stop_half_way(gateway: &Gateway, bytes: &[u8]) -> Vec<(Client, TcpStream, usize)> {
    let mut stopped = Vec::new();
    for index in 0..5 {
        let mut client = gateway.client().await;
        client.set_deadline(Duration::from_mins(1));
        let mut data = client.open_data().await;
        client.expect(&format!("STOR slow{index}.bin"), 150).await;
        let rest = send_for_a_while(&mut data, bytes).await;
        stopped.push((client, data, rest));
    }
    stopped
}

/// Sends until nothing is taken any more: what the gateway does not read fills the sockets' buffers.
/// Where it stopped.
async fn send_for_a_while(data: &mut TcpStream, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while sent < bytes.len() {
        let write = data.write(&bytes[sent..]);
        match tokio::time::timeout(Duration::from_secs(1), write).await {
            Ok(written) => sent += written.unwrap(),
            Err(_) => break,
        }
    }
    sent
}

async fn upload_beside(gateway: &Gateway, bytes: Vec<u8>) -> Option<u16> {
    let mut client = gateway.client().await;
    client.set_deadline(Duration::from_mins(1));
    let upload = async { client.store("fast.bin", &bytes).await.code };
    tokio::time::timeout(Duration::from_secs(15), upload)
        .await
        .ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_uploads_move_to_disk_when_memory_is_short() {
    let disk = tempfile::tempdir().unwrap();
    let directory = disk.path().to_str().unwrap();
    let settings = [&SETTINGS[..], &[("upload.spill_dir", directory)]].concat();
    let gateway = Gateway::with(Store::s3(), &settings);
    let slow = noise(5 * MIB - 100 * 1024);
    let stopped = stop_half_way(&gateway, &slow).await;
    assert_eq!(upload_beside(&gateway, noise(40 * MIB)).await, Some(226));
    let spilled = gateway.metric("bucketferry_upload_spilled_bytes");
    assert!(spilled >= 4.0 * 1024.0 * 1024.0, "{spilled}");
    let names = std::fs::read_dir(disk.path()).unwrap().count();
    assert_eq!(names, 0, "a killed gateway leaves nothing");
    for (index, (mut client, mut data, sent)) in stopped.into_iter().enumerate() {
        // What is left, and a part more.
        data.write_all(&slow[sent..]).await.unwrap();
        data.write_all(&slow).await.unwrap();
        drop(data);
        client.expect_reply(226).await;
        let whole = gateway.store.object(&format!("slow{index}.bin")).unwrap();
        assert!(whole == [&slow[..], &slow].concat());
    }
    eventually("nothing is on disk", || {
        gateway.metric("bucketferry_upload_spilled_bytes") < 1.0
    })
    .await;
    assert!(gateway.metric("bucketferry_upload_memory_used_bytes") < 1.0);
}

/// The same without a place on disk: if this went well, the test above would prove nothing.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_place_on_disk_fast_uploads_wait_for_slow_ones() {
    let gateway = Gateway::with(Store::s3(), &SETTINGS);
    let stopped = stop_half_way(&gateway, &noise(5 * MIB - 100 * 1024)).await;
    let mut client = gateway.client().await;
    let bytes = noise(40 * MIB);
    let upload = client.store("fast.bin", &bytes);
    let result = tokio::time::timeout(Duration::from_secs(3), upload).await;
    assert!(result.is_err());
    drop(stopped);
}
