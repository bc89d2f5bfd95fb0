//! Conditions by generation, by tag and by time.

use std::time::Duration;

use super::{ask, put, start};

const GENERATION: &str = "x-goog-if-generation-match";

#[tokio::test]
async fn put_wants_the_generation_that_is_there() {
    let server = start();
    let put_if = |generation: &str| {
        let asking = ask(&server, "PUT", "a").with(GENERATION, generation);
        asking.body("bytes").send()
    };
    assert_eq!(put_if("7").await.refusal(), (412, "PreconditionFailed"));
    let first = put_if("0").await;
    assert_eq!(first.status, 200);
    let again = put_if("0").await;
    assert_eq!(again.refusal(), (412, "PreconditionFailed"));
    assert_eq!(again.element("Details"), GENERATION);
    let generation = first.header("x-goog-generation");
    let second = put_if(generation).await;
    assert_eq!(second.status, 200);
    assert_ne!(second.header("x-goog-generation"), generation);
    assert_eq!(put_if(generation).await.status, 412);
    assert_eq!(put_if("x").await.refusal(), (400, "InvalidArgument"));
}

#[tokio::test]
async fn delete_wants_the_generation_that_is_there() {
    let server = start();
    server.delete_anyway();
    let generation = put(&server, "a", "bytes").await;
    let delete = |target: &'static str| ask(&server, "DELETE", target);
    let refused = delete("a").with(GENERATION, "1").send().await;
    assert_eq!(refused.refusal(), (412, "PreconditionFailed"));
    let refused = delete("a?generation=1").send().await;
    assert_eq!(refused.refusal(), (404, "NoSuchKey"));
    assert_eq!(server.keys(), ["a"]);
    let done = delete("a").with(GENERATION, &generation).send().await;
    assert_eq!(done.status, 204);
    let gone = delete("a").with(GENERATION, &generation).send().await;
    assert_eq!(gone.refusal(), (404, "NoSuchKey"));
}

#[tokio::test]
async fn read_wants_the_generation_that_is_there() {
    let server = start();
    let generation = put(&server, "a", "bytes").await;
    for method in ["GET", "HEAD"] {
        let refused = ask(&server, method, "a").with(GENERATION, "0");
        assert_eq!(refused.send().await.status, 412);
        let read = ask(&server, method, "a").with(GENERATION, &generation);
        assert_eq!(read.send().await.status, 200);
        let old = ask(&server, method, "a?generation=1").send().await;
        assert_eq!(old.status, 404);
        let target = format!("a?generation={generation}");
        let read = ask(&server, method, &target).send().await;
        assert_eq!(read.status, 200);
    }
}

#[tokio::test]
async fn metageneration_is_one() {
    let server = start();
    put(&server, "a", "bytes").await;
    let name = "x-goog-if-metageneration-match";
    let read = ask(&server, "GET", "a").with(name, "1").send().await;
    assert_eq!(read.header("x-goog-metageneration"), "1");
    let refused = ask(&server, "GET", "a").with(name, "2").send().await;
    assert_eq!(refused.refusal(), (412, "PreconditionFailed"));
}

#[tokio::test]
async fn read_wants_a_tag() {
    let server = start();
    put(&server, "a", "hello").await;
    let tag = "\"5d41402abc4b2a76b9719d911017c592\"";
    let read = |name: &str, tag: &str| ask(&server, "GET", "a").with(name, tag).send();
    assert_eq!(read("if-match", tag).await.status, 200);
    assert_eq!(read("if-match", "*").await.status, 200);
    assert_eq!(
        read("if-match", "\"other\"").await.refusal(),
        (412, "PreconditionFailed")
    );
    assert_eq!(read("if-none-match", "\"other\"").await.status, 200);
    let known = read("if-none-match", &format!("\"other\", {tag}")).await;
    assert_eq!((known.status, known.body.as_str()), (304, ""));
    assert_eq!(known.header("etag"), tag);
}

#[tokio::test]
async fn read_wants_a_time() {
    let server = start();
    put(&server, "a", "hello").await;
    let modified = ask(&server, "HEAD", "a").send().await;
    let modified = modified.header("last-modified").to_owned();
    let read = |name: &str| ask(&server, "GET", "a").with(name, &modified).send();
    assert_eq!(read("if-modified-since").await.status, 304);
    assert_eq!(read("if-unmodified-since").await.status, 200);
    server.age(Duration::from_mins(1));
    assert_eq!(read("if-modified-since").await.status, 304);
    server.delete("a");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    put(&server, "a", "hello").await;
    assert_eq!(read("if-modified-since").await.status, 200);
    assert_eq!(read("if-unmodified-since").await.status, 412);
}

#[tokio::test]
async fn tags_are_no_conditions_on_writes() {
    let server = start();
    put(&server, "a", "first").await;
    let asking = ask(&server, "PUT", "a").with("if-none-match", "*");
    let refused = asking.body("second").send().await;
    assert_eq!(refused.refusal(), (501, "NotImplemented"));
    assert_eq!(server.object("a").as_deref(), Some(&b"first"[..]));
}
