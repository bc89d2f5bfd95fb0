//! Access tiers and tags.

use crate::Server;

use super::raw::{Answer, ask};
use super::{get, head, put, put_if, start};

const TIER: &str = "x-ms-access-tier";
const TAGS: &str = "x-ms-tags";

/// What an answer says of the tier, whether that is inferred, and of the number of tags.
fn said(answer: &Answer) -> (&str, &str, &str) {
    (
        answer.header(TIER),
        answer.header("x-ms-access-tier-inferred"),
        answer.header("x-ms-tag-count"),
    )
}

/// Copies the blob `a`.
async fn copy(server: &Server, target: &str, headers: &[(&str, &str)]) -> Answer {
    let source = format!("{}/ferry-bucket/a", server.endpoint());
    let headers = [&[("x-ms-copy-source", source.as_str())], headers].concat();
    ask(server, "PUT", target, &headers, "").await
}

/// The tags at `key`, as the test would write them.
fn tags(server: &Server, key: &str) -> String {
    format!("{:?}", server.tags(key))
}

#[tokio::test]
async fn a_tier_and_tags_are_told() {
    let server = start();
    let asked = [(TIER, "Cool"), (TAGS, "team=a+b&for=x%2By")];
    assert_eq!(put_if(&server, "/a", "hello", &asked).await.status, 201);
    put(&server, "/b", "hello").await;
    put_if(&server, "/c", "hello", &[(TIER, "Hot")]).await;
    for (key, told) in [
        ("/a", ("Cool", "", "2")),
        ("/b", ("Hot", "true", "")),
        ("/c", ("Hot", "", "")),
    ] {
        assert_eq!(said(&head(&server, key).await), told, "{key}");
        assert_eq!(said(&get(&server, key, &[]).await), told, "{key}");
        let part = get(&server, key, &[("range", "bytes=1-2")]).await;
        assert_eq!((part.status, said(&part)), (206, told), "{key}");
    }
    assert_eq!(server.storage_class("a").as_deref(), Some("Cool"));
    assert_eq!(server.storage_class("b"), None);
    assert_eq!(server.storage_class("c").as_deref(), Some("Hot"));
    assert_eq!(tags(&server, "a"), r#"{"for": "x+y", "team": "a b"}"#);
    let listed = get(&server, "?restype=container&comp=list", &[]).await.body;
    let blobs: Vec<_> = listed.split("</Properties>").collect();
    for (blob, told) in blobs.iter().zip([
        "<AccessTier>Cool</AccessTier><TagCount>2</TagCount>",
        "<AccessTier>Hot</AccessTier><AccessTierInferred>true</AccessTierInferred>",
        "<AccessTier>Hot</AccessTier>",
    ]) {
        assert!(blob.ends_with(told), "{told} in {blob}");
    }
    server.set_class_and_tags("b", Some("Cold"), &[("k", "v")]);
    assert_eq!(said(&head(&server, "/b").await), ("Cold", "", "1"));
}

#[tokio::test]
async fn a_blob_of_blocks_has_what_its_list_says() {
    let server = start();
    ask(&server, "PUT", "/a?comp=block&blockid=YQ%3D%3D", &[], "x").await;
    let list = "<BlockList><Latest>YQ==</Latest></BlockList>";
    let asked = [(TIER, "Cold"), (TAGS, "k=v")];
    ask(&server, "PUT", "/a?comp=blocklist", &asked, list).await;
    assert_eq!(said(&head(&server, "/a").await), ("Cold", "", "1"));
    ask(&server, "PUT", "/a?comp=blocklist", &[], list).await;
    assert_eq!(said(&head(&server, "/a").await), ("Hot", "true", ""));
    let block = "/a?comp=block&blockid=YQ%3D%3D";
    let answer = ask(&server, "PUT", block, &[(TIER, "Cold")], "x").await;
    assert_eq!(answer.failure(), (400, "UnsupportedHeader"));
}

#[tokio::test]
async fn a_copy_has_neither_tier_nor_tags_of_its_source() {
    let server = start();
    let asked = [(TIER, "Cool"), (TAGS, "k=v"), ("x-ms-meta-o", "1")];
    put_if(&server, "/a", "hello", &asked).await;
    assert_eq!(copy(&server, "/b", &[]).await.status, 202);
    let answer = head(&server, "/b").await;
    assert_eq!(
        (said(&answer), answer.header("x-ms-meta-o")),
        (("Hot", "true", ""), "1")
    );
    assert_eq!(tags(&server, "b"), "{}");
    copy(&server, "/b", &[(TIER, "Cold"), (TAGS, "l=w")]).await;
    assert_eq!(said(&head(&server, "/b").await), ("Cold", "", "1"));
    assert_eq!(tags(&server, "b"), r#"{"l": "w"}"#);
    server.copy_in_background(1, "success");
    copy(&server, "/c", &[(TIER, "Cool"), (TAGS, "l=w")]).await;
    for status in ["pending", "success"] {
        let answer = head(&server, "/c").await;
        assert_eq!(answer.header("x-ms-copy-status"), status);
        assert_eq!(said(&answer), ("Cool", "", "1"), "{status}");
    }
}

#[tokio::test]
async fn what_is_no_tier_and_no_tag_is_refused() {
    let server = start();
    put(&server, "/a", "hello").await;
    let long = format!("{}=v", "k".repeat(129));
    let many: Vec<_> = (0..11).map(|number| format!("{number}=v")).collect();
    let many = many.join("&");
    for (name, value, code) in [
        (TIER, "cool", "InvalidHeaderValue"),
        (TIER, "STANDARD", "InvalidHeaderValue"),
        (TAGS, &long, "InvalidTags"),
        (TAGS, &many, "InvalidTags"),
        (TAGS, "=v", "InvalidTags"),
        (TAGS, "k=%C3%A9", "InvalidTags"),
        (TAGS, "k=a%26b", "InvalidTags"),
        (TAGS, "k=1&k=2", "InvalidTags"),
    ] {
        let list = "/b?comp=blocklist";
        for answer in [
            put_if(&server, "/b", "x", &[(name, value)]).await,
            ask(&server, "PUT", list, &[(name, value)], "<BlockList/>").await,
            copy(&server, "/b", &[(name, value)]).await,
        ] {
            assert_eq!(answer.failure(), (400, code), "{name}: {value}");
        }
    }
    assert_eq!(server.keys(), ["a"]);
    let all = "k=aZ09+%2B-./:%3D_";
    assert_eq!(put_if(&server, "/b", "x", &[(TAGS, all)]).await.status, 201);
    assert_eq!(tags(&server, "b"), r#"{"k": "aZ09 +-./:=_"}"#);
}

#[tokio::test]
async fn what_is_archived_is_not_read() {
    let server = start();
    put_if(&server, "/a", "hello", &[(TIER, "Archive"), (TAGS, "k=v")]).await;
    let refused = [
        get(&server, "/a", &[]).await,
        get(&server, "/a", &[("range", "bytes=0-0")]).await,
        copy(&server, "/b", &[]).await,
    ];
    for answer in refused {
        assert_eq!(answer.failure(), (409, "BlobArchived"), "{answer:?}");
    }
    assert_eq!(said(&head(&server, "/a").await), ("Archive", "", "1"));
    assert_eq!(get(&server, "/a?comp=tags", &[]).await.status, 200);
    assert_eq!(server.keys(), ["a"]);
}

#[tokio::test]
async fn tags_are_asked_for() {
    let server = start();
    put_if(&server, "/a", "x", &[(TAGS, "b=2&a=1%3D1")]).await;
    put(&server, "/b", "x").await;
    for (key, inside) in [
        (
            "/a",
            "<Tag><Key>a</Key><Value>1=1</Value></Tag><Tag><Key>b</Key><Value>2</Value></Tag>",
        ),
        ("/b", ""),
    ] {
        let answer = get(&server, &format!("{key}?comp=tags"), &[]).await;
        assert_eq!(answer.header("content-type"), "application/xml");
        let whole = format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Tags><TagSet>{inside}</TagSet></Tags>"
        );
        assert_eq!((answer.status, answer.body), (200, whole), "{key}");
    }
    let missing = get(&server, "/none?comp=tags", &[]).await;
    assert_eq!(missing.failure(), (404, "BlobNotFound"));
    let answer = ask(&server, "PUT", "/a?comp=tags", &[], "").await;
    assert_eq!(answer.failure(), (501, "NotImplemented"));
    assert_eq!(server.count("GetObjectTagging"), 3);
}
