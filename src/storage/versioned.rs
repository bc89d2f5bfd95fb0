//! A bucket that keeps versions, or locks them, behaves like any other: what FTP sees is the newest version.

use std::sync::Arc;

use bytes::Bytes;
use doubles::Server;

use crate::auth::Permission;
use crate::session::{Outcome, StoreMode};
use crate::storage::harness::{Client, Uploaded, bytes, storage};
use crate::storage::store::fixture::Fixture;

/// The size of a part, and the least that S3 takes.
const PART: usize = 5 << 20;

/// One request without a checksum by default, one with, and several.
const SIZES: [usize; 3] = [10, 100_000, PART + 1];

/// What kinds of buckets there are.
const KINDS: [fn(&Server); 2] = [Server::keep_versions, Server::lock];

struct Versioned {
    client: Client,
    fixture: Fixture,
}

impl Versioned {
    fn new(kind: fn(&Server)) -> Self {
        let fixture = Fixture::s3();
        kind(fixture.server.as_ref().unwrap());
        let client = gateway(&fixture);
        Self { client, fixture }
    }

    fn server(&self) -> &Server {
        self.fixture.server.as_ref().unwrap()
    }

    /// All versions of what FTP calls so, the oldest first. Nothing is a delete marker.
    fn versions(&self, name: &str) -> Vec<Option<Bytes>> {
        let root = &self.fixture.root;
        self.server().versions(&format!("{root}/{name}"))
    }

    #[track_caller]
    fn assert_versions(&self, name: &str, expected: &[Option<&Bytes>]) {
        let found = self.versions(name);
        let found: Vec<_> = found.iter().map(Option::as_ref).collect();
        assert!(found == expected, "{name}: {} versions", found.len());
    }
}

fn gateway(fixture: &Fixture) -> Client {
    let settings = fixture.settings();
    let settings = settings.iter().map(|(name, value)| (&**name, &**value));
    let settings: Vec<_> = settings.chain([("UPLOAD__PART_SIZE", "5 MiB")]).collect();
    Client::of(&Arc::new(storage(&settings)))
}

fn is_complete(uploaded: &Uploaded) -> bool {
    uploaded.report.outcome == Outcome::COMPLETE
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_stored_again_is_a_newer_version() {
    for kind in KINDS {
        for size in SIZES {
            let bucket = Versioned::new(kind);
            let (client, deny) = (&bucket.client, bucket.client.who_may_not_overwrite());
            let (old, new) = (bytes(size, 1), bytes(size, 2));
            deny.store("a", &old).await;
            let refused = deny.upload(StoreMode::Replace, "a", &new).await;
            assert_eq!(refused.report.outcome.0, "exists", "{:?}", refused.report);
            bucket.assert_versions("a", &[Some(&old)]);
            client.store("a", &new).await;
            bucket.assert_versions("a", &[Some(&old), Some(&new)]);
            assert!(client.read("a").await.unwrap() == new);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_deleted_can_be_stored_again() {
    for kind in KINDS {
        let bucket = Versioned::new(kind);
        let client = bucket.client.who_may_not_overwrite();
        let (old, new) = (bytes(10, 1), bytes(10, 2));
        client.store("d/a", &old).await;
        client.delete("d/a").await.unwrap();
        assert_eq!(client.read("d/a").await, None);
        assert_eq!(client.names("d").await, Vec::<String>::new());
        client.delete("d/a").await.unwrap_err();
        client.store("d/a", &new).await;
        bucket.assert_versions("d/a", &[Some(&old), None, Some(&new)]);
        assert_eq!(client.read("d/a").await.unwrap(), new);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_renamed_leaves_a_delete_marker() {
    for kind in KINDS {
        for size in SIZES {
            let bucket = Versioned::new(kind);
            let (client, deny) = (&bucket.client, bucket.client.who_may_not_overwrite());
            let (file, other) = (bytes(size, 1), bytes(10, 2));
            client.store("a", &file).await;
            client.store("b", &other).await;
            deny.rename("a", "b").await.unwrap_err();
            bucket.assert_versions("a", &[Some(&file)]);
            bucket.assert_versions("b", &[Some(&other)]);
            client.rename("a", "b").await.unwrap();
            bucket.assert_versions("a", &[Some(&file), None]);
            bucket.assert_versions("b", &[Some(&other), Some(&file)]);
            assert_eq!(client.read("a").await, None);
            let releases = deny.who_may(&[Permission::Rename, Permission::Release]);
            releases.rename("b", "a").await.unwrap();
            assert!(client.read("a").await.unwrap() == file);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_appended_makes_a_newer_version() {
    for kind in KINDS {
        for size in SIZES {
            let bucket = Versioned::new(kind);
            let (client, deny) = (&bucket.client, bucket.client.who_may_not_overwrite());
            let (file, more) = (bytes(size, 1), bytes(10, 2));
            assert!(is_complete(
                &deny.upload(StoreMode::Append, "a", &file).await
            ));
            let refused = deny.upload(StoreMode::Append, "a", &more).await;
            assert_eq!(refused.report.outcome.0, "exists", "{:?}", refused.report);
            let appended = client.upload(StoreMode::Append, "a", &more).await;
            assert!(is_complete(&appended), "{size}: {:?}", appended.report);
            let whole = Bytes::from([&file[..], &more].concat());
            bucket.assert_versions("a", &[Some(&file), Some(&whole)]);
            assert_eq!(bucket.server().open_uploads(), []);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_are_made_renamed_and_removed() {
    for kind in KINDS {
        let bucket = Versioned::new(kind);
        let (client, file) = (&bucket.client, bytes(100_000, 1));
        client.make_directory("d/empty").await.unwrap();
        client.store("d/a", &file).await;
        client.rename("d", "e").await.unwrap();
        bucket.assert_versions("d/a", &[Some(&file), None]);
        assert_eq!(client.names("/").await, ["e"]);
        assert_eq!(client.names("e").await, ["a", "empty"]);
        client.delete("e/a").await.unwrap();
        for directory in ["e/empty", "e"] {
            client.remove_directory(directory).await.unwrap();
        }
        assert_eq!(client.names("/").await, Vec::<String>::new());
    }
}

/// A delete marker answers a deletion on a condition with 412, as another version does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_renames_of_a_file_succeeds() {
    for kind in KINDS {
        let bucket = Versioned::new(kind);
        let other = gateway(&bucket.fixture);
        for round in 0..50 {
            let [from, to, own] = ["a", "b", "c"].map(|name| format!("d/{name}{round}"));
            bucket.client.store(&from, &bytes(10, 1)).await;
            let (a, b) = tokio::join!(bucket.client.rename(&from, &to), other.rename(&from, &own));
            assert_ne!(a.is_ok(), b.is_ok(), "{round}: {a:?} {b:?}");
        }
    }
}

/// A store that takes the mark of a deletion for an object, as versitygw does.
async fn that_takes_marks_for_objects() -> (Client, Fixture) {
    let fixture = Fixture::s3();
    fixture.server.as_ref().unwrap().take_marks_for_objects();
    let settings = fixture.settings();
    let settings = settings.iter().map(|(name, value)| (&**name, &**value));
    let settings = settings.filter(|(name, _)| *name != "STORE__CONDITIONS");
    let settings: Vec<_> = settings.chain([("UPLOAD__PART_SIZE", "5 MiB")]).collect();
    let client = Client::of(&Arc::new(storage(&settings)));
    client.storage().try_store().await.unwrap();
    (client, fixture)
}

/// Such a store is told no conditions once that is known, and looked at before each change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_name_is_new_although_the_store_takes_its_mark_for_an_object() {
    let (client, _fixture) = that_takes_marks_for_objects().await;
    for client in [client.clone(), client.who_may_not_overwrite()] {
        for size in SIZES {
            for _ in 0..2 {
                client.store("a", &bytes(size, 1)).await;
                client.rename("a", "b").await.unwrap();
                client.delete("b").await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_directory_is_new_although_the_store_takes_its_mark_for_an_object() {
    let (client, _fixture) = that_takes_marks_for_objects().await;
    for _ in 0..2 {
        client.make_directory("a").await.unwrap();
        client.make_directory("a").await.unwrap_err();
        client.remove_directory("a").await.unwrap();
    }
    client.store("a/f", &bytes(10, 1)).await;
    client.make_directory("a/empty").await.unwrap();
    for (from, to) in [("a", "b"), ("b", "a"), ("a", "b")] {
        client.rename(from, to).await.unwrap();
        assert_eq!(client.names("/").await, [to]);
        assert_eq!(client.names(to).await, ["empty", "f"]);
    }
    // A directory outlives its last file, each time.
    for _ in 0..2 {
        client.store("d/f", &bytes(10, 1)).await;
        client.delete("d/f").await.unwrap();
        client.remove_directory("d").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_takes_no_place_on_a_store_that_refuses_conditions() {
    let fixture = Fixture::s3();
    let server = fixture.server.as_ref().unwrap();
    server.refuse_conditions();
    let client = gateway(&fixture);
    let directory = fixture.root.clone().join("d");
    let (key, invoice) = (format!("{directory}/"), Bytes::from_static(b"an invoice"));
    server.put(&key, invoice.clone());
    // Whoever looks and finds nothing, as with credentials that may only write, must not replace it either.
    let store = &client.storage().store;
    store.create_directory(&directory).await.unwrap_err();
    assert_eq!(server.object(&key), Some(invoice));
    client.make_directory("e").await.unwrap();
}

/// A change on such a store is a look and the change, and not one that is refused before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_refuses_conditions_is_told_none() {
    let fixture = Fixture::s3();
    let server = fixture.server.as_ref().unwrap();
    server.refuse_conditions();
    let client = gateway(&fixture);
    client.store("a", &bytes(10, 1)).await;
    server.forget_requests();
    client.store("b", &bytes(10, 1)).await;
    assert_eq!(server.count("PutObject"), 1, "{:#?}", server.requests());
    assert_eq!(server.count("HeadObject"), 1, "{:#?}", server.requests());
}
