//! Requests that are refused, and how.

use super::raw::Asking;
use super::{ask, ask_bucket, put, start};

#[tokio::test]
async fn rejects_a_wrong_token() {
    let server = start();
    let asking = ask(&server, "PUT", "a").with("authorization", "Bearer guess");
    let refused = asking.body("bytes").send().await;
    assert_eq!(refused.refusal(), (401, "AuthenticationRequired"));
    assert_eq!(server.keys(), Vec::<String>::new());
    assert_eq!(server.requests(), ["Rejected PUT /ferry-bucket/a"]);
}

#[tokio::test]
async fn knows_one_bucket() {
    let server = start();
    for target in ["/other/a", "/other?list-type=2"] {
        let refused = Asking::new(&server, "GET", target).send().await;
        assert_eq!(refused.refusal(), (404, "NoSuchBucket"));
    }
    let head = ask_bucket(&server, "HEAD", "").send().await;
    assert_eq!((head.status, server.count("HeadBucket")), (200, 1));
}

#[tokio::test]
async fn tells_a_missing_object() {
    let server = start();
    let refused = ask(&server, "GET", "no%20such").send().await;
    assert_eq!(refused.refusal(), (404, "NoSuchKey"));
    assert_eq!(refused.element("Details"), "No such object: no such");
    assert_eq!(
        refused.header("content-type"),
        "application/xml; charset=UTF-8"
    );
    let head = ask(&server, "HEAD", "no%20such").send().await;
    assert_eq!((head.status, head.body.as_str()), (404, ""));
}

#[tokio::test]
async fn checks_claims_about_a_body() {
    let server = start();
    let put = |name: &str, value: &str| {
        let asking = ask(&server, "PUT", "a").with(name, value);
        asking.body("hello").send()
    };
    let (md5, crc32c) = ("XUFAKrxLKna5cZ2REBfFkg==", "mnG7TA==");
    let other = "1B2M2Y8AsgTpgAmY7PhCfg==";
    for (name, value) in [
        ("content-md5", other.to_owned()),
        ("x-goog-hash", format!("md5={other}")),
        ("x-goog-hash", format!("crc32c=AAAAAA==,md5={md5}")),
        ("x-goog-hash", format!("crc32c={crc32c}, md5={other}")),
    ] {
        let refused = put(name, &value).await;
        assert_eq!(refused.refusal(), (400, "BadDigest"), "{value}");
    }
    for (name, value) in [
        ("content-md5", "hello"),
        ("x-goog-hash", "md5=mnG7TA=="),
        ("x-goog-hash", "crc32c=XUFAKrxLKna5cZ2REBfFkg=="),
    ] {
        let refused = put(name, value).await;
        assert_eq!(refused.refusal(), (400, "InvalidDigest"), "{value}");
    }
    let unknown = put("x-goog-hash", "sha1=AAAA").await;
    assert_eq!(unknown.refusal(), (400, "InvalidArgument"));
    assert_eq!(server.keys(), Vec::<String>::new());
    assert_eq!(put("content-md5", md5).await.status, 200);
    let both = format!("crc32c={crc32c},md5={md5}");
    assert_eq!(put("x-goog-hash", &both).await.status, 200);
}

#[tokio::test]
async fn refuses_what_it_does_not_know() {
    let server = start();
    put(&server, "a", "bytes").await;
    let refused = [
        ask(&server, "GET", "a?acl"),
        ask(&server, "PUT", "a?tagging"),
        ask(&server, "PATCH", "a"),
        ask(&server, "POST", "a"),
        ask_bucket(&server, "GET", ""),
        ask_bucket(&server, "GET", "?location"),
        ask_bucket(&server, "GET", "?list-type=2&versions=true"),
        ask_bucket(&server, "DELETE", ""),
        Asking::new(&server, "GET", "/"),
        ask(&server, "PUT", "a").with("x-goog-acl", "public-read"),
        ask(&server, "GET", "a").with("x-goog-storage-class", "COLDLINE"),
        ask(&server, "PUT", "a").with("x-amz-meta-a", "b"),
        ask(&server, "GET", "a").with("if-range", "\"a\""),
    ];
    for asking in refused {
        let answer = asking.send().await;
        assert_eq!(answer.refusal(), (501, "NotImplemented"), "{answer:?}");
    }
    assert_eq!(server.object("a").as_deref(), Some(&b"bytes"[..]));
}

#[tokio::test]
async fn refuses_keys_that_are_none() {
    let server = start();
    for key in ["%0A", "%2E%2E", &"x".repeat(1025)] {
        let refused = ask(&server, "PUT", key).body("x").send().await;
        assert_eq!(refused.refusal(), (400, "InvalidArgument"), "{key}");
    }
    let refused = ask(&server, "PUT", "%FF").body("x").send().await;
    assert_eq!(refused.refusal(), (400, "InvalidURI"));
}

#[tokio::test]
async fn words_fit_a_planned_status() {
    let server = start();
    for (status, code) in [
        (403, "AccessDenied"),
        (404, "NoSuchKey"),
        (412, "PreconditionFailed"),
        (429, "SlowDown"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
    ] {
        server.fail_next("PutObject", 1, status);
        let refused = ask(&server, "PUT", "a").body("x").send().await;
        assert_eq!(refused.refusal(), (status, code));
    }
    assert_eq!(server.keys(), Vec::<String>::new());
}
