//! Whole blobs, their ranges, conditions and checksums.

use super::raw::ask;
use super::{get, head, put, put_if, start};

#[tokio::test]
async fn a_blob_comes_with_what_was_said_of_it() {
    let server = start();
    let said = [
        ("x-ms-blob-content-type", "text/a"),
        ("content-type", "text/b"),
        ("content-language", "de"),
        ("x-ms-meta-owner", "anna"),
    ];
    let written = put_if(&server, "/a", "hello", &said).await;
    assert_eq!(written.status, 201);
    assert_eq!(written.header("content-md5"), "XUFAKrxLKna5cZ2REBfFkg==");
    assert_eq!(written.header("x-ms-request-server-encrypted"), "true");
    let answer = get(&server, "/a", &[]).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    for (name, value) in [
        ("content-type", "text/a"),
        ("content-language", "de"),
        ("content-length", "5"),
        ("content-md5", "XUFAKrxLKna5cZ2REBfFkg=="),
        ("etag", written.etag()),
        ("last-modified", written.header("last-modified")),
        ("x-ms-blob-type", "BlockBlob"),
        ("x-ms-meta-owner", "anna"),
        ("x-ms-server-encrypted", "true"),
        ("x-ms-version", "2023-11-03"),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    assert!(!answer.header("x-ms-creation-time").is_empty());
    assert!(written.etag().starts_with("\"0x"), "{}", written.etag());
    put(&server, "/b", "x").await;
    let answer = head(&server, "/b").await;
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(
        (answer.header("content-length"), answer.body.as_str()),
        ("1", "")
    );
}

#[tokio::test]
async fn every_write_has_a_tag_of_its_own() {
    let server = start();
    let first = put(&server, "/a", "same").await;
    let second = put(&server, "/a", "same").await;
    assert_ne!(first.etag(), second.etag());
}

#[tokio::test]
async fn a_put_needs_a_type_and_a_length() {
    let server = start();
    let answer = ask(&server, "PUT", "/a", &[], "x").await;
    assert_eq!(answer.failure(), (400, "MissingRequiredHeader"));
    let answer = ask(&server, "PUT", "/a", &[("x-ms-blob-type", "PageBlob")], "x").await;
    assert_eq!(answer.failure(), (501, "NotImplemented"));
    let answer = ask(&server, "PUT", "/a", &[("x-ms-blob-type", "Blob")], "x").await;
    assert_eq!(answer.failure(), (400, "InvalidHeaderValue"));
    assert!(server.keys().is_empty());
}

#[tokio::test]
async fn a_range_is_read_from_either_header() {
    let server = start();
    put(&server, "/a", "hello").await;
    for (header, range, wanted, content_range) in [
        ("range", "bytes=1-2", "el", "bytes 1-2/5"),
        ("x-ms-range", "bytes=3-", "lo", "bytes 3-4/5"),
        ("range", "bytes=2-99", "llo", "bytes 2-4/5"),
    ] {
        let answer = get(&server, "/a", &[(header, range)]).await;
        assert_eq!((answer.status, answer.body.as_str()), (206, wanted));
        assert_eq!(answer.header("content-range"), content_range);
        assert_eq!(answer.header("content-md5"), "");
        assert_eq!(
            answer.header("x-ms-blob-content-md5"),
            "XUFAKrxLKna5cZ2REBfFkg=="
        );
    }
    let both = [("range", "bytes=0-0"), ("x-ms-range", "bytes=4-4")];
    assert_eq!(get(&server, "/a", &both).await.body, "o");
}

#[tokio::test]
async fn a_range_outside_the_blob_is_refused() {
    let server = start();
    put(&server, "/a", "hello").await;
    put(&server, "/empty", "").await;
    for (key, range) in [
        ("/a", "bytes=5-"),
        ("/empty", "bytes=0-"),
        ("/empty", "bytes=0-9"),
    ] {
        let answer = get(&server, key, &[("range", range)]).await;
        assert_eq!(answer.failure(), (416, "InvalidRange"), "{key} {range}");
    }
    let answer = get(&server, "/a", &[("range", "bytes=9-")]).await;
    assert_eq!(answer.header("content-range"), "bytes */5");
    let answer = get(&server, "/a", &[("range", "bytes=-2")]).await;
    assert_eq!(
        answer.failure(),
        (400, "InvalidHeaderValue"),
        "no range from the end"
    );
}

#[tokio::test]
async fn a_write_is_done_only_on_its_condition() {
    let server = start();
    let absent = put_if(&server, "/a", "x", &[("if-match", "\"0x1\"")]).await;
    assert_eq!(absent.failure(), (412, "ConditionNotMet"));
    let created = put_if(&server, "/a", "1", &[("if-none-match", "*")]).await;
    assert_eq!(created.status, 201);
    let again = put_if(&server, "/a", "2", &[("if-none-match", "*")]).await;
    assert_eq!(again.failure(), (409, "BlobAlreadyExists"));
    let same = put_if(&server, "/a", "2", &[("if-none-match", created.etag())]).await;
    assert_eq!(same.failure(), (412, "ConditionNotMet"));
    let unquoted = created.etag().trim_matches('"').to_owned();
    let known = put_if(&server, "/a", "2", &[("if-match", &unquoted)]).await;
    assert_eq!(known.status, 201);
    let stale = put_if(&server, "/a", "3", &[("if-match", created.etag())]).await;
    assert_eq!(stale.failure(), (412, "ConditionNotMet"));
    let past = "Fri, 02 Jan 2015 03:04:05 GMT";
    let newer = put_if(&server, "/a", "3", &[("if-unmodified-since", past)]).await;
    assert_eq!(newer.failure(), (412, "ConditionNotMet"));
    assert_eq!(server.object("a").as_deref(), Some(&b"2"[..]));
}

#[tokio::test]
async fn a_write_has_few_conditions() {
    let server = start();
    for conditions in [
        &[("if-match", "\"0x1\",\"0x2\"")] as &[_],
        &[("if-match", "\"0x1\""), ("if-none-match", "\"0x2\"")],
    ] {
        let answer = put_if(&server, "/a", "x", conditions).await;
        assert_eq!(
            answer.failure(),
            (400, "MultipleConditionHeadersNotSupported")
        );
    }
    let answer = put_if(&server, "/a", "x", &[("if-modified-since", "now")]).await;
    assert_eq!(answer.failure(), (400, "InvalidHeaderValue"));
}

#[tokio::test]
async fn a_read_is_answered_only_on_its_condition() {
    let server = start();
    let written = put(&server, "/a", "x").await;
    let past = "Fri, 02 Jan 2015 03:04:05 GMT";
    let now = written.header("last-modified");
    let either = format!("\"0x1\", {}", written.etag());
    for (headers, status) in [
        (&[("if-none-match", written.etag())] as &[_], 304),
        (&[("if-none-match", either.as_str())], 304),
        (&[("if-modified-since", now)], 304),
        (
            &[("if-none-match", "\"0x1\""), ("if-modified-since", now)],
            200,
        ),
        (&[("if-match", "\"0x1\"")], 412),
        (&[("if-match", either.as_str())], 200),
        (&[("if-match", "*")], 200),
        (&[("if-unmodified-since", past)], 412),
        (&[("if-unmodified-since", now)], 200),
        (&[("if-none-match", "*")], 400),
    ] {
        let answer = get(&server, "/a", headers).await;
        assert_eq!(answer.status, status, "{headers:?}");
        let by_head = ask(&server, "HEAD", "/a", headers, "").await;
        assert_eq!(by_head.status, status, "{headers:?}");
    }
    let answer = get(&server, "/a", &[("if-none-match", written.etag())]).await;
    assert_eq!(
        (answer.header("x-ms-error-code"), answer.body.as_str()),
        ("ConditionNotMet", "")
    );
}

#[tokio::test]
async fn a_delete_is_done_only_on_its_condition() {
    let server = start();
    let written = put(&server, "/a", "x").await;
    let delete = async |headers: &[(&str, &str)]| ask(&server, "DELETE", "/a", headers, "").await;
    let answer = delete(&[("if-match", "\"0x1\"")]).await;
    assert_eq!(answer.failure(), (412, "ConditionNotMet"));
    let answer = delete(&[("x-ms-delete-snapshots", "only")]).await;
    assert_eq!(answer.failure(), (501, "NotImplemented"));
    let known = [
        ("if-match", written.etag()),
        ("x-ms-delete-snapshots", "include"),
    ];
    assert_eq!(delete(&known).await.status, 202);
    assert_eq!(delete(&[]).await.failure(), (404, "BlobNotFound"));
    put(&server, "/a", "x").await;
    server.delete_anyway();
    assert_eq!(delete(&[("if-match", "\"0x1\"")]).await.status, 202);
}

#[tokio::test]
async fn a_checksum_that_is_wrong_is_refused() {
    let server = start();
    let (md5, crc) = ("XUFAKrxLKna5cZ2REBfFkg==", "V0JSBnCFdzM=");
    let wrong_crc = "AAAAAAAAAAA=";
    for (headers, failure) in [
        (
            &[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")] as &[_],
            (400, "Md5Mismatch"),
        ),
        (&[("content-md5", "AAAA")], (400, "InvalidMd5")),
        (&[("x-ms-content-crc64", wrong_crc)], (400, "Crc64Mismatch")),
        (
            &[("content-md5", md5), ("x-ms-content-crc64", crc)],
            (400, "BothCrc64AndMd5HeaderPresent"),
        ),
        (&[("content-md5", md5)], (201, "")),
        (&[("x-ms-content-crc64", crc)], (201, "")),
    ] {
        let answer = put_if(&server, "/a", "hello", headers).await;
        assert_eq!(answer.failure(), failure, "{headers:?} {}", answer.body);
    }
}

#[tokio::test]
async fn metadata_has_names_that_are_identifiers() {
    let server = start();
    for (name, failure) in [
        ("x-ms-meta-a-b", (400, "InvalidMetadata")),
        ("x-ms-meta-1a", (400, "InvalidMetadata")),
        ("x-ms-meta-", (400, "EmptyMetadataKey")),
        ("x-ms-meta-_a1", (201, "")),
    ] {
        let answer = put_if(&server, "/a", "x", &[(name, "v")]).await;
        assert_eq!(answer.failure(), failure, "{name}");
    }
    let long = "v".repeat(9000);
    let answer = put_if(&server, "/a", "x", &[("x-ms-meta-a", &long)]).await;
    assert_eq!(answer.failure(), (400, "MetadataTooLarge"));
}
