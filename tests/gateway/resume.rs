//! Uploads that were cut off, and go on where they ended: kept unseen, for their user, for a while.

use bucketferry::auth::UserTable;

use crate::support::ftp::{Client, reset};
use crate::support::{Gateway, MIB, Store, eventually, eventually_async, noise};

const WINDOW: (&str, &str) = ("upload.resume_window", "30s");

/// The same, with small parts.
pub(crate) const PARTS: [(&str, &str); 2] = [WINDOW, ("upload.part_size", "5 MiB")];

/// Begins an upload and loses its client after `bytes`: by a reset of its data connection, or by its death.
pub(crate) async fn cut_off(gateway: &Gateway, command: &str, bytes: &[u8]) {
    lose(gateway, gateway.client().await, command, bytes).await;
}

/// The same of an upload that goes on.
async fn cut_off_at(gateway: &Gateway, name: &str, offset: usize, bytes: &[u8]) {
    let mut client = gateway.client().await;
    client.expect(&format!("REST {offset}"), 350).await;
    lose(gateway, client, &format!("STOR {name}"), bytes).await;
}

async fn lose(gateway: &Gateway, mut client: Client, command: &str, bytes: &[u8]) {
    let mut data = client.open_data().await;
    client.expect(command, 150).await;
    tokio::io::AsyncWriteExt::write_all(&mut data, bytes)
        .await
        .unwrap();
    has_arrived(&mut client, bytes.len()).await;
    if bytes.len().is_multiple_of(2) {
        reset(data);
        client.expect_reply(426).await;
    } else {
        client.die(data);
        gateway.wait_for("bucketferry_sessions", 0.0).await;
    }
}

/// A reset would take with it what is still on its way.
pub(crate) async fn has_arrived(client: &mut Client, bytes: usize) {
    let wanted = format!(": {bytes} bytes so far");
    eventually_async("all bytes arrive", async || {
        client.expect("STAT", 211).await.text().contains(&wanted)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_cut_off_goes_on_where_it_ended() {
    let settings = [WINDOW, ("upload.part_size", "5 MiB")];
    for store in Store::each() {
        let gateway = Gateway::with(store, &settings);
        for (at, append) in [
            (13 * MIB + 5, true),
            (70_000, true),
            (MIB, false),
            (12 * MIB, false),
            (10 * MIB + 2, true),
        ] {
            let name = format!("{at}.bin");
            let whole = noise(13 * MIB + 5);
            cut_off(&gateway, &format!("STOR {name}"), &whole[..at]).await;
            assert_eq!(gateway.store.object(&name), None, "nobody sees it");
            let mut client = gateway.client().await;
            // The last byte is let go: a client that has sent all must not think that all is done.
            let at = at - 1;
            let size = client.expect(&format!("SIZE {name}"), 213).await;
            assert_eq!(size.text(), format!("213 {at}"));
            client.expect(&format!("MDTM {name}"), 550).await;
            assert!(!client.list("NLST", "").await.0.contains(&name));
            assert_eq!(client.begin(&format!("RETR {name}")).await.1.code, 550);
            let command = if append {
                format!("APPE {name}")
            } else {
                client.expect(&format!("REST {}", at - 1), 350).await;
                let (_, reply) = client.begin(&format!("STOR {name}")).await;
                assert_eq!(reply.code, 554);
                client.expect(&format!("REST {at}"), 350).await;
                format!("STOR {name}")
            };
            assert_eq!(client.upload(&command, &whole[at..]).await.code, 226);
            assert!(gateway.store.object(&name).unwrap() == whole);
            gateway.store.assert_no_leftovers();
        }
        assert!(gateway.metric(r#"bucketferry_memory_bytes{use="uploads"}"#) < 1.0);
    }
}

/// Some clients announce the whole file before they send the rest of it, some the rest.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_cut_off_is_announced_as_the_rest_or_as_the_whole() {
    let settings = [
        WINDOW,
        ("upload.part_size", "5 MiB"),
        ("upload.check_allo", "true"),
    ];
    let gateway = Gateway::with(Store::s3(), &settings);
    let whole = noise(8 * MIB);
    let at = 7 * MIB - 1;
    for announced in [whole.len(), whole.len() - at] {
        for append in [false, true] {
            cut_off(&gateway, "STOR a.bin", &whole[..=at]).await;
            let mut client = gateway.client().await;
            let size = client.expect("SIZE a.bin", 213).await;
            assert_eq!(size.text(), format!("213 {at}"));
            client.expect(&format!("ALLO {announced}"), 200).await;
            let command = if append { "APPE a.bin" } else { "STOR a.bin" };
            if !append {
                client.expect(&format!("REST {at}"), 350).await;
            }
            let reply = client.upload(command, &whole[at..]).await;
            assert_eq!(reply.code, 226, "{}", reply.text());
            assert!(gateway.store.object("a.bin").unwrap() == whole);
            client.expect("DELE a.bin", 250).await;
        }
    }
    gateway.store.assert_no_leftovers();
}

/// What was kept before stays, and what has come with it, as after any other loss.
#[tokio::test(flavor = "multi_thread")]
async fn a_rest_of_another_size_does_not_cost_what_was_kept() {
    let settings = [
        WINDOW,
        ("upload.part_size", "5 MiB"),
        ("upload.check_allo", "true"),
    ];
    let gateway = Gateway::with(Store::s3(), &settings);
    let whole = noise(8 * MIB);
    cut_off(&gateway, "STOR a.bin", &whole[..6 * MIB]).await;
    let mut client = gateway.client().await;
    let mut at = 6 * MIB - 1;
    for announced in [whole.len(), whole.len() - at] {
        client.expect(&format!("ALLO {announced}"), 200).await;
        client.expect(&format!("REST {at}"), 350).await;
        let cut = &whole[at..at + 1000];
        assert_eq!(client.upload("STOR a.bin", cut).await.code, 451);
        assert_eq!(gateway.store.object("a.bin"), None);
        // Its last byte is let go.
        at += 999;
        let size = client.expect("SIZE a.bin", 213).await;
        assert_eq!(size.text(), format!("213 {at}"));
    }
    client.expect(&format!("ALLO {}", whole.len()), 200).await;
    client.expect(&format!("REST {at}"), 350).await;
    assert_eq!(client.upload("STOR a.bin", &whole[at..]).await.code, 226);
    assert!(gateway.store.object("a.bin").unwrap() == whole);
    gateway.store.assert_no_leftovers();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_can_be_cut_off_again_and_again() {
    let gateway = Gateway::with(Store::s3(), &[WINDOW, ("upload.part_size", "5 MiB")]);
    let whole = noise(17 * MIB);
    let mut at = 0;
    for step in [2, MIB, 6 * MIB, 0, 9 * MIB] {
        cut_off_at(&gateway, "a.bin", at, &whole[at..at + step]).await;
        at += step.saturating_sub(1);
        let mut client = gateway.client().await;
        let size = client.expect("SIZE a.bin", 213).await;
        assert_eq!(size.text(), format!("213 {at}"));
    }
    let mut client = gateway.client().await;
    client.expect("SIZE a.bin", 213).await;
    assert_eq!(client.upload("APPE a.bin", &whole[at..]).await.code, 226);
    assert!(gateway.store.object("a.bin").unwrap() == whole);
    let s3 = gateway.store.server();
    let moved = s3.count("UploadPart");
    assert!(moved <= 6, "{moved} parts for 17 MiB");
    gateway.store.assert_no_leftovers();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cut_off_is_kept_for_its_user_and_for_a_while() {
    let users = [("a", "one"), ("b", "two")].map(|(name, word)| (name.to_owned(), word.to_owned()));
    let users = UserTable::from_plain(users.to_vec()).unwrap();
    let settings = [
        ("upload.resume_window", "1s"),
        ("upload.part_size", "5 MiB"),
    ];
    let gateway = Gateway::start(Store::s3(), users.into(), &settings);
    let login = async |user: &str, password: &str| {
        Client::connect_as(gateway.address(), user, password).await
    };
    let mut client = login("a", "one").await;
    let mut data = client.open_data().await;
    client.expect("STOR a.bin", 150).await;
    tokio::io::AsyncWriteExt::write_all(&mut data, &noise(6 * MIB))
        .await
        .unwrap();
    has_arrived(&mut client, 6 * MIB).await;
    reset(data);
    client.expect_reply(426).await;
    let mut other = login("b", "two").await;
    other.expect("SIZE a.bin", 550).await;
    client.expect("SIZE a.bin", 213).await;
    assert_eq!(gateway.store.server().open_uploads().len(), 1);
    eventually("it is discarded", || {
        gateway.store.server().open_uploads().is_empty()
    })
    .await;
    client.expect("SIZE a.bin", 550).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_anew_or_is_there_already_is_not_gone_on_with() {
    let gateway = Gateway::with(Store::s3(), &[WINDOW, ("upload.part_size", "5 MiB")]);
    let bytes = noise(6 * MIB);
    cut_off(&gateway, "STOR a.bin", &bytes).await;
    let mut client = gateway.client().await;
    client.expect("SIZE a.bin", 213).await;
    assert_eq!(client.store("a.bin", b"anew").await.code, 226);
    assert_eq!(gateway.store.object("a.bin").unwrap(), b"anew");
    gateway.store.assert_no_leftovers();
    cut_off(&gateway, "STOR a.bin", &bytes).await;
    cut_off(&gateway, "APPE a.bin", &bytes).await;
    assert_eq!(client.expect("SIZE a.bin", 213).await.text(), "213 4");
    assert_eq!(gateway.store.object("a.bin").unwrap(), b"anew");
    eventually("nothing is left", || {
        gateway.store.server().open_uploads().is_empty()
    })
    .await;
    // Another puts it there meanwhile.
    cut_off(&gateway, "STOR b.bin", &bytes).await;
    gateway.store.put("b.bin", b"another's");
    assert_eq!(client.expect("SIZE b.bin", 213).await.text(), "213 9");
    gateway.stop().await;
}

/// On a folder, nobody else can go on with what has no name.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_ends_discards_what_no_other_can_go_on_with() {
    let gateway = Gateway::with(Store::folder(), &PARTS);
    cut_off(&gateway, "STOR a.bin", &noise(6 * MIB)).await;
    gateway.client().await.expect("SIZE a.bin", 213).await;
    gateway.shutdown.begin();
    assert!(gateway.inner.finished().await.unwrap());
    gateway.store.assert_no_leftovers();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_unless_it_is_wanted() {
    let gateway = Gateway::on(Store::s3());
    cut_off(&gateway, "STOR a.bin", &noise(10 * MIB)).await;
    let mut client = gateway.client().await;
    client.expect("SIZE a.bin", 550).await;
    gateway.store.assert_no_leftovers();
}

/// `APPE` names no offset. What it has not been told of, it does not go on with: a record that is sent
/// again must not come after its own half.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_goes_on_with_what_it_was_told_of_only() {
    let gateway = Gateway::with(Store::s3(), &[WINDOW]);
    cut_off(&gateway, "APPE log", b"half a record").await;
    let mut client = gateway.client().await;
    assert_eq!(client.upload("APPE log", b"record").await.code, 226);
    assert_eq!(gateway.store.object("log").unwrap(), b"record");
    // Told of it, but another has begun anew meanwhile.
    cut_off(&gateway, "STOR b", b"0123456789").await;
    client.expect("SIZE b", 213).await;
    cut_off(&gateway, "STOR b", b"01").await;
    let (_, reply) = client.begin("APPE b").await;
    assert_eq!(reply.code, 450);
    assert_eq!(gateway.store.object("b"), None);
}

/// Memory is short and the rests of lost uploads are many: they get their part of it, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_does_not_fill_the_memory() {
    let settings = [
        WINDOW,
        ("upload.memory", "20 MiB"),
        ("upload.part_size", "5 MiB"),
    ];
    let gateway = Gateway::with(Store::s3(), &settings);
    for index in 0..8 {
        cut_off(&gateway, &format!("STOR {index}.bin"), &noise(MIB)).await;
    }
    let mut client = gateway.client().await;
    let mut kept = 0;
    for index in 0..8 {
        kept += usize::from(client.command(&format!("SIZE {index}.bin")).await.code == 213);
    }
    assert!((1..=3).contains(&kept), "{kept} MiB of an eighth of 20 MiB");
    let used = gateway.metric(r#"bucketferry_memory_bytes{use="uploads"}"#);
    assert!(used <= 2.5 * 1024.0 * 1024.0, "{used}");
    assert_eq!(client.store("fast.bin", &noise(40 * MIB)).await.code, 226);
}

/// With a place on disk, rests go there when memory has no room, and hold none.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_on_disk_holds_no_memory() {
    let disk = tempfile::tempdir().unwrap();
    let directory = disk.path().to_str().unwrap();
    let settings = [
        WINDOW,
        ("upload.memory", "20 MiB"),
        ("upload.part_size", "5 MiB"),
        ("upload.spill_dir", directory),
    ];
    let gateway = Gateway::with(Store::s3(), &settings);
    let whole = noise(9 * MIB);
    for index in 0..8 {
        cut_off(&gateway, &format!("STOR {index}.bin"), &whole[..4 * MIB]).await;
    }
    let mut client = gateway.client().await;
    for index in 0..8 {
        let size = client.expect(&format!("SIZE {index}.bin"), 213).await;
        assert_eq!(size.text(), format!("213 {}", 4 * MIB - 1));
    }
    assert!(gateway.metric(r#"bucketferry_memory_bytes{use="uploads"}"#) <= 2.5 * 1024.0 * 1024.0);
    for index in 0..8 {
        client.expect(&format!("REST {}", 4 * MIB - 1), 350).await;
        let name = format!("{index}.bin");
        assert_eq!(client.store(&name, &whole[4 * MIB - 1..]).await.code, 226);
        assert!(gateway.store.object(&name).unwrap() == whole);
    }
    assert!(gateway.metric(r#"bucketferry_memory_bytes{use="uploads"}"#) < 1.0);
    assert!(gateway.metric("bucketferry_upload_spilled_bytes") < 1.0);
}

/// A `STOR` that is gone on with goes to a new name, though it began as one that replaces.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_on_with_replaces_nothing_that_came_meanwhile() {
    let gateway = Gateway::with(Store::s3(), &[WINDOW, ("upload.part_size", "5 MiB")]);
    let whole = noise(12 * MIB);
    cut_off(&gateway, "STOR a.bin", &whole[..6 * MIB]).await;
    let s3 = gateway.store.server();
    let mut client = gateway.client().await;
    client.expect(&format!("REST {}", 6 * MIB - 1), 350).await;
    s3.stall("CompleteMultipartUpload", std::time::Duration::from_secs(1));
    let mut data = client.open_data().await;
    client.expect("STOR a.bin", 150).await;
    tokio::io::AsyncWriteExt::write_all(&mut data, &whole[6 * MIB - 1..])
        .await
        .unwrap();
    drop(data);
    s3.wait_for("CompleteMultipartUpload", 1).await;
    gateway.store.put("a.bin", b"another's");
    client.expect_reply(450).await;
    assert_eq!(gateway.store.object("a.bin").unwrap(), b"another's");
    gateway.store.assert_no_leftovers();
}
