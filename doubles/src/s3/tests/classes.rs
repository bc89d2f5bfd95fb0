//! Storage classes and tags.

use crate::{Protocol, Server};

use super::raw::{Answer, ask};

const CLASS: &str = "x-amz-storage-class";
const TAGS: &str = "x-amz-tagging";
const COUNT: &str = "x-amz-tagging-count";

fn start() -> Server {
    Server::start(Protocol::S3)
}

async fn put(server: &Server, target: &str, headers: &[(&str, &str)]) -> Answer {
    ask(server, "PUT", target, headers, "hello").await
}

async fn get(server: &Server, target: &str) -> Answer {
    ask(server, "GET", target, &[], "").await
}

async fn head(server: &Server, target: &str) -> Answer {
    ask(server, "HEAD", target, &[], "").await
}

/// Copies the object `a`.
async fn copy(server: &Server, target: &str, headers: &[(&str, &str)]) -> Answer {
    let headers = [&[("x-amz-copy-source", "ferry-bucket/a")], headers].concat();
    ask(server, "PUT", target, &headers, "").await
}

/// The tags at `key`, as the test would write them.
fn tags(server: &Server, key: &str) -> String {
    format!("{:?}", server.tags(key))
}

#[tokio::test]
async fn a_class_and_tags_are_told() {
    let server = start();
    let said = [(CLASS, "STANDARD_IA"), (TAGS, "team=a+b&for=%C3%A9")];
    assert_eq!(put(&server, "/a", &said).await.status, 200);
    assert_eq!(put(&server, "/b", &[(CLASS, "STANDARD")]).await.status, 200);
    assert_eq!(server.storage_class("a").as_deref(), Some("STANDARD_IA"));
    assert_eq!(tags(&server, "a"), r#"{"for": "é", "team": "a b"}"#);
    for answer in [get(&server, "/a").await, head(&server, "/a").await] {
        assert_eq!(answer.header(CLASS), "STANDARD_IA", "{answer:?}");
        assert_eq!(answer.header(COUNT), "2", "{answer:?}");
    }
    for answer in [get(&server, "/b").await, head(&server, "/b").await] {
        assert_eq!((answer.header(CLASS), answer.header(COUNT)), ("", ""));
    }
    assert_eq!(server.storage_class("b"), None);
    let listed = get(&server, "?list-type=2").await;
    let classes = listed.elements("StorageClass");
    assert_eq!(classes, ["STANDARD_IA", "STANDARD"]);
    server.set_class_and_tags("b", Some("GLACIER_IR"), &[("k", "v")]);
    let answer = get(&server, "/b").await;
    assert_eq!(
        (answer.header(CLASS), answer.header(COUNT)),
        ("GLACIER_IR", "1")
    );
    server.set_class_and_tags("b", Some("STANDARD"), &[]);
    assert_eq!(server.storage_class("b"), None);
}

#[tokio::test]
async fn an_upload_in_parts_keeps_them() {
    let server = start();
    let said = [(CLASS, "ONEZONE_IA"), (TAGS, "k=v")];
    let begun = ask(&server, "POST", "/a?uploads", &said, "").await;
    let id = begun.elements("UploadId")[0].to_owned();
    let of_upload = format!("/a?uploadId={id}");
    for target in ["?uploads", &of_upload] {
        let listed = get(&server, target).await;
        assert_eq!(listed.elements("StorageClass"), ["ONEZONE_IA"], "{target}");
    }
    let part = put(&server, &format!("/a?partNumber=1&uploadId={id}"), &[]).await;
    let list = format!(
        "<CompleteMultipartUpload><Part><ETag>{}</ETag><PartNumber>1</PartNumber></Part>\
         </CompleteMultipartUpload>",
        part.header("etag")
    );
    let done = ask(&server, "POST", &of_upload, &[], &list).await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(server.storage_class("a").as_deref(), Some("ONEZONE_IA"));
    assert_eq!(tags(&server, "a"), r#"{"k": "v"}"#);
}

#[tokio::test]
async fn what_is_no_class_and_no_tag_is_refused() {
    let server = start();
    let long = format!("{}=v", "k".repeat(129));
    let many: Vec<_> = (0..11).map(|number| format!("{number}=v")).collect();
    let many = many.join("&");
    for (name, value, code) in [
        (CLASS, "FROZEN", "InvalidStorageClass"),
        (CLASS, "OUTPOSTS", "InvalidStorageClass"),
        (TAGS, &long, "InvalidTag"),
        (TAGS, &many, "InvalidTag"),
        (TAGS, "=v", "InvalidTag"),
        (TAGS, "k=1&k=2", "InvalidArgument"),
    ] {
        for (method, target) in [("PUT", "/a"), ("POST", "/a?uploads")] {
            let answer = ask(&server, method, target, &[(name, value)], "").await;
            assert_eq!(answer.refusal(), (400, code), "{method} {name}: {value}");
        }
    }
    assert!(server.keys().is_empty() && server.open_uploads().is_empty());
}

#[tokio::test]
async fn a_copy_has_the_tags_and_not_the_class() {
    let server = start();
    put(&server, "/a", &[(CLASS, "STANDARD_IA"), (TAGS, "k=v")]).await;
    assert_eq!(
        copy(&server, "/b", &[(TAGS, "unheeded=1")]).await.status,
        200
    );
    assert_eq!(server.storage_class("b"), None);
    assert_eq!(tags(&server, "b"), r#"{"k": "v"}"#);
    let anew = [
        (CLASS, "INTELLIGENT_TIERING"),
        ("x-amz-metadata-directive", "REPLACE"),
        ("x-amz-tagging-directive", "REPLACE"),
        (TAGS, "l=w"),
    ];
    assert_eq!(copy(&server, "/b", &anew).await.status, 200);
    assert_eq!(
        server.storage_class("b").as_deref(),
        Some("INTELLIGENT_TIERING")
    );
    assert_eq!(tags(&server, "b"), r#"{"l": "w"}"#);
    let described = [("x-amz-metadata-directive", "REPLACE")];
    assert_eq!(copy(&server, "/b", &described).await.status, 200);
    assert_eq!(
        tags(&server, "b"),
        r#"{"k": "v"}"#,
        "one directive is not the other"
    );
    let none = [("x-amz-tagging-directive", "REPLACE")];
    assert_eq!(copy(&server, "/b", &none).await.status, 200);
    assert_eq!(tags(&server, "b"), "{}");
    let wrong = copy(&server, "/b", &[(CLASS, "FROZEN")]).await;
    assert_eq!(wrong.refusal(), (400, "InvalidStorageClass"));
}

#[tokio::test]
async fn what_is_archived_is_not_read() {
    let server = start();
    let upload = server.leave_upload("c", "x");
    let part = format!("/c?partNumber=1&uploadId={upload}");
    for class in ["GLACIER", "DEEP_ARCHIVE"] {
        put(&server, "/a", &[(CLASS, class), (TAGS, "k=v")]).await;
        let refused = [
            get(&server, "/a").await,
            copy(&server, "/b", &[]).await,
            copy(&server, &part, &[]).await,
        ];
        for answer in refused {
            assert_eq!(answer.refusal(), (403, "InvalidObjectState"), "{answer:?}");
        }
        let answer = head(&server, "/a").await;
        assert_eq!((answer.status, answer.header(CLASS)), (200, class));
    }
    assert_eq!(server.keys(), ["a"]);
    put(&server, "/a", &[(CLASS, "GLACIER_IR")]).await;
    assert_eq!(get(&server, "/a").await.body, "hello");
}

#[tokio::test]
async fn tags_are_asked_for_and_changed() {
    let server = start();
    put(&server, "/a", &[(TAGS, "k=a%26b")]).await;
    let answer = get(&server, "/a?tagging").await;
    assert_eq!(
        (answer.elements("Key"), answer.elements("Value")),
        (vec!["k"], vec!["a&amp;b"])
    );
    let tag = |key: &str| format!("<Tag><Key>{key}</Key><Value>v</Value></Tag>");
    let set = |tags: String| format!("<Tagging><TagSet>{tags}</TagSet></Tagging>");
    let put_tags = async |tags: String| ask(&server, "PUT", "/a?tagging", &[], &set(tags)).await;
    let answer = put_tags(tag("l") + &tag("m")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(tags(&server, "a"), r#"{"l": "v", "m": "v"}"#);
    let answer = put_tags(tag("l") + &tag("l")).await;
    assert_eq!(answer.refusal(), (400, "InvalidTag"));
    let answer = ask(&server, "DELETE", "/a?tagging", &[], "").await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(tags(&server, "a"), "{}");
    assert!(get(&server, "/a?tagging").await.elements("Tag").is_empty());
    let missing = get(&server, "/none?tagging").await;
    assert_eq!(missing.refusal(), (404, "NoSuchKey"));
    assert_eq!(server.count("GetObjectTagging"), 3);
}
