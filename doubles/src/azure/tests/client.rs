//! What `object_store`'s client of Azure makes of the double.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::multipart::MultipartStore as _;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetOptions, ObjectMeta, ObjectStore as _, ObjectStoreExt as _,
    PutMode, PutOptions, RetryConfig, UpdateVersion,
};

use crate::Server;

use super::start;

/// A client that doesn't retry, so that each fault shows.
fn client(server: &Server) -> MicrosoftAzure {
    let retry = RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    };
    let builder = MicrosoftAzureBuilder::new()
        .with_container_name("ferry-bucket")
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

fn keys(listed: Vec<ObjectMeta>) -> Vec<String> {
    let keys = listed.into_iter().map(|object| object.location.to_string());
    keys.collect()
}

#[tokio::test]
async fn the_client_gets_what_it_put() {
    let server = start();
    let store = client(&server);
    let key = path("a/b c+d%~é'(1)");
    store.put(&key, "hello".into()).await.expect("a put");
    assert_eq!(
        server.object("a/b c+d%~é'(1)").as_deref(),
        Some(&b"hello"[..])
    );
    let got = store.get(&key).await.expect("a get");
    assert_eq!(
        got.meta.e_tag,
        server.etag(key.as_ref()).map(|etag| format!("\"{etag}\""))
    );
    assert_eq!(got.bytes().await.expect("bytes"), "hello");
    let range = store.get_range(&key, 1..3).await.expect("a range");
    assert_eq!(range, "el");
    assert_eq!(store.head(&key).await.expect("a head").size, 5);
    assert_eq!(
        server.requests()[1..],
        [
            "GetObject a/b c+d%~é'(1)",
            "GetObject a/b c+d%~é'(1)",
            "HeadObject a/b c+d%~é'(1)"
        ]
    );
}

#[tokio::test]
async fn the_client_gets_attributes_back() {
    let server = start();
    let store = client(&server);
    let attributes = Attributes::from_iter([
        (Attribute::ContentType, "text/x-a"),
        (Attribute::CacheControl, "no-cache"),
        (Attribute::Metadata("owner".into()), "anna"),
    ]);
    let options = PutOptions {
        attributes: attributes.clone(),
        ..PutOptions::default()
    };
    let put = store.put_opts(&path("a"), "x".into(), options).await;
    put.expect("a put");
    let got = store.get(&path("a")).await.expect("a get");
    assert_eq!(got.attributes, attributes);
    assert_eq!(server.content_type("a").as_deref(), Some("text/x-a"));
    assert_eq!(server.metadata("a", "owner").as_deref(), Some("anna"));
}

#[tokio::test]
async fn the_client_is_told_of_conditions() {
    let server = start();
    let store = client(&server);
    let first = store.put(&path("a"), "1".into()).await.expect("a put");
    let create = PutOptions::from(PutMode::Create);
    let error = store.put_opts(&path("a"), "2".into(), create).await;
    assert!(
        matches!(error, Err(Error::AlreadyExists { .. })),
        "{error:?}"
    );
    let update = || PutMode::Update(UpdateVersion::from(first.clone())).into();
    let second = store.put_opts(&path("a"), "2".into(), update()).await;
    second.expect("an update of what is there");
    let error = store.put_opts(&path("a"), "3".into(), update()).await;
    assert!(
        matches!(error, Err(Error::Precondition { .. })),
        "{error:?}"
    );
    let known = GetOptions {
        if_none_match: server.etag("a").map(|etag| format!("\"{etag}\"")),
        ..GetOptions::default()
    };
    let error = store.get_opts(&path("a"), known).await;
    assert!(matches!(error, Err(Error::NotModified { .. })), "{error:?}");
}

#[tokio::test]
async fn the_client_makes_a_blob_of_blocks() {
    let server = start();
    let store = client(&server);
    let id = store
        .create_multipart(&path("big"))
        .await
        .expect("an upload");
    let first = store.put_part(&path("big"), &id, 0, "hello ".into()).await;
    let last = store.put_part(&path("big"), &id, 1, "world".into()).await;
    let parts = vec![first.expect("a part"), last.expect("a part")];
    assert_eq!(server.object("big"), None, "no blob yet");
    let done = store.complete_multipart(&path("big"), &id, parts).await;
    assert!(done.expect("a blob").e_tag.is_some());
    assert_eq!(server.object("big").as_deref(), Some(&b"hello world"[..]));
    assert_eq!(server.count("UploadPart"), 2);
    assert_eq!(server.count("CompleteMultipartUpload"), 1);
}

#[tokio::test]
async fn the_client_lists_every_blob() {
    let server = start();
    let store = client(&server);
    for key in ["a", "a b/x+y", "a/1", "a/2/3", "b", "é"] {
        server.put(key, "x");
    }
    let listed = store.list(None).try_collect().await.expect("a listing");
    assert_eq!(keys(listed), ["a", "a b/x+y", "a/1", "a/2/3", "b", "é"]);
    let listed = store.list(Some(&path("a b"))).try_collect().await;
    assert_eq!(keys(listed.expect("a listing")), ["a b/x+y"]);
    let after = store.list_with_offset(None, &path("a/1")).try_collect();
    assert_eq!(keys(after.await.expect("a listing")), ["a/2/3", "b", "é"]);
    let grouped = store.list_with_delimiter(Some(&path("a"))).await;
    let grouped = grouped.expect("a listing");
    assert_eq!(grouped.common_prefixes, [path("a/2")]);
    assert_eq!(keys(grouped.objects), ["a/1"]);
}

#[tokio::test]
async fn the_client_copies_and_renames() {
    let server = start();
    let store = client(&server);
    server.put("a b", "hello");
    store.copy(&path("a b"), &path("é+")).await.expect("a copy");
    assert_eq!(server.object("é+").as_deref(), Some(&b"hello"[..]));
    let error = store.copy_if_not_exists(&path("a b"), &path("é+")).await;
    assert!(
        matches!(error, Err(Error::AlreadyExists { .. })),
        "{error:?}"
    );
    store
        .rename(&path("é+"), &path("c"))
        .await
        .expect("a rename");
    assert_eq!(server.keys(), ["a b", "c"]);
    let error = store.copy(&path("none"), &path("d")).await;
    assert!(matches!(error, Err(Error::NotFound { .. })), "{error:?}");
}

#[tokio::test]
async fn the_client_deletes_many_at_once() {
    let server = start();
    let store = client(&server);
    for key in ["a b", "é", "kept"] {
        server.put(key, "x");
    }
    let doomed = ["a b", "none", "é"].map(|key| Ok(path(key)));
    let results = store.delete_stream(stream::iter(doomed).boxed());
    let results: Vec<_> = results.collect().await;
    assert_eq!(server.keys(), ["kept"]);
    assert!(
        matches!(results[1], Err(Error::NotFound { .. })),
        "{results:?}"
    );
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2);
    assert_eq!(server.count("DeleteObjects"), 1);
}

#[tokio::test]
async fn the_client_sees_planned_faults() {
    let server = start();
    let store = client(&server);
    server.fail_next("PutObject", 1, 503);
    let error = store.put(&path("a"), vec![0; 3_000_000].into()).await;
    let error = format!("{:?}", error.expect_err("a fault"));
    assert!(error.contains("ServerBusy"), "{error}");
    server.lose_next_answer("PutObject", 1);
    let lost = store.put(&path("a"), "hello".into()).await;
    lost.expect_err("no answer");
    assert_eq!(server.size("a"), Some(5), "the put was done");
    server.break_next_answer("GetObject", 1, 2);
    let answer = store.get(&path("a")).await.expect("a good beginning");
    answer.bytes().await.expect_err("it breaks off");
    server.fail_next("HeadObject", 1, 403);
    let error = store.head(&path("a")).await;
    assert!(
        matches!(error, Err(Error::PermissionDenied { .. })),
        "{error:?}"
    );
}
