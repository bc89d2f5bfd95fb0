//! The one sentence: a 226 means the whole file is there; anything else, that nothing has changed.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::ftp::{Client, reset};
use crate::support::{Gateway, MIB, PATIENCE, Store, noise};

/// How an upload is cut off.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// The client is killed: the kernel closes its sockets, the data connection first.
    Killed,
    /// The control connection is closed, and the data connection after it.
    ControlFirst,
    /// The client says ABOR and leaves its data connection open.
    Abor,
    /// ABOR in Telnet's clothes: IP and Synch, the latter urgent.
    TelnetAbor,
    /// The data connection is reset.
    DataReset,
    /// The control connection is reset, and then the data connection ended cleanly.
    ControlReset,
}

const CUTS: [Cut; 6] = [
    Cut::Killed,
    Cut::ControlFirst,
    Cut::Abor,
    Cut::TelnetAbor,
    Cut::DataReset,
    Cut::ControlReset,
];

/// The names are those of the metric's label.
fn outcome(cut: Cut) -> &'static str {
    match cut {
        Cut::Killed | Cut::ControlFirst | Cut::ControlReset => "control_lost",
        Cut::Abor | Cut::TelnetAbor => "client_abort",
        Cut::DataReset => "data_lost",
    }
}

async fn cut_off(mut client: Client, mut data: TcpStream, cut: Cut) {
    match cut {
        Cut::Killed => {
            // Clients die while they work on what comes next: hardly ever right after a byte.
            tokio::time::sleep(Duration::from_millis(10)).await;
            client.die(data);
        }
        Cut::ControlFirst => {
            client.hang_up();
            drop(data);
        }
        Cut::Abor => {
            client.send("ABOR").await;
            client.expect_reply(426).await;
            client.expect_reply(226).await;
            client.expect("NOOP", 200).await;
        }
        Cut::TelnetAbor => {
            client.send_raw(b"\xff\xf4").await;
            client.send_urgent(b"\xff");
            client.send_raw(b"\xf2ABOR\r\n").await;
            client.expect_reply(426).await;
            client.expect_reply(226).await;
        }
        Cut::DataReset => {
            reset(data);
            client.expect_reply(426).await;
            assert_eq!(client.store("after.bin", b"goes on").await.code, 226);
        }
        Cut::ControlReset => {
            client.reset_control();
            let _ = data.shutdown().await;
        }
    }
}

async fn cut_uploads(gateway: &Gateway, cut: Cut, sizes: &[usize], rounds: usize) {
    gateway.store.put("old.bin", b"the old object");
    let series = format!(
        "bucketferry_transfers_total{{direction=\"upload\",outcome=\"{}\"}}",
        outcome(cut)
    );
    let before = gateway.metric(&series);
    for round in 0..rounds {
        let name = ["new.bin", "old.bin"][round % 2];
        let size = sizes[round / 2 % sizes.len()];
        let mut client = gateway.client().await;
        let mut data = client.open_data().await;
        client.expect(&format!("STOR {name}"), 150).await;
        data.write_all(&noise(size)).await.unwrap();
        cut_off(client, data, cut).await;
        #[allow(clippy::cast_precision_loss, reason = "a small number")]
        let expected = before + (round + 1) as f64;
        gateway.wait_for(&series, expected).await;
        assert_eq!(
            gateway.store.object("new.bin"),
            None,
            "{cut:?} round {round}"
        );
        assert_eq!(gateway.store.object("old.bin").unwrap(), b"the old object");
    }
    gateway.store.assert_no_leftovers();
    let kept: Vec<_> = gateway.store.keys();
    assert!(
        kept.iter()
            .all(|key| key == "old.bin" || key == "after.bin"),
        "{kept:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_cut_off_changes_nothing() {
    for cut in CUTS {
        for store in Store::each() {
            cut_uploads(&Gateway::on(store), cut, &[0, 1, 70_000], 6).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_multipart_upload_that_is_cut_off_changes_nothing() {
    for cut in CUTS {
        for store in Store::each() {
            let gateway = Gateway::with(store, &[("upload.part_size", "5 MiB")]);
            cut_uploads(&gateway, cut, &[11 * MIB], 2).await;
        }
    }
}

/// Two hundred times, without one exception.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_client_never_publishes_half_a_file() {
    let gateway = Gateway::on(Store::folder());
    cut_uploads(&gateway, Cut::Killed, &[0, 1, 512, 70_000, MIB], 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_aborts_never_publish_half_a_file() {
    let gateway = Gateway::on(Store::folder());
    cut_uploads(&gateway, Cut::Abor, &[0, 1, 100, 70_000], 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_resets_never_publish_half_a_file() {
    let gateway = Gateway::on(Store::folder());
    cut_uploads(&gateway, Cut::DataReset, &[0, 1, 100, 70_000], 200).await;
}

/// ABOR and the end of the data at once: whichever is taken first, the reply tells the truth.
#[tokio::test(flavor = "multi_thread")]
async fn an_abort_at_the_last_moment_is_either_or() {
    let gateway = Gateway::on(Store::s3());
    let (mut stored, mut aborted) = (0, 0);
    for round in 0..100 {
        let name = format!("{round}.bin");
        let mut client = gateway.client().await;
        let mut data = client.open_data().await;
        client.expect(&format!("STOR {name}"), 150).await;
        data.write_all(&noise(1000)).await.unwrap();
        drop(data);
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        client.send("ABOR").await;
        let whole = match client.reply().await.code {
            226 => true,
            426 => false,
            other => panic!("{other}"),
        };
        client.expect_reply(226).await;
        let object = gateway.store.object(&name);
        assert_eq!(object.is_some(), whole, "round {round}");
        if whole {
            assert_eq!(object.unwrap(), noise(1000));
            stored += 1;
        } else {
            aborted += 1;
        }
    }
    assert_eq!(stored + aborted, 100);
}

/// ABOR is in the kernel's buffer when the data ends: the barrier has to find it there.
#[tokio::test(flavor = "multi_thread")]
async fn an_abort_before_the_end_of_the_data_always_wins() {
    for store in Store::each() {
        let gateway = Gateway::on(store);
        for round in 0..100 {
            let mut client = gateway.client().await;
            let mut data = client.open_data().await;
            client.expect("STOR a.bin", 150).await;
            data.write_all(&noise(round * 100)).await.unwrap();
            client.send("ABOR").await;
            drop(data);
            client.expect_reply(426).await;
            client.expect_reply(226).await;
            assert_eq!(gateway.store.object("a.bin"), None, "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_hang_up_early_can_be_forgiven() {
    let gateway = Gateway::with(Store::folder(), &[("upload.on_control_loss", "keep")]);
    let mut client = gateway.client().await;
    let mut data = client.open_data().await;
    client.expect("STOR a.bin", 150).await;
    drop(client);
    data.write_all(b"all of it").await.unwrap();
    drop(data);
    gateway
        .wait_for(
            r#"bucketferry_transfers_total{direction="upload",outcome="complete"}"#,
            1.0,
        )
        .await;
    assert_eq!(gateway.store.object("a.bin").unwrap(), b"all of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stalls_is_given_up() {
    let gateway = Gateway::with(Store::folder(), &[("upload.stall_timeout", "200ms")]);
    let mut client = gateway.client().await;
    let mut data = client.open_data().await;
    client.expect("STOR a.bin", 150).await;
    data.write_all(b"half of it").await.unwrap();
    client.expect_reply(426).await;
    assert_eq!(gateway.store.object("a.bin"), None);
    gateway
        .wait_for(
            r#"bucketferry_transfers_total{direction="upload",outcome="stalled"}"#,
            1.0,
        )
        .await;
}

/// A slow client is not one that stalls.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_waited_for() {
    let gateway = Gateway::with(Store::folder(), &[("upload.stall_timeout", "1s")]);
    let mut client = gateway.client().await;
    let mut data = client.open_data().await;
    client.expect("STOR a.bin", 150).await;
    for _ in 0..15 {
        data.write_all(b"x").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(data);
    client.expect_reply(226).await;
    assert_eq!(gateway.store.object("a.bin").unwrap(), b"xxxxxxxxxxxxxxx");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_leaves_nothing_and_says_so() {
    for (operation, size) in [
        ("PutObject", 1000),
        ("CreateMultipartUpload", 11 * MIB),
        ("UploadPart", 11 * MIB),
        ("CompleteMultipartUpload", 11 * MIB),
    ] {
        let settings = [
            ("upload.part_size", "5 MiB"),
            ("store.retry_timeout", "1ms"),
        ];
        let gateway = Gateway::with(Store::s3(), &settings);
        gateway.store.put("old.bin", b"the old object");
        let server = gateway.store.server();
        let mut client = gateway.client().await;
        server.fail_next(operation, 1000, 503);
        let reply = client.store("old.bin", &noise(size)).await;
        assert_eq!(reply.code, 451, "{operation}: {}", reply.text());
        server.heal();
        assert_eq!(gateway.store.object("old.bin").unwrap(), b"the old object");
        gateway.store.assert_no_leftovers();
        assert_eq!(client.store("old.bin", &noise(size)).await.code, 226);
    }
}

/// Published is published, whatever becomes of the store's answer. With tries left, the request is
/// sent again and refused because of the first one; without, the connection's end is all there is.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_lost_after_the_commit_is_made_up_for_by_looking() {
    for (operation, size) in [("PutObject", 1000), ("CompleteMultipartUpload", 11 * MIB)] {
        for (retry_timeout, times) in [("1ms", 1000), ("10s", 1)] {
            let settings = [
                ("upload.part_size", "5 MiB"),
                ("store.retry_timeout", retry_timeout),
            ];
            let gateway = Gateway::with(Store::s3(), &settings);
            let server = gateway.store.server();
            let mut client = gateway.client().await;
            let (mut expected, bytes) = (Vec::new(), noise(size));
            for command in ["STOR a.bin", "APPE a.bin", "APPE a.bin"] {
                for broken in [false, true] {
                    if broken {
                        server.break_next_answer(operation, times, 10);
                    } else {
                        server.lose_next_answer(operation, times);
                    }
                    if command.starts_with("STOR") {
                        expected.clear();
                    }
                    expected.extend_from_slice(&bytes);
                    let reply = client.upload(command, &bytes).await;
                    server.heal();
                    assert_eq!(reply.code, 226, "{command}, {operation}: {reply:?}");
                    assert!(gateway.store.object("a.bin").unwrap() == expected);
                    gateway.store.assert_no_leftovers();
                }
            }
        }
    }
}

/// The answer is lost, and so is every answer to whether the object is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_told_is_no_success() {
    let settings = [("store.retry_timeout", "1ms")];
    let gateway = Gateway::with(Store::s3(), &settings);
    let server = gateway.store.server();
    let mut client = gateway.client().await;
    server.lose_next_answer("PutObject", 1000);
    server.fail_next("HeadObject", 1000, 500);
    let reply = client.store("a.bin", b"there, but who knows").await;
    assert_eq!(reply.code, 451, "{}", reply.text());
    gateway
        .wait_for(
            r#"bucketferry_transfers_total{direction="upload",outcome="unresolved"}"#,
            1.0,
        )
        .await;
    server.heal();
    assert_eq!(client.store("a.bin", b"and again").await.code, 226);
    assert_eq!(gateway.store.object("a.bin").unwrap(), b"and again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hiccups_is_tried_again() {
    let gateway = Gateway::with(Store::s3(), &[("store.retry_timeout", "10s")]);
    let server = gateway.store.server();
    let mut client = gateway.client().await;
    server.fail_next("PutObject", 2, 503);
    assert_eq!(client.store("a.bin", b"in the end").await.code, 226);
    assert_eq!(gateway.store.object("a.bin").unwrap(), b"in the end");
}

/// What a killed gateway left behind goes, by age, and nothing else does.
#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_a_killed_gateway_are_swept() {
    let server = doubles::Server::start(doubles::Protocol::S3);
    server.leave_upload("landing/old.bin", noise(100));
    server.leave_upload("elsewhere/old.bin", noise(100));
    server.age(Duration::from_hours(3));
    server.leave_upload("landing/young.bin", noise(100));
    server.put("landing/kept.bin", b"kept".to_vec());
    let url = format!("{}/landing", server.url());
    let settings = [("store.url", url.as_str()), ("upload.sweep_after", "2h")];
    let gateway = Gateway::with(Store::from(server), &settings);
    gateway
        .wait_for(r#"bucketferry_uploads_swept_total{store="default"}"#, 1.0)
        .await;
    let server = gateway.store.server();
    let mut left: Vec<_> = server
        .open_uploads()
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    left.sort();
    assert_eq!(left, ["elsewhere/old.bin", "landing/young.bin"]);
    assert_eq!(gateway.store.keys(), ["landing/kept.bin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_is_cut_off_ends_with_426() {
    let gateway = Gateway::on(Store::folder());
    gateway.store.put("big.bin", &noise(50 * MIB));
    let mut client = gateway.client().await;
    let (data, opening) = client.begin("RETR big.bin").await;
    assert_eq!(opening.code, 150);
    reset(data);
    client.expect_reply(426).await;
    let (data, opening) = client.begin("RETR big.bin").await;
    assert_eq!(opening.code, 150);
    client.send("ABOR").await;
    client.expect_reply(426).await;
    client.expect_reply(226).await;
    drop(data);
    assert!(client.retrieve("big.bin").await.0 == noise(50 * MIB));
    tokio::time::timeout(PATIENCE, client.expect("NOOP", 200))
        .await
        .unwrap();
}
