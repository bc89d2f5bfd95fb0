//! Notes of uploads where the store fails, or where several gateways have had one upload: whoever has it now is not harmed
//! by those that had it.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::resume::{PARTS, cut_off, has_arrived};
use crate::resume_elsewhere::{begin, go_on, notes, size};
use crate::support::ftp::{Client, reset};
use crate::support::{Gateway, MIB, Store, eventually, noise};

/// Keeps an upload for so short a time that a test can wait for its end.
const SHORT: [(&str, &str); 2] = [("upload.resume_window", "3s"), PARTS[1]];

/// Goes on with an upload, and sends nothing yet.
async fn claim(client: &mut Client) -> (TcpStream, usize) {
    let at = size(client).await;
    client.expect(&format!("REST {at}"), 350).await;
    let (data, reply) = client.begin("STOR a.bin").await;
    assert_eq!(reply.code, 150);
    (data, at)
}

/// Sends the rest, and has the whole file published.
async fn finish(store: &Store, client: &mut Client, mut data: TcpStream, at: usize, whole: &[u8]) {
    data.write_all(&whole[at..]).await.unwrap();
    drop(data);
    let reply = client.reply().await;
    assert_eq!(reply.code, 226, "{reply:?}");
    assert!(store.object("a.bin").unwrap() == whole);
}

/// A policy that denies deletions leaves no note that says anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_cant_be_deleted_is_nobodys() {
    let store = Store::s3();
    let one = Gateway::with(store.clone(), &PARTS);
    let other = Gateway::with(store.clone(), &PARTS);
    let whole = noise(40 * MIB);
    store.server().fail_next("DeleteObject", usize::MAX, 403);
    let mut client = one.client().await;
    let (data, sent) = begin(&store, &mut client, &whole).await;
    finish(&store, &mut client, data, sent, &whole).await;
    assert_eq!(notes(&store).len(), 1);
    store.server().delete("a.bin");
    other.client().await.expect("SIZE a.bin", 550).await;
    // It is in nobody's way.
    cut_off(&one, "STOR a.bin", &whole[..6 * MIB]).await;
    one.client().await.expect("SIZE a.bin", 213).await;
    let mut client = other.client().await;
    let at = size(&mut client).await;
    assert_eq!(go_on(&mut client, at, &whole[at..]).await.code, 226);
}

/// While others can go on with it, nothing is published.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_note_stays_is_not_published() {
    let store = Store::s3();
    let one = Gateway::with(store.clone(), &PARTS);
    let whole = noise(40 * MIB);
    let mut client = one.client().await;
    let (mut data, sent) = begin(&store, &mut client, &whole).await;
    for operation in ["DeleteObject", "PutObject"] {
        store.server().fail_next(operation, usize::MAX, 403);
    }
    data.write_all(&whole[sent..]).await.unwrap();
    drop(data);
    client.expect_reply(451).await;
    assert_eq!(store.object("a.bin"), None);
    store.server().heal();
    let at = size(&mut client).await;
    assert_eq!(go_on(&mut client, at, &whole[at..]).await.code, 226);
    assert!(store.object("a.bin").unwrap() == whole);
    store.assert_no_leftovers();
}

/// The time of one that had it ends. It finds another's note, or none, or is not allowed to remove it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_over_is_not_discarded_by_the_one_that_had_it() {
    let go = async |is_denied: bool, is_displaced: bool| {
        let store = Store::s3();
        let one = Gateway::with(store.clone(), &SHORT);
        let other = Gateway::with(store.clone(), &PARTS);
        let whole = noise(13 * MIB);
        cut_off(&one, "STOR a.bin", &whole[..=6 * MIB]).await;
        one.client().await.expect("SIZE a.bin", 213).await;
        let mut client = other.client().await;
        let (data, at) = claim(&mut client).await;
        let server = store.server();
        if is_denied {
            server.fail_next("DeleteObject", usize::MAX, 403);
        }
        if is_displaced {
            // As a new upload of the name does.
            server.delete(&notes(&store)[0]);
        }
        eventually("its time ends", || server.count("DeleteObject") > 0).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(server.count("AbortMultipartUpload"), 0);
        finish(&store, &mut client, data, at, &whole).await;
    };
    tokio::join!(go(false, false), go(false, true), go(true, false));
}

/// One that is late has less in its part than the one that has the upload now, and the same number for it.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_had_an_upload_sends_no_part_of_it() {
    let go = async |is_lost: bool| {
        let settings = [PARTS[0], ("upload.part_size", "8 MiB")];
        let store = Store::s3();
        let one = Gateway::with(store.clone(), &settings);
        let other = Gateway::with(store.clone(), &settings);
        let whole = noise(60 * MIB);
        let mut first = one.client().await;
        let (mut data, sent) = begin(&store, &mut first, &whole).await;
        let stalled = sent.next_multiple_of(8 * MIB) + 6 * MIB;
        data.write_all(&whole[sent..stalled]).await.unwrap();
        has_arrived(&mut first, stalled).await;
        let mut second = other.client().await;
        let (mut own_data, at) = claim(&mut second).await;
        let more = stalled + 4 * MIB;
        own_data.write_all(&whole[at..more]).await.unwrap();
        has_arrived(&mut second, more - at).await;
        let parts = stalled / (8 * MIB) + (more - at) / (8 * MIB);
        let server = store.server();
        server.wait_for("UploadPart", parts).await;
        if is_lost {
            reset(data);
            first.expect_reply(426).await;
            first.expect("SIZE a.bin", 213).await;
        } else {
            drop(data);
            first.expect_reply(450).await;
        }
        assert_eq!(server.count("UploadPart"), parts);
        finish(&store, &mut second, own_data, more, &whole).await;
        store.assert_no_leftovers();
    };
    tokio::join!(go(true), go(false));
}

/// A new file of the name removes the note of one that runs. It is lost later, and has nothing to keep.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_has_lost_its_note_is_not_kept() {
    let store = Store::s3();
    let one = Gateway::with(store.clone(), &PARTS);
    let whole = noise(40 * MIB);
    let mut client = one.client().await;
    let (data, _) = begin(&store, &mut client, &whole).await;
    store.server().delete(&notes(&store)[0]);
    reset(data);
    client.expect_reply(426).await;
    client.expect("SIZE a.bin", 550).await;
    assert_eq!(store.server().count("AbortMultipartUpload"), 0);
}

/// Nobody else has had it: the mark says whose the object is.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_told_is_not_read_back() {
    let store = Store::s3();
    let one = Gateway::with(store.clone(), &PARTS);
    let whole = noise(40 * MIB);
    let mut client = one.client().await;
    let (data, sent) = begin(&store, &mut client, &whole).await;
    let server = store.server();
    server.lose_next_answer("CompleteMultipartUpload", 1);
    finish(&store, &mut client, data, sent, &whole).await;
    let requests = server.requests();
    let is_read = |line: &&String| line.starts_with("GetObject") && line.contains("a.bin");
    assert_eq!(requests.iter().find(is_read), None);
}

/// The file is there. What was kept of its name is discarded later, and what has begun since is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_does_not_wait_for_what_was_kept() {
    let store = Store::s3();
    let one = Gateway::with(store.clone(), &PARTS);
    let other = Gateway::with(store.clone(), &PARTS);
    let server = store.server();
    server.stall("GetObject", Duration::from_hours(1));
    let (began, mut client) = (Instant::now(), one.client().await);
    assert_eq!(client.store("a.bin", b"old").await.code, 226);
    assert!(began.elapsed() < Duration::from_secs(5));
    client.expect("DELE a.bin", 250).await;
    cut_off(&other, "STOR a.bin", &noise(6 * MIB)).await;
    eventually("it is kept", || notes(&store).len() == 1).await;
    server.heal();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(notes(&store).len(), 1);
    assert_eq!(size(&mut client).await, 6 * MIB - 1);
}

/// The store takes no notes for a while: an upload waits for one no longer than for others.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_does_not_wait_for_its_note() {
    let store = Store::s3();
    let one = Gateway::with(store.clone(), &PARTS);
    let whole = noise(40 * MIB);
    let mut client = one.client().await;
    let (mut data, mut sent) = begin(&store, &mut client, &whole).await;
    let server = store.server();
    server.stall("PutObject", Duration::from_hours(1));
    while server.count("PutObject") < 2 {
        data.write_all(&whole[sent..sent + MIB / 4]).await.unwrap();
        sent += MIB / 4;
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    let began = Instant::now();
    finish(&store, &mut client, data, sent, &whole).await;
    assert!(began.elapsed() < Duration::from_secs(8));
    server.heal();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(notes(&store), [""; 0]);
}

/// One note can't be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_cant_be_read_keeps_no_other_from_being_swept() {
    let store = Store::s3();
    let settings = [("upload.resume_window", "1s"), PARTS[1]];
    let one = Gateway::with(store.clone(), &settings);
    for name in ["a.bin", "b.bin"] {
        cut_off(&one, &format!("STOR {name}"), &noise(6 * MIB)).await;
        let size = format!("SIZE {name}");
        one.client().await.expect(&size, 213).await;
    }
    let kept = notes(&store);
    one.stop().await;
    if kept.len() < 2 || notes(&store).len() < 2 {
        // Its time was over before the gateway ended.
        return;
    }
    tokio::time::sleep(Duration::from_millis(3500)).await;
    store.server().fail_next("GetObject", 1, 403);
    let _other = Gateway::with(store.clone(), &settings);
    eventually("one is swept", || notes(&store).len() == 1).await;
}

/// The sweep tells parts by the age of their upload, whoever has gone on with it since.
#[tokio::test(flavor = "multi_thread")]
async fn what_will_be_swept_soon_is_not_gone_on_with() {
    let settings = [SHORT[0], PARTS[1], ("upload.sweep_after", "5s")];
    let store = Store::s3();
    let one = Gateway::with(store.clone(), &settings);
    let other = Gateway::with(store.clone(), &settings);
    cut_off(&one, "STOR a.bin", &noise(6 * MIB)).await;
    let mut client = other.client().await;
    one.client().await.expect("SIZE a.bin", 213).await;
    client.expect("SIZE a.bin", 213).await;
    tokio::time::sleep(Duration::from_millis(2200)).await;
    assert_eq!(notes(&store).len(), 1);
    client.expect("SIZE a.bin", 550).await;
    one.client().await.expect("SIZE a.bin", 550).await;
}

/// A look at the name fails once.
#[tokio::test(flavor = "multi_thread")]
async fn others_are_told_although_the_store_has_failed_once() {
    let store = Store::s3();
    let one = Gateway::with(store.clone(), &PARTS);
    let mut client = one.client().await;
    store.server().fail_next("HeadObject", 1, 400);
    let (_data, _) = begin(&store, &mut client, &noise(40 * MIB)).await;
    assert_eq!(store.server().count("HeadObject"), 2);
}
