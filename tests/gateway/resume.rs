//! Appends and restarts: right, or refused with 554, and never an object overwritten by one.

use crate::support::{Gateway, MIB, Store, noise};

#[tokio::test(flavor = "multi_thread")]
async fn downloads_restart_where_asked() {
    for store in Store::each() {
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
    for store in Store::each() {
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
    for store in Store::each() {
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
    for store in Store::each() {
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
        tokio::io::AsyncWriteExt::write_all(&mut data, &noise(size))
            .await
            .unwrap();
        drop(data);
        client.expect_reply(450).await;
        assert_eq!(gateway.store.object("a.bin").unwrap(), b"another's");
        gateway.store.assert_no_leftovers();
    }
}
