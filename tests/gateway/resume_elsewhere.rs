//! Uploads that were cut off at one gateway and go on at another: by a note in the bucket, which has one owner.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::resume::{PARTS, cut_off, has_arrived};
use crate::support::ftp::{Client, Reply, reset};
use crate::support::process::Process;
use crate::support::{Gateway, MIB, Store, eventually, noise};

/// What the reply tells of all bytes.
fn checksum(reply: &Reply) -> String {
    let text = reply.text();
    let at = text.find("crc64nvme").unwrap_or_else(|| panic!("{text}"));
    text[at..].to_owned()
}

/// Sends slowly until other gateways are told of the upload. How many bytes were sent.
async fn send_until_told(store: &Store, data: &mut TcpStream, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while notes(store).is_empty() {
        assert!(sent < bytes.len(), "others are told nothing");
        let chunk = &bytes[sent..sent + 256 * 1024];
        data.write_all(chunk).await.unwrap();
        sent += chunk.len();
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    sent
}

/// Begins an upload that others are told of while it runs.
pub(crate) async fn begin(store: &Store, client: &mut Client, bytes: &[u8]) -> (TcpStream, usize) {
    let mut data = client.open_data().await;
    client.expect("STOR a.bin", 150).await;
    let sent = send_until_told(store, &mut data, bytes).await;
    (data, sent)
}

/// How much is kept, as the client is told.
pub(crate) async fn size(client: &mut Client) -> usize {
    let reply = client.expect("SIZE a.bin", 213).await;
    reply.text()[4..].parse().unwrap()
}

/// Sends the rest. The reply.
pub(crate) async fn go_on(client: &mut Client, at: usize, rest: &[u8]) -> Reply {
    client.expect(&format!("REST {at}"), 350).await;
    client.upload("STOR a.bin", rest).await
}

/// Google puts together only what has one class. Elsewhere too it was asked for when the upload began.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_at_a_gateway_with_another_storage_class() {
    for (store, class) in [
        (Store::s3(), "STANDARD_IA"),
        (Store::google(), "NEARLINE"),
        (Store::azure(), "Cool"),
    ] {
        let class_of_one = ("upload.storage_class", class);
        let wanted: Vec<_> = PARTS.into_iter().chain([class_of_one]).collect();
        let with = Gateway::with(store.clone(), &wanted);
        let without = Gateway::with(store.clone(), &PARTS);
        for (one, other) in [(&with, &without), (&without, &with)] {
            let (whole, at) = (noise(20 * MIB), 13 * MIB + 5);
            cut_off(one, "STOR a.bin", &whole[..at]).await;
            one.client().await.expect("SIZE a.bin", 213).await;
            let mut client = other.client().await;
            client.expect("SIZE a.bin", 213).await;
            client.expect(&format!("REST {}", at - 1), 350).await;
            let reply = client.upload("STOR a.bin", &whole[at - 1..]).await;
            assert_eq!(reply.code, 226, "{class}: {}", reply.text());
            assert!(store.object("a.bin").unwrap() == whole);
            client.expect("DELE a.bin", 250).await;
        }
    }
}

/// What tells other gateways of it, and holds what is in no part.
pub(crate) fn notes(store: &Store) -> Vec<String> {
    let keys = store.keys().into_iter();
    keys.filter(|key| key.contains(".bucketferry/unfinished/"))
        .collect()
}

/// The other has ended, or runs still.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_cut_off_goes_on_at_another_gateway() {
    for (store, ends) in [
        (Store::s3(), true),
        (Store::s3(), false),
        (Store::google(), true),
        (Store::azure(), true),
    ] {
        let one = Gateway::with(store.clone(), &PARTS);
        let other = Gateway::with(store.clone(), &PARTS);
        for at in [70_000, 13 * MIB + 5] {
            let whole = noise(20 * MIB);
            cut_off(&one, "STOR a.bin", &whole[..at]).await;
            one.client().await.expect("SIZE a.bin", 213).await;
            let mut client = other.client().await;
            let size = client.expect("SIZE a.bin", 213).await;
            assert_eq!(size.text(), format!("213 {}", at - 1));
            let before = store.server().received();
            client.expect(&format!("REST {}", at - 1), 350).await;
            let reply = client.upload("STOR a.bin", &whole[at - 1..]).await;
            assert_eq!(reply.code, 226, "{reply:?}");
            assert!(store.object("a.bin").unwrap() == whole, "{at}");
            let sent = store.server().received() - before;
            let rest = whole.len() - at;
            assert!(sent < (rest + 6 * MIB) as u64, "{sent} instead of {rest}");
            let direct = client.store("direct.bin", &whole).await;
            assert_eq!(checksum(&reply), checksum(&direct));
            client.expect("DELE direct.bin", 250).await;
            // It is nobody's any more.
            client.expect("DELE a.bin", 250).await;
            let mut first = one.client().await;
            first.expect("SIZE a.bin", 550).await;
            first.expect(&format!("REST {}", at - 1), 350).await;
            let (_, reply) = first.begin("STOR a.bin").await;
            assert_eq!(reply.code, 554);
            store.assert_no_leftovers();
        }
        if ends {
            let whole = noise(20 * MIB);
            cut_off(&one, "STOR b.bin", &whole[..=12 * MIB]).await;
            one.client().await.expect("SIZE b.bin", 213).await;
            one.stop().await;
            let mut client = other.client().await;
            client.expect("SIZE b.bin", 213).await;
            let reply = client.upload("APPE b.bin", &whole[12 * MIB..]).await;
            assert_eq!(reply.code, 226, "{reply:?}");
            assert!(store.object("b.bin").unwrap() == whole);
            store.assert_no_leftovers();
        }
    }
}

/// Two devices share a user. A new file of the name is nobody's old one.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_elsewhere_is_gone_on_with_by_its_own_client_alone() {
    let store = Store::s3();
    let one = Gateway::with(store.clone(), &PARTS);
    let other = Gateway::with(store.clone(), &PARTS);
    cut_off(&one, "STOR a.bin", &noise(12 * MIB + 1)).await;
    one.client().await.expect("SIZE a.bin", 213).await;
    let stranger = "127.0.0.2".parse().unwrap();
    for gateway in [&one, &other] {
        let address = gateway.address();
        let mut client = Client::connect_from(stranger, address).await.unwrap();
        assert_eq!(client.reply().await.code, 220);
        assert_eq!(client.login("ferry", "secret").await.code, 230);
        client.expect("SIZE a.bin", 550).await;
    }
    assert_eq!(notes(&store).len(), 1);
    // It begins anew, and is discarded everywhere.
    let mut client = other.client().await;
    assert_eq!(client.store("a.bin", b"new").await.code, 226);
    client.expect("DELE a.bin", 250).await;
    for gateway in [&one, &other] {
        gateway.client().await.expect("SIZE a.bin", 550).await;
    }
    one.stop().await;
    other.stop().await;
    store.assert_no_leftovers();
}

/// Of two that go on with it at once, one does.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_elsewhere_is_gone_on_with_once() {
    for store in [Store::s3(), Store::google(), Store::azure()] {
        let one = Gateway::with(store.clone(), &PARTS);
        let others = [(); 2].map(|()| Gateway::with(store.clone(), &PARTS));
        let whole = noise(13 * MIB);
        cut_off(&one, "STOR a.bin", &whole[..=6 * MIB]).await;
        one.client().await.expect("SIZE a.bin", 213).await;
        let go_on = async |gateway: &Gateway| {
            let mut client = gateway.client().await;
            client.expect("SIZE a.bin", 213).await;
            client.expect(&format!("REST {}", 6 * MIB), 350).await;
            let (mut data, reply) = client.begin("STOR a.bin").await;
            if reply.code != 150 {
                return reply.code;
            }
            let rest = &whole[6 * MIB..];
            tokio::io::AsyncWriteExt::write_all(&mut data, rest)
                .await
                .unwrap();
            drop(data);
            client.reply().await.code
        };
        let (a, b) = tokio::join!(go_on(&others[0]), go_on(&others[1]));
        let mut codes = [a, b];
        codes.sort_unstable();
        assert_eq!(codes[0], 226, "{codes:?}");
        assert!(codes[1] > 400, "{codes:?}");
        assert!(store.object("a.bin").unwrap() == whole);
        store.assert_no_leftovers();
    }
}

/// Nobody comes back, and the gateway that has kept it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_gateway_has_kept_is_swept() {
    let store = Store::s3();
    let settings = [("upload.resume_window", "1s"), PARTS[1]];
    let one = Gateway::with(store.clone(), &settings);
    cut_off(&one, "STOR a.bin", &noise(12 * MIB + 1)).await;
    one.client().await.expect("SIZE a.bin", 213).await;
    one.stop().await;
    assert_eq!(notes(&store).len(), 1);
    assert_eq!(store.server().open_uploads().len(), 1);
    tokio::time::sleep(std::time::Duration::from_millis(3500)).await;
    // The sweep runs at the start.
    let _other = Gateway::with(store.clone(), &settings);
    eventually("it is swept", || notes(&store).is_empty()).await;
    eventually("its parts are", || store.server().open_uploads().is_empty()).await;
}

/// A killed process has discarded nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_its_gateway_was_killed() {
    let store = Store::s3();
    let killed = Process::serve(&store, &PARTS).await;
    let other = Gateway::with(store.clone(), &PARTS);
    let whole = noise(20 * MIB);
    let mut client = Client::connect_as(killed.address, "ferry", "secret").await;
    let mut data = client.open_data().await;
    client.expect("STOR a.bin", 150).await;
    let sent = &whole[..12 * MIB];
    tokio::io::AsyncWriteExt::write_all(&mut data, sent)
        .await
        .unwrap();
    has_arrived(&mut client, sent.len()).await;
    reset(data);
    client.expect_reply(426).await;
    client.expect("SIZE a.bin", 213).await;
    killed.signal(rustix::process::Signal::KILL);
    killed.ended().await;
    let mut client = other.client().await;
    let at = 12 * MIB - 1;
    let size = client.expect("SIZE a.bin", 213).await;
    assert_eq!(size.text(), format!("213 {at}"));
    client.expect(&format!("REST {at}"), 350).await;
    assert_eq!(client.upload("STOR a.bin", &whole[at..]).await.code, 226);
    assert!(store.object("a.bin").unwrap() == whole);
    store.assert_no_leftovers();
}

/// In the middle of an upload: what other gateways are told is what the store has.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_its_gateway_was_killed_while_it_ran() {
    let go = async |store: Store| {
        let killed = Process::serve(&store, &PARTS).await;
        let whole = noise(40 * MIB);
        let mut client = Client::connect_as(killed.address, "ferry", "secret").await;
        let (_data, sent) = begin(&store, &mut client, &whole).await;
        killed.signal(rustix::process::Signal::KILL);
        killed.ended().await;
        let other = Gateway::with(store.clone(), &PARTS);
        let mut client = other.client().await;
        let at = size(&mut client).await;
        assert!(
            at > 0 && at.is_multiple_of(5 * MIB) && at < sent,
            "{at} of {sent}"
        );
        let before = store.server().received();
        let reply = go_on(&mut client, at, &whole[at..]).await;
        assert_eq!(reply.code, 226, "{reply:?}");
        let received = store.server().received() - before;
        assert!(received < (whole.len() - at + MIB) as u64, "{received}");
        assert!(store.object("a.bin").unwrap() == whole);
        let direct = client.store("direct.bin", &whole).await;
        assert_eq!(checksum(&reply), checksum(&direct));
        store.assert_no_leftovers();
        assert_eq!(notes(&store), [""; 0]);
    };
    tokio::join!(go(Store::s3()), go(Store::google()), go(Store::azure()));
}

/// A client that has sent all, and finds as much kept, would think that its file is there. And what the store has not
/// confirmed is not safe.
#[tokio::test(flavor = "multi_thread")]
async fn others_are_told_only_of_what_is_safe_and_not_all() {
    let send = async |client: &mut Client, bytes: &[u8]| {
        let mut data = client.open_data().await;
        client.expect("STOR a.bin", 150).await;
        for chunk in bytes.chunks(256 * 1024) {
            data.write_all(chunk).await.unwrap();
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        has_arrived(client, bytes.len()).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        data
    };
    let whole = noise(15 * MIB);
    let all_sent = async {
        let store = Store::s3();
        let gateway = Gateway::with(store.clone(), &PARTS);
        let mut client = gateway.client().await;
        let mut data = client.open_data().await;
        client.expect("STOR a.bin", 150).await;
        data.write_all(&whole[..4 * MIB]).await.unwrap();
        // Others are told of a part that goes up now.
        tokio::time::sleep(Duration::from_millis(2200)).await;
        data.write_all(&whole[4 * MIB..5 * MIB]).await.unwrap();
        let server = store.server();
        server.wait_for("UploadPart", 1).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(data);
        client.expect_reply(226).await;
        assert_eq!(server.count("PutObject"), 0, "{:#?}", server.requests());
    };
    let unconfirmed = async {
        let store = Store::s3();
        let gateway = Gateway::with(store.clone(), &PARTS);
        let mut client = gateway.client().await;
        store.server().stall("UploadPart", Duration::from_hours(1));
        let _data = send(&mut client, &whole).await;
        assert_eq!(notes(&store), [""; 0]);
        store.server().heal();
    };
    tokio::join!(all_sent, unconfirmed);
}

/// Its client is back before its gateway knows that it was lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_taken_over_is_not_published_by_the_one_that_had_it() {
    let go = async |store: Store, goes_on: bool| {
        let one = Gateway::with(store.clone(), &PARTS);
        let other = Gateway::with(store.clone(), &PARTS);
        let whole = noise(40 * MIB);
        let mut first = one.client().await;
        let (mut data, sent) = begin(&store, &mut first, &whole).await;
        let mut second = other.client().await;
        let at = size(&mut second).await;
        let own = [&whole[..at], &noise(9 * MIB)[1..]].concat();
        second.expect(&format!("REST {at}"), 350).await;
        let (mut own_data, reply) = second.begin("STOR a.bin").await;
        assert_eq!(reply.code, 150);
        if goes_on {
            // It finds out as soon as it wants to tell how far it is.
            for chunk in whole[sent..].chunks(MIB) {
                if data.write_all(chunk).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
        }
        drop(data);
        first.expect_reply(450).await;
        own_data.write_all(&own[at..]).await.unwrap();
        drop(own_data);
        second.expect_reply(226).await;
        assert!(store.object("a.bin").unwrap() == own);
        store.assert_no_leftovers();
        assert_eq!(notes(&store), [""; 0]);
    };
    tokio::join!(
        go(Store::s3(), true),
        go(Store::s3(), false),
        go(Store::google(), false),
        go(Store::azure(), false),
    );
}

/// Two uploads to one name, at two gateways: the later one stays, as ever.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_runs_is_not_harmed_by_another_of_its_name() {
    let store = Store::s3();
    let one = Gateway::with(store.clone(), &PARTS);
    let other = Gateway::with(store.clone(), &PARTS);
    let whole = noise(40 * MIB);
    let mut first = one.client().await;
    let (mut data, sent) = begin(&store, &mut first, &whole).await;
    let mut second = other.client().await;
    assert_eq!(second.store("a.bin", b"new").await.code, 226);
    assert_eq!(notes(&store), [""; 0]);
    data.write_all(&whole[sent..]).await.unwrap();
    drop(data);
    first.expect_reply(226).await;
    assert!(store.object("a.bin").unwrap() == whole);
    store.assert_no_leftovers();
    assert_eq!(notes(&store), [""; 0]);
}

/// The end of a gateway loses no more than its death.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_ends_leaves_what_runs_to_others() {
    let store = Store::s3();
    let settings = [PARTS[0], PARTS[1], ("shutdown.grace", "100ms")];
    let one = Gateway::with(store.clone(), &settings);
    let whole = noise(20 * MIB);
    let mut client = one.client().await;
    let mut data = client.open_data().await;
    client.expect("STOR a.bin", 150).await;
    data.write_all(&whole[..12 * MIB]).await.unwrap();
    has_arrived(&mut client, 12 * MIB).await;
    one.shutdown.begin();
    one.inner.finished().await.unwrap();
    let other = Gateway::with(store.clone(), &PARTS);
    let mut client = other.client().await;
    let at = size(&mut client).await;
    assert_eq!(at, 12 * MIB - 1);
    assert_eq!(go_on(&mut client, at, &whole[at..]).await.code, 226);
    assert!(store.object("a.bin").unwrap() == whole);
    store.assert_no_leftovers();
}

/// Answers of the store are lost: the note's own, and that of the completion.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_elsewhere_although_answers_are_lost() {
    // Google's completion makes no object yet.
    for (store, completion) in [
        (Store::s3(), "CompleteMultipartUpload"),
        (Store::google(), "DeleteObject"),
        (Store::azure(), "CompleteMultipartUpload"),
    ] {
        let one = Gateway::with(store.clone(), &PARTS);
        let other = Gateway::with(store.clone(), &PARTS);
        let whole = noise(13 * MIB);
        let server = store.server();
        server.lose_next_answer("PutObject", 1);
        cut_off(&one, "STOR a.bin", &whole[..=6 * MIB]).await;
        one.client().await.expect("SIZE a.bin", 213).await;
        let mut client = other.client().await;
        let at = size(&mut client).await;
        assert_eq!(at, 6 * MIB);
        server.lose_next_answer("PutObject", 1);
        server.lose_next_answer("DeleteObject", 1);
        server.lose_next_answer(completion, 1);
        let reply = go_on(&mut client, at, &whole[at..]).await;
        assert_eq!(reply.code, 226, "{reply:?}, {:#?}", server.requests());
        assert!(store.object("a.bin").unwrap() == whole);
        server.heal();
        client.expect("DELE a.bin", 250).await;
        one.client().await.expect("SIZE a.bin", 550).await;
        assert_eq!(notes(&store), [""; 0]);
        store.assert_no_leftovers();
    }
}

/// Whoever has gone on with an upload gives its object the same mark: it says nothing of whose bytes are there.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_another_that_went_on_is_not_taken_for_ones_own() {
    let store = Store::s3();
    let one = Gateway::with(store.clone(), &PARTS);
    let other = Gateway::with(store.clone(), &PARTS);
    let whole = noise(13 * MIB);
    cut_off(&one, "STOR a.bin", &whole[..=6 * MIB]).await;
    one.client().await.expect("SIZE a.bin", 213).await;
    let note = store.object(&notes(&store)[0]).unwrap();
    let note = String::from_utf8_lossy(&note);
    let mark = note.split("\"holder\":{\"upload\":\"").nth(1).unwrap();
    let mark = mark[..32].to_owned();
    let mut client = other.client().await;
    let at = size(&mut client).await;
    client.expect(&format!("REST {at}"), 350).await;
    let (mut data, reply) = client.begin("STOR a.bin").await;
    assert_eq!(reply.code, 150);
    let server = store.server();
    server.put_with("a.bin", &b"of another"[..], &[("ferryupload", &mark)]);
    server.fail_next("CompleteMultipartUpload", 1, 500);
    data.write_all(&whole[at..]).await.unwrap();
    drop(data);
    client.expect_reply(451).await;
    assert_eq!(store.object("a.bin").unwrap(), b"of another");
}

/// A store that passes over conditions, and an operator who does not know: two may have the same upload.
#[tokio::test(flavor = "multi_thread")]
async fn no_two_are_told_that_they_have_stored_one_upload() {
    let store = Store::s3();
    store.server().ignore_conditions();
    let one = Gateway::with(store.clone(), &PARTS);
    let others = [(); 2].map(|()| Gateway::with(store.clone(), &PARTS));
    let begun = noise(6 * MIB + 1);
    cut_off(&one, "STOR a.bin", &begun).await;
    one.client().await.expect("SIZE a.bin", 213).await;
    let send = async |gateway: &Gateway, rest: &[u8]| {
        let mut client = gateway.client().await;
        let at = size(&mut client).await;
        client.expect(&format!("REST {at}"), 350).await;
        let (mut data, reply) = client.begin("STOR a.bin").await;
        if reply.code != 150 {
            return reply.code;
        }
        // Whoever was too late may be told so while it sends.
        let _ = data.write_all(rest).await;
        drop(data);
        client.reply().await.code
    };
    let rests = [noise(7 * MIB)[1..].to_vec(), noise(7 * MIB)[2..].to_vec()];
    let (a, b) = tokio::join!(send(&others[0], &rests[0]), send(&others[1], &rests[1]));
    let stored: Vec<&Vec<u8>> = [a, b]
        .iter()
        .zip(&rests)
        .filter_map(|(code, rest)| (*code == 226).then_some(rest))
        .collect();
    let found = store.object("a.bin");
    match stored.as_slice() {
        [] => assert_eq!(found, None),
        [rest] => assert!(found.unwrap() == [&begun[..6 * MIB], rest].concat()),
        _ => panic!("both were told 226"),
    }
}

/// The store has forgotten the parts that the note names.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_has_forgotten_is_sent_anew() {
    let store = Store::s3();
    let one = Gateway::with(store.clone(), &PARTS);
    let whole = noise(20 * MIB);
    cut_off(&one, "STOR a.bin", &whole[..=12 * MIB]).await;
    one.client().await.expect("SIZE a.bin", 213).await;
    one.stop().await;
    store.server().forget_uploads();
    let other = Gateway::with(store.clone(), &PARTS);
    let mut client = other.client().await;
    let at = size(&mut client).await;
    let reply = go_on(&mut client, at, &whole[at..]).await;
    assert_eq!(reply.code, 451, "{reply:?}");
    assert_eq!(store.object("a.bin"), None);
    client.expect("SIZE a.bin", 550).await;
    assert_eq!(client.store("a.bin", &whole).await.code, 226);
    assert!(store.object("a.bin").unwrap() == whole);
    assert_eq!(notes(&store), [""; 0]);
}

/// What is not exactly as a gateway has written it is nobody's upload, and in nobody's way.
#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_makes_no_sense_is_passed_over() {
    let store = Store::s3();
    let one = Gateway::with(store.clone(), &PARTS);
    let whole = noise(13 * MIB);
    cut_off(&one, "STOR a.bin", &whole[..=7 * MIB]).await;
    one.client().await.expect("SIZE a.bin", 213).await;
    one.stop().await;
    let place = notes(&store).remove(0);
    let note = store.object(&place).unwrap();
    let other = Gateway::with(store.clone(), &PARTS);
    let mut client = other.client().await;
    let (mut shorter, mut damaged, mut longer) = (note.clone(), note.clone(), note.clone());
    shorter.pop();
    longer.push(0);
    damaged[40] ^= 1;
    let endless = vec![b'x'; 6 * MIB];
    for strange in [
        Vec::new(),
        b"{}\n".to_vec(),
        endless,
        shorter,
        longer,
        damaged,
    ] {
        store.put(&place, &strange);
        client.expect("SIZE a.bin", 550).await;
        client.expect("REST 1", 350).await;
        assert_eq!(client.begin("STOR a.bin").await.1.code, 554);
    }
    // The line is right, and what follows is not: it is seen before anything is sent.
    let mut rotten = note.clone();
    *rotten.last_mut().unwrap() ^= 1;
    store.put(&place, &rotten);
    let at = size(&mut client).await;
    client.expect(&format!("REST {at}"), 350).await;
    assert_eq!(client.begin("STOR a.bin").await.1.code, 554);
    // Nobody is told of it again.
    assert!(store.object(&place).is_none());
    // Another name's note.
    store.put(&place.replace(&place[place.len() - 4..], "0000"), &note);
    store.put(&place, b"strange");
    cut_off(&other, "STOR a.bin", &whole[..8 * MIB]).await;
    let at = size(&mut client).await;
    assert_eq!(at, 8 * MIB - 1);
    let reply = go_on(&mut client, at, &whole[at..]).await;
    assert_eq!(reply.code, 226, "{reply:?}");
    assert!(store.object("a.bin").unwrap() == whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_elsewhere_replaces_nothing_that_came_meanwhile() {
    for overwrite in ["allow", "deny"] {
        let settings = [PARTS[0], PARTS[1], ("upload.overwrite", overwrite)];
        let store = Store::s3();
        let one = Gateway::with(store.clone(), &settings);
        let other = Gateway::with(store.clone(), &settings);
        let whole = noise(13 * MIB);
        cut_off(&one, "STOR a.bin", &whole[..=6 * MIB]).await;
        one.client().await.expect("SIZE a.bin", 213).await;
        let mut client = other.client().await;
        let at = size(&mut client).await;
        client.expect(&format!("REST {at}"), 350).await;
        let (mut data, reply) = client.begin("STOR a.bin").await;
        assert_eq!(reply.code, 150);
        store.put("a.bin", b"of another");
        data.write_all(&whole[at..]).await.unwrap();
        drop(data);
        let code = client.reply().await.code;
        assert!([450, 553].contains(&code), "{code}");
        assert_eq!(store.object("a.bin").unwrap(), b"of another");
        store.assert_no_leftovers();
        assert_eq!(notes(&store), [""; 0]);
    }
}

/// A process that was killed while an upload ran has left a note, and nobody comes back. On Google, nothing else tells of
/// the parts.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_gateway_has_told_of_is_swept_with_its_parts() {
    let settings = [
        ("upload.resume_window", "1s"),
        PARTS[1],
        ("upload.sweep_after", "2s"),
    ];
    let go = async |store: Store| {
        let killed = Process::serve(&store, &settings).await;
        let mut client = Client::connect_as(killed.address, "ferry", "secret").await;
        let (_data, _) = begin(&store, &mut client, &noise(40 * MIB)).await;
        killed.signal(rustix::process::Signal::KILL);
        killed.ended().await;
        assert_eq!(store.server().open_uploads().len(), 1);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let _other = Gateway::with(store.clone(), &settings);
        eventually("it is swept", || notes(&store).is_empty()).await;
        let server = store.server();
        eventually("its parts are", || server.open_uploads().is_empty()).await;
    };
    tokio::join!(go(Store::s3()), go(Store::google()));
}

/// What it costs: one look for each file, and a note now and then for those that take their time.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_cost_no_more_requests_than_they_have_to() {
    let requests = async |window: &str, bytes: usize| {
        let store = Store::s3();
        let settings = [("upload.resume_window", window), PARTS[1]];
        let gateway = Gateway::with(store.clone(), &settings);
        let mut client = gateway.client().await;
        store.server().forget_requests();
        assert_eq!(client.store("a.bin", &noise(bytes)).await.code, 226);
        let requests = store.server().requests();
        let operations = requests.iter().map(|line| line.split(' ').next().unwrap());
        // The gateway's start asks for lists.
        let operations = operations.filter(|operation| !operation.starts_with("List"));
        let mut operations: Vec<_> = operations.map(str::to_owned).collect();
        operations.sort();
        operations
    };
    assert_eq!(requests("none", 1000).await, ["PutObject"]);
    assert_eq!(requests("1h", 1000).await, ["GetObject", "PutObject"]);
    let mut without = requests("none", 12 * MIB).await;
    without.push("GetObject".to_owned());
    without.sort();
    assert_eq!(requests("1h", 12 * MIB).await, without);
    // One that takes long.
    let store = Store::s3();
    let gateway = Gateway::with(store.clone(), &PARTS);
    let mut client = gateway.client().await;
    let whole = noise(40 * MIB);
    let (mut data, sent) = begin(&store, &mut client, &whole).await;
    data.write_all(&whole[sent..]).await.unwrap();
    drop(data);
    client.expect_reply(226).await;
    let server = store.server();
    let counts =
        ["PutObject", "DeleteObject", "GetObject"].map(|operation| server.count(operation));
    assert_eq!(counts, [1, 1, 1], "{:#?}", server.requests());
    assert_eq!(notes(&store), [""; 0]);
}
