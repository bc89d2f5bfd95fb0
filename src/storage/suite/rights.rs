//! What `rename` allows without other permissions, on each store.

use crate::auth::Permission::{Read, Release, Rename, Write};
use crate::storage::error::StorageError;
use crate::storage::harness::{Client, bytes};
use crate::storage::store::fixture::on_each_store;

use super::{PART, Store, ready};

on_each_store! {
    [ignoring]
    rename_alone_replaces_nothing
    a_rename_that_only_may_create_loses_to_whoever_was_first
    a_delivered_file_is_released_only_with_the_permission
    a_session_renames_what_it_has_stored
    a_file_that_another_has_put_there_is_not_the_sessions_own
    a_delivered_directory_is_released_only_with_the_permission
}

/// Refused for want of a permission, and both names are as they were.
async fn assert_refused(client: &Client, from: &str, to: &str, missing: &str) {
    let before = (client.read(from).await, client.read(to).await);
    let refused = client.rename(from, to).await.unwrap_err();
    let text = refused.failure().text;
    assert!(text.contains(missing), "{from} to {to}: {text}");
    assert_eq!((client.read(from).await, client.read(to).await), before);
}

async fn rename_alone_replaces_nothing(store: Store) {
    let client = store.client();
    client.store("a", &bytes(10, 1)).await;
    client.store("b", &bytes(20, 2)).await;
    let renames = client.who_may(&[Rename, Read]);
    assert_refused(&renames, "a", "b", "\"write\"").await;
    renames.rename("a", "c").await.unwrap();
    client
        .who_may(&[Rename, Write])
        .rename("c", "b")
        .await
        .unwrap();
    assert!(client.read("b").await.unwrap() == bytes(10, 1));
}

/// Two renames to one new name at once: neither may replace what the other has brought.
async fn a_rename_that_only_may_create_loses_to_whoever_was_first(store: Store) {
    let client = store.client();
    let renames = client.who_may(&[Rename]);
    for round in 0..5 {
        let names = ["a", "b"].map(|name| format!("{name}{round}"));
        for (seed, name) in (1..).zip(&names) {
            client.store(name, &bytes(10, seed)).await;
        }
        let to = format!("to{round}");
        let (one, two) = tokio::join!(
            renames.rename(&names[0], &to),
            renames.rename(&names[1], &to)
        );
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        let lost = one.err().or(two.err()).unwrap();
        assert!(lost.failure().text.contains("\"write\""), "{lost}");
        let mut left = 0;
        for name in &names {
            left += usize::from(client.read(name).await.is_some());
        }
        assert_eq!(left, 1);
    }
}

async fn a_delivered_file_is_released_only_with_the_permission(store: Store) {
    let client = store.client();
    client.store("a", &bytes(10, 1)).await;
    let another = client.who_may_not_overwrite();
    let another = another.who_may(&[Rename, Write, Read]);
    assert_refused(&another, "a", "b", "\"release\"").await;
    another
        .who_may(&[Rename, Release])
        .rename("a", "b")
        .await
        .unwrap();
    assert!(client.read("a").await.is_none());
    assert!(client.read("b").await.unwrap() == bytes(10, 1));
}

async fn a_session_renames_what_it_has_stored(store: Store) {
    let client = store.client().who_may_not_overwrite();
    for size in [0, 100, PART + 1] {
        let (part, whole) = (format!("{size}.part"), format!("{size}.bin"));
        client.store(&part, &bytes(size, 1)).await;
        client.rename(&part, &whole).await.unwrap();
        assert!(client.read(&whole).await.unwrap() == bytes(size, 1));
        // That is delivered now, also for the session that has done it.
        assert_refused(&client, &whole, "else", "\"release\"").await;
    }
}

async fn a_file_that_another_has_put_there_is_not_the_sessions_own(store: Store) {
    let client = store.client().who_may_not_overwrite();
    client.store("a", &bytes(10, 1)).await;
    let another = store.client();
    another.store("a", &bytes(10, 1)).await;
    assert_refused(&client, "a", "b", "\"release\"").await;
    another.rename("a", "elsewhere").await.unwrap();
    let gone = client.rename("a", "b").await.unwrap_err();
    assert!(matches!(gone, StorageError::NotFound), "{gone}");
}

async fn a_delivered_directory_is_released_only_with_the_permission(store: Store) {
    let client = store.client().who_may_not_overwrite();
    client.store("d/a", &bytes(10, 1)).await;
    let refused = client.rename("d", "e").await.unwrap_err();
    assert!(refused.failure().text.contains("\"release\""), "{refused}");
    assert!(client.read("d/a").await.is_some());
    let releases = client.who_may(&[Rename, Release]);
    releases.rename("d", "e").await.unwrap();
    assert!(client.read("e/a").await.unwrap() == bytes(10, 1));
}
