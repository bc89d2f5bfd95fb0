//! Copies, and their conditions.

use super::raw::Asking;
use super::{ask, put, start};
use crate::Server;

fn copy<'s>(server: &'s Server, source: &str, target: &str) -> Asking<'s> {
    let source = format!("ferry-bucket/{source}");
    ask(server, "PUT", target).with("x-goog-copy-source", &source)
}

#[tokio::test]
async fn copies_what_is_said_about_an_object() {
    let server = start();
    let asking = ask(&server, "PUT", "a%2Fb%20c");
    let asking = asking.with("content-type", "text/plain");
    let source = asking.with("x-goog-meta-k", "v").body("hello").send().await;
    let copied = copy(&server, "a%2Fb%20c", "d").send().await;
    assert_eq!(copied.status, 200);
    assert_eq!(copied.element("ETag"), source.header("etag"));
    assert!(copied.element("LastModified").ends_with('Z'));
    assert_ne!(
        copied.header("x-goog-generation"),
        source.header("x-goog-generation")
    );
    assert_eq!(server.metadata("d", "k").as_deref(), Some("v"));
    let with_slash = ask(&server, "PUT", "e");
    let with_slash = with_slash.with("x-goog-copy-source", "/ferry-bucket/d");
    assert_eq!(with_slash.send().await.status, 200);
    assert_eq!(server.count("CopyObject"), 2);
}

#[tokio::test]
async fn replaces_what_is_said_about_an_object() {
    let server = start();
    let asking = ask(&server, "PUT", "a").with("x-goog-meta-k", "v");
    asking.body("hello").send().await;
    let itself = copy(&server, "a", "a").send().await;
    assert_eq!(itself.refusal(), (400, "InvalidArgument"));
    let replaced = copy(&server, "a", "a")
        .with("x-goog-metadata-directive", "REPLACE")
        .with("content-type", "text/html");
    assert_eq!(replaced.send().await.status, 200);
    assert_eq!(server.metadata("a", "k"), None);
    assert_eq!(server.content_type("a").as_deref(), Some("text/html"));
    let unknown = copy(&server, "a", "b").with("x-goog-metadata-directive", "KEEP");
    assert_eq!(unknown.send().await.refusal(), (400, "InvalidArgument"));
}

#[tokio::test]
async fn source_is_as_it_should_be() {
    let server = start();
    let generation = put(&server, "a", "hello").await;
    let tag = "\"5d41402abc4b2a76b9719d911017c592\"";
    let copy = async |condition: &str, value: &str| {
        let name = format!("x-goog-copy-source-{condition}");
        copy(&server, "a", "b").with(&name, value).send().await
    };
    for (condition, value) in [
        ("generation", generation.as_str()),
        ("if-generation-match", &generation),
        ("if-metageneration-match", "1"),
        ("if-match", tag),
        ("if-none-match", "\"other\""),
    ] {
        let copied = copy(condition, value).await;
        assert_eq!(copied.status, 200, "{condition}");
    }
    for (condition, value) in [
        ("if-generation-match", "1"),
        ("if-metageneration-match", "2"),
        ("if-match", "\"other\""),
        ("if-none-match", tag),
        ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT"),
        ("if-unmodified-since", "Fri, 01 Jan 2010 00:00:00 GMT"),
    ] {
        let refused = copy(condition, value).await;
        assert_eq!(refused.refusal(), (412, "PreconditionFailed"));
    }
    let old = copy("generation", "1").await;
    assert_eq!(old.refusal(), (404, "NoSuchKey"));
}

#[tokio::test]
async fn target_is_as_it_should_be() {
    let server = start();
    put(&server, "a", "new").await;
    let generation = put(&server, "b", "old").await;
    let copy_if = |generation: &str| {
        let asking = copy(&server, "a", "b");
        asking.with("x-goog-if-generation-match", generation).send()
    };
    assert_eq!(copy_if("0").await.refusal(), (412, "PreconditionFailed"));
    assert_eq!(copy_if(&generation).await.status, 200);
    assert_eq!(copy_if(&generation).await.status, 412);
}

#[tokio::test]
async fn source_is_in_the_bucket() {
    let server = start();
    let missing = copy(&server, "none", "b").send().await;
    assert_eq!(missing.refusal(), (404, "NoSuchKey"));
    let elsewhere = ask(&server, "PUT", "b").with("x-goog-copy-source", "other/a");
    assert_eq!(elsewhere.send().await.refusal(), (404, "NoSuchBucket"));
}

#[tokio::test]
async fn copy_of_a_composite_has_a_tag_of_its_own() {
    let server = start();
    put(&server, "a", "hello").await;
    let body = "<ComposeRequest><Component><Name>a</Name></Component></ComposeRequest>";
    let composed = ask(&server, "PUT", "b?compose").body(body).send().await;
    let copied = copy(&server, "b", "c").send().await;
    assert_ne!(copied.header("etag"), composed.header("etag"));
    assert_eq!(copied.header("x-goog-hash"), "crc32c=mnG7TA==");
}
