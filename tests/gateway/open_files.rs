//! There are only so many open files. Who can't have them is told so before anything begins.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::support::ftp::{Client, dial};
use crate::support::process::{Process, get};
use crate::support::{MIB, Store, noise};

const CLIENTS: usize = 20;

/// Sends a file, as often as it takes. How often there was no room for a transfer.
async fn upload(mut client: Client, name: String, bytes: &[u8]) -> usize {
    client.set_deadline(Duration::from_mins(1));
    let mut refused = 0;
    loop {
        let reply = client.command("EPSV").await;
        if reply.code == 425 {
            refused += 1;
            continue;
        }
        let text = reply.text();
        let (_, port) = text.split_once("(|||").expect("a 229");
        let port = port.trim_end_matches("|)").parse().expect("a port");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        client.send(&format!("STOR {name}")).await;
        let mut data = dial(None, address).await.expect("a data connection");
        client.expect_reply(150).await;
        data.write_all(bytes).await.expect("the gateway takes all");
        drop(data);
        client.expect_reply(226).await;
        return refused;
    }
}

/// 233 open files are 20 sessions, and one transfer at a time.
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_begins_has_all_the_files_it_needs() {
    let store = Store::s3();
    let settings = [("upload.part_size", "5 MiB"), ("limits.max_sessions", "20")];
    let process = Process::serve_with_open_files(&store, &settings, 233).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect_as(process.address, "ferry", "secret").await);
    }
    let bytes = noise(11 * MIB);
    let mut uploads = JoinSet::new();
    for (number, client) in clients.into_iter().enumerate() {
        let bytes = bytes.clone();
        let name = format!("{number}.bin");
        uploads.spawn(async move { upload(client, name, &bytes).await });
    }
    let refused: usize = uploads.join_all().await.into_iter().sum();
    for number in 0..CLIENTS {
        assert!(store.object(&format!("{number}.bin")).as_ref() == Some(&bytes));
    }
    store.assert_no_leftovers();
    let (_, metrics) = get(process.admin, "/metrics").await;
    let counted = format!("bucketferry_transfers_refused_total {refused}");
    assert!(metrics.contains(&counted), "{counted}: {metrics}");
    assert!(!metrics.contains(r#"outcome="error""#), "{metrics}");
}

/// Who has a port holds what a transfer takes; the others hear it, and nothing else happens to them.
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_can_t_have_them_is_refused() {
    let store = Store::folder();
    let process = Process::serve_with_open_files(&store, &[], 201).await;
    let mut holding = Vec::new();
    let mut refused = loop {
        let mut client = Client::connect_as(process.address, "ferry", "secret").await;
        let reply = client.command("EPSV").await;
        match reply.code {
            229 => holding.push(client),
            425 => break client,
            _ => panic!("{}", reply.text()),
        }
    };
    assert!(!holding.is_empty());
    let (_, metrics) = get(process.admin, "/metrics").await;
    assert!(metrics.contains("bucketferry_transfers_refused_total 1"));
    drop(holding);
    assert_eq!(refused.store("now.txt", b"there is room").await.code, 226);
}
