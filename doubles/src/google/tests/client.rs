//! What the gateway's client does.

use futures::TryStreamExt;
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, RetryConfig, UpdateVersion,
};

use super::start;
use crate::Server;
use crate::bucket::MIN_PART;

/// A client that doesn't retry, so that each fault shows.
fn client(server: &Server) -> GoogleCloudStorage {
    let retry = RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    };
    let builder = GoogleCloudStorageBuilder::new()
        .with_url(server.url())
        .with_retry(retry);
    let options = server.options().into_iter();
    let builder = options.fold(builder, |builder, (name, value)| {
        builder.with_config(name.parse().expect("an option of object_store"), value)
    });
    builder.build().expect("a client")
}

fn path(key: &str) -> Path {
    Path::parse(key).expect("a path")
}

#[tokio::test]
async fn keeps_what_is_put() {
    let server = start();
    let store = client(&server);
    let put = store.put(&path("a/b c+d~é%"), "hello".into()).await;
    let put = put.expect("a put");
    assert_eq!(
        put.e_tag.as_deref(),
        Some("\"5d41402abc4b2a76b9719d911017c592\"")
    );
    let object = server.object("a/b c+d~é%");
    assert_eq!(object.as_deref(), Some(&b"hello"[..]));
    let head = store.head(&path("a/b c+d~é%")).await.expect("a head");
    assert_eq!((head.size, &head.version), (5, &put.version));
    assert!(head.version.is_some());
    assert_eq!(server.count("PutObject"), 1);
}

#[tokio::test]
async fn keeps_attributes() {
    let server = start();
    let store = client(&server);
    let attributes = Attributes::from_iter([
        (Attribute::ContentType, "text/plain"),
        (Attribute::CacheControl, "no-cache"),
        (Attribute::ContentDisposition, "inline"),
        (Attribute::ContentLanguage, "en"),
        (Attribute::Metadata("owner".into()), "me"),
    ]);
    let options = PutOptions::from(attributes.clone());
    let put = store.put_opts(&path("a"), "hello".into(), options).await;
    put.expect("a put");
    let mut got = store.get(&path("a")).await.expect("an object").attributes;
    // The client tells this one too.
    got.remove(&Attribute::StorageClass);
    assert_eq!(got, attributes);
    assert_eq!(server.metadata("a", "owner").as_deref(), Some("me"));
}

#[tokio::test]
async fn reads_ranges_and_versions() {
    let server = start();
    let store = client(&server);
    server.put("a", "bytes");
    let range = store.get_range(&path("a"), 1..3).await.expect("a range");
    assert_eq!(range, "yt");
    let last = GetOptions {
        range: Some(GetRange::Suffix(2)),
        ..GetOptions::default()
    };
    let last = store.get_opts(&path("a"), last).await.expect("a range");
    assert_eq!(last.range, 3..5);
    let version = store.head(&path("a")).await.expect("a head").version;
    let of = |version| GetOptions {
        version,
        ..GetOptions::default()
    };
    let read = store.get_opts(&path("a"), of(version)).await;
    read.expect("the version that is there");
    let read = store.get_opts(&path("a"), of(Some("1".to_owned()))).await;
    assert!(matches!(read, Err(Error::NotFound { .. })), "{read:?}");
}

#[tokio::test]
async fn creates_and_updates_under_conditions() {
    let server = start();
    let store = client(&server);
    let first = store
        .put_opts(&path("a"), "1".into(), PutMode::Create.into())
        .await
        .expect("nothing is there");
    let again = store
        .put_opts(&path("a"), "2".into(), PutMode::Create.into())
        .await;
    assert!(
        matches!(again, Err(Error::AlreadyExists { .. })),
        "{again:?}"
    );
    let update = PutMode::Update(UpdateVersion::from(first));
    let put = store
        .put_opts(&path("a"), "3".into(), update.clone().into())
        .await;
    put.expect("the first version is there");
    let late = store.put_opts(&path("a"), "4".into(), update.into()).await;
    assert!(matches!(late, Err(Error::Precondition { .. })), "{late:?}");
    assert_eq!(server.object("a").as_deref(), Some(&b"3"[..]));
}

#[tokio::test]
async fn copies_and_deletes() {
    let server = start();
    let store = client(&server);
    server.put("a b+é", "hello");
    let copied = store.copy(&path("a b+é"), &path("b")).await;
    copied.expect("a copy");
    assert_eq!(server.object("b").as_deref(), Some(&b"hello"[..]));
    let refused = store.copy_if_not_exists(&path("a b+é"), &path("b")).await;
    assert!(
        matches!(refused, Err(Error::AlreadyExists { .. })),
        "{refused:?}"
    );
    store.delete(&path("b")).await.expect("a delete");
    let gone = store.delete(&path("b")).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
    assert_eq!(server.keys(), ["a b+é"]);
}

#[tokio::test]
async fn lists_objects_and_prefixes() {
    let server = start();
    let store = client(&server);
    for key in ["a", "in/1", "in/2", "in/sub/3"] {
        server.put(key, "x");
    }
    let all = store
        .list(None)
        .map_ok(|object| object.location.to_string());
    let all: Vec<_> = all.try_collect().await.expect("a listing");
    assert_eq!(all, ["a", "in/1", "in/2", "in/sub/3"]);
    let later = store.list_with_offset(None, &path("in/1"));
    let later: Vec<_> = later.try_collect().await.expect("a listing");
    assert_eq!(later.len(), 2);
    let page = store.list_with_delimiter(Some(&path("in"))).await;
    let page = page.expect("a listing");
    assert_eq!(page.objects.len(), 2);
    assert_eq!(page.common_prefixes, [path("in/sub")]);
}

#[tokio::test]
async fn makes_one_object_of_parts() {
    let server = start();
    let store = client(&server);
    let big = path("big");
    let id = store.create_multipart(&big).await.expect("an upload");
    assert_eq!(server.open_uploads(), [("big".to_owned(), id.clone())]);
    let first = vec![b'a'; usize::try_from(MIN_PART).expect("a size")];
    let first = store.put_part(&big, &id, 0, first.into()).await;
    let last = store.put_part(&big, &id, 1, "end".into()).await;
    let parts = vec![first.expect("a part"), last.expect("a part")];
    assert_eq!(server.parts("big", &id), [(1, MIN_PART), (2, 3)]);
    let done = store.complete_multipart(&big, &id, parts).await;
    let done = done.expect("an object");
    assert_eq!(server.size("big"), Some(MIN_PART + 3));
    let head = store.head(&big).await.expect("a head");
    assert_eq!((head.e_tag, head.version), (done.e_tag, done.version));
    assert!(server.open_uploads().is_empty());
}

#[tokio::test]
async fn aborts_a_left_upload_once() {
    let server = start();
    let store = client(&server);
    let id = server.leave_upload("left", "bytes");
    let aborted = store.abort_multipart(&path("left"), &id).await;
    aborted.expect("an upload");
    let again = store.abort_multipart(&path("left"), &id).await;
    assert!(matches!(again, Err(Error::NotFound { .. })), "{again:?}");
}

#[tokio::test]
async fn refuses_as_planned_and_heals() {
    let server = start();
    let store = client(&server);
    server.fail_next("PutObject", 1, 503);
    let error = store.put(&path("a"), vec![0; 3_000_000].into()).await;
    let error = format!("{:?}", error.expect_err("a fault"));
    assert!(error.contains("ServiceUnavailable"), "{error}");
    let put = store.put(&path("a"), "hello".into()).await;
    put.expect("one fault only");
    server.fail_next("*", usize::MAX, 403);
    let error = store.get(&path("a")).await.expect_err("a fault");
    assert!(matches!(error, Error::PermissionDenied { .. }), "{error:?}");
    server.heal();
    store.get(&path("a")).await.expect("a healed bucket");
}

#[tokio::test]
async fn loses_and_breaks_answers() {
    let server = start();
    let store = client(&server);
    server.lose_next_answer("PutObject", 1);
    let put = store.put(&path("a"), "hello".into()).await;
    put.expect_err("no answer");
    assert_eq!(server.size("a"), Some(5), "the put was done");
    server.break_next_answer("GetObject", 1, 2);
    let answer = store.get(&path("a")).await;
    let answer = answer.expect("an answer that begins well");
    answer.bytes().await.expect_err("it breaks off");
}
