//! Who is let in, and what is refused whoever asks.

use super::super::{ACCOUNT, KEY};
use super::raw::{ask, header_lines, send, signed, unsigned};
use super::{BLOCK_BLOB, get, head, put, start};

#[tokio::test]
async fn a_wrong_signature_is_refused_before_the_gate() {
    let server = start();
    server.put("a", "x");
    let guess = "Z3Vlc3M=";
    let request = signed(&server, "GET", "/ferry-bucket/a", &[], "", guess);
    let answer = send(&server, &request, "").await;
    assert_eq!(answer.failure(), (403, "AuthenticationFailed"));
    assert!(
        answer.body.contains("string to sign: 'GET\n"),
        "{}",
        answer.body
    );
    assert_eq!(server.requests(), ["Rejected GET /ferry-bucket/a"]);
}

#[tokio::test]
async fn every_header_is_part_of_the_signature() {
    let server = start();
    let headers = [BLOCK_BLOB, ("x-ms-meta-a", "1"), ("content-type", "text/a")];
    for (name, value) in [
        ("x-ms-meta-a", "2"),
        ("content-type", "text/b"),
        ("if-match", "\"0x1\""),
    ] {
        let mut request = signed(&server, "PUT", "/ferry-bucket/a", &headers, "x", KEY);
        request
            .headers_mut()
            .insert(name, value.parse().expect("a value"));
        let answer = send(&server, &request, "x").await;
        assert_eq!(answer.failure(), (403, "AuthenticationFailed"), "{name}");
    }
    let mut request = signed(&server, "PUT", "/ferry-bucket/a", &headers, "x", KEY);
    let other = format!("{}/ferry-bucket/b", server.endpoint());
    *request.uri_mut() = other.parse().expect("an address");
    assert_eq!(send(&server, &request, "x").await.status, 403);
    assert!(server.keys().is_empty());
}

#[tokio::test]
async fn a_request_without_credentials_is_asked_for_them() {
    let server = start();
    let version = ("x-ms-version", "2023-11-03");
    let request = unsigned(&server, "GET", "/ferry-bucket/a", &[version], "");
    let answer = send(&server, &request, "").await;
    assert_eq!(answer.failure(), (401, "NoAuthenticationInformation"));
    let foreign = [version, ("authorization", "Bearer x")];
    let request = unsigned(&server, "GET", "/ferry-bucket/a", &foreign, "");
    let answer = send(&server, &request, "").await;
    assert_eq!(answer.failure(), (400, "InvalidAuthenticationInfo"));
    assert_eq!(server.count("Rejected"), 2);
}

#[tokio::test]
async fn a_date_and_a_version_are_required() {
    let server = start();
    for (name, failure) in [
        ("date", (403, "AuthenticationFailed")),
        ("x-ms-version", (400, "MissingRequiredHeader")),
    ] {
        let mut request = signed(&server, "GET", "/ferry-bucket/a", &[], "", KEY);
        request.headers_mut().remove(name);
        assert_eq!(
            send(&server, &request, "").await.failure(),
            failure,
            "{name}"
        );
    }
    let mut request = signed(&server, "GET", "/ferry-bucket/a", &[], "", KEY);
    let old = "Fri, 02 Jan 2026 03:04:05 GMT".parse().expect("a value");
    request.headers_mut().insert("x-ms-date", old);
    let answer = send(&server, &request, "").await;
    assert!(answer.body.contains("too old"), "{}", answer.body);
}

#[tokio::test]
async fn an_unknown_container_is_not_found() {
    let server = start();
    let request = signed(&server, "GET", "/other/a", &[], "", KEY);
    let answer = send(&server, &request, "").await;
    assert_eq!(answer.failure(), (404, "ContainerNotFound"));
    let answer = get(&server, "?restype=container", &[]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(head(&server, "?restype=container").await.status, 200);
    assert_eq!(server.count("HeadBucket"), 2);
}

#[tokio::test]
async fn an_error_tells_its_code_in_header_and_body() {
    let server = start();
    let named = [("x-ms-client-request-id", "mine")];
    let answer = get(&server, "/none", &named).await;
    assert_eq!(answer.failure(), (404, "BlobNotFound"));
    assert_eq!(answer.header("x-ms-client-request-id"), "mine");
    let begin = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>BlobNotFound</Code><Message>The \
         specified blob does not exist.\nRequestId:{}\nTime:",
        answer.header("x-ms-request-id")
    );
    assert!(answer.body.starts_with(&begin), "{}", answer.body);
    assert!(
        answer.body.ends_with("Z</Message></Error>"),
        "{}",
        answer.body
    );
    let answer = head(&server, "/none").await;
    assert_eq!(answer.failure(), (404, "BlobNotFound"));
    assert_eq!(answer.body, "");
}

#[tokio::test]
async fn what_is_not_known_is_never_done() {
    let server = start();
    put(&server, "/a", "x").await;
    for (method, target, failure) in [
        (
            "GET",
            "/a?snapshot=2026",
            (400, "UnsupportedQueryParameter"),
        ),
        ("PUT", "/a?comp=metadata", (501, "NotImplemented")),
        ("PUT", "?restype=container", (501, "NotImplemented")),
        ("GET", "", (400, "InvalidUri")),
        ("PATCH", "/a", (501, "NotImplemented")),
    ] {
        let answer = ask(&server, method, target, &[], "").await;
        assert_eq!(answer.failure(), failure, "{method} {target}");
    }
    for header in [
        "x-ms-lease-id",
        "x-ms-legal-hold",
        "x-ms-rehydrate-priority",
    ] {
        let answer = ask(&server, "PUT", "/a", &[BLOCK_BLOB, (header, "x")], "y").await;
        assert_eq!(answer.failure(), (400, "UnsupportedHeader"), "{header}");
    }
    assert_eq!(server.object("a").as_deref(), Some(&b"x"[..]));
}

#[tokio::test]
async fn a_batch_answers_each_of_its_parts() {
    let server = start();
    for key in ["a", "b", "c"] {
        server.put(key, "x");
    }
    let tag = head(&server, "/a").await.etag().to_owned();
    let good = signed(
        &server,
        "DELETE",
        "/ferry-bucket/a",
        &[("if-match", &tag)],
        "",
        KEY,
    );
    let stale = signed(
        &server,
        "DELETE",
        "/ferry-bucket/b",
        &[("if-match", &tag)],
        "",
        KEY,
    );
    let forged = signed(&server, "DELETE", "/ferry-bucket/c", &[], "", "Z3Vlc3M=");
    let part = |(id, request): (usize, &object_store::client::HttpRequest)| {
        format!(
            "--x\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\
             Content-ID: {id}\r\n\r\nDELETE {} HTTP/1.1\r\n{}\r\n\r\n",
            request.uri().path(),
            header_lines(request)
        )
    };
    let parts = [&good, &stale, &forged].into_iter().enumerate().map(part);
    let body = parts.collect::<String>() + "--x--\r\n";
    let kind = [("content-type", "multipart/mixed; boundary=x")];
    let answer = ask(
        &server,
        "POST",
        "?restype=container&comp=batch",
        &kind,
        &body,
    )
    .await;
    assert_eq!(answer.status, 202);
    for line in [
        "Content-ID: 0\r\n\r\nHTTP/1.1 202 Accepted\r\n",
        "Content-ID: 1\r\n\r\nHTTP/1.1 412 The condition",
        "Content-ID: 2\r\n\r\nHTTP/1.1 403 Server failed",
    ] {
        assert!(answer.body.contains(line), "{line} in {}", answer.body);
    }
    assert_eq!(server.keys(), ["b", "c"]);
    let answer = ask(
        &server,
        "POST",
        "?restype=container&comp=batch",
        &kind,
        "no parts",
    )
    .await;
    assert_eq!(answer.status, 202);
    assert!(
        answer.body.contains("x-ms-error-code: InvalidInput"),
        "{}",
        answer.body
    );
    assert!(!answer.body.contains("Content-ID"), "{}", answer.body);
}

#[test]
fn the_options_name_the_account() {
    let options = super::super::Azure::options("http://127.0.0.1:1");
    assert!(options.contains(&("azure_storage_account_name", ACCOUNT.to_owned())));
    assert!(options.contains(&("azure_storage_endpoint", "http://127.0.0.1:1".to_owned())));
}
