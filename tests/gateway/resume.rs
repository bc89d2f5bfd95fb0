//! Appends and restarts: right, or refused with 554, and never an object overwritten by one.

use bucketferry::auth::UserTable;

use crate::support::ftp::{Client, reset};
use crate::support::{Gateway, MIB, Store, eventually, eventually_async, noise};

#[tokio::test(flavor = "multi_thread")]
async fn downloads_restart_where_asked() {
    for store in Store::of_every_kind() {
        let gateway = Gateway::on(store);
        let bytes = noise(3 * MIB);
        gateway.store.put("a.bin", &bytes);
        let mut client = gateway.client().await;
        for offset in [1, 1000, 2 * MIB, 3 * MIB - 1, 3 * MIB] {
            client.expect(&format!("REST {offset}"), 350).await;
            let (rest, reply) = client.retrieve("a.bin").await;
            assert_eq!(reply.code, 226);
            assert!(rest == bytes[offset..], "{offset}");
        }
        assert!(
            client.retrieve("a.bin").await.0 == bytes,
            "the offset counted once"
        );
        client.expect(&format!("REST {}", 3 * MIB + 1), 350).await;
        let (_, reply) = client.begin("RETR a.bin").await;
        assert_eq!(reply.code, 554);
    }
}

/// libunftp would keep the offset for the transfer after the next.
#[tokio::test(flavor = "multi_thread")]
async fn an_offset_does_not_outlive_its_transfer() {
    let gateway = Gateway::on(Store::folder());
    gateway.store.put("a.txt", b"0123456789");
    let mut client = gateway.client().await;
    client.expect("REST 5", 350).await;
    let (_, reply) = client.begin("RETR missing").await;
    assert_eq!(reply.code, 550);
    assert_eq!(client.retrieve("a.txt").await.0, b"0123456789");
    client.expect("REST 5", 350).await;
    assert_eq!(client.list("NLST", "").await.1.code, 226);
    assert_eq!(client.retrieve("a.txt").await.0, b"0123456789");
    client.expect("REST 5", 350).await;
    assert_eq!(client.retrieve("a.txt").await.0, b"56789");
    client.expect("REST -5", 501).await;
    client.expect("REST +5", 501).await;
    client.expect("REST 99999999999999999999", 501).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_add_to_what_is_there() {
    for store in Store::of_every_kind() {
        let gateway = Gateway::with(store, &[("upload.part_size", "5 MiB")]);
        let mut client = gateway.client().await;
        assert_eq!(client.upload("APPE a.bin", b"first,").await.code, 226);
        assert_eq!(client.upload("APPE a.bin", b"second").await.code, 226);
        assert_eq!(gateway.store.object("a.bin").unwrap(), b"first,second");
        let more = noise(12 * MIB);
        assert_eq!(client.upload("APPE a.bin", &more).await.code, 226);
        let whole = [b"first,second".as_slice(), &more].concat();
        assert!(gateway.store.object("a.bin").unwrap() == whole);
        assert_eq!(client.upload("APPE a.bin", b"!").await.code, 226);
        assert!(gateway.store.object("a.bin").unwrap() == [&whole[..], b"!"].concat());
        gateway.store.assert_no_leftovers();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_restarts_at_the_size_and_nowhere_else() {
    for store in Store::of_every_kind() {
        let gateway = Gateway::on(store);
        gateway.store.put("a.txt", b"01234");
        let mut client = gateway.client().await;
        for wrong in [1, 4, 6, 1000] {
            client.expect(&format!("REST {wrong}"), 350).await;
            let (_, reply) = client.begin("STOR a.txt").await;
            assert_eq!(reply.code, 554, "{wrong}");
            assert_eq!(gateway.store.object("a.txt").unwrap(), b"01234");
        }
        client.expect("REST 5", 350).await;
        assert_eq!(client.store("a.txt", b"56789").await.code, 226);
        assert_eq!(gateway.store.object("a.txt").unwrap(), b"0123456789");
        client.expect("REST 3", 350).await;
        let (_, reply) = client.begin("STOR missing.txt").await;
        assert_eq!(reply.code, 554);
        client.expect("REST 0", 350).await;
        assert_eq!(client.store("a.txt", b"new").await.code, 226);
        assert_eq!(gateway.store.object("a.txt").unwrap(), b"new");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_is_cut_off_leaves_the_object_as_it_was() {
    for store in Store::of_every_kind() {
        let gateway = Gateway::with(store, &[("upload.part_size", "5 MiB")]);
        let old = noise(12 * MIB);
        gateway.store.put("a.bin", &old);
        for command in ["APPE a.bin", "STOR a.bin"] {
            let mut client = gateway.client().await;
            if command.starts_with("STOR") {
                client.expect(&format!("REST {}", old.len()), 350).await;
            }
            let mut data = client.open_data().await;
            client.expect(command, 150).await;
            tokio::io::AsyncWriteExt::write_all(&mut data, b"more")
                .await
                .unwrap();
            client.send("ABOR").await;
            client.expect_reply(426).await;
            client.expect_reply(226).await;
            assert!(gateway.store.object("a.bin").unwrap() == old);
            gateway.store.assert_no_leftovers();
        }
    }
}

/// Somebody else writes the object while the append runs: theirs is kept, ours is refused.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_does_not_undo_anothers_write() {
    for size in [4, 12 * MIB] {
        let gateway = Gateway::with(Store::s3(), &[("upload.part_size", "5 MiB")]);
        gateway.store.put("a.bin", b"old");
        let mut client = gateway.client().await;
        let mut data = client.open_data().await;
        client.expect("APPE a.bin", 150).await;
        gateway.store.put("a.bin", b"another's");
        // It may be found out before all is sent.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut data, &noise(size)).await;
        drop(data);
        client.expect_reply(450).await;
        assert_eq!(gateway.store.object("a.bin").unwrap(), b"another's");
        gateway.store.assert_no_leftovers();
    }
}

/// What is there stays where it is: the store copies it, and only what is new passes through us.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_to_a_large_object_does_not_move_it() {
    let gateway = Gateway::on(Store::s3());
    let old = noise(300 * MIB);
    gateway.store.put("a.bin", &old);
    let s3 = gateway.store.server();
    s3.forget_requests();
    let mut client = gateway.client().await;
    let new = noise(MIB);
    assert_eq!(client.upload("APPE a.bin", &new).await.code, 226);
    assert_eq!((s3.count("GetObject"), s3.count("PutObject")), (0, 0));
    assert_eq!((s3.count("UploadPartCopy"), s3.count("UploadPart")), (2, 1));
    let now = gateway.store.object("a.bin").unwrap();
    assert!(now[..old.len()] == old && now[old.len()..] == new);
    assert_eq!(s3.metadata("a.bin", "ftp-user").as_deref(), Some("ferry"));
    gateway.store.assert_no_leftovers();
}

/// Google composes objects: what is new is one for a moment, where no client sees it.
#[tokio::test(flavor = "multi_thread")]
async fn google_composes_what_is_there_and_what_is_new() {
    let gateway = Gateway::on(Store::google());
    let mut whole = noise(9 * MIB);
    gateway.store.put("in/a.bin", &whole);
    let google = gateway.store.server();
    google.forget_requests();
    let mut client = gateway.client().await;
    for size in [MIB, 9 * MIB] {
        let new = noise(size);
        assert_eq!(client.upload("APPE in/a.bin", &new).await.code, 226);
        whole.extend(new);
        assert!(gateway.store.object("in/a.bin").unwrap() == whole);
    }
    assert_eq!((google.count("Compose"), google.count("GetObject")), (2, 0));
    assert_eq!(
        google.metadata("in/a.bin", "ftp-user").as_deref(),
        Some("ferry")
    );
    let mut data = client.open_data().await;
    client.expect("APPE in/a.bin", 150).await;
    gateway
        .store
        .put("in/a.bin", &[b"another's".as_slice(), &whole].concat());
    tokio::io::AsyncWriteExt::write_all(&mut data, b"late")
        .await
        .unwrap();
    drop(data);
    client.expect_reply(450).await;
    assert_eq!(gateway.store.keys(), ["in/a.bin"]);
    gateway.store.assert_no_leftovers();
    // What a killed process leaves is not shown, and swept.
    google.put(".bucketferry-appends/0123", b"left".to_vec());
    assert!(!client.list("NLST", "").await.0.contains("appends"));
    google.age(std::time::Duration::from_hours(49));
    let sweeper = gateway.beside();
    eventually("it is swept", || gateway.store.keys() == ["in/a.bin"]).await;
    sweeper.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_of_nothing_changes_nothing() {
    for store in Store::each() {
        let gateway = Gateway::on(store);
        for size in [3, 6 * MIB] {
            let old = noise(size);
            gateway.store.put("a.bin", &old);
            let mut client = gateway.client().await;
            assert_eq!(client.upload("APPE a.bin", b"").await.code, 226);
            assert!(gateway.store.object("a.bin").unwrap() == old);
        }
        let mut client = gateway.client().await;
        assert_eq!(client.upload("APPE new.bin", b"").await.code, 226);
        assert_eq!(gateway.store.object("new.bin").unwrap(), b"");
        gateway.store.assert_no_leftovers();
    }
}

/// A store that can't copy into parts has the object written again, the first time and ever after.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_store_does_not_copy_appends_write_again() {
    let gateway = Gateway::on(Store::s3());
    let s3 = gateway.store.server();
    s3.fail_next("UploadPartCopy", usize::MAX, 501);
    let mut whole = noise(20 * MIB);
    gateway.store.put("a.bin", &whole);
    for _ in 0..2 {
        let mut client = gateway.client().await;
        let new = noise(MIB);
        assert_eq!(client.upload("APPE a.bin", &new).await.code, 226);
        whole.extend(new);
        assert!(gateway.store.object("a.bin").unwrap() == whole);
        assert_eq!(s3.count("UploadPartCopy"), 1, "it is not asked again");
    }
    gateway.store.assert_no_leftovers();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_appends_at_once_the_second_is_told_to_try_again() {
    for store in Store::each() {
        let gateway = Gateway::on(store);
        let old = noise(12 * MIB);
        gateway.store.put("a.bin", &old);
        let (mut first, mut second) = (gateway.client().await, gateway.client().await);
        let mut data = first.open_data().await;
        first.expect("APPE a.bin", 150).await;
        let (_, reply) = second.begin("APPE a.bin").await;
        assert_eq!(reply.code, 450);
        tokio::io::AsyncWriteExt::write_all(&mut data, b"first")
            .await
            .unwrap();
        drop(data);
        first.expect_reply(226).await;
        assert_eq!(second.upload("APPE a.bin", b"second").await.code, 226);
        assert!(gateway.store.object("a.bin").unwrap() == [&old[..], b"firstsecond"].concat());
    }
}

/// Two gateways on one bucket know nothing of each other: the store, or the file's lock, decides.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_gateways_that_append_at_once_one_is_told_to_try_again() {
    for store in [Store::folder(), Store::s3()] {
        let one = Gateway::on(store);
        let other = one.beside();
        let old = noise(12 * MIB);
        one.store.put("a.bin", &old);
        let (mut first, mut second) = (one.client().await, other.client().await);
        let mut first_data = first.open_data().await;
        first.expect("APPE a.bin", 150).await;
        let mut second_data = second.open_data().await;
        second.expect("APPE a.bin", 150).await;
        for (data, text) in [(&mut first_data, b"first"), (&mut second_data, b"other")] {
            tokio::io::AsyncWriteExt::write_all(data, text)
                .await
                .unwrap();
        }
        drop((first_data, second_data));
        let codes = (first.reply().await.code, second.reply().await.code);
        let new = match codes {
            (226, 450) => b"first",
            (450, 226) => b"other",
            codes => panic!("{codes:?}"),
        };
        assert!(one.store.object("a.bin").unwrap() == [&old[..], new].concat());
        one.store.assert_no_leftovers();
    }
}

/// With `overwrite = "deny"`, the store itself sees to it that nothing is replaced, however late
/// the other came.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_replaces_nothing_that_came_meanwhile() {
    let gateway = Gateway::with(Store::s3(), &[("upload.overwrite", "deny")]);
    let s3 = gateway.store.server();
    s3.stall("CompleteMultipartUpload", std::time::Duration::from_secs(1));
    let mut client = gateway.client().await;
    let mut data = client.open_data().await;
    client.expect("STOR a.bin", 150).await;
    tokio::io::AsyncWriteExt::write_all(&mut data, &noise(20 * MIB))
        .await
        .unwrap();
    drop(data);
    s3.wait_for("CompleteMultipartUpload", 1).await;
    gateway.store.put("a.bin", b"another's");
    client.expect_reply(553).await;
    assert_eq!(gateway.store.object("a.bin").unwrap(), b"another's");
    gateway.store.assert_no_leftovers();
}

const WINDOW: (&str, &str) = ("upload.resume_window", "30s");

/// Begins an upload and loses its client after `bytes`: its data connection, or the control connection.
async fn cut_off(gateway: &Gateway, command: &str, bytes: &[u8]) {
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
        drop(client);
        gateway.wait_for("bucketferry_sessions", 0.0).await;
        drop(data);
    }
}

/// A reset would take with it what is still on its way.
async fn has_arrived(client: &mut Client, bytes: usize) {
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
        assert!(gateway.metric("bucketferry_upload_memory_used_bytes") < 1.0);
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_ends_discards_what_it_keeps() {
    let gateway = Gateway::with(Store::s3(), &[WINDOW, ("upload.part_size", "5 MiB")]);
    cut_off(&gateway, "STOR a.bin", &noise(6 * MIB)).await;
    gateway.client().await.expect("SIZE a.bin", 213).await;
    gateway.shutdown.begin();
    assert!(gateway.inner.finished().await);
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
    let used = gateway.metric("bucketferry_upload_memory_used_bytes");
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
    assert!(gateway.metric("bucketferry_upload_memory_used_bytes") <= 2.5 * 1024.0 * 1024.0);
    for index in 0..8 {
        client.expect(&format!("REST {}", 4 * MIB - 1), 350).await;
        let name = format!("{index}.bin");
        assert_eq!(client.store(&name, &whole[4 * MIB - 1..]).await.code, 226);
        assert!(gateway.store.object(&name).unwrap() == whole);
    }
    assert!(gateway.metric("bucketferry_upload_memory_used_bytes") < 1.0);
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

/// What is appended to may be deleted meanwhile: that is no missing bucket.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_to_what_is_deleted_meanwhile_may_be_tried_again() {
    for size in [3, 12 * MIB] {
        let gateway = Gateway::on(Store::s3());
        gateway.store.put("a.bin", &noise(size));
        let mut client = gateway.client().await;
        let mut data = client.open_data().await;
        client.expect("APPE a.bin", 150).await;
        gateway.store.server().delete("a.bin");
        let _ = tokio::io::AsyncWriteExt::write_all(&mut data, b"more").await;
        drop(data);
        client.expect_reply(450).await;
        assert_eq!(gateway.store.object("a.bin"), None);
        gateway.store.assert_no_leftovers();
    }
}
