//! Directories and names: making, listing, renaming, deleting.

use crate::support::ftp::Client;
use crate::support::{Gateway, Memory, Store, noise};

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_made_listed_and_removed() {
    for store in Store::of_every_kind() {
        let gateway = Gateway::on(store);
        let mut client = gateway.client().await;
        assert_eq!(client.expect("MKD in", 257).await.quoted(), "/in");
        assert_eq!(gateway.store.keys(), ["in/"]);
        client.expect("MKD in", 550).await;
        client.expect("CWD in", 250).await;
        assert_eq!(client.expect("PWD", 257).await.quoted(), "/in");
        assert_eq!(client.list("LIST", "").await.0, "");
        assert_eq!(client.store("a.txt", b"x").await.code, 226);
        assert_eq!(client.list("NLST", "").await.0, "a.txt\r\n");
        client.expect("CDUP", 250).await;
        client.expect("RMD in", 550).await;
        client.expect("DELE in", 550).await;
        client.expect("DELE in/a.txt", 250).await;
        assert_eq!(
            client.list("NLST", "").await.0,
            "in\r\n",
            "an empty directory survives"
        );
        client.expect("RMD in", 250).await;
        client.expect("CWD in", 550).await;
        assert!(gateway.store.keys().is_empty());
    }
}

/// A client that picks files up deletes each and looks again.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_outlives_its_last_file() {
    for store in Store::of_every_kind() {
        let gateway = Gateway::on(store);
        outlives_its_last_file(gateway.client().await).await;
    }
    let gateway = Gateway::on(Memory);
    outlives_its_last_file(gateway.client().await).await;
}

async fn outlives_its_last_file(mut client: Client) {
    assert_eq!(client.store("out/a.txt", b"x").await.code, 226);
    client.expect("CWD out", 250).await;
    client.expect("DELE a.txt", 250).await;
    assert_eq!(client.list("NLST", "").await.0, "");
    client.expect("CWD /out", 250).await;
    client.expect("RMD /out", 250).await;
    client.expect("CWD /out", 550).await;
}

/// A bucket can hold both; neither hides the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_and_a_directory_of_one_name() {
    let gateway = Gateway::on(Store::s3());
    gateway.store.put("scans", b"file");
    gateway.store.put("scans/a.txt", b"inside");
    let mut client = gateway.client().await;
    client.expect("CWD scans", 250).await;
    assert_eq!(client.list("NLST", "").await.0, "a.txt\r\n");
    assert_eq!(client.retrieve("/scans").await.0, b"file");
    let (facts, _) = client.list("MLSD", "/").await;
    let unique = facts
        .lines()
        .filter_map(|line| line.split("unique=").nth(1));
    let unique: std::collections::BTreeSet<_> = unique.collect();
    assert_eq!(unique.len(), 2, "two things: {facts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_x_forms_are_the_same() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    client.expect("XMKD a", 257).await;
    client.expect("XCWD a", 250).await;
    assert_eq!(client.expect("XPWD", 257).await.quoted(), "/a");
    client.expect("XCUP", 250).await;
    client.expect("XRMD a", 250).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_renamed_and_never_lost() {
    for store in Store::of_every_kind() {
        let gateway = Gateway::on(store);
        gateway.store.put("a.txt", b"a");
        gateway.store.put("b.txt", b"b");
        let mut client = gateway.client().await;
        client.expect("RNTO c.txt", 503).await;
        rename(&mut client, "a.txt", "sub/c.txt", 250).await;
        assert_eq!(gateway.store.keys(), ["b.txt", "sub/c.txt"]);
        rename(&mut client, "b.txt", "b.txt", 250).await;
        assert_eq!(gateway.store.object("b.txt").unwrap(), b"b");
        rename(&mut client, "b.txt", "sub/c.txt", 250).await;
        assert_eq!(gateway.store.object("sub/c.txt").unwrap(), b"b");
        rename(&mut client, "sub/c.txt", "sub", 553).await;
        client.expect("RNFR sub/c.txt", 350).await;
        client.expect("NOOP", 200).await;
        client.expect("RNTO d.txt", 250).await;
        client.expect("RNTO e.txt", 503).await;
        assert_eq!(
            gateway.store.keys(),
            ["d.txt", "sub/"],
            "the directory stays"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_renamed_whole() {
    for store in Store::of_every_kind() {
        let gateway = Gateway::on(store);
        let mut client = gateway.client().await;
        for index in 0..30 {
            gateway
                .store
                .put(&format!("old/deep/{index}.txt"), &noise(index));
        }
        gateway.store.put("old/top.txt", b"top");
        client.expect("MKD old/empty", 257).await;
        rename(&mut client, "old", "old/deep/inside", 553).await;
        client.expect("MKD taken", 257).await;
        rename(&mut client, "old", "taken", 553).await;
        rename(&mut client, "old", "new/place", 250).await;
        for index in 0..30 {
            let key = format!("new/place/deep/{index}.txt");
            assert_eq!(gateway.store.object(&key).unwrap(), noise(index));
        }
        let keys = gateway.store.keys();
        assert!(keys.contains(&"new/place/empty/".to_owned()), "{keys:?}");
        assert!(!keys.iter().any(|key| key.starts_with("old")), "{keys:?}");
    }
}

/// A copy fails half-way: nothing is lost, and the same rename again finishes.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_fails_loses_nothing_and_can_be_repeated() {
    let gateway = Gateway::with(Store::s3(), &[("store.retry_timeout", "1ms")]);
    let server = gateway.store.server();
    for index in 0..40 {
        gateway
            .store
            .put(&format!("old/{index}.txt"), &noise(index));
    }
    let mut client = gateway.client().await;
    client.expect("RNFR old", 350).await;
    client.send("RNTO new").await;
    server.wait_for("CopyObject", 5).await;
    server.fail_next("CopyObject", 1000, 500);
    let reply = client.reply().await;
    server.heal();
    if reply.code != 250 {
        assert_eq!(reply.code, 451, "{}", reply.text());
        for index in 0..40 {
            assert_eq!(
                gateway.store.object(&format!("old/{index}.txt")).unwrap(),
                noise(index)
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_never_leave_the_home() {
    for store in Store::of_every_kind() {
        let hash = bucketferry::auth::hash_password("secret").unwrap();
        let users = format!(
            "[[user]]\nname = \"ferry\"\npassword_hash = {hash:?}\nhome = \"/homes/ferry\"\n"
        );
        let gateway = Gateway::for_users(store, &users, &[]);
        gateway.store.put("secret.txt", b"not for you");
        gateway.store.put("homes/other/secret.txt", b"not for you");
        let mut client = gateway.client().await;
        assert_eq!(
            client.list("NLST", "").await.0,
            "",
            "a home that is not there yet is empty"
        );
        for path in [
            "../other/secret.txt",
            "/../../secret.txt",
            "a/../../../secret.txt",
            "/homes/other/secret.txt",
            "./../../secret.txt",
        ] {
            for verb in ["RETR", "LIST", "MLSD", "NLST"] {
                let (_, reply) = client.begin(&format!("{verb} {path}")).await;
                assert_eq!(reply.code, 550, "{verb} {path}");
            }
            for verb in ["SIZE", "MDTM", "MLST", "STAT", "DELE", "RMD", "CWD", "RNFR"] {
                client.expect(&format!("{verb} {path}"), 550).await;
            }
        }
        assert_eq!(client.store("../../../up.txt", b"stays").await.code, 226);
        client.expect("RNFR up.txt", 350).await;
        client.expect("RNTO ../../../moved.txt", 250).await;
        client.expect("MKD ../../dir", 257).await;
        let expected = [
            "homes/ferry/dir/",
            "homes/ferry/moved.txt",
            "homes/other/secret.txt",
            "secret.txt",
        ];
        assert_eq!(gateway.store.keys(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_in_the_url_is_invisible() {
    let server = doubles::Server::start(doubles::Protocol::S3);
    let url = format!("{}/landing/zone", server.url());
    let gateway = Gateway::with(Store::from(server), &[("store.url", &url)]);
    let mut client = gateway.client().await;
    gateway.store.put("outside.txt", b"x");
    assert_eq!(client.store("a.txt", b"x").await.code, 226);
    client.expect("MKD d", 257).await;
    assert_eq!(client.list("NLST", "").await.0, "a.txt\r\nd\r\n");
    assert_eq!(
        gateway.store.keys(),
        ["landing/zone/a.txt", "landing/zone/d/", "outside.txt"]
    );
}

async fn rename(client: &mut Client, from: &str, to: &str, code: u16) {
    client.expect(&format!("RNFR {from}"), 350).await;
    client.expect(&format!("RNTO {to}"), code).await;
}

/// A policy that demands encryption holds for the markers of directories as for files, and for all that is made of others.
#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_written_is_encrypted_as_configured() {
    let kind = "store.options.aws_server_side_encryption";
    let says = "x-amz-server-side-encryption";
    encrypts(&[(kind, "AES256")], &[says]).await;
    let names_key = "x-amz-server-side-encryption-aws-kms-key-id";
    let kms = [
        (kind, "aws:kms"),
        ("store.options.aws_sse_kms_key_id", "key-1"),
    ];
    encrypts(&kms, &[says, names_key]).await;
}

/// Of such a key S3 keeps nothing, so that each request has to bring it.
#[tokio::test(flavor = "multi_thread")]
async fn a_customers_own_key_goes_with_every_request() {
    let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [7; 32]);
    let settings = [
        ("store.options.aws_server_side_encryption", "sse-c"),
        ("store.options.aws_sse_customer_key_base64", key.as_str()),
    ];
    let key = "x-amz-server-side-encryption-customer-key";
    let of_source = "x-amz-copy-source-server-side-encryption-customer-key";
    encrypts(&settings, &[key, of_source]).await;
}

/// Whether each request that writes has these headers, where a bucket demands them.
async fn encrypts(settings: &[(&str, &str)], headers: &[&'static str]) {
    let gateway = Gateway::with(Store::s3(), settings);
    let server = gateway.store.server();
    for header in headers {
        server.demand(header);
    }
    let mut client = gateway.client().await;
    assert_eq!(client.store("in/a.txt", b"x").await.code, 226);
    assert_eq!(client.store("in/b.bin", &noise(9 << 20)).await.code, 226);
    for name in ["in/a.txt", "in/b.bin"] {
        let appended = client.upload(&format!("APPE {name}"), b"more").await;
        assert_eq!(appended.code, 226, "{}", appended.text());
        assert_eq!(client.retrieve(name).await.1.code, 226);
        rename(&mut client, name, &format!("{name}.new"), 250).await;
        rename(&mut client, &format!("{name}.new"), name, 250).await;
    }
    client.expect("MKD in/empty", 257).await;
    client.expect("RNFR in", 350).await;
    client.expect("RNTO out", 250).await;
    client.expect("RMD out/empty", 250).await;
    client.expect("DELE out/a.txt", 250).await;
    client.expect("DELE out/b.bin", 250).await;
    client.expect("CWD out", 250).await;
}

/// Buckets with Object Lock want a checksum of every object.
#[tokio::test(flavor = "multi_thread")]
async fn a_directorys_marker_has_a_checksum() {
    let gateway = Gateway::on(Store::s3());
    gateway.store.server().demand("content-md5");
    gateway.client().await.expect("MKD made", 257).await;
}
