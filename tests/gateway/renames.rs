//! Renames of directories: whole, in little memory, and to be taken up again by whoever asks for the same.

use std::time::{Duration, Instant};

use doubles::Server;

use crate::support::ftp::Client;
use crate::support::process::Process;
use crate::support::{Gateway, MIB, Store, noise};

/// More than two pages.
const MANY: usize = 2500;

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_failed_is_taken_up_again() {
    let settings = [
        ("store.retry_timeout", "1ms"),
        ("upload.part_size", "5 MiB"),
    ];
    let gateway = Gateway::with(Store::s3(), &settings);
    let mut client = gateway.client().await;
    // A copy's tag is not its original's, as it was made of parts; its mark is.
    let large = noise(12 * MIB);
    assert_eq!(client.store("old/0000-large", &large).await.code, 226);
    fill(server(&gateway), "old/deep");
    client.expect("MKD old/empty", 257).await;
    break_off(&mut client, &gateway).await;
    let keys = gateway.store.keys();
    assert!(keys.iter().any(|key| key.starts_with("old/deep/")));
    assert!(keys.iter().any(|key| key.starts_with("new/deep/")));
    each_is_somewhere(server(&gateway), "old/deep", "new/deep");

    client.expect("MKD other", 257).await;
    rename(&mut client, "other", "new", 553).await;
    rename(&mut client, "old", "new", 250).await;
    assert!(gateway.store.object("new/0000-large").unwrap() == large);
    is_moved(server(&gateway), "old/deep", "new/deep");
    let keys = gateway.store.keys();
    assert!(!keys.iter().any(|key| key.starts_with("old")));
    assert!(!keys.contains(&"new/".to_owned()), "no note is left");
    assert!(keys.contains(&"new/empty/".to_owned()));

    // It has ended: another directory of the old name is another directory.
    assert_eq!(client.store("old/a.txt", b"x").await.code, 226);
    rename(&mut client, "old", "new", 553).await;
}

/// The process is killed in the midst of it, not asked to stop.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_was_killed_is_taken_up_again() {
    let store = Store::s3();
    let server = store.server();
    fill(server, "old");
    for _ in 0..2 {
        server.forget_requests();
        let process = Process::serve(&store, &[]).await;
        let mut client = Client::connect_as(process.address, "ferry", "secret").await;
        client.expect("RNFR old", 350).await;
        client.send("RNTO new").await;
        server.wait_for("CopyObject", 700).await;
        process.signal(rustix::process::Signal::KILL);
        process.ended().await;
        server.wait_until_abandoned().await;
        each_is_somewhere(server, "old", "new");
    }
    let process = Process::serve(&store, &[]).await;
    let mut client = Client::connect_as(process.address, "ferry", "secret").await;
    client.set_deadline(Duration::from_mins(1));
    rename(&mut client, "old", "new", 250).await;
    is_moved(server, "old", "new");
    assert_eq!(store.keys().len(), MANY);
}

/// A file that is uploaded into the old directory after it was copied is not deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_written_meanwhile_stays() {
    let gateway = Gateway::on(Store::s3());
    for index in 0..20 {
        gateway.store.put(&format!("old/{index}"), b"copied");
    }
    // While the delete waits, and, for stores that don't know its condition, before the last look.
    for waits in ["DeleteObjects", "CopyObject"] {
        let server = server(&gateway);
        let mut client = gateway.client().await;
        if waits == "CopyObject" {
            server.delete_anyway();
        }
        server.forget_requests();
        server.stall(waits, Duration::from_secs(20));
        client.expect("RNFR old", 350).await;
        client.send("RNTO new").await;
        server.wait_for(waits, 1).await;
        gateway.store.put("old/7", b"newer");
        server.heal();
        client.expect_reply(250).await;
        if waits == "DeleteObjects" {
            assert_eq!(gateway.store.keys()[0], "new/0");
            assert_eq!(gateway.store.object("new/7").unwrap(), b"copied");
        }
        assert_eq!(gateway.store.object("old/7").unwrap(), b"newer");
        // What has changed before it was copied is not copied.
        let copies = if waits == "CopyObject" { 19 } else { 20 };
        assert_eq!(gateway.store.keys().len(), copies + 1);
        rename(&mut client, "old/7", "seven", 250).await;
        rename(&mut client, "new", "old", 553).await;
        client.expect("RMD old", 250).await;
        rename(&mut client, "new", "old", 250).await;
        server.delete("seven");
    }
}

/// The same for a single file.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_file_that_is_written_meanwhile_stays() {
    let gateway = Gateway::on(Store::s3());
    gateway.store.put("old", b"copied");
    let server = server(&gateway);
    let mut client = gateway.client().await;
    server.stall("DeleteObject", Duration::from_secs(20));
    client.expect("RNFR old", 350).await;
    client.send("RNTO new").await;
    server.wait_for("DeleteObject", 1).await;
    gateway.store.put("old", b"newer");
    server.heal();
    client.expect_reply(250).await;
    assert_eq!(gateway.store.object("new").unwrap(), b"copied");
    assert_eq!(gateway.store.object("old").unwrap(), b"newer");
}

/// A store that does not take the condition of a delete gets it without, then and from then on.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_renamed_on_a_store_without_conditional_deletes() {
    for status in [400, 501] {
        let gateway = Gateway::on(Store::s3());
        let server = server(&gateway);
        let mut client = gateway.client().await;
        for (name, deletes) in [("first", 2), ("second", 1)] {
            gateway.store.put("old", name.as_bytes());
            server.forget_requests();
            if name == "first" {
                server.fail_next("DeleteObject", 1, status);
            }
            rename(&mut client, "old", name, 250).await;
            assert_eq!(server.count("DeleteObject"), deletes, "{status}");
        }
        assert_eq!(gateway.store.keys(), ["first", "second"]);
    }
}

/// A directory is what an unfinished rename has left only if both say so.
#[tokio::test(flavor = "multi_thread")]
async fn only_its_own_remains_may_be_there() {
    let gateway = Gateway::with(Store::s3(), &[("store.retry_timeout", "1ms")]);
    fill(server(&gateway), "old");
    gateway.store.put("taken/a.txt", b"x");
    let mut client = gateway.client().await;
    break_off(&mut client, &gateway).await;
    rename(&mut client, "old", "taken", 553).await;
    rename(&mut client, "new", "old", 553).await;
    client.expect("MKD fresh", 257).await;
    rename(&mut client, "fresh", "new", 553).await;
    server(&gateway).delete("new/");
    rename(&mut client, "old", "new", 553).await;
    // Another name is free, and then the first rename is over.
    rename(&mut client, "old", "else", 250).await;
    each_is_somewhere(server(&gateway), "else", "new");
}

/// Whoever asks again while the first rename runs is told so, and the first is not disturbed.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_rename_does_not_run_twice_at_once() {
    let gateway = Gateway::on(Store::s3());
    let server = server(&gateway);
    fill(server, "old");
    server.put("other/a.txt", "x");
    server.stall("DeleteObjects", Duration::from_secs(20));
    let (mut first, mut second) = (gateway.client().await, gateway.client().await);
    first.expect("RNFR old", 350).await;
    first.send("RNTO new").await;
    server.wait_for("DeleteObjects", 1).await;
    let reply = rename(&mut second, "old", "new", 450).await;
    assert!(reply.contains("under way"), "{reply}");
    rename(&mut second, "old", "elsewhere", 450).await;
    rename(&mut second, "other", "another", 250).await;
    server.heal();
    first.expect_reply(250).await;
    is_moved(server, "old", "new");
    assert_eq!(gateway.store.keys().len(), MANY + 1);
    rename(&mut second, "new", "old", 250).await;
}

/// A key may end with a slash and be no marker; what is in it must not be lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_place_of_a_marker_is_not_lost() {
    for place in ["old/", "old/sub/"] {
        for content in [noise(5), noise(MIB)] {
            let gateway = Gateway::on(Store::s3());
            gateway.store.put("old/a.txt", b"x");
            gateway.store.put(place, &content);
            let mut client = gateway.client().await;
            let reply = rename(&mut client, "old", "new", 553).await;
            assert!(reply.contains("ends with a slash"), "{reply}");
            assert!(gateway.store.object(place).unwrap() == content);
            let keys = gateway.store.keys();
            assert!(!keys.iter().any(|key| key.starts_with("new")), "{keys:?}");
        }
    }
}

/// The same of what another program writes there while we are at it.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_the_place_of_a_marker_meanwhile_is_not_lost() {
    for (command, waits, places, code) in [
        ("RMD d", "DeleteObject", &["d/"] as &[_], 450),
        ("RNTO new", "PutObject", &["d/"], 450),
        ("RNTO new", "PutObject", &["new/"], 553),
        ("RNTO new", "CopyObject", &["d/", "new/"], 250),
    ] {
        let gateway = Gateway::on(Store::s3());
        let server = server(&gateway);
        let mut client = gateway.client().await;
        client.expect("MKD d", 257).await;
        if command != "RMD d" {
            gateway.store.put("d/a.txt", b"x");
            client.expect("RNFR d", 350).await;
        }
        server.forget_requests();
        server.stall(waits, Duration::from_secs(20));
        client.send(command).await;
        server.wait_for(waits, 1).await;
        for place in places {
            gateway.store.put(place, b"an invoice");
        }
        server.heal();
        client.expect_reply(code).await;
        for key in gateway.store.keys() {
            let note = server.metadata(&key, "ferryrename");
            // Some stores keep a note that nothing takes the place of.
            let is_over = note.as_deref().is_none_or(|note| note == "over");
            assert!(is_over, "{command} {waits} {key}: {note:?}");
        }
        for place in places {
            let found = gateway.store.object(place);
            assert_eq!(
                found.as_deref(),
                Some(&b"an invoice"[..]),
                "{command} {waits}"
            );
        }
    }
}

/// A directory whose marker's key has content is looked at, however large that is, and not read.
#[tokio::test(flavor = "multi_thread")]
async fn a_huge_marker_is_not_read_whole() {
    let gateway = Gateway::on(Store::s3());
    gateway.store.put("old/a.txt", b"x");
    gateway.store.put("new/", &noise(64 * MIB));
    server(&gateway).limit_answers(MIB as u64);
    let mut client = gateway.client().await;
    let began = Instant::now();
    rename(&mut client, "old", "new", 553).await;
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// What others put at the new name before the rename is taken up again is theirs.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_in_the_way_is_not_replaced() {
    let gateway = Gateway::with(Store::s3(), &[("store.retry_timeout", "1ms")]);
    fill(server(&gateway), "old");
    let mut client = gateway.client().await;
    break_off(&mut client, &gateway).await;
    let last = name(MANY - 1);
    assert_eq!(
        client.store(&format!("new/{last}"), b"mine").await.code,
        226
    );
    let reply = rename(&mut client, "old", "new", 553).await;
    assert!(reply.contains("but for 1"), "{reply}");
    assert_eq!(
        gateway.store.object(&format!("new/{last}")).unwrap(),
        b"mine"
    );
    assert_eq!(
        gateway.store.object(&format!("old/{last}")).unwrap(),
        last.as_bytes()
    );
    client.expect(&format!("DELE new/{last}"), 250).await;
    rename(&mut client, "old", "new", 250).await;
    is_moved(server(&gateway), "old", "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_files_take_little_memory() {
    rename_in_little_memory(10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; .ci/run asks for it"]
async fn a_hundred_thousand_files_take_little_memory() {
    rename_in_little_memory(100_000).await;
}

/// S3 copies 5 GiB at once; more goes in parts, and keeps its content type.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; .ci/run asks for it"]
async fn a_file_of_more_than_five_gib_is_renamed() {
    let gateway = Gateway::on(Store::s3());
    let (chunk, times) = (noise(64 * MIB), 81);
    let s3 = gateway.store.server();
    s3.put_repeated("old.mp4", chunk.clone().into(), times, "video/mp4");
    let mut client = gateway.client().await;
    client.set_deadline(Duration::from_mins(10));
    client.expect("RNFR old.mp4", 350).await;
    client.expect("RNTO new.mp4", 250).await;
    assert_eq!(gateway.store.keys(), ["new.mp4"]);
    assert_eq!(s3.size("new.mp4"), Some((chunk.len() * times) as u64));
    assert_eq!(s3.content_type("new.mp4").as_deref(), Some("video/mp4"));
    assert_eq!(s3.count("UploadPartCopy"), 40);
    let start = chunk.len() * (times - 1);
    client.expect(&format!("REST {start}"), 350).await;
    assert!(client.retrieve("new.mp4").await.0 == chunk);
    gateway.store.assert_no_leftovers();
}

/// Memory for a page of files, however many there are.
async fn rename_in_little_memory(files: usize) {
    for store in Store::each() {
        for index in 0..files {
            store.put(&format!("old/{}/{index:06}", index % 10), b"");
        }
        let process = Process::serve(&store, &[]).await;
        let mut client = Client::connect_as(process.address, "ferry", "secret").await;
        client.set_deadline(Duration::from_mins(10));
        client.expect("RNFR old", 350).await;
        let before = process.anonymous_memory();
        client.send("RNTO new").await;
        let mut most = before;
        let reply = loop {
            let waited = tokio::time::timeout(Duration::from_millis(50), client.reply()).await;
            most = most.max(process.anonymous_memory());
            if let Ok(reply) = waited {
                break reply;
            }
        };
        assert_eq!(reply.code, 250, "{}", reply.text());
        println!("{files} files: {} KiB more", (most - before) / 1024);
        assert!(
            most - before < 32 * MIB,
            "{} MiB more",
            (most - before) / MIB
        );
        let keys = store.keys();
        assert_eq!(keys.len(), files);
        assert!(keys.iter().all(|key| key.starts_with("new/")));
    }
}

/// Lets a rename of `old` to `new` fail when it is under way.
async fn break_off(client: &mut Client, gateway: &Gateway) {
    let server = server(gateway);
    server.forget_requests();
    client.expect("RNFR old", 350).await;
    client.send("RNTO new").await;
    server.wait_for("CopyObject", 1200).await;
    server.fail_next("CopyObject", usize::MAX, 500);
    client.expect_reply(451).await;
    server.heal();
    server.wait_until_idle().await;
}

fn name(index: usize) -> String {
    format!("{index:05}.txt")
}

/// Files whose content is their name.
fn fill(server: &Server, directory: &str) {
    for index in 0..MANY {
        server.put(
            &format!("{directory}/{}", name(index)),
            name(index).into_bytes(),
        );
    }
}

fn each_is_somewhere(server: &Server, old: &str, new: &str) {
    for index in 0..MANY {
        let at = |directory| server.object(&format!("{directory}/{}", name(index)));
        let found = at(old).or_else(|| at(new)).expect("it is lost");
        assert_eq!(found, name(index));
    }
}

fn is_moved(server: &Server, old: &str, new: &str) {
    for index in 0..MANY {
        let at = |directory| server.object(&format!("{directory}/{}", name(index)));
        assert_eq!(at(new).expect("it is lost"), name(index));
        assert!(at(old).is_none());
    }
}

fn server(gateway: &Gateway) -> &Server {
    gateway.store.server()
}

async fn rename(client: &mut Client, from: &str, to: &str, code: u16) -> String {
    client.expect(&format!("RNFR {from}"), 350).await;
    client.expect(&format!("RNTO {to}"), code).await.text()
}
