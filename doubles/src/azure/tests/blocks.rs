//! Blocks that wait, and the lists that make blobs of them.

use crate::Server;

use super::raw::{Answer, ask};
use super::{get, head, put, start};

async fn put_block(server: &Server, id: &str, body: &str) -> Answer {
    let target = format!("/a?comp=block&blockid={id}");
    ask(server, "PUT", &target, &[], body).await
}

/// Makes the blob `a` of a list of these elements.
async fn put_list(server: &Server, entries: &str, headers: &[(&str, &str)]) -> Answer {
    let list =
        format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<BlockList>{entries}</BlockList>");
    ask(server, "PUT", "/a?comp=blocklist", headers, &list).await
}

async fn blocks(server: &Server, kind: &str) -> Answer {
    let target = format!("/a?comp=blocklist&blocklisttype={kind}");
    get(server, &target, &[]).await
}

/// A block of an answer, as XML has it.
fn block(id: &str, size: u64) -> String {
    format!("<Block><Name>{id}</Name><Size>{size}</Size></Block>")
}

const INVALID_LIST: (u16, &str) = (400, "InvalidBlockList");

#[tokio::test]
async fn a_list_makes_a_blob_in_its_order() {
    let server = start();
    for (id, body) in [("YQ==", "one "), ("Yg==", "two "), ("Yw==", "three")] {
        let answer = put_block(&server, id, body).await;
        assert_eq!(
            (answer.status, answer.etag()),
            (201, ""),
            "a block has no tag"
        );
    }
    let said = [
        ("x-ms-blob-content-type", "text/a"),
        ("content-type", "application/xml"),
        ("x-ms-meta-owner", "anna"),
    ];
    let entries = "\n<Latest>Yg==</Latest>\n<Uncommitted>YQ==</Uncommitted>\n";
    let made = put_list(&server, entries, &said).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let answer = get(&server, "/a", &[]).await;
    assert_eq!(answer.body, "two one ");
    assert_eq!(answer.etag(), made.etag());
    assert_eq!(answer.header("content-type"), "text/a");
    assert_eq!(answer.header("x-ms-meta-owner"), "anna");
    assert_eq!(
        answer.header("content-md5"),
        "",
        "a blob of blocks has none"
    );
    let list = blocks(&server, "all").await;
    assert_eq!(
        list.body,
        format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList><CommittedBlocks>{}{}\
             </CommittedBlocks><UncommittedBlocks></UncommittedBlocks></BlockList>",
            block("Yg==", 4),
            block("YQ==", 4)
        ),
        "the block that was not named is gone"
    );
    assert_eq!(list.etag(), made.etag());
    assert_eq!(list.header("x-ms-blob-content-length"), "8");
}

#[tokio::test]
async fn a_blob_grows_by_blocks() {
    let server = start();
    put_block(&server, "YQ==", "one ").await;
    put_list(&server, "<Latest>YQ==</Latest>", &[]).await;
    put_block(&server, "Yg==", "two").await;
    assert_eq!(
        get(&server, "/a", &[]).await.body,
        "one ",
        "not before the list"
    );
    let md5 = "XUFAKrxLKna5cZ2REBfFkg==";
    let entries = "<Committed>YQ==</Committed><Uncommitted>Yg==</Uncommitted>";
    let grown = put_list(&server, entries, &[("x-ms-blob-content-md5", md5)]).await;
    assert_eq!(grown.status, 201);
    let answer = get(&server, "/a", &[]).await;
    assert_eq!(answer.body, "one two");
    assert_eq!(
        answer.header("content-md5"),
        md5,
        "as was said, true or not"
    );
}

#[tokio::test]
async fn the_latest_block_is_the_one_that_waits() {
    let server = start();
    put_block(&server, "YQ==", "old").await;
    put_list(&server, "<Latest>YQ==</Latest>", &[]).await;
    put_block(&server, "YQ==", "new").await;
    let kept = put_list(&server, "<Committed>YQ==</Committed>", &[]).await;
    assert_eq!(kept.status, 201);
    assert_eq!(get(&server, "/a", &[]).await.body, "old");
    put_block(&server, "YQ==", "new").await;
    put_list(&server, "<Latest>YQ==</Latest>", &[]).await;
    assert_eq!(get(&server, "/a", &[]).await.body, "new");
}

#[tokio::test]
async fn a_list_of_unknown_blocks_is_refused() {
    let server = start();
    put_block(&server, "YQ==", "one").await;
    for entries in [
        "<Latest>Yg==</Latest>",
        "<Committed>YQ==</Committed>",
        "<Latest>YQ==</Latest><Latest>YQ==</Latest>",
    ] {
        let answer = put_list(&server, entries, &[]).await;
        assert_eq!(answer.failure(), INVALID_LIST, "{entries}");
    }
    let invalid = (400, "InvalidXmlDocument");
    for entries in ["<Latest>YQ==</Latest", "<Other>YQ==</Other>"] {
        let answer = put_list(&server, entries, &[]).await;
        assert_eq!(answer.failure(), invalid, "{entries}");
    }
    let answer = ask(&server, "PUT", "/a?comp=blocklist", &[], "<Blocks/>").await;
    assert_eq!(answer.failure(), invalid);
    assert_eq!(server.object("a"), None);
    let long = "<Latest>YQ==</Latest>".repeat(50_001);
    let answer = put_list(&server, &long, &[]).await;
    assert_eq!(answer.failure(), (400, "BlockListTooLong"));
}

#[tokio::test]
async fn a_list_without_blocks_makes_an_empty_blob() {
    let server = start();
    assert_eq!(put_list(&server, "", &[]).await.status, 201);
    assert_eq!(head(&server, "/a").await.header("content-length"), "0");
}

#[tokio::test]
async fn a_list_is_taken_only_on_its_condition() {
    let server = start();
    let first = put(&server, "/a", "x").await;
    put_block(&server, "YQ==", "y").await;
    let entries = "<Latest>YQ==</Latest>";
    let answer = put_list(&server, entries, &[("if-none-match", "*")]).await;
    assert_eq!(answer.failure(), (409, "BlobAlreadyExists"));
    let answer = put_list(&server, entries, &[("if-match", "\"0x1\"")]).await;
    assert_eq!(answer.failure(), (412, "ConditionNotMet"));
    let answer = put_list(&server, entries, &[("if-match", first.etag())]).await;
    assert_eq!(answer.status, 201, "the block was still there");
    assert_eq!(server.object("a").as_deref(), Some(&b"y"[..]));
}

#[tokio::test]
async fn ids_of_one_blob_have_one_length() {
    let server = start();
    put_block(&server, "YQ==", "one").await;
    let answer = put_block(&server, "YWFh", "two").await;
    assert_eq!(answer.failure(), (400, "InvalidBlobOrBlock"));
    let invalid = (400, "InvalidQueryParameterValue");
    let long = "YWFh".repeat(22);
    for id in ["", "a", "a%20b%20", &long] {
        assert_eq!(put_block(&server, id, "x").await.failure(), invalid, "{id}");
    }
    let answer = ask(&server, "PUT", "/a?comp=block", &[], "x").await;
    assert_eq!(answer.failure(), (400, "MissingRequiredQueryParameter"));
    put_list(&server, "<Latest>YQ==</Latest>", &[]).await;
    assert_eq!(
        put_block(&server, "YWFh", "two").await.status,
        201,
        "none waits"
    );
    let entries = "<Committed>YQ==</Committed><Latest>YWFh</Latest>";
    assert_eq!(
        put_list(&server, entries, &[]).await.failure(),
        INVALID_LIST
    );
}

#[tokio::test]
async fn a_block_is_held_against_its_checksum() {
    let server = start();
    let target = "/a?comp=block&blockid=YQ%3D%3D";
    let wrong = [("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")];
    let answer = ask(&server, "PUT", target, &wrong, "hello").await;
    assert_eq!(answer.failure(), (400, "Md5Mismatch"));
    let wrong = [("x-ms-content-crc64", "AAAAAAAAAAA=")];
    let answer = ask(&server, "PUT", target, &wrong, "hello").await;
    assert_eq!(answer.failure(), (400, "Crc64Mismatch"));
    assert_eq!(
        ask(&server, "PUT", target, &[], "").await.status,
        400,
        "no bytes"
    );
    let answer = ask(&server, "PUT", target, &[("if-match", "*")], "hello").await;
    assert_eq!(answer.failure(), (400, "UnsupportedHeader"));
    assert_eq!(
        blocks(&server, "all").await.failure(),
        (404, "BlobNotFound")
    );
    let right = [("content-md5", "XUFAKrxLKna5cZ2REBfFkg==")];
    let answer = ask(&server, "PUT", target, &right, "hello").await;
    assert_eq!(answer.header("content-md5"), right[0].1);
}

#[tokio::test]
async fn blocks_are_listed_by_kind() {
    let server = start();
    assert_eq!(
        blocks(&server, "all").await.failure(),
        (404, "BlobNotFound")
    );
    put_block(&server, "YQ==", "one").await;
    let list = blocks(&server, "uncommitted").await;
    let waiting = format!(
        "<UncommittedBlocks>{}</UncommittedBlocks>",
        block("YQ==", 3)
    );
    assert!(
        list.body
            .ends_with(&format!("<BlockList>{waiting}</BlockList>")),
        "{}",
        list.body
    );
    assert_eq!(
        (list.etag(), list.header("x-ms-blob-content-length")),
        ("", "0")
    );
    assert_eq!(head(&server, "/a").await.status, 404, "no blob yet");
    let answer = blocks(&server, "other").await;
    assert_eq!(answer.failure(), (400, "InvalidQueryParameterValue"));
    let put = put(&server, "/a", "whole").await;
    let list = get(&server, "/a?comp=blocklist", &[]).await;
    let none = "<BlockList><CommittedBlocks></CommittedBlocks></BlockList>";
    assert!(list.body.ends_with(none), "{}", list.body);
    assert_eq!(
        (list.etag(), list.header("x-ms-blob-content-length")),
        (put.etag(), "5")
    );
    let list = blocks(&server, "uncommitted").await;
    assert!(
        !list.body.contains("YQ=="),
        "a put drops them: {}",
        list.body
    );
    assert_eq!(server.count("GetBlockList"), 5);
}

#[tokio::test]
async fn only_so_many_blocks_wait() {
    let server = start();
    let content = crate::bucket::Content::new(vec!["x".into()]);
    let ids = (0..100_000).map(|id| ("a".to_owned(), base64_of(id)));
    let blocks = ids.map(|name| (name, content.clone()));
    server.state().staged.extend(blocks);
    let answer = put_block(&server, &base64_of(100_000), "x").await;
    assert_eq!(answer.failure(), (409, "BlockCountExceedsLimit"));
    assert_eq!(
        put_block(&server, &base64_of(1), "x").await.status,
        201,
        "one of them"
    );
}

fn base64_of(id: u32) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("{id:06}"))
}
