//! Between the end of the data and the commit: whether the client is still alive, and how long that takes to tell.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::ftp::{Client, dial};
use crate::support::tls::{Authority, Hello};
use crate::support::{Gateway, MIB, Store, noise};

/// What is waited for where a file may have been cut off.
const LAST_BREATH: Duration = Duration::from_millis(100);

/// More than 2 ms of silence before the end make it suspicious.
const A_PAUSE: Duration = Duration::from_millis(10);

fn transfers(outcome: &str) -> String {
    format!("bucketferry_transfers_total{{direction=\"upload\",outcome=\"{outcome}\"}}")
}

/// A client whose upload has begun, and has sent so much.
async fn sending(gateway: &Gateway, command: &str, bytes: &[u8]) -> (Client, TcpStream) {
    let mut client = gateway.client().await;
    let mut data = client.open_data().await;
    client.send_raw(command.as_bytes()).await;
    client.expect_reply(150).await;
    data.write_all(bytes).await.unwrap();
    (client, data)
}

/// Ends the data connection, as `close` does; nothing else has a hold on it.
async fn close(mut data: TcpStream) {
    data.shutdown().await.unwrap();
}

async fn assert_discarded(gateway: &Gateway, times: f64) {
    gateway.wait_for(&transfers("control_lost"), times).await;
    assert_eq!(gateway.store.keys(), [""; 0]);
    gateway.store.assert_no_leftovers();
}

/// A program that ends by an exception: its data connection goes first, and tens of milliseconds later the rest.
#[tokio::test(flavor = "multi_thread")]
async fn an_exception_in_the_sender_publishes_nothing() {
    for store in Store::of_every_kind() {
        let gateway = Gateway::on(store);
        // Whole blocks of either size, no data, and a part of a block followed by a pause.
        for (round, (size, pause)) in [
            (8 * 512, Duration::ZERO),
            (3 * 8190, Duration::ZERO),
            (0, Duration::ZERO),
            (1000, A_PAUSE),
        ]
        .into_iter()
        .enumerate()
        {
            let (client, data) = sending(&gateway, "STOR a.bin\r\n", &noise(size)).await;
            tokio::time::sleep(pause).await;
            close(data).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            client.hang_up();
            #[allow(clippy::cast_precision_loss, reason = "a small number")]
            assert_discarded(&gateway, (round + 1) as f64).await;
        }
    }
}

/// The same within a line of text, where there are no blocks.
#[tokio::test(flavor = "multi_thread")]
async fn an_exception_in_the_sender_of_a_text_publishes_nothing() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    client.expect("TYPE A", 200).await;
    let mut data = client.open_data().await;
    client.expect("STOR a.txt", 150).await;
    data.write_all(b"one line\r\n").await.unwrap();
    close(data).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    client.hang_up();
    assert_discarded(&gateway, 1.0).await;
}

/// The last part goes up while the gateway waits, and comes down again.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_whose_client_dies_after_its_data_leaves_nothing() {
    let settings = [("upload.part_size", "5 MiB"), ("upload.settle", "500ms")];
    let gateway = Gateway::with(Store::s3(), &settings);
    let (client, data) = sending(&gateway, "STOR a.bin\r\n", &noise(11 * MIB)).await;
    close(data).await;
    let parts = gateway.store.server();
    parts.wait_for("UploadPart", 3).await;
    client.hang_up();
    assert_discarded(&gateway, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_during_the_wait_is_heard_at_once() {
    let gateway = Gateway::with(Store::folder(), &[("upload.settle", "1m")]);
    let (mut client, data) = sending(&gateway, "STOR a.bin\r\n", b"all of it").await;
    close(data).await;
    client.expect("NOOP", 200).await;
    client.send("ABOR").await;
    client.expect_reply(426).await;
    client.expect_reply(226).await;
    client.expect("NOOP", 200).await;
    assert_eq!(gateway.store.keys(), [""; 0]);
}

/// However many lines come, each of them answered.
#[tokio::test(flavor = "multi_thread")]
async fn lines_that_keep_coming_do_not_put_the_commit_off() {
    let gateway = Gateway::on(Store::folder());
    let (mut client, data) = sending(&gateway, "STOR a.bin\r\n", &noise(1024)).await;
    close(data).await;
    let ahead = 32;
    for _ in 0..ahead {
        client.send("NOOP").await;
    }
    let mut stored = false;
    let since = Instant::now();
    while !stored && since.elapsed() < Duration::from_secs(10) {
        stored = client.reply().await.code == 226;
        client.send("NOOP").await;
    }
    assert!(stored, "no 226 in {:?}", since.elapsed());
}

/// A `QUIT` that was sent with the `STOR` is no word about the data. In whatever order a client then dies.
#[tokio::test(flavor = "multi_thread")]
async fn a_quit_sent_ahead_is_no_consent() {
    for store in Store::of_every_kind() {
        let gateway = Gateway::on(store);
        let command = "STOR a.bin\r\nQUIT\r\n";
        let (client, data) = sending(&gateway, command, b"half of it").await;
        client.hang_up();
        close(data).await;
        assert_discarded(&gateway, 1.0).await;

        let (client, data) = sending(&gateway, command, b"half of it").await;
        tokio::time::sleep(A_PAUSE).await;
        client.die(data);
        assert_discarded(&gateway, 2.0).await;
    }
}

/// Nor is one between two pieces of data: a program that is told to end may say so while its data is still coming.
#[tokio::test(flavor = "multi_thread")]
async fn a_quit_in_the_middle_of_the_data_is_no_consent() {
    let gateway = Gateway::on(Store::folder());
    let (mut client, data) = sending(&gateway, "STOR a.bin\r\n", b"half of it").await;
    client.send("QUIT").await;
    tokio::time::sleep(A_PAUSE).await;
    client.die(data);
    assert_discarded(&gateway, 1.0).await;
}

/// Cisco's client sends `QUIT` with its `STOR`, and waits for the replies to both.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_quits_ahead_and_waits_has_its_file() {
    let gateway = Gateway::on(Store::folder());
    let (mut client, data) = sending(&gateway, "STOR a.cfg\r\nQUIT\r\n", b"hostname core1\n").await;
    close(data).await;
    client.expect_reply(226).await;
    client.expect_reply(221).await;
    gateway.wait_for(&transfers("complete"), 1.0).await;
    assert_eq!(gateway.store.object("a.cfg").unwrap(), b"hostname core1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_quits_after_its_data_and_hangs_up_has_its_file() {
    for store in Store::of_every_kind() {
        let gateway = Gateway::with(store, &[("upload.settle", "1m")]);
        let (mut client, data) = sending(&gateway, "STOR a.bin\r\n", b"all of it").await;
        close(data).await;
        client.send("QUIT").await;
        client.hang_up();
        gateway.wait_for(&transfers("quit_before_reply"), 1.0).await;
        assert_eq!(gateway.store.object("a.bin").unwrap(), b"all of it");
    }
}

/// Which came first is what the kernel says, however far behind the storage is: here by a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_quit_after_data_that_is_still_unread_is_consent() {
    let gateway = Gateway::with(Store::folder(), &[("limits.upload_rate", "48 KiB")]);
    let bytes = noise(48 * 1024 + 1);
    let (mut client, data) = sending(&gateway, "STOR a.bin\r\n", &bytes).await;
    close(data).await;
    client.send("QUIT").await;
    client.hang_up();
    gateway.wait_for(&transfers("quit_before_reply"), 1.0).await;
    assert!(gateway.store.object("a.bin").unwrap() == bytes);
}

/// With its size, the data itself tells that it is whole: the client may be gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_quit_ahead_of_data_of_the_announced_size_is_consent() {
    let gateway = Gateway::on(Store::folder());
    let mut stored = 0.0;
    for announced in ["9", "10"] {
        let command = format!("ALLO {announced}\r\nSTOR a.bin\r\nQUIT\r\n");
        let mut client = gateway.client().await;
        let mut data = client.open_data().await;
        client.send_raw(command.as_bytes()).await;
        client.expect_reply(200).await;
        client.expect_reply(150).await;
        client.hang_up();
        data.write_all(b"all of it").await.unwrap();
        close(data).await;
        if announced == "9" {
            stored += 1.0;
            gateway
                .wait_for(&transfers("quit_before_reply"), stored)
                .await;
        } else {
            gateway.wait_for(&transfers("control_lost"), 1.0).await;
        }
    }
    assert_eq!(gateway.store.object("a.bin").unwrap(), b"all of it");
}

/// The shortest of some uploads, from the end of the data to the reply. The shortest, because whatever else runs on
/// this machine makes some longer; what is waited for makes all of them longer.
async fn shortest(mut upload: impl AsyncFnMut() -> Duration) -> Duration {
    let mut shortest = Duration::MAX;
    for _ in 0..8 {
        shortest = shortest.min(upload().await);
    }
    shortest
}

async fn shortest_wait(client: &mut Client, before: &[(&str, u16)], bytes: &[u8]) -> Duration {
    shortest(async || {
        for (command, code) in before {
            client.expect(command, *code).await;
        }
        let mut data = client.open_data().await;
        client.expect("STOR a.bin", 150).await;
        data.write_all(bytes).await.unwrap();
        close(data).await;
        let since = Instant::now();
        client.expect_reply(226).await;
        since.elapsed()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_may_be_cut_off_is_waited_for_long() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    let client = &mut client;
    let wait = shortest_wait(client, &[], &noise(1000)).await;
    assert!(
        wait >= Duration::from_millis(10) && wait < LAST_BREATH,
        "{wait:?}"
    );
    for size in [0, 1024, 16_380] {
        let wait = shortest_wait(client, &[], &noise(size)).await;
        assert!(wait >= LAST_BREATH, "{size} bytes: {wait:?}");
    }
    let wait = shortest_wait(client, &[("TYPE A", 200)], &noise(1000)).await;
    assert!(wait >= LAST_BREATH, "text: {wait:?}");
    client.expect("TYPE I", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proven_end_is_not_waited_for() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    let announced = [("ALLO 1024", 200)];
    let wait = shortest_wait(&mut client, &announced, &noise(1024)).await;
    assert!(wait < LAST_BREATH, "{wait:?}");
    // It proves nothing that nothing came, of nothing.
    let wait = shortest_wait(&mut client, &[("ALLO 0", 200)], b"").await;
    assert!(wait >= LAST_BREATH, "{wait:?}");
    let wait = shortest_wait(&mut client, &[("ALLO 2048", 200)], &noise(1024)).await;
    assert!(wait >= LAST_BREATH, "{wait:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_tls_only_an_end_that_was_announced_is_proven() {
    let authority = Authority::new();
    let settings = [("tls.allow_unclean_close", "true")];
    let gateway = Gateway::encrypted(Store::folder(), &authority, &settings);
    let connector = authority.connector(Hello::default());
    let (client, _) = Client::connect(gateway.address()).await;
    let mut client = client.secure(&connector).await;
    client.login("ferry", "secret").await;
    client.protect_data().await;
    let bytes = noise(1024);
    let mut wait = async |says_so: bool| {
        shortest(async || {
            let mut data = client.begin_encrypted(&connector, "STOR a.bin").await;
            data.write_all(&bytes).await.unwrap();
            data.flush().await.unwrap();
            if says_so {
                data.shutdown().await.unwrap();
            } else {
                data.get_mut().0.shutdown().await.unwrap();
            }
            let since = Instant::now();
            client.expect_reply(226).await;
            since.elapsed()
        })
        .await
    };
    let (announced, not_announced) = (wait(true).await, wait(false).await);
    assert!(announced < LAST_BREATH, "{announced:?}");
    assert!(not_announced >= LAST_BREATH, "{not_announced:?}");
}

/// What is measured ends at the balancer.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_balancer_every_unproven_end_is_waited_for_long() {
    let gateway = Gateway::with(Store::folder(), &[("ftp.trusted_proxies", "127.0.0.9")]);
    let from = "127.0.0.9".parse().unwrap();
    let header = b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 21\r\n";
    let mut client = Client::connect_from(from, gateway.address()).await.unwrap();
    client.send_raw(header).await;
    client.expect_reply(220).await;
    client.login("ferry", "secret").await;
    let wait = shortest(async || {
        let address = client.epsv().await;
        let mut data = dial(Some(from), address).await.unwrap();
        data.write_all(header).await.unwrap();
        client.expect("STOR a.bin", 150).await;
        data.write_all(&noise(1000)).await.unwrap();
        data.shutdown().await.unwrap();
        let since = Instant::now();
        client.expect_reply(226).await;
        let wait = since.elapsed();
        assert_eq!(data.read(&mut [0]).await.unwrap(), 0);
        wait
    })
    .await;
    assert!(wait >= LAST_BREATH, "{wait:?}");
}

/// Whoever keeps the files of clients that are gone has nothing to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn keeping_all_waits_for_nothing() {
    let settings = [("upload.on_control_loss", "keep")];
    let gateway = Gateway::with(Store::folder(), &settings);
    let mut client = gateway.client().await;
    let wait = shortest_wait(&mut client, &[], &noise(1024)).await;
    assert!(wait < LAST_BREATH, "{wait:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_of_ones_own_holds_for_every_upload() {
    let gateway = Gateway::with(Store::folder(), &[("upload.settle", "150ms")]);
    let mut client = gateway.client().await;
    for before in [&[][..], &[("ALLO 1000", 200)]] {
        let wait = shortest_wait(&mut client, before, &noise(1000)).await;
        assert!(wait >= Duration::from_millis(150), "{wait:?}");
    }
    let gateway = Gateway::with(Store::folder(), &[("upload.settle", "0s")]);
    let mut client = gateway.client().await;
    let wait = shortest_wait(&mut client, &[], &noise(1024)).await;
    assert!(wait < LAST_BREATH, "{wait:?}");
}
