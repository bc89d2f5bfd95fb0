//! Appends and restarts: right, or refused with 554, and never an object overwritten by one.

use crate::support::{Gateway, MIB, Store, eventually, noise, user};

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
async fn an_upload_restarts_up_to_the_size_and_not_beyond() {
    for store in Store::of_every_kind() {
        let gateway = Gateway::on(store);
        gateway.store.put("a.txt", b"01234");
        let mut client = gateway.client().await;
        for wrong in [6, 1000] {
            client.expect(&format!("REST {wrong}"), 350).await;
            let (_, reply) = client.begin("STOR a.txt").await;
            assert_eq!(reply.code, 554, "{wrong}");
            assert_eq!(gateway.store.object("a.txt").unwrap(), b"01234");
        }
        client.expect("REST 5", 350).await;
        assert_eq!(client.store("a.txt", b"56789").await.code, 226);
        assert_eq!(gateway.store.object("a.txt").unwrap(), b"0123456789");
        client.expect("REST 8", 350).await;
        assert_eq!(client.store("a.txt", b"!").await.code, 226);
        assert_eq!(gateway.store.object("a.txt").unwrap(), b"01234567!");
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
    let s3 = gateway.store.server();
    let (chunk, gib) = (noise(64 * MIB), 1024 * MIB);
    s3.put_repeated("a.bin", chunk.clone().into(), 16, "video/mp4");
    let mut client = gateway.client().await;
    s3.forget_requests();
    let before = s3.received();
    let new = noise(MIB);
    assert_eq!(client.upload("APPE a.bin", &new).await.code, 226);
    let moved = s3.received() - before;
    assert!(moved < 3 * MIB as u64 / 2, "{moved} bytes to append 1 MiB");
    assert_eq!((s3.count("GetObject"), s3.count("PutObject")), (0, 0));
    assert_eq!((s3.count("UploadPartCopy"), s3.count("UploadPart")), (8, 1));
    assert_eq!(s3.size("a.bin"), Some((gib + MIB) as u64));
    client.expect(&format!("REST {}", gib - 5), 350).await;
    let end = [&chunk[chunk.len() - 5..], &new].concat();
    assert!(client.retrieve("a.bin").await.0 == end);
    assert_eq!(s3.metadata("a.bin", "ftp-user").as_deref(), Some("ferry"));
    gateway.store.assert_no_leftovers();
}

/// A client that steps back a little sends again what it is not sure of; the rest need not move.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_a_large_object_does_not_move_it() {
    let gateway = Gateway::on(Store::s3());
    let s3 = gateway.store.server();
    s3.put_repeated("a.bin", noise(64 * MIB).into(), 16, "video/mp4");
    let mut client = gateway.client().await;
    s3.forget_requests();
    let before = s3.received();
    let (at, new) = (1023 * MIB, noise(MIB / 2));
    client.expect(&format!("REST {at}"), 350).await;
    assert_eq!(client.store("a.bin", &new).await.code, 226);
    let moved = s3.received() - before;
    assert!(moved < MIB as u64, "{moved} bytes to send half a MiB");
    assert_eq!((s3.count("GetObject"), s3.count("PutObject")), (0, 0));
    assert_eq!(s3.size("a.bin"), Some((at + MIB / 2) as u64));
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
    google.put(".bucketferry/appends/0123", b"left".to_vec());
    assert!(!client.list("NLST", "").await.0.contains("bucketferry"));
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

/// Whoever wrote it: what the store's other users go by is not lost with an append.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_keeps_what_the_file_says_of_itself() {
    for store in [Store::s3(), Store::google(), Store::azure()] {
        let settings = [("upload.content_types", "log=text/x-log")];
        let gateway = Gateway::with(store, &settings);
        let server = gateway.store.server();
        let mut client = gateway.client().await;
        for length in [10, 9 * MIB] {
            let bytes = noise(length);
            assert_eq!(client.store("a.log", &bytes).await.code, 226);
            assert_eq!(server.content_type("a.log").as_deref(), Some("text/x-log"));
            server.put_with("b.csv", bytes.clone(), &[("invoice", "7")]);
            // Another gateway knows nothing of the first one's types.
            let other = gateway.beside();
            let mut other = other.client().await;
            for name in ["a.log", "b.csv"] {
                let reply = other.upload(&format!("APPE {name}"), b"more").await;
                assert_eq!(reply.code, 226, "{}", reply.text());
                let whole = gateway.store.object(name).unwrap();
                assert!(whole == [&bytes[..], b"more"].concat());
            }
            assert_eq!(server.content_type("a.log").as_deref(), Some("text/x-log"));
            assert_eq!(server.metadata("b.csv", "invoice").as_deref(), Some("7"));
            assert_eq!(client.retrieve("a.log").await.1.code, 226);
        }
    }
}

/// A browser that is led to the bucket runs nothing that somebody has uploaded.
#[tokio::test(flavor = "multi_thread")]
async fn pages_are_stored_as_bytes_unless_told_otherwise() {
    for (active, page) in [("false", "application/octet-stream"), ("true", "text/html")] {
        let gateway = Gateway::with(Store::s3(), &[("upload.active_content", active)]);
        let mut client = gateway.client().await;
        assert_eq!(client.store("page.html", b"<script>").await.code, 226);
        assert_eq!(client.store("scan.pdf", b"%PDF").await.code, 226);
        let server = gateway.store.server();
        assert_eq!(server.content_type("page.html").as_deref(), Some(page));
        assert_eq!(
            server.content_type("scan.pdf").as_deref(),
            Some("application/pdf")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_carry_what_the_operator_wants() {
    for store in [Store::s3(), Store::google(), Store::azure()] {
        let rest = "home = \"/scans\"\nmetadata = { kind = \"scan\" }";
        let settings = [(
            "upload.metadata",
            "{ from = \"{user} {home}\", kind = \"any\" }",
        )];
        let gateway = Gateway::for_users(store, &user("ferry", rest), &settings);
        let mut client = gateway.client().await;
        for (name, length) in [("small", 10), ("large", 9 * MIB)] {
            assert_eq!(client.store(name, &noise(length)).await.code, 226);
            client.expect(&format!("RNFR {name}"), 350).await;
            client.expect(&format!("RNTO new-{name}"), 250).await;
            let (server, key) = (gateway.store.server(), format!("scans/new-{name}"));
            assert_eq!(
                server.metadata(&key, "from").as_deref(),
                Some("ferry /scans")
            );
            assert_eq!(server.metadata(&key, "kind").as_deref(), Some("scan"));
        }
    }
}
