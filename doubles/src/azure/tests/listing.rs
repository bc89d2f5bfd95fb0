//! Listings, whatever the names in them.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::Server;

use super::raw::Answer;
use super::{get, put, put_if, start};

async fn list(server: &Server, query: &str) -> Answer {
    let target = format!("?restype=container&comp=list{query}");
    get(server, &target, &[]).await
}

/// What elements of this name hold, decoded.
fn elements(text: &str, name: &str) -> Vec<String> {
    let begin = format!("<{name}");
    let pieces = text.split(&begin).skip(1);
    let pieces = pieces.filter_map(|piece| piece.split_once('>'));
    let values = pieces.map(|(attributes, rest)| {
        let value = rest.split("</").next().expect("an end");
        let value = quick_xml::escape::unescape(value).expect("escaped text");
        match attributes {
            " Encoded=\"true\"" => percent_decode_str(&value).decode_utf8_lossy().into_owned(),
            _ => value.into_owned(),
        }
    });
    values.collect()
}

/// Every name of a listing, in pages of `limit`.
async fn names(server: &Server, query: &str, limit: usize) -> Vec<String> {
    let mut names = Vec::new();
    let mut marker = String::new();
    loop {
        let query = format!("{query}&maxresults={limit}&marker={marker}");
        let page = list(server, &query).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let mut entries = elements(&page.body, "Name");
        assert!(entries.len() <= limit);
        names.append(&mut entries);
        match elements(&page.body, "NextMarker").pop() {
            Some(next) if !next.is_empty() && page.body.contains("</NextMarker>") => {
                marker = utf8_percent_encode(&next, NON_ALPHANUMERIC).to_string();
            }
            _ => return names,
        }
    }
}

#[tokio::test]
async fn a_listing_describes_its_blobs() {
    let server = start();
    let said = [("content-type", "text/a"), ("x-ms-meta-owner", "a<b")];
    let written = put_if(&server, "/a", "hello", &said).await;
    let answer = list(&server, "&include=metadata,copy").await;
    assert_eq!(answer.header("content-type"), "application/xml");
    let begin = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults \
         ServiceEndpoint=\"{}/\" ContainerName=\"ferry-bucket\">",
        server.endpoint()
    );
    assert!(answer.body.starts_with(&begin), "{}", answer.body);
    assert!(answer.body.ends_with("<NextMarker /></EnumerationResults>"));
    for (name, value) in [
        ("Etag", written.etag().trim_matches('"')),
        ("Content-Length", "5"),
        ("Content-Type", "text/a"),
        ("Content-MD5", "XUFAKrxLKna5cZ2REBfFkg=="),
        ("Last-Modified", written.header("last-modified")),
        ("BlobType", "BlockBlob"),
        ("owner", "a<b"),
    ] {
        assert_eq!(elements(&answer.body, name), [value], "{name}");
    }
}

#[tokio::test]
async fn blocks_that_wait_are_not_listed() {
    let server = start();
    let target = "/a?comp=block&blockid=YQ%3D%3D";
    super::raw::ask(&server, "PUT", target, &[], "x").await;
    assert_eq!(names(&server, "", 10).await, [""; 0]);
    let answer = list(&server, "&include=uncommittedblobs").await;
    assert_eq!(answer.failure(), (501, "NotImplemented"));
}

#[tokio::test]
async fn odd_names_are_listed_once_whatever_the_page() {
    let server = start();
    let keys = [
        "/lead",
        "100%",
        "a",
        "a b",
        "a&<b>",
        "a+b",
        "a/",
        "a//b",
        "a/1",
        "line\nbreak",
        "tab\tand é",
        "x\u{1}y/",
        "é",
        "\u{fffe}",
    ];
    for key in keys {
        let escaped = utf8_percent_encode(key, NON_ALPHANUMERIC);
        assert_eq!(put(&server, &format!("/{escaped}"), "x").await.status, 201);
    }
    for limit in [1, 2, 3, 5000] {
        assert_eq!(names(&server, "", limit).await, keys);
    }
    let raw = list(&server, "&prefix=line").await.body;
    assert!(
        raw.contains("<Name Encoded=\"true\">line%0Abreak</Name>"),
        "{raw}"
    );
}

#[tokio::test]
async fn names_are_grouped_by_a_delimiter() {
    let server = start();
    for key in [
        "a", "a b/c", "a/", "a//b", "a/1", "a/2/x", "a/2/y", "a0", "b\n/x", "/lead",
    ] {
        server.put(key, "");
    }
    for limit in [1, 2, 5000] {
        let top = names(&server, "&delimiter=/", limit).await;
        assert_eq!(top, ["/", "a", "a b/", "a/", "a0", "b\n/"]);
        let below = names(&server, "&delimiter=%2F&prefix=a/", limit).await;
        assert_eq!(below, ["a/", "a//", "a/1", "a/2/"]);
        let space = names(&server, "&prefix=a+b/", limit).await;
        assert_eq!(space, ["a b/c"]);
        let from = names(&server, "&startFrom=a/1", limit).await;
        assert_eq!(from, ["a/1", "a/2/x", "a/2/y", "a0", "b\n/x"]);
    }
    let body = list(&server, "&delimiter=/").await.body;
    let prefix = "<BlobPrefix><Name>a b/</Name></BlobPrefix>";
    assert!(body.contains(prefix), "{body}");
    assert!(body.contains("<Delimiter>/</Delimiter>"), "{body}");
}

#[tokio::test]
async fn pages_have_limits() {
    let server = start();
    for (query, failure) in [
        ("&maxresults=0", (400, "OutOfRangeQueryParameterValue")),
        ("&maxresults=many", (400, "InvalidQueryParameterValue")),
        ("&marker=elsewhere", (400, "InvalidQueryParameterValue")),
        ("&include=everything", (400, "InvalidQueryParameterValue")),
        ("&other=1", (400, "UnsupportedQueryParameter")),
    ] {
        assert_eq!(list(&server, query).await.failure(), failure, "{query}");
    }
    for key in 0..5001 {
        server.put(&format!("{key:04}"), "");
    }
    let answer = list(&server, "&maxresults=9999").await;
    assert_eq!(elements(&answer.body, "Name").len(), 5000);
    assert_eq!(names(&server, "", 5000).await.len(), 5001);
}
