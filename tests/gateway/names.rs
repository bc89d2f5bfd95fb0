//! Names of every kind: what the client calls a file is its key, unescaped.

use crate::support::{Gateway, Store};

const NAMES: [&str; 16] = [
    "with spaces.txt",
    " leading and trailing ",
    "äöü ß 日本語 😀.txt",
    "100%.txt",
    "%41%2F.txt",
    "hash#tag.txt",
    "~tilde",
    "'single' \"double\" `back`",
    "back\\slash",
    "-dash.txt",
    "[brackets] {braces} <angles>",
    "a&b=c?d;e:f,g+h@i!j$k^l|m",
    "...",
    "star*.txt",
    "UPPER lower",
    "150 not a reply",
];

/// A slash at the end, or dots, are a directory's.
#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_directory_is_no_file() {
    for store in Store::each() {
        let gateway = Gateway::on(store);
        gateway.store.put("a.txt", b"12345");
        gateway.store.put("d/b.txt", b"x");
        let mut client = gateway.client().await;
        for argument in ["a.txt/", "new/", "d/", "a.txt/.", "new/x/..", "/"] {
            for (verb, code) in [("STOR", 553), ("APPE", 553), ("STOU", 553), ("RETR", 550)] {
                let (_, reply) = client.begin(&format!("{verb} {argument}")).await;
                assert_eq!(reply.code, code, "{verb} {argument}: {}", reply.text());
            }
            for verb in ["SIZE", "MDTM", "DELE"] {
                client.expect(&format!("{verb} {argument}"), 550).await;
            }
        }
        for command in ["LIST a.txt/", "NLST a.txt/", "MLSD a.txt/"] {
            let (_, reply) = client.begin(command).await;
            assert_eq!(reply.code, 550, "{command}");
        }
        for command in ["MLST a.txt/", "RNFR a.txt/", "CWD a.txt/", "RMD a.txt/"] {
            client.expect(command, 550).await;
        }
        client.expect("RNTO b.txt", 503).await;
        client.expect("RNFR a.txt", 350).await;
        client.expect("RNTO c/", 553).await;
        client.expect("RNTO c", 503).await;
        assert_eq!(gateway.store.keys(), ["a.txt", "d/b.txt"]);

        client.expect("MLST d/", 250).await;
        client.expect("RNFR d/", 350).await;
        client.expect("RNTO e/", 250).await;
        client.expect("MKD f/", 257).await;
        client.expect("RMD f/", 250).await;
        assert_eq!(gateway.store.object("e/b.txt").unwrap(), b"x");
    }
}

/// The source that was refused is libunftp's by now.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_refused_is_not_renamed() {
    let gateway = Gateway::on(Store::folder());
    gateway.store.put("a.txt", b"a");
    gateway.store.put("b.txt", b"b");
    let mut client = gateway.client().await;
    client.expect("RNFR a.txt", 350).await;
    client.expect("RNFR b.txt/", 550).await;
    client.expect("RNTO c.txt", 503).await;
    assert_eq!(gateway.store.keys(), ["a.txt", "b.txt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_is_its_own_key() {
    for store in Store::each() {
        let gateway = Gateway::on(store);
        let mut client = gateway.client().await;
        let long = "x".repeat(200);
        for name in NAMES.into_iter().chain([long.as_str()]) {
            assert_eq!(
                client.store(name, name.as_bytes()).await.code,
                226,
                "{name}"
            );
            assert_eq!(gateway.store.keys(), [name]);
            assert_eq!(client.retrieve(name).await.0, name.as_bytes());
            assert_eq!(client.list("NLST", "").await.0, format!("{name}\r\n"));
            client.expect(&format!("RNFR {name}"), 350).await;
            client.expect("RNTO plain", 250).await;
            client.expect("RNFR plain", 350).await;
            client.expect(&format!("RNTO {name}"), 250).await;
            client.expect(&format!("DELE {name}"), 250).await;
            let made = client.expect(&format!("MKD {name}"), 257).await;
            assert_eq!(made.quoted(), format!("/{name}"));
            client.expect(&format!("CWD {name}"), 250).await;
            assert_eq!(client.expect("PWD", 257).await.quoted(), format!("/{name}"));
            client.expect("CWD /", 250).await;
            client.expect(&format!("RMD {name}"), 250).await;
            assert!(gateway.store.keys().is_empty(), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_charsets_are_understood_and_answered() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    let data = client.open_data().await;
    client.send_raw(b"STOR M\xfcller.txt\r\n").await;
    client.expect_reply(150).await;
    drop(data);
    client.expect_reply(226).await;
    assert_eq!(gateway.store.keys(), ["Müller.txt"]);
    let (listing, _) = client.download("NLST").await;
    assert_eq!(listing, b"M\xfcller.txt\r\n");
    client.send_raw(b"MKD \xe4\r\n").await;
    let made = client.expect_reply(257).await;
    assert!(
        made.raw.windows(3).any(|bytes| bytes == b"/\xe4\""),
        "{made:?}"
    );
    client.expect("OPTS UTF8 ON", 200).await;
    let (listing, _) = client.download("NLST").await;
    assert_eq!(listing, "Müller.txt\r\nä\r\n".as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_old_charset_such_names_are_refused() {
    let gateway = Gateway::with(Store::folder(), &[("ftp.fallback_charset", "utf-8")]);
    let mut client = gateway.client().await;
    client.send_raw(b"SIZE M\xfcller.txt\r\n").await;
    client.expect_reply(501).await;
    client.expect("NOOP", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_a_store_cannot_hold_are_refused_with_a_reason() {
    let gateway = Gateway::on(Store::folder());
    let mut client = gateway.client().await;
    for name in [
        ".bucketferry/a".to_owned(),
        "x".repeat(256),
        format!("{}/a", "x".repeat(300)),
    ] {
        let (_, reply) = client.begin(&format!("STOR {name}")).await;
        assert_eq!(reply.code, 553, "{name}: {}", reply.text());
    }
    for name in [
        "x".repeat(1200),
        "tab\there".to_owned(),
        "\u{1b}[31mred".to_owned(),
    ] {
        client.open_data().await;
        client.expect(&format!("STOR {name}"), 553).await;
    }
    assert_eq!(client.store("fine", b"x").await.code, 226);
}
