//! One command, one final reply, and a 150 only when there is something to transfer.

use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::support::ftp::{Reply, dial};
use crate::support::{Gateway, MIB, Store, noise};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_one_550_without_150() {
    for store in Store::each() {
        let gateway = Gateway::on(store);
        let mut client = gateway.client().await;
        for command in [
            "RETR none",
            "LIST none",
            "MLSD none",
            "NLST none",
            "LIST a/b/c",
        ] {
            let (data, reply) = client.begin(command).await;
            assert_eq!(reply.code, 550, "{command}: {}", reply.text());
            drop(data);
            client.expect("NOOP", 200).await;
        }
        for command in [
            "SIZE none",
            "MDTM none",
            "MLST none",
            "CWD none",
            "DELE none",
            "RMD none",
            "RNFR none",
        ] {
            client.expect(command, 550).await;
            client.expect("NOOP", 200).await;
        }
        client.expect("STAT none", 550).await;
        assert_eq!(client.store("next.txt", b"still works").await.code, 226);
        assert_eq!(client.retrieve("next.txt").await.0, b"still works");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_needs_a_data_connection() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    for command in ["STOR a", "RETR a", "LIST", "NLST", "MLSD", "APPE a", "STOU"] {
        client.expect(command, 425).await;
    }
    assert_eq!(client.store("a", b"x").await.code, 226);
    client.expect("RETR a", 425).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_connection_that_never_comes_is_425() {
    let gateway = Gateway::with(Store::folder(), &[("passive.accept_timeout", "200ms")]);
    let mut client = gateway.client().await;
    for command in ["STOR a", "LIST"] {
        client.expect("PASV", 227).await;
        client.expect(command, 425).await;
    }
    assert!(gateway.store.keys().is_empty());
    assert_eq!(client.store("a", b"x").await.code, 226);
    let outcome = r#"bucketferry_transfers_total{direction="upload",outcome="no_data_connection"}"#;
    gateway.wait_for(outcome, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_during_a_transfer_come_at_once() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    let mut data = client.open_data().await;
    client.expect("STOR a.bin", 150).await;
    tokio::io::AsyncWriteExt::write_all(&mut data, &noise(1000))
        .await
        .unwrap();
    client.expect("NOOP", 200).await;
    crate::support::eventually_async("the bytes in STAT", async || {
        let status = client.expect("STAT", 211).await;
        status.text().contains("1000 bytes")
    })
    .await;
    client.send("SIZE a.bin").await;
    client.expect_silence(Duration::from_millis(100)).await;
    drop(data);
    client.expect_reply(226).await;
    assert_eq!(client.expect_reply(213).await.text(), "213 1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn quit_during_a_transfer_waits_for_its_end() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    let mut data = client.open_data().await;
    client.expect("STOR a.bin", 150).await;
    client.send("SIZE none").await;
    client.send("QUIT").await;
    client.expect_silence(Duration::from_millis(100)).await;
    tokio::io::AsyncWriteExt::write_all(&mut data, b"all of it")
        .await
        .unwrap();
    drop(data);
    client.expect_reply(226).await;
    client.expect_reply(550).await;
    client.expect_reply(221).await;
    client.expect_close().await;
    assert_eq!(gateway.store.object("a.bin").unwrap(), b"all of it");
}

/// No answer to another command comes where the 150 is due.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_right_behind_a_transfer_is_answered_behind_it() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    let port = client.pasv().await;
    client.send_raw(b"STOR a.bin\r\nNOOP\r\nSTAT\r\n").await;
    client.expect_silence(Duration::from_millis(50)).await;
    let data = crate::support::ftp::dial(None, port).await.unwrap();
    client.expect_reply(150).await;
    drop(data);
    for code in [226, 200, 211] {
        client.expect_reply(code).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_abor_is_answered() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    let _data = client.open_data().await;
    client.expect("STOR a.bin", 150).await;
    client.send_raw(b"ABOR\r\nABOR\r\n").await;
    for code in [426, 226, 226] {
        client.expect_reply(code).await;
    }
}

/// RFC 959, section 4.1.3: it closes the data connection, whether there is a transfer on it or not.
#[tokio::test(flavor = "multi_thread")]
async fn abor_closes_a_data_connection_that_waits() {
    let gateway = Gateway::with(Store::folder(), &[("active.enabled", "true")]);
    let mut client = gateway.client().await;

    let port = client.pasv().await;
    client.expect("ABOR", 226).await;
    assert!(dial(None, port).await.is_err(), "the port is still open");
    client.expect("STOR a.txt", 425).await;

    let mut data = client.open_data().await;
    client.expect("ABOR", 226).await;
    assert!(data.read(&mut [0]).await.is_err(), "it is still open");
    client.expect("RETR a.txt", 425).await;

    client.listen_data().await;
    client.expect("ABOR", 226).await;
    client.expect("LIST", 425).await;

    assert_eq!(client.store("a.txt", b"x").await.code, 226);
}

/// The only port is another's as soon as its owner has heard the 221.
#[tokio::test(flavor = "multi_thread")]
async fn the_port_of_who_leaves_is_free_at_once() {
    let port = free_port();
    let settings = [("passive.ports", port.as_str())];
    let gateway = Gateway::with(Store::folder(), &settings);
    for _ in 0..20 {
        let mut client = gateway.client().await;
        client.pasv().await;
        client.expect("QUIT", 221).await;
        let mut next = gateway.client().await;
        next.pasv().await;
        next.expect("ABOR", 226).await;
    }
}

/// A port that is free and that the kernel does not hand out by itself, as the setting has it.
fn free_port() -> String {
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let first = rand::random_range(10_000..19_000);
    let port = (first..20_000_u16).find(is_free).unwrap();
    port.to_string()
}

/// The store says nothing: the client need not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn abor_is_heard_while_the_store_is_silent() {
    let gateway = Gateway::on(Store::s3());
    let server = gateway.store.server();
    for command in ["RETR a", "LIST", "APPE a"] {
        server.stall("*", Duration::from_mins(1));
        let mut client = gateway.client().await;
        client.open_data().await;
        client.send(command).await;
        client.expect_silence(Duration::from_millis(100)).await;
        client.send("ABOR").await;
        client.expect_reply(426).await;
        client.expect_reply(226).await;
        server.heal();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_commands_are_answered_in_turn() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    client
        .send_raw(b"NOOP\r\nPWD\r\nTYPE I\r\nSIZE none\r\nSYST\r\n")
        .await;
    for code in [200, 257, 200, 550, 215] {
        client.expect_reply(code).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_store_refuses_is_one_reply() {
    let gateway = Gateway::with(Store::s3(), &[]);
    let server = gateway.store.server();
    let mut client = gateway.client().await;
    for (status, code) in [(403, 451), (507, 452), (400, 451)] {
        server.fail_next("PutObject", usize::MAX, status);
        let reply = client.store("a.txt", b"x").await;
        assert_eq!(reply.code, code, "{status}: {}", reply.text());
        server.heal();
    }
    assert_eq!(client.store("a.txt", b"x").await.code, 226);
}

/// What a store says is for the log.
#[tokio::test(flavor = "multi_thread")]
async fn no_reply_has_the_words_of_the_store() {
    for store in [Store::s3(), Store::google(), Store::azure()] {
        let gateway = Gateway::with(store, &[("store.retry_timeout", "1ms")]);
        gateway.store.put("a.txt", b"x");
        let server = gateway.store.server();
        let mut client = gateway.client().await;
        for status in [400, 403, 501] {
            server.fail_next("*", usize::MAX, status);
            for command in ["RETR a.txt", "STOR b.txt", "APPE a.txt", "LIST", "MLSD"] {
                let (data, mut reply) = client.begin(command).await;
                drop(data);
                if reply.is_preliminary() {
                    reply = client.reply().await;
                }
                assert_plain(command, &reply);
            }
            for command in ["DELE a.txt", "MKD d", "RMD d", "STAT a.txt", "RNFR a.txt"] {
                let reply = client.command(command).await;
                assert_plain(command, &reply);
            }
            server.heal();
            client.expect("RNFR a.txt", 350).await;
            server.fail_next("CopyObject", usize::MAX, status);
            let reply = client.command("RNTO b.txt").await;
            assert_plain("RNTO", &reply);
            server.heal();
        }
    }
}

fn assert_plain(command: &str, reply: &Reply) {
    let text = reply.text();
    let is_plain = !text.contains(['<', '{']) && !text.contains("Server returned");
    assert!(reply.code >= 400 && is_plain, "{command}: {text}");
}

/// The check value of the catalogue of CRC algorithms, for `CRC-64/NVME`.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_reply_to_an_upload_tells_its_checksum() {
    let sum = "crc64nvme ae8b14860a799888";
    for store in Store::of_every_kind() {
        let gateway = Gateway::with(store, &[("upload.part_size", "5 MiB")]);
        let mut client = gateway.client().await;
        let stored = client.store("a.txt", b"123456789").await;
        assert_eq!(stored.text(), format!("226 Stored 9 bytes, {sum}"));
        let unique = client.upload("STOU b.txt", b"123456789").await;
        let words = format!("226 Stored 9 bytes, {sum} (unique file name: b.txt.");
        assert!(unique.text().starts_with(&words), "{}", unique.text());
        assert!(unique.text().ends_with(')'), "{}", unique.text());
        // Of parts, and of what was there before and is written again.
        client.store("c.txt", b"1234").await;
        let whole = client.upload("APPE c.txt", b"56789").await;
        let known = !whole.text().contains("crc64nvme") || whole.text().contains(sum);
        assert!(known, "{}", whole.text());
        let large = client.store("d.bin", &noise(11 * MIB)).await;
        let again = client.upload("STOU d.bin", &noise(11 * MIB)).await;
        let sum_of = |reply: &Reply| reply.text().split(' ').nth(5).map(str::to_owned);
        assert!(sum_of(&large).is_some());
        assert_eq!(sum_of(&large), sum_of(&again));
    }
}
