//! Names of blobs: which there can be, and how addresses spell them.

use super::super::target::Target;
use super::{get, put, start};

#[tokio::test]
async fn odd_names_are_kept() {
    let server = start();
    for (written, key) in [
        ("/a//b", "a//b"),
        ("//lead", "/lead"),
        ("/end/", "end/"),
        ("/a%20b+c%2Bd", "a b+c+d"),
        ("/100%25", "100%"),
        ("/%C3%A9", "é"),
        ("/line%0Abreak", "line\nbreak"),
        ("/a%3Fb%23c", "a?b#c"),
    ] {
        assert_eq!(put(&server, written, key).await.status, 201, "{written}");
        assert_eq!(server.object(key).as_deref(), Some(key.as_bytes()));
        assert_eq!(get(&server, written, &[]).await.body, key);
    }
}

#[tokio::test]
async fn names_are_read_as_paths() {
    let server = start();
    put(&server, "/a/b../c.", "1").await;
    put(&server, "/d%5Ce", "2").await;
    assert_eq!(server.keys(), ["a/b/c", "d/e"]);
    assert_eq!(get(&server, "/a/b/c.", &[]).await.body, "1");
}

#[test]
fn dots_climb() {
    // Clients take such paths apart before they sign them.
    let parse = |path| Target::parse(path).expect("a path");
    let below = parse("/ferry-bucket/x/%2E%2E/./f");
    assert_eq!(
        (below.container.as_str(), below.key.as_str()),
        ("ferry-bucket", "f")
    );
    let beside = parse("/ferry-bucket/../other/a");
    assert_eq!(
        (beside.container.as_str(), beside.key.as_str()),
        ("other", "a")
    );
}

#[tokio::test]
async fn names_have_limits() {
    let server = start();
    let longest = format!("/{}", "%C3%A9".repeat(1024));
    assert_eq!(put(&server, &longest, "x").await.status, 201);
    let longer = format!("{longest}a");
    assert_eq!(
        put(&server, &longer, "x").await.failure(),
        (400, "InvalidUri")
    );
    let deepest = "/a".repeat(254);
    assert_eq!(put(&server, &deepest, "x").await.status, 201);
    let deeper = "/a".repeat(255);
    assert_eq!(
        put(&server, &deeper, "x").await.failure(),
        (400, "InvalidUri")
    );
    assert_eq!(
        put(&server, "/a%00", "x").await.failure(),
        (400, "InvalidUri")
    );
    assert_eq!(
        put(&server, "/a%FF", "x").await.failure(),
        (400, "InvalidUri")
    );
}
