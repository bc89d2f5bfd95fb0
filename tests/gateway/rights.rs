//! What the gateway asks of a bucket, and so what it has to be allowed: the table of `docs/stores.md` is held against the
//! requests that all verbs make.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::support::{Gateway, MIB, Store, noise};

const PAGE: &str = include_str!("../../docs/stores.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// Everything that clients can do, and what the gateway does by itself.
async fn everything(store: &Store) -> BTreeSet<String> {
    let server = store.server();
    server.put("old/left.bin", &b"x"[..]);
    let settings = [
        ("store.conditions", "try"),
        ("upload.part_size", "5 MiB"),
        ("upload.resume_window", "1h"),
        ("upload.sweep_after", "2h"),
        ("store.probe_interval", "100ms"),
    ];
    let gateway = Gateway::with(store.clone(), &settings);
    let mut client = gateway.client().await;
    for (name, length) in [("d/small", 10), ("d/large", 12 * MIB)] {
        assert_eq!(client.store(name, &noise(length)).await.code, 226);
        assert_eq!(client.store(name, &noise(length + 1)).await.code, 226);
        assert_eq!(
            client
                .upload(&format!("APPE {name}"), &noise(10))
                .await
                .code,
            226
        );
        assert_eq!(
            client
                .upload(&format!("APPE {name}"), &noise(9 * MIB))
                .await
                .code,
            226
        );
        assert_eq!(client.retrieve(name).await.1.code, 226);
        client.expect(&format!("SIZE {name}"), 213).await;
        client.expect(&format!("RNFR {name}"), 350).await;
        client.expect(&format!("RNTO {name}.new"), 250).await;
    }
    client.expect("MKD e", 257).await;
    client.expect("RMD e", 250).await;
    client.expect("RNFR d", 350).await;
    client.expect("RNTO f", 250).await;
    client.expect("DELE f/small.new", 250).await;
    // Given up in the middle of its parts.
    let mut data = client.open_data().await;
    client.expect("STOR given-up.bin", 150).await;
    tokio::io::AsyncWriteExt::write_all(&mut data, &noise(11 * MIB))
        .await
        .unwrap();
    client.send("ABOR").await;
    client.expect_reply(426).await;
    client.expect_reply(226).await;
    server.set_class_and_tags("f/large.new", None, &[("keep", "7")]);
    client.expect("RNFR f/large.new", 350).await;
    client.expect("RNTO g.bin", 250).await;
    server.set_class_and_tags("g.bin", None, &[("keep", "7")]);
    assert_eq!(client.upload("APPE g.bin", b"x").await.code, 226);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let requests = server.requests().into_iter();
    requests
        .map(|request| request.split(' ').next().unwrap().to_owned())
        .collect()
}

/// The rights in the table of the page, by cloud and request.
fn table() -> [BTreeMap<&'static str, BTreeSet<&'static str>>; 3] {
    let (_, rest) = PAGE.split_once("rights.rs. -->").unwrap();
    let (rows, _) = rest.split_once("<!-- The end of the table. -->").unwrap();
    let mut clouds = [(); 3].map(|()| BTreeMap::new());
    for row in rows.lines().filter(|row| row.starts_with("| `")) {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let request = cells.next().unwrap().trim_matches('`');
        for (cloud, cell) in clouds.iter_mut().zip(cells) {
            if cell != "none" {
                cloud.insert(request, quoted(cell, '`').collect());
            }
        }
    }
    clouds
}

fn quoted(text: &str, mark: char) -> impl Iterator<Item = &str> {
    text.split(mark).skip(1).step_by(2)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_has_the_rights_of_every_request_and_no_others() {
    let stores = [Store::s3(), Store::google(), Store::azure()];
    for (store, rights) in stores.iter().zip(table()) {
        let asked = everything(store).await;
        let told: BTreeSet<String> = rights.keys().map(|it| (*it).to_owned()).collect();
        assert_eq!(asked, told);
        assert!(
            rights.values().all(|rights| !rights.is_empty()),
            "{rights:?}"
        );
    }
}

/// The policy for reading and writing allows what the table has, but for tags, which are told below it.
#[test]
fn the_policy_allows_what_is_asked() {
    let [of_s3, ..] = table();
    let mut wanted: BTreeSet<_> = of_s3.into_values().flatten().collect();
    assert!(wanted.remove("s3:GetObjectTagging"));
    let (_, policy) = OPERATIONS
        .split_once("**S3, reading and writing**")
        .unwrap();
    let (policy, _) = policy.split_once("**S3, writing only:**").unwrap();
    let (_, policy) = policy.split_once("```json").unwrap();
    let (policy, _) = policy.split_once("```").unwrap();
    let allowed = quoted(policy, '"').filter(|text| text.starts_with("s3:"));
    assert_eq!(wanted, allowed.collect());
}
