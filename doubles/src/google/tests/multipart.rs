//! Uploads in parts, as raw requests.

use super::raw::Answer;
use super::{ask, ask_bucket, put, start};
use crate::Server;
use crate::bucket::MIN_PART;

async fn begin(server: &Server, target: &str) -> String {
    let asking = ask(server, "POST", &format!("{target}?uploads"));
    let begun = asking.with("content-type", "text/plain").send().await;
    assert_eq!(begun.status, 200, "{begun:?}");
    begun.element("UploadId").to_owned()
}

/// Uploads a part, and gives its tag with its quotes.
async fn upload(server: &Server, target: &str, id: &str, number: u32, body: &[u8]) -> String {
    let target = format!("{target}?partNumber={number}&uploadId={id}");
    let uploaded = ask(server, "PUT", &target).body(body).send().await;
    assert_eq!(uploaded.status, 200, "{uploaded:?}");
    uploaded.header("etag").to_owned()
}

async fn complete(server: &Server, target: &str, id: &str, parts: &[(u32, &str)]) -> Answer {
    let parts = parts.iter().map(|(number, tag)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
    });
    let body = format!(
        "<CompleteMultipartUpload>{}</CompleteMultipartUpload>",
        parts.collect::<String>()
    );
    let asking = ask(server, "POST", &format!("{target}?uploadId={id}"));
    // It is no condition: uploads in parts have none.
    let asking = asking.with("x-goog-if-generation-match", "0");
    asking.body(body).send().await
}

fn large() -> Vec<u8> {
    vec![b'a'; usize::try_from(MIN_PART).expect("a size")]
}

#[tokio::test]
async fn object_of_parts_has_no_md5() {
    let server = start();
    put(&server, "a", "is replaced").await;
    let id = begin(&server, "a").await;
    let first = upload(&server, "a", &id, 1, &large()).await;
    let last = upload(&server, "a", &id, 3, b"end").await;
    let made = complete(&server, "a", &id, &[(1, &first), (3, &last)]).await;
    assert_eq!(made.status, 200, "{made:?}");
    assert!(made.element("ETag").starts_with("\"-"), "{made:?}");
    let whole = [large(), b"end".to_vec()].concat();
    let simple = ask(&server, "PUT", "b").body(whole).send().await;
    let (crc32c, _) = simple.header("x-goog-hash").split_once(',').expect("two");
    let head = ask(&server, "HEAD", "a").send().await;
    assert_eq!(head.header("x-goog-hash"), crc32c);
    assert_eq!(head.header("etag"), made.element("ETag"));
    assert_eq!(head.header("content-type"), "text/plain");
    let done = complete(&server, "a", &id, &[(1, &first)]).await;
    assert_eq!(done.refusal(), (404, "NoSuchUpload"));
}

#[tokio::test]
async fn parts_fit_together() {
    let server = start();
    let id = begin(&server, "a").await;
    let small = upload(&server, "a", &id, 1, b"small").await;
    let last = upload(&server, "a", &id, 2, b"end").await;
    let refused = async |parts: &[(u32, &str)]| {
        let refused = complete(&server, "a", &id, parts).await;
        let (status, code) = refused.refusal();
        assert_eq!(status, 400, "{refused:?}");
        code.to_owned()
    };
    let in_order = [(1, small.as_str()), (2, &last)];
    assert_eq!(refused(&in_order).await, "EntityTooSmall");
    let reversed = [(2, last.as_str()), (1, &small)];
    assert_eq!(refused(&reversed).await, "InvalidPartOrder");
    assert_eq!(refused(&[(1, "\"other\"")]).await, "InvalidPart");
    assert_eq!(refused(&[(7, &small)]).await, "InvalidPart");
    assert_eq!(refused(&[]).await, "MalformedXML");
    assert_eq!(server.open_uploads().len(), 1, "it stays open");
    let bare = small.trim_matches('"');
    assert_eq!(complete(&server, "a", &id, &[(1, bare)]).await.status, 200);
}

#[tokio::test]
async fn checks_parts_as_they_come() {
    let server = start();
    let id = begin(&server, "a").await;
    let upload = |query: String| ask(&server, "PUT", &format!("a?{query}"));
    let target = format!("partNumber=1&uploadId={id}");
    let asking = upload(target.clone()).with("x-goog-hash", "crc32c=AAAAAA==");
    let refused = asking.body("hello").send().await;
    assert_eq!(refused.refusal(), (400, "BadDigest"));
    let taken = upload(target).body("hello").send().await;
    assert_eq!(
        taken.header("x-goog-hash"),
        "crc32c=mnG7TA==,md5=XUFAKrxLKna5cZ2REBfFkg=="
    );
    for number in ["0", "10001", "x", ""] {
        let target = format!("partNumber={number}&uploadId={id}");
        let refused = upload(target).body("hello").send().await;
        assert_eq!(refused.refusal(), (400, "InvalidArgument"));
    }
    let unknown = upload("partNumber=1&uploadId=none".to_owned());
    let refused = unknown.body("hello").send().await;
    assert_eq!(refused.refusal(), (404, "NoSuchUpload"));
}

#[tokio::test]
async fn lists_parts_by_page() {
    let server = start();
    let id = begin(&server, "a").await;
    for number in 1..=3 {
        upload(&server, "a", &id, number, b"hello").await;
    }
    let list = async |query: &str| {
        let target = format!("a?uploadId={id}{query}");
        ask(&server, "GET", &target).send().await
    };
    let page = list("&max-parts=2").await;
    assert_eq!(page.elements("PartNumber"), ["1", "2"]);
    assert_eq!(page.elements("Size"), ["5", "5"]);
    assert_eq!(page.element("IsTruncated"), "true");
    assert_eq!(page.element("NextPartNumberMarker"), "2");
    let page = list("&max-parts=2&part-number-marker=2").await;
    assert_eq!(page.elements("PartNumber"), ["3"]);
    assert_eq!(page.element("IsTruncated"), "false");
}

#[tokio::test]
async fn lists_and_aborts_uploads() {
    let server = start();
    let ids = [
        begin(&server, "in/a").await,
        begin(&server, "in/a").await,
        begin(&server, "in/%C3%A9").await,
    ];
    begin(&server, "out").await;
    let list = async |query: &str| {
        let query = format!("?uploads&prefix=in/&encoding-type=url{query}");
        ask_bucket(&server, "GET", &query).send().await
    };
    let page = list("&max-uploads=1").await;
    assert_eq!(page.elements("UploadId"), [&ids[0]]);
    assert_eq!(page.element("NextKeyMarker"), "in/a");
    let next = page.element("NextUploadIdMarker");
    let rest = list(&format!("&key-marker=in/a&upload-id-marker={next}")).await;
    assert_eq!(rest.elements("UploadId"), [&ids[1], &ids[2]]);
    assert_eq!(rest.elements("Key"), ["in/a", "in/%C3%A9"]);
    assert_eq!(rest.element("IsTruncated"), "false");
    let target = format!("in/a?uploadId={}", ids[0]);
    assert_eq!(ask(&server, "DELETE", &target).send().await.status, 204);
    let again = ask(&server, "DELETE", &target).send().await;
    assert_eq!(again.refusal(), (404, "NoSuchUpload"));
    assert_eq!(server.open_uploads().len(), 3);
}
