//! What is said of an object, and which of its bytes.

use super::{ask, put, start};

#[tokio::test]
async fn tells_all_about_an_object() {
    let server = start();
    let asking = ask(&server, "PUT", "a")
        .with("content-type", "text/plain")
        .with("cache-control", "no-cache")
        .with("content-disposition", "inline")
        .with("content-language", "en")
        .with("x-goog-meta-owner", "me");
    let written = asking.body("hello").send().await;
    let read = ask(&server, "GET", "a").send().await;
    assert_eq!(read.body, "hello");
    let head = ask(&server, "HEAD", "a").send().await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for answer in [&written, &read, &head] {
        assert_eq!(
            answer.header("etag"),
            "\"5d41402abc4b2a76b9719d911017c592\""
        );
        assert_eq!(
            answer.header("x-goog-hash"),
            "crc32c=mnG7TA==,md5=XUFAKrxLKna5cZ2REBfFkg=="
        );
        assert_eq!(answer.header("x-goog-stored-content-length"), "5");
        assert_eq!(answer.header("x-goog-storage-class"), "STANDARD");
        assert_eq!(answer.header("x-goog-metageneration"), "1");
        assert_eq!(
            answer.header("x-goog-generation"),
            written.header("x-goog-generation")
        );
    }
    for answer in [&read, &head] {
        assert_eq!(answer.header("content-length"), "5");
        assert_eq!(answer.header("content-type"), "text/plain");
        assert_eq!(answer.header("cache-control"), "no-cache");
        assert_eq!(answer.header("content-disposition"), "inline");
        assert_eq!(answer.header("content-language"), "en");
        assert_eq!(answer.header("x-goog-meta-owner"), "me");
        assert!(answer.header("last-modified").ends_with(" GMT"));
    }
}

#[tokio::test]
async fn type_is_bytes_unless_said() {
    let server = start();
    put(&server, "a", "x").await;
    let read = ask(&server, "GET", "a").send().await;
    assert_eq!(read.header("content-type"), "application/octet-stream");
}

#[tokio::test]
async fn reads_a_range() {
    let server = start();
    put(&server, "a", "hello").await;
    let read = |range: &str| ask(&server, "GET", "a").with("range", range).send();
    for (range, bytes, told) in [
        ("bytes=1-2", "el", "bytes 1-2/5"),
        ("bytes=3-", "lo", "bytes 3-4/5"),
        ("bytes=3-99", "lo", "bytes 3-4/5"),
        ("bytes=-2", "lo", "bytes 3-4/5"),
        ("bytes=-99", "hello", "bytes 0-4/5"),
    ] {
        let answer = read(range).await;
        assert_eq!((answer.status, answer.body.as_str()), (206, bytes));
        assert_eq!(answer.header("content-range"), told);
        assert_eq!(answer.header("content-length"), bytes.len().to_string());
    }
    let ignored = read("lines=1-2").await;
    assert_eq!((ignored.status, ignored.body.as_str()), (200, "hello"));
}

#[tokio::test]
async fn refuses_a_range_outside() {
    let server = start();
    put(&server, "a", "hello").await;
    put(&server, "empty", "").await;
    for (key, range, told) in [
        ("a", "bytes=5-", "bytes */5"),
        ("a", "bytes=-0", "bytes */5"),
        ("empty", "bytes=0-", "bytes */0"),
        ("empty", "bytes=0-9", "bytes */0"),
        ("empty", "bytes=-1", "bytes */0"),
    ] {
        let answer = ask(&server, "GET", key).with("range", range).send().await;
        assert_eq!(answer.refusal(), (416, "InvalidRange"), "{range}");
        assert_eq!(answer.header("content-range"), told);
    }
    let all = ask(&server, "GET", "empty").send().await;
    assert_eq!((all.status, all.header("content-length")), (200, "0"));
}

#[tokio::test]
async fn does_not_unpack() {
    let server = start();
    let asking = ask(&server, "PUT", "a").with("content-encoding", "gzip");
    asking.body("packed").send().await;
    let refused = ask(&server, "GET", "a").send().await;
    assert_eq!(refused.refusal(), (501, "NotImplemented"));
    let read = ask(&server, "GET", "a").with("accept-encoding", "gzip");
    let read = read.send().await;
    assert_eq!(read.body, "packed");
    assert_eq!(read.header("x-goog-stored-content-encoding"), "gzip");
}

#[tokio::test]
async fn hashes_what_a_test_repeats() {
    let server = start();
    put(&server, "a", &"hello".repeat(1000)).await;
    server.put_repeated("b", "hello".into(), 1000, "text/plain");
    let hash = async |key| {
        let head = ask(&server, "HEAD", key).send().await;
        let hash = head.header("x-goog-hash").split_once(',').expect("two");
        hash.0.to_owned()
    };
    assert_eq!(hash("a").await, hash("b").await);
}
