//! Listings by page, with keys as odd as they come.

use super::raw::Answer;
use super::{ask_bucket, put, start};
use crate::Server;

const ODD: [&str; 8] = [
    "%25", "a//b", "a/b%20c", "a/b%2Bc", "a/d/", "a0", "b%26c", "%C3%A9",
];

async fn with_odd_keys() -> Server {
    let server = start();
    for key in ODD {
        put(&server, key, "x").await;
    }
    server
}

async fn list(server: &Server, query: &str) -> Answer {
    let query = format!("?list-type=2{query}");
    let page = ask_bucket(server, "GET", &query).send().await;
    assert_eq!(page.status, 200, "{page:?}");
    page
}

/// All entries, page by page, keys before prefixes.
async fn list_all(server: &Server, query: &str, limit: usize) -> Vec<String> {
    let mut all = Vec::new();
    let mut from = String::new();
    loop {
        let page = list(server, &format!("{query}&max-keys={limit}{from}")).await;
        let prefixes = page.elements("CommonPrefixes").into_iter();
        let prefixes = prefixes.map(|inside| {
            let inside = inside.trim_start_matches("<Prefix>");
            inside.trim_end_matches("</Prefix>")
        });
        let entries = page.elements("Key").into_iter().chain(prefixes);
        let entries: Vec<_> = entries.map(str::to_owned).collect();
        assert_eq!(page.element("KeyCount"), entries.len().to_string());
        assert!(entries.len() <= limit);
        all.extend(entries);
        if page.element("IsTruncated") == "false" {
            return all;
        }
        from = format!(
            "&continuation-token={}",
            page.element("NextContinuationToken")
        );
    }
}

#[tokio::test]
async fn tells_of_each_object() {
    let server = start();
    let generation = put(&server, "a", "hello").await;
    let page = list(&server, "").await;
    assert_eq!(page.element("Name"), "ferry-bucket");
    assert_eq!(page.element("Generation"), generation);
    assert_eq!(page.element("MetaGeneration"), "1");
    assert_eq!(page.element("Size"), "5");
    assert_eq!(page.element("ETag"), "\"5d41402abc4b2a76b9719d911017c592\"");
    assert_eq!(
        page.element("LastModified").len(),
        "2013-02-15T00:21:37.000Z".len()
    );
}

#[tokio::test]
async fn lists_odd_keys_whatever_the_page() {
    let server = with_odd_keys().await;
    for limit in [1, 2, 3, 1000] {
        let keys = list_all(&server, "&encoding-type=url", limit).await;
        assert_eq!(keys, ODD.map(|key| key.replace("%2F", "/")));
    }
    let plain = list_all(&server, "", 3).await;
    let keys = ["%", "a//b", "a/b c", "a/b+c", "a/d/", "a0", "b&amp;c", "é"];
    assert_eq!(plain, keys);
}

#[tokio::test]
async fn groups_by_delimiter() {
    let server = with_odd_keys().await;
    for limit in [1, 2, 1000] {
        let mut top = list_all(&server, "&delimiter=/", limit).await;
        top.sort();
        assert_eq!(top, ["%", "a/", "a0", "b&amp;c", "é"]);
        let mut inner = list_all(&server, "&delimiter=/&prefix=a%2F", limit).await;
        inner.sort();
        assert_eq!(inner, ["a//", "a/b c", "a/b+c", "a/d/"]);
    }
}

#[tokio::test]
async fn starts_after_a_key() {
    let server = with_odd_keys().await;
    let keys = list_all(&server, "&start-after=a/d/", 1).await;
    assert_eq!(keys, ["a0", "b&amp;c", "é"]);
    let spaced = list_all(&server, "&prefix=a/&start-after=a/b+c", 10).await;
    assert_eq!(spaced, ["a/b+c", "a/d/"], "a plus is a space in a query");
}

#[tokio::test]
async fn a_page_has_at_most_1000_keys() {
    let server = start();
    for number in 0..1001 {
        server.put(&format!("{number:04}"), "");
    }
    let page = list(&server, "&max-keys=5000").await;
    assert_eq!(page.elements("Key").len(), 1000);
    assert_eq!(page.element("MaxKeys"), "1000");
    assert_eq!(page.element("IsTruncated"), "true");
}

#[tokio::test]
async fn refuses_parameters_that_mean_nothing() {
    let server = start();
    for query in [
        "max-keys=many",
        "max-keys=-1",
        "encoding-type=base64",
        "continuation-token=%21",
    ] {
        let query = format!("?list-type=2&{query}");
        let refused = ask_bucket(&server, "GET", &query).send().await;
        assert_eq!(refused.refusal(), (400, "InvalidArgument"), "{query}");
    }
}
