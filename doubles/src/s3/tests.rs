//! The server, held to what tests rely on: S3's rules for multipart uploads and listings, and the faults.

mod classes;
mod raw;

use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ObjectStoreExt, RetryConfig};
use s3s::dto::{ETag, ETagCondition};

use crate::bucket::{Attributes, Bucket, Conditions, Content, MIN_PART, Part, Query};
use crate::{Protocol, Server};

use super::SECRET_KEY;

fn client(server: &Server) -> AmazonS3 {
    client_with_secret(server, SECRET_KEY)
}

/// A client that doesn't retry, so that each fault shows.
fn client_with_secret(server: &Server, secret: &str) -> AmazonS3 {
    let retry = RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    };
    let builder = AmazonS3Builder::new()
        .with_url(server.url())
        .with_retry(retry);
    let options = server.options().into_iter();
    let builder = options.fold(builder, |builder, (name, value)| {
        builder.with_config(name.parse().expect("an option of object_store"), value)
    });
    builder
        .with_secret_access_key(secret)
        .build()
        .expect("a client")
}

fn path(key: &str) -> Path {
    Path::parse(key).expect("a path")
}

#[tokio::test]
async fn keeps_what_is_put() {
    let server = Server::start(Protocol::S3);
    let store = client(&server);
    store
        .put(&path("a/b c+d~é"), "hello".into())
        .await
        .expect("a put");
    assert_eq!(server.object("a/b c+d~é").as_deref(), Some(&b"hello"[..]));
    assert_eq!(
        server.etag("a/b c+d~é").as_deref(),
        Some("5d41402abc4b2a76b9719d911017c592")
    );
    server.put("other", "bytes");
    let range = store
        .get_range(&path("other"), 1..3)
        .await
        .expect("a range");
    assert_eq!(range, "yt");
    assert_eq!(server.count("PutObject"), 1);
}

#[tokio::test]
async fn rejects_a_wrong_signature() {
    let server = Server::start(Protocol::S3);
    let stranger = client_with_secret(&server, "guess");
    stranger
        .put(&path("a"), "hello".into())
        .await
        .expect_err("no right to put");
    assert_eq!(server.keys(), Vec::<String>::new());
    assert_eq!(server.count("Rejected"), 1, "{:?}", server.requests());
}

#[tokio::test]
async fn refuses_as_planned_and_heals() {
    let server = Server::start(Protocol::S3);
    let store = client(&server);
    server.fail_next("PutObject", 1, 503);
    let error = store
        .put(&path("a"), vec![0; 3_000_000].into())
        .await
        .expect_err("a fault");
    assert!(format!("{error:?}").contains("SlowDown"), "{error:?}");
    store
        .put(&path("a"), "hello".into())
        .await
        .expect("one fault only");
    server.fail_next("*", usize::MAX, 403);
    let error = store.get(&path("a")).await.expect_err("a fault");
    assert!(
        matches!(error, object_store::Error::PermissionDenied { .. }),
        "{error:?}"
    );
    server.heal();
    store.get(&path("a")).await.expect("a healed bucket");
}

#[tokio::test]
async fn loses_and_breaks_answers() {
    let server = Server::start(Protocol::S3);
    let store = client(&server);
    server.lose_next_answer("PutObject", 1);
    store
        .put(&path("a"), "hello".into())
        .await
        .expect_err("no answer");
    assert_eq!(server.size("a"), Some(5), "the put was done");
    server.break_next_answer("GetObject", 1, 2);
    let answer = store
        .get(&path("a"))
        .await
        .expect("an answer that begins well");
    answer.bytes().await.expect_err("it breaks off");
}

#[tokio::test]
async fn stalls_until_healed() {
    let server = Server::start(Protocol::S3);
    let store = client(&server);
    server.stall("PutObject", Duration::from_hours(1));
    let put = tokio::spawn(async move { store.put(&path("a"), "hello".into()).await });
    server.wait_for("PutObject", 1).await;
    assert_eq!(server.object("a"), None);
    server.heal();
    put.await.expect("the task").expect("a put that waited");
    assert_eq!(server.size("a"), Some(5));
}

#[tokio::test]
async fn goes_offline_and_comes_back_with_its_objects() {
    let address = Server::reserve_address();
    let refused = tokio::net::TcpStream::connect(address)
        .await
        .expect_err("nothing listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let server = Server::start_at(address, Protocol::S3);
    let store = client(&server);
    store.put(&path("a"), "hello".into()).await.expect("a put");
    server.go_offline();
    store.get(&path("a")).await.expect_err("nobody there");
    server.go_online();
    store.get(&path("a")).await.expect("the object kept");
}

#[tokio::test]
async fn makes_one_object_of_parts() {
    let server = Server::start(Protocol::S3);
    let store = client(&server);
    let id = store
        .create_multipart(&path("big"))
        .await
        .expect("an upload");
    assert_eq!(server.open_uploads(), [("big".to_owned(), id.clone())]);
    let first = vec![b'a'; usize::try_from(MIN_PART).expect("a size")];
    let first = store
        .put_part(&path("big"), &id, 0, first.into())
        .await
        .expect("a part");
    let last = store
        .put_part(&path("big"), &id, 1, "end".into())
        .await
        .expect("a part");
    assert_eq!(server.parts("big", &id), [(1, MIN_PART), (2, 3)]);
    store
        .complete_multipart(&path("big"), &id, vec![first, last])
        .await
        .expect("an object");
    assert_eq!(server.size("big"), Some(MIN_PART + 3));
    assert!(server.etag("big").expect("an ETag").ends_with("-2"));
    assert!(server.open_uploads().is_empty());
}

#[tokio::test]
async fn lets_others_finish_a_left_upload() {
    let server = Server::start(Protocol::S3);
    let store = client(&server);
    let id = server.leave_upload("left", "bytes");
    let etag = "4b3a6218bb3e3a7303e8a171a60fcf92".to_owned();
    let part = PartId { content_id: etag };
    store
        .complete_multipart(&path("left"), &id, vec![part])
        .await
        .expect("an object");
    let error = store
        .abort_multipart(&path("left"), &id)
        .await
        .expect_err("no such upload");
    assert!(
        matches!(error, object_store::Error::NotFound { .. }),
        "{error:?}"
    );
}

fn part(len: u64) -> Part {
    let bytes = Bytes::from(vec![7; usize::try_from(len).expect("a size")]);
    Part::new(Content::new(vec![bytes]), s3s::dto::Checksum::default())
}

/// Completes an upload of parts of these sizes, named in this order.
fn complete(sizes: &[u64], order: &[i32], conditions: &Conditions) -> Result<usize, String> {
    let mut bucket = Bucket::default();
    let id = bucket.begin("key", Attributes::default());
    let parts = (1..).zip(sizes.iter().map(|size| part(*size)));
    bucket
        .upload("key", &id)
        .expect("an upload")
        .parts
        .extend(parts);
    let parts = bucket.upload("key", &id).expect("an upload").parts.clone();
    let unknown = ETag::Strong("unknown".to_owned());
    let etag = |number| parts.get(number).map_or(unknown.clone(), Part::etag);
    let named: Vec<_> = order.iter().map(|number| (*number, etag(number))).collect();
    let completed = bucket.complete("key", &id, &named, conditions);
    completed.map_err(|error| error.code().as_str().to_owned())?;
    Ok(bucket.objects["key"].content.joined().len())
}

#[test]
fn checks_the_parts_of_an_upload() {
    let any = Conditions::default();
    let code = |code: &str| Err(code.to_owned());
    assert_eq!(
        complete(&[MIN_PART, 1], &[1, 2], &any),
        Ok(5 * 1024 * 1024 + 1)
    );
    assert_eq!(
        complete(&[1, MIN_PART], &[2], &any),
        Ok(5 * 1024 * 1024),
        "parts may be left out"
    );
    assert_eq!(
        complete(&[MIN_PART - 1, 1], &[1, 2], &any),
        code("EntityTooSmall")
    );
    assert_eq!(
        complete(&[MIN_PART, MIN_PART], &[2, 1], &any),
        code("InvalidPartOrder")
    );
    assert_eq!(complete(&[1], &[3], &any), code("InvalidPart"));
    assert_eq!(complete(&[1], &[], &any), code("MalformedXML"));
    let existing = Conditions {
        if_match: Some(ETagCondition::Any),
        ..Conditions::default()
    };
    assert_eq!(complete(&[1], &[1], &existing), code("NoSuchKey"));
}

/// Every entry of a listing with `delimiter`, in pages of `limit`.
fn list(bucket: &Bucket, prefix: &str, delimiter: Option<&str>, limit: usize) -> Vec<String> {
    let mut entries = Vec::new();
    let mut resume = None::<String>;
    loop {
        let resume_after = resume.as_deref();
        let page = bucket.list(&Query {
            prefix,
            delimiter,
            start_after: "",
            resume_after,
            limit,
        });
        assert!(page.objects.len() + page.prefixes.len() <= limit);
        let keys = page.objects.into_iter().map(|(key, _)| key);
        let mut page_entries: Vec<_> = keys.chain(page.prefixes).collect();
        page_entries.sort();
        entries.append(&mut page_entries);
        resume = page.resume_after;
        if resume.is_none() {
            return entries;
        }
    }
}

#[test]
fn lists_every_entry_once_whatever_the_page() {
    let server = Server::start(Protocol::S3);
    for key in [
        "a", "a/", "a/1", "a/2", "a//b", "a0", "b/x/y", "ü/1", "/lead",
    ] {
        server.put(key, "");
    }
    let bucket = server.state();
    for limit in [1, 2, 3, 100] {
        assert_eq!(
            list(&bucket, "", Some("/"), limit),
            ["/", "a", "a/", "a0", "b/", "ü/"]
        );
        assert_eq!(
            list(&bucket, "a/", Some("/"), limit),
            ["a/", "a//", "a/1", "a/2"]
        );
        assert_eq!(
            list(&bucket, "a/", None, limit),
            ["a/", "a//b", "a/1", "a/2"]
        );
        assert_eq!(list(&bucket, "none", Some("/"), limit), [""; 0]);
    }
}
