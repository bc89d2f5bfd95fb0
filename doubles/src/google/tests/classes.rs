//! Storage classes.

use super::raw::Answer;
use super::{ask, ask_bucket, put, start};
use crate::Server;

const CLASS: &str = "x-goog-storage-class";

async fn put_as(server: &Server, target: &str, class: &str) -> Answer {
    let asking = ask(server, "PUT", target).with(CLASS, class);
    asking.body("hello").send().await
}

#[tokio::test]
async fn a_class_is_told_with_every_answer_but_not_listed() {
    let server = start();
    for class in ["NEARLINE", "COLDLINE", "ARCHIVE", "STANDARD"] {
        let written = put_as(&server, "a", class).await;
        let read = ask(&server, "GET", "a").send().await;
        let head = ask(&server, "HEAD", "a").send().await;
        for answer in [written, read, head] {
            let told = (answer.status, answer.header(CLASS));
            assert_eq!(told, (200, class), "{answer:?}");
        }
        let kept = Some(class).filter(|class| *class != "STANDARD");
        assert_eq!(server.storage_class("a").as_deref(), kept);
    }
    server.set_class_and_tags("a", Some("NEARLINE"), &[]);
    let read = ask(&server, "HEAD", "a").send().await;
    assert_eq!(read.header(CLASS), "NEARLINE");
    let listed = ask_bucket(&server, "GET", "?list-type=2").send().await;
    assert_eq!(listed.element("Key"), "a");
    assert!(listed.elements("StorageClass").is_empty(), "{listed:?}");
}

#[tokio::test]
async fn what_is_no_class_is_refused() {
    let server = start();
    put(&server, "a", "hello").await;
    let body = "<ComposeRequest><Component><Name>a</Name></Component></ComposeRequest>";
    let wrong = [
        ask(&server, "PUT", "b").body("x"),
        ask(&server, "PUT", "b").with("x-goog-copy-source", "ferry-bucket/a"),
        ask(&server, "PUT", "b?compose").body(body),
        ask(&server, "POST", "b?uploads"),
    ];
    for asking in wrong {
        let answer = asking.with(CLASS, "GLACIER").send().await;
        assert_eq!(answer.refusal(), (400, "InvalidArgument"), "{answer:?}");
    }
    assert_eq!(server.keys(), ["a"]);
    assert!(server.open_uploads().is_empty());
}

#[tokio::test]
async fn a_copy_has_the_class_that_it_is_given() {
    let server = start();
    put_as(&server, "a", "NEARLINE").await;
    let copy = || ask(&server, "PUT", "b").with("x-goog-copy-source", "ferry-bucket/a");
    for directive in ["COPY", "REPLACE"] {
        let copy = || copy().with("x-goog-metadata-directive", directive);
        let copied = copy().send().await;
        assert_eq!(copied.header(CLASS), "STANDARD", "{copied:?}");
        assert_eq!(server.storage_class("b"), None);
        let copied = copy().with(CLASS, "COLDLINE").send().await;
        assert_eq!(copied.header(CLASS), "COLDLINE", "{copied:?}");
        assert_eq!(server.storage_class("b").as_deref(), Some("COLDLINE"));
    }
}

#[tokio::test]
async fn a_composition_has_the_class_of_all_its_components() {
    let server = start();
    put_as(&server, "a", "NEARLINE").await;
    let body = "<ComposeRequest><Component><Name>a</Name></Component></ComposeRequest>";
    let compose = || ask(&server, "PUT", "b?compose").body(body);
    for refused in [compose(), compose().with(CLASS, "COLDLINE")] {
        let refused = refused.send().await;
        assert_eq!(refused.refusal(), (400, "InvalidArgument"), "{refused:?}");
    }
    let composed = compose().with(CLASS, "NEARLINE").send().await;
    assert_eq!(composed.header(CLASS), "NEARLINE", "{composed:?}");
}

#[tokio::test]
async fn an_upload_in_parts_keeps_its_class() {
    let server = start();
    let begun = ask(&server, "POST", "a?uploads").with(CLASS, "ARCHIVE");
    let begun = begun.send().await;
    let of_upload = format!("a?uploadId={}", begun.element("UploadId"));
    let listed = [
        ask_bucket(&server, "GET", "?uploads").send().await,
        ask(&server, "GET", &of_upload).send().await,
    ];
    for answer in listed {
        assert_eq!(answer.element("StorageClass"), "ARCHIVE", "{answer:?}");
    }
    let part = ask(&server, "PUT", &format!("{of_upload}&partNumber=1"));
    let part = part.body("hello").send().await;
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>\
         </CompleteMultipartUpload>",
        part.header("etag")
    );
    let done = ask(&server, "POST", &of_upload).body(list).send().await;
    assert_eq!(done.header(CLASS), "ARCHIVE", "{done:?}");
    assert_eq!(server.storage_class("a").as_deref(), Some("ARCHIVE"));
}
