//! Copies, made at once or in the background.

use crate::Server;

use super::raw::{Answer, ask};
use super::{get, head, put, put_if, start};

/// Copies the blob `a`, on conditions.
async fn copy(server: &Server, to: &str, headers: &[(&str, &str)]) -> Answer {
    let source = format!("{}/ferry-bucket/a", server.endpoint());
    let headers = [&[("x-ms-copy-source", source.as_str())], headers].concat();
    ask(server, "PUT", to, &headers, "").await
}

fn status(answer: &Answer) -> (&str, &str) {
    (
        answer.header("x-ms-copy-status"),
        answer.header("x-ms-copy-progress"),
    )
}

#[tokio::test]
async fn a_copy_is_like_its_source() {
    let server = start();
    put_if(
        &server,
        "/a",
        "hello",
        &[("content-type", "text/a"), ("x-ms-meta-o", "1")],
    )
    .await;
    let copied = copy(&server, "/b", &[]).await;
    assert_eq!(
        (copied.status, copied.header("x-ms-copy-status")),
        (202, "success")
    );
    let answer = get(&server, "/b", &[]).await;
    assert_eq!(answer.body, "hello");
    assert_eq!(answer.header("x-ms-copy-id"), copied.header("x-ms-copy-id"));
    assert_eq!(answer.header("content-type"), "text/a");
    assert_eq!(answer.header("x-ms-meta-o"), "1");
    assert_eq!(answer.header("content-md5"), "XUFAKrxLKna5cZ2REBfFkg==");
    assert_eq!(status(&answer), ("success", "5/5"));
    assert_eq!(answer.etag(), copied.etag());
    copy(&server, "/b", &[("x-ms-meta-p", "2")]).await;
    let answer = head(&server, "/b").await;
    assert_eq!(
        (answer.header("x-ms-meta-o"), answer.header("x-ms-meta-p")),
        ("", "2")
    );
    put(&server, "/b", "other").await;
    assert_eq!(
        status(&head(&server, "/b").await),
        ("", ""),
        "no copy any more"
    );
}

#[tokio::test]
async fn a_copy_keeps_the_blocks() {
    let server = start();
    ask(&server, "PUT", "/a?comp=block&blockid=YQ%3D%3D", &[], "x").await;
    let list = "<BlockList><Latest>YQ==</Latest></BlockList>";
    ask(&server, "PUT", "/a?comp=blocklist", &[], list).await;
    copy(&server, "/b", &[]).await;
    let blocks = get(&server, "/b?comp=blocklist", &[]).await;
    assert!(blocks.body.contains("<Name>YQ==</Name>"), "{}", blocks.body);
}

#[tokio::test]
async fn a_copy_is_made_only_on_its_conditions() {
    let server = start();
    let source = put(&server, "/a", "x").await;
    let target = put(&server, "/b", "y").await;
    for (headers, failure) in [
        (
            ("x-ms-source-if-match", "\"0x1\""),
            (412, "SourceConditionNotMet"),
        ),
        (
            ("x-ms-source-if-none-match", source.etag()),
            (412, "SourceConditionNotMet"),
        ),
        (("if-match", "\"0x1\""), (412, "TargetConditionNotMet")),
        (("if-none-match", "*"), (409, "BlobAlreadyExists")),
        (("x-ms-requires-sync", "true"), (400, "UnsupportedHeader")),
    ] {
        let answer = copy(&server, "/b", &[headers]).await;
        assert_eq!(answer.failure(), failure, "{headers:?}");
    }
    let met = [
        ("x-ms-source-if-match", source.etag()),
        ("if-match", target.etag()),
    ];
    assert_eq!(copy(&server, "/b", &met).await.status, 202);
    assert_eq!(server.object("b").as_deref(), Some(&b"x"[..]));
}

#[tokio::test]
async fn a_copy_needs_a_source_that_is_there() {
    let server = start();
    let endpoint = server.endpoint();
    for (source, failure) in [
        (
            format!("{endpoint}/ferry-bucket/none"),
            (404, "BlobNotFound"),
        ),
        (
            format!("{endpoint}/other/a"),
            (404, "CannotVerifyCopySource"),
        ),
        (
            "http://other.example/ferry-bucket/a".to_owned(),
            (404, "CannotVerifyCopySource"),
        ),
        ("/ferry-bucket/a".to_owned(), (400, "InvalidHeaderValue")),
    ] {
        let headers = [("x-ms-copy-source", source.as_str())];
        let answer = ask(&server, "PUT", "/b", &headers, "").await;
        assert_eq!(answer.failure(), failure, "{source}");
    }
}

#[tokio::test]
async fn a_copy_in_the_background_is_empty_until_it_is_done() {
    let server = start();
    put(&server, "/a", "hello").await;
    server.state().azure.copy_in_background(2, "success");
    let begun = copy(&server, "/b", &[]).await;
    assert_eq!(
        (begun.status, begun.header("x-ms-copy-status")),
        (202, "pending")
    );
    let answer = head(&server, "/b").await;
    assert_eq!(
        (status(&answer), answer.header("content-length")),
        (("pending", "1/5"), "0")
    );
    assert_eq!(answer.etag(), begun.etag());
    for (method, headers) in [
        ("PUT", &[("x-ms-blob-type", "BlockBlob")] as &[_]),
        ("DELETE", &[]),
    ] {
        let answer = ask(&server, method, "/b", headers, "").await;
        assert_eq!(answer.failure(), (409, "PendingCopyOperation"), "{method}");
    }
    let again = copy(&server, "/b", &[]).await;
    assert_eq!(again.failure(), (409, "PendingCopyOperation"));
    let answer = get(&server, "/b", &[]).await;
    assert_eq!(
        (status(&answer), answer.body.as_str()),
        (("pending", "3/5"), "")
    );
    assert_eq!(answer.header("x-ms-copy-completion-time"), "");
    let answer = get(&server, "/b", &[]).await;
    assert_eq!(
        (status(&answer), answer.body.as_str()),
        (("success", "5/5"), "hello")
    );
    assert_ne!(answer.header("x-ms-copy-completion-time"), "");
    assert_ne!(answer.etag(), begun.etag(), "the copy was a write");
}

#[tokio::test]
async fn a_copy_that_ends_badly_leaves_an_empty_blob() {
    for ends in ["failed", "aborted"] {
        let server = start();
        put(&server, "/a", "hello").await;
        put(&server, "/b", "before").await;
        server.state().azure.copy_in_background(1, ends);
        copy(&server, "/b", &[]).await;
        assert_eq!(status(&head(&server, "/b").await).0, "pending");
        let answer = get(&server, "/b", &[]).await;
        assert_eq!((status(&answer), answer.body.as_str()), ((ends, "2/5"), ""));
        assert_eq!(put(&server, "/b", "anew").await.status, 201);
    }
}
