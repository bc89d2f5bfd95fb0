//! What every kind of store does the same, tried on each: one test for each behaviour and store.
//!
//! The buckets are doubles that speak the protocols over HTTP (`doubles`), so that all of the way from FTP's verbs
//! to the requests is tried. A behaviour that differs by design is not here.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chrono::Utc;
use doubles::Server;
use object_store::Error;
use object_store::path::Path;

use crate::memory::Use;
use crate::session::{ListFormat, Outcome, StoreMode};
use crate::storage::Storage;
use crate::storage::error::StorageError;
use crate::storage::harness::{Client, bytes, storage};
use crate::storage::store::fixture::{Fixture, on_each_store};
use crate::storage::store::keys::marker;
use crate::storage::store::precondition::Precondition;
use crate::storage::verbs::note::Note;

pub(crate) mod rights;

/// The size of a part, and the least that every store takes.
const PART: usize = 5 << 20;

/// An open store, and what it lies in.
struct Store {
    storage: Arc<Storage>,
    fixture: Fixture,
}

impl From<Fixture> for Store {
    fn from(fixture: Fixture) -> Self {
        Self::with(fixture, &[])
    }
}

impl Store {
    /// The store with more settings, each by the name of its variable without our prefix.
    fn with(fixture: Fixture, more: &[(&str, &str)]) -> Self {
        let settings = fixture.settings();
        let settings = settings.iter().map(|(name, value)| (&**name, &**value));
        let sizes = [
            ("UPLOAD__PART_SIZE", "5 MiB"),
            ("DOWNLOAD__PART_SIZE", "1 MiB"),
        ];
        let settings: Vec<_> = settings.chain(sizes).chain(more.iter().copied()).collect();
        Self {
            storage: Arc::new(storage(&settings)),
            fixture,
        }
    }
}

/// What the behaviours are tried on: a store as a gateway has it that has tried what it knows.
async fn ready(fixture: Fixture) -> Store {
    let store = Store::from(fixture);
    store.storage.try_store().await.unwrap();
    if let Some(server) = store.server() {
        server.forget_requests();
    }
    store
}

impl Store {
    /// The same, opened anew.
    fn set(self, name: &str, value: &str) -> Self {
        Self::with(self.fixture, &[(name, value)])
    }

    fn client(&self) -> Client {
        Client::of(&self.storage)
    }

    /// The key of what FTP calls so.
    fn key(&self, name: &str) -> String {
        let root = marker(&self.fixture.root);
        format!("{root}{name}")
    }

    /// The service that other programs reach as well; folders and the memory have none.
    fn server(&self) -> Option<&Server> {
        self.fixture.server.as_ref()
    }

    /// Directories are there by themselves, and have no markers.
    fn has_no_markers(&self) -> bool {
        self.storage.store.traits().directories
    }

    /// Leaves what a gateway leaves that dies right after the beginning of a rename.
    async fn begin_rename(&self, from: &str, to: &str) {
        let [from, to] = [from, to].map(|name| Path::from(self.key(name)));
        let note = Note::new(&from, &to, true).to_string();
        for directory in [from, to] {
            let key = marker(&directory);
            let written = self
                .storage
                .store
                .write_marker(&key, Some(&note), &Precondition::None);
            written.await.unwrap();
        }
    }

    /// What is noted on a directory's marker, if it has one.
    async fn note(&self, name: &str) -> Option<Option<String>> {
        let key = self.key(&format!("{name}/"));
        let marker = self.storage.store.read_marker(&key).await.unwrap();
        marker.map(|marker| marker.note)
    }

    /// No memory is held, and no upload is left open.
    async fn assert_no_leftovers(&self) {
        for of in [Use::Uploads, Use::Downloads, Use::Listings] {
            assert_eq!(self.storage.metrics.all().memory_of(of).get(), 0, "{of:?}");
        }
        let open = self.fixture.server.as_ref().map(Server::open_uploads);
        assert_eq!(open.unwrap_or_default(), []);
        if self.fixture.is_real() {
            // A sweep of what is younger than this finds every upload that is open.
            let soon = Utc::now() + chrono::Duration::hours(1);
            let swept = self.storage.store.sweep(&self.fixture.root, soon).await;
            assert_eq!(swept.unwrap(), 0, "uploads were left open");
        }
    }
}

on_each_store! {
    [ignoring]
    an_upload_is_there_whole
    an_upload_replaces_what_is_there
    an_upload_that_dies_changes_nothing
    what_exists_is_not_replaced_where_that_is_denied
    unique_names_are_unique
    an_append_comes_after_what_is_there
    an_append_to_nothing_is_an_upload
    an_append_that_dies_changes_nothing
    a_restart_goes_on_at_the_size
    a_restart_before_the_end_keeps_what_comes_before
    a_restart_that_dies_changes_nothing
    a_restart_knows_what_may_be_replaced
    downloads_begin_anywhere
    downloads_of_nothing_say_so
    odd_names_are_kept
    directories_are_made_and_removed
    a_directory_in_use_is_not_removed
    missing_directories_are_made_where_that_is_allowed
    missing_directories_are_refused_where_that_is_asked_for
    a_marker_with_content_is_never_lost
    a_rename_that_goes_on_leaves_markers_with_content
    a_rename_that_goes_on_leaves_markers_that_could_not_be_made
    a_directory_is_not_renamed_where_it_can_not_be_noted
    a_rename_that_was_begun_is_taken_up_again
    a_directory_that_was_made_anew_is_no_remainder_of_a_rename
    a_directory_keeps_its_names_free_of_content
    a_directory_outlives_its_last_file
    a_directory_outlives_its_last_directory
    files_and_directories_are_told_apart
    listings_have_every_name
    sizes_and_times_are_known
    directories_have_a_true_time_or_none
    a_deleted_file_is_gone
    a_renamed_file_is_the_same_file
    a_rename_replaces_only_where_that_is_allowed
    a_rename_of_nothing_says_so
    a_renamed_directory_takes_all_with_it
    a_directory_is_not_renamed_onto_another
    the_store_answers
    a_sweep_spares_what_is_young
    what_the_store_was_tried_with_is_swept
}

async fn an_upload_is_there_whole(store: Store) {
    let client = store.client();
    for size in [0, 1, 70_000, PART - 1, PART, PART + 1, 3 * PART + 7] {
        let file = bytes(size, 1);
        client.store("in/a.bin", &file).await;
        assert!(client.read("in/a.bin").await.unwrap() == file, "{size}");
    }
    store.assert_no_leftovers().await;
}

async fn an_upload_replaces_what_is_there(store: Store) {
    let client = store.client();
    for (before, after) in [(10, 20), (PART + 1, 20), (20, PART + 1), (20, 0)] {
        client.store("a.bin", &bytes(before, 1)).await;
        client.store("a.bin", &bytes(after, 2)).await;
        let found = client.read("a.bin").await.unwrap();
        assert!(found == bytes(after, 2), "{before} {after}");
    }
}

async fn an_upload_that_dies_changes_nothing(store: Store) {
    let client = store.client();
    for size in [0, 100, PART + 1] {
        let file = bytes(size, 2);
        client
            .upload_and_die(StoreMode::Replace, "new.bin", &file)
            .await;
        assert!(client.read("new.bin").await.is_none(), "{size}");
        client.store("old.bin", &bytes(50, 1)).await;
        client
            .upload_and_die(StoreMode::Replace, "old.bin", &file)
            .await;
        let found = client.read("old.bin").await.unwrap();
        assert!(found == bytes(50, 1), "{size}");
    }
    assert_eq!(client.names("/").await, ["old.bin"]);
    store.assert_no_leftovers().await;
}

async fn what_exists_is_not_replaced_where_that_is_denied(store: Store) {
    let client = store.client().who_may_not_overwrite();
    for size in [100, PART + 1] {
        let name = format!("{size}.bin");
        client.store(&name, &bytes(size, 1)).await;
        let again = client
            .upload(StoreMode::Replace, &name, &bytes(size, 2))
            .await;
        assert_eq!(again.report.outcome.0, "exists");
        assert!(client.read(&name).await.unwrap() == bytes(size, 1));
    }
    store.assert_no_leftovers().await;
}

async fn unique_names_are_unique(store: Store) {
    let client = store.client();
    let mut names = Vec::new();
    for seed in 0..3 {
        let uploaded = client
            .upload(StoreMode::Unique, "in/scan.pdf", &bytes(100, seed))
            .await;
        assert_eq!(uploaded.report.outcome, Outcome::COMPLETE);
        names.push(uploaded.unique.unwrap().as_str().to_owned());
    }
    for (seed, name) in (0..).zip(&names) {
        assert!(
            client.read(name).await.unwrap() == bytes(100, seed),
            "{name}"
        );
    }
    assert_eq!(client.names("in").await.len(), 3, "{names:?}");
}

async fn an_append_comes_after_what_is_there(store: Store) {
    let client = store.client();
    for (before, more) in [
        (10, 5),
        (0, 5),
        (10, 0),
        (10, PART + 1),
        (PART + 3, 5),
        (2 * PART, PART),
    ] {
        let (base, tail) = (bytes(before, 1), bytes(more, 2));
        client.store("log.txt", &base).await;
        append(&client, "log.txt", &tail).await;
        append(&client, "log.txt", &tail).await;
        let whole = [&base[..], &tail[..], &tail[..]].concat();
        let found = client.read("log.txt").await.unwrap();
        assert!(found == whole, "{before} {more}: {}", found.len());
    }
    assert_eq!(client.names("/").await, ["log.txt"]);
    store.assert_no_leftovers().await;
}

async fn append(client: &Client, name: &str, tail: &Bytes) {
    let report = client.upload(StoreMode::Append, name, tail).await.report;
    assert_eq!(report.outcome, Outcome::COMPLETE, "{report:?}");
}

async fn an_append_to_nothing_is_an_upload(store: Store) {
    let client = store.client();
    for size in [0, 5, PART + 1] {
        let name = format!("{size}.log");
        append(&client, &name, &bytes(size, 1)).await;
        assert!(
            client.read(&name).await.unwrap() == bytes(size, 1),
            "{size}"
        );
    }
}

async fn an_append_that_dies_changes_nothing(store: Store) {
    let client = store.client();
    for (before, more) in [(10, 5), (PART + 3, 5), (PART + 3, PART + 1)] {
        let base = bytes(before, 1);
        client.store("log.txt", &base).await;
        client
            .upload_and_die(StoreMode::Append, "log.txt", &bytes(more, 2))
            .await;
        let found = client.read("log.txt").await.unwrap();
        assert!(found == base, "{before} {more}");
    }
    assert_eq!(client.names("/").await, ["log.txt"]);
    store.assert_no_leftovers().await;
}

async fn a_restart_goes_on_at_the_size(store: Store) {
    let client = store.client();
    for size in [10, PART + 3] {
        let whole = bytes(size + 100, 1);
        client.store("a.bin", &whole.slice(..size)).await;
        let here = StoreMode::RestartAt(size as u64);
        let report = client
            .upload(here, "a.bin", &whole.slice(size..))
            .await
            .report;
        assert_eq!(report.outcome, Outcome::COMPLETE, "{report:?}");
        assert!(client.read("a.bin").await.unwrap() == whole);
        let beyond = StoreMode::RestartAt(whole.len() as u64 + 1);
        let report = client.upload(beyond, "a.bin", &bytes(5, 2)).await.report;
        assert_eq!(report.outcome.0, "restart");
        assert!(client.read("a.bin").await.unwrap() == whole);
    }
}

async fn a_restart_before_the_end_keeps_what_comes_before(store: Store) {
    let client = store.client();
    for (size, at, more) in [
        (10, 0, 3),
        (10, 1, 0),
        (10, 4, 2),
        (10, 9, PART + 1),
        (PART, PART - 1, 1),
        (PART + 1, PART, 0),
        (PART + 7, PART, PART),
        (PART + 7, PART + 6, 5),
        (2 * PART + 7, PART - 1, 5),
        (2 * PART + 7, PART + 1, PART),
        (3 * PART + 7, 2 * PART, 3 * PART),
    ] {
        let (old, new) = (bytes(size, 1), bytes(more, 2));
        client.store("in/a.bin", &old).await;
        let restart = StoreMode::RestartAt(at as u64);
        let report = client.upload(restart, "in/a.bin", &new).await.report;
        assert_eq!(report.outcome, Outcome::COMPLETE, "{size} {at}: {report:?}");
        let found = client.read("in/a.bin").await.unwrap();
        let expected = [&old[..at], &new[..]].concat();
        assert!(found == expected, "{size} {at} {more}: {}", found.len());
    }
    assert_eq!(client.names("in").await, ["a.bin"]);
    store.assert_no_leftovers().await;
}

async fn a_restart_that_dies_changes_nothing(store: Store) {
    let client = store.client();
    for (size, at, more) in [(10, 5, 2), (PART + 7, PART, 2), (PART + 7, 5, PART)] {
        let (old, new) = (bytes(size, 1), bytes(more, 2));
        client.store("a.bin", &old).await;
        let restart = StoreMode::RestartAt(at as u64);
        client.upload_and_die(restart, "a.bin", &new).await;
        assert!(client.read("a.bin").await.unwrap() == old, "{size} {at}");
    }
    store.assert_no_leftovers().await;
}

async fn a_restart_knows_what_may_be_replaced(store: Store) {
    let client = store.client().who_may_not_overwrite();
    client.store("a.bin", &bytes(10, 1)).await;
    for at in [0, 5, 10, 11] {
        let restart = StoreMode::RestartAt(at);
        let report = client.upload(restart, "a.bin", &bytes(5, 2)).await.report;
        assert_eq!(report.failure.unwrap().code, 553, "{at}");
    }
    assert!(client.read("a.bin").await.unwrap() == bytes(10, 1));
}

async fn downloads_begin_anywhere(store: Store) {
    let client = store.client();
    let file = bytes(3 * PART + 7, 1);
    client.store("a.bin", &file).await;
    for offset in [0, 1, PART, 3 * PART + 6, 3 * PART + 7] {
        let (report, tail) = client.download("a.bin", offset as u64).await;
        assert_eq!(report.outcome, Outcome::COMPLETE, "{offset}: {report:?}");
        assert!(tail == file[offset..], "{offset}");
    }
    let (report, _) = client.download("a.bin", 3 * PART as u64 + 8).await;
    assert_eq!(report.outcome.0, "restart");
    store.assert_no_leftovers().await;
}

async fn downloads_of_nothing_say_so(store: Store) {
    let client = store.client();
    client.make_directory("d").await.unwrap();
    let (report, _) = client.download("none", 0).await;
    assert_eq!(report.failure.unwrap().code, 550);
    let (report, _) = client.download("d", 0).await;
    assert_eq!(report.failure.unwrap().code, 550);
}

/// Names that addresses, XML, patterns or shells take for something else.
const ODD: [&str; 11] = [
    "a b.txt",
    "50%.txt",
    "a+b.txt",
    "a&b;c.txt",
    "<x>.txt",
    "quo'te\"s.txt",
    "ü-é-漢.txt",
    "~tilde^.txt",
    "a#b.txt",
    "que?stion.txt",
    "%41.txt",
];

async fn odd_names_are_kept(store: Store) {
    let client = store.client();
    for (seed, name) in (0..).zip(ODD) {
        client.store(&format!("in/{name}"), &bytes(100, seed)).await;
    }
    let mut expected = ODD;
    expected.sort_unstable();
    assert_eq!(client.names("in").await, expected);
    for (seed, name) in (0..).zip(ODD) {
        let found = client.read(&format!("in/{name}")).await.unwrap();
        assert!(found == bytes(100, seed), "{name}");
        client
            .rename(&format!("in/{name}"), &format!("out/{name}"))
            .await
            .unwrap();
        append(&client, &format!("out/{name}"), &bytes(1, seed)).await;
        client.delete(&format!("out/{name}")).await.unwrap();
    }
    assert_eq!(client.names("out").await, Vec::<String>::new());
}

async fn directories_are_made_and_removed(store: Store) {
    let client = store.client();
    client.make_directory("d").await.unwrap();
    client.make_directory("d/e").await.unwrap();
    assert_eq!(client.names("/").await, ["d"]);
    assert_eq!(client.names("d").await, ["e"]);
    assert!(client.stat("d/e").await.unwrap().is_directory());
    let again = client.make_directory("d").await.unwrap_err();
    assert!(matches!(again, StorageError::Occupied), "{again}");
    client.remove_directory("d/e").await.unwrap();
    client.remove_directory("d").await.unwrap();
    assert_eq!(client.names("/").await, Vec::<String>::new());
    let gone = client.remove_directory("d").await.unwrap_err();
    assert!(matches!(gone, StorageError::NotFound), "{gone}");
}

async fn a_directory_in_use_is_not_removed(store: Store) {
    let client = store.client();
    client.store("d/e/a.txt", &bytes(1, 1)).await;
    for directory in ["d", "d/e", "/"] {
        let kept = client.remove_directory(directory).await.unwrap_err();
        assert!(
            matches!(kept, StorageError::NotEmpty),
            "{directory}: {kept}"
        );
    }
    assert!(client.read("d/e/a.txt").await.is_some());
}

async fn missing_directories_are_made_where_that_is_allowed(store: Store) {
    let client = store.client();
    client.make_directory("a/b").await.unwrap();
    append(&client, "c/d/log.txt", &bytes(1, 1)).await;
    client.rename("a/b", "e/f/g").await.unwrap();
    client.rename("c/d/log.txt", "h/i/log.txt").await.unwrap();
    assert_eq!(client.names("/").await, ["a", "c", "e", "h"]);
}

async fn missing_directories_are_refused_where_that_is_asked_for(store: Store) {
    let store = store.set("UPLOAD__MISSING_DIRECTORIES", "refuse");
    let client = store.client();
    let modes = [
        StoreMode::Replace,
        StoreMode::Append,
        StoreMode::Unique,
        StoreMode::RestartAt(0),
    ];
    for mode in modes {
        let report = client.upload(mode, "a/b/f", &bytes(1, 1)).await.report;
        let failure = report.failure.unwrap();
        assert_eq!(failure.code, 550, "{mode:?}");
        assert!(failure.text.contains("/a/b,"), "{failure:?}");
    }
    client.store("f", &bytes(1, 1)).await;
    client.make_directory("d").await.unwrap();
    for (from, to) in [("f", "a/b/f"), ("d", "a/b/d"), ("d", "f/d")] {
        let refused = client.rename(from, to).await.unwrap_err();
        assert_eq!(refused.failure().code, 550, "{from} {to}: {refused}");
    }
    let refused = client.make_directory("a/b").await.unwrap_err().failure();
    assert_eq!(refused.code, 550);
    assert!(refused.text.contains("/a,"), "{refused:?}");
    assert_eq!(client.names("/").await, ["d", "f"]);
    client.make_directory("a").await.unwrap();
    client.make_directory("a/b").await.unwrap();
    client.rename("f", "a/b/f").await.unwrap();
    client.rename("d", "a/b/d").await.unwrap();
    append(&client, "a/b/f", &bytes(1, 1)).await;
    // In a bucket, what another program has put into a directory has made it.
    client.store("a/b/d/g", &bytes(1, 1)).await;
    assert_eq!(client.names("a/b").await, ["d", "f"]);
}

async fn a_marker_with_content_is_never_lost(store: Store) {
    let Some(server) = store.server() else { return };
    let client = store.client();
    let (key, invoice) = (store.key("d/"), Bytes::from_static(b"an invoice"));
    server.put(&key, invoice.clone());
    let refused = client.remove_directory("d").await.unwrap_err();
    assert_eq!(refused.failure().code, 550);
    assert!(refused.failure().text.contains("/d/"), "{refused:?}");
    let refused = client.make_directory("d").await.unwrap_err();
    assert!(matches!(refused, StorageError::Occupied), "{refused}");
    let refused = client.rename("d", "e").await.unwrap_err();
    assert!(matches!(refused, StorageError::Name(_)), "{refused}");
    client.make_directory("f").await.unwrap();
    let refused = client.rename("f", "d").await.unwrap_err();
    assert!(matches!(refused, StorageError::Exists), "{refused}");
    client.store("d/a.txt", &bytes(1, 1)).await;
    client.delete("d/a.txt").await.unwrap();
    assert_eq!(server.object(&key), Some(invoice.clone()));
    // Nothing but its condition keeps this one from it.
    if store
        .storage
        .conditions()
        .iter()
        .any(|tried| tried.holds == Some(false))
    {
        return;
    }
    // Whoever looks and finds nothing, as with credentials that may only write, must not replace it either.
    let directory = Path::from(store.key("d"));
    let taken = store.storage.store.create_directory(&directory).await;
    assert!(
        matches!(taken, Err(Error::AlreadyExists { .. })),
        "{taken:?}"
    );
    assert_eq!(server.object(&key), Some(invoice));
}

async fn a_rename_that_goes_on_leaves_markers_with_content(store: Store) {
    let Some(server) = store.server() else { return };
    let client = store.client();
    client.make_directory("old/sub").await.unwrap();
    client.store("old/a.txt", &bytes(10, 1)).await;
    store.begin_rename("old", "new").await;
    let (key, invoice) = (store.key("new/sub/"), Bytes::from_static(b"an invoice"));
    server.put(&key, invoice.clone());
    let stays = client.rename("old", "new").await.unwrap_err();
    assert!(matches!(stays, StorageError::LeftBehind(1)), "{stays}");
    assert_eq!(server.object(&key), Some(invoice));
    assert!(client.stat("old/sub").await.unwrap().is_directory());
    assert!(client.read("new/a.txt").await.unwrap() == bytes(10, 1));
}

/// The store says that there is one, but there is none.
async fn a_rename_that_goes_on_leaves_markers_that_could_not_be_made(store: Store) {
    let Some(server) = store.server() else { return };
    let client = store.client();
    client.make_directory("old/sub").await.unwrap();
    store.begin_rename("old", "new").await;
    server.fail_next("PutObject", 1, 412);
    let renamed = client.rename("old", "new").await;
    let there = if renamed.is_ok() { "new" } else { "old" };
    assert_eq!(client.names(there).await, ["sub"], "{renamed:?}");
    if renamed.is_err() {
        client.rename("old", "new").await.unwrap();
    }
    assert_eq!(client.names("new").await, ["sub"]);
}

/// Nothing has changed then.
async fn a_directory_is_not_renamed_where_it_can_not_be_noted(store: Store) {
    let Some(server) = store.server() else { return };
    let client = store.client();
    client.make_directory("made").await.unwrap();
    for from in ["found", "made"] {
        server.put(&store.key(&format!("{from}/a.txt")), bytes(10, 1));
        let before = server.keys();
        server.drop_metadata_of_directories();
        for _ in 0..2 {
            let refused = client.rename(from, "new").await.unwrap_err();
            assert!(matches!(refused, StorageError::Unsupported(_)), "{refused}");
            assert_eq!(server.keys(), before);
        }
    }
    assert_eq!(server.count("CopyObject"), 0);
}

async fn a_rename_that_was_begun_is_taken_up_again(store: Store) {
    if store.has_no_markers() {
        return;
    }
    let client = store.client();
    client.store("old/a.txt", &bytes(10, 1)).await;
    client.store("other/b.txt", &bytes(10, 2)).await;
    store.begin_rename("old", "new").await;
    for (from, to) in [("other", "new"), ("new", "old")] {
        let refused = client.rename(from, to).await.unwrap_err();
        assert!(matches!(refused, StorageError::Exists), "{from}: {refused}");
    }
    client.rename("old", "new").await.unwrap();
    assert!(client.read("new/a.txt").await.unwrap() == bytes(10, 1));
    assert_eq!(store.note("old").await, None);
    assert_eq!(store.note("new").await, Some(None));
    // It has ended: another directory of the old name is another directory.
    client.store("old/a.txt", &bytes(10, 3)).await;
    let refused = client.rename("old", "new").await.unwrap_err();
    assert!(matches!(refused, StorageError::Exists), "{refused}");
}

async fn a_directory_that_was_made_anew_is_no_remainder_of_a_rename(store: Store) {
    if store.has_no_markers() {
        return;
    }
    let client = store.client();
    for anew in ["old", "new"] {
        client.make_directory("old").await.unwrap();
        store.begin_rename("old", "new").await;
        client.remove_directory(anew).await.unwrap();
        client.make_directory(anew).await.unwrap();
        let refused = client.rename("old", "new").await.unwrap_err();
        assert!(matches!(refused, StorageError::Exists), "{anew}: {refused}");
        client.remove_directory("new").await.unwrap();
        client.remove_directory("old").await.unwrap();
    }
}

/// Some stores refuse content under a key that ends with a slash. The doubles do.
async fn a_directory_keeps_its_names_free_of_content(store: Store) {
    let client = store.client();
    client.store("in/a.txt", &bytes(10, 1)).await;
    client.make_directory("in/empty").await.unwrap();
    client.rename("in", "out").await.unwrap();
    assert_eq!(client.names("out").await, ["a.txt", "empty"]);
    let Some(server) = store.server() else { return };
    store.begin_rename("in", "other").await;
    for key in server.keys() {
        let is_marker = key.ends_with('/');
        assert!(!is_marker || server.size(&key) == Some(0), "{key}");
    }
}

async fn a_directory_outlives_its_last_file(store: Store) {
    let client = store.client();
    client.store("d/a.txt", &bytes(1, 1)).await;
    client.delete("d/a.txt").await.unwrap();
    assert!(client.stat("d").await.unwrap().is_directory());
    client.store("d/a.txt", &bytes(1, 1)).await;
    client.rename("d/a.txt", "a.txt").await.unwrap();
    assert!(client.stat("d").await.unwrap().is_directory());
    client.remove_directory("d").await.unwrap();
}

async fn a_directory_outlives_its_last_directory(store: Store) {
    let client = store.client();
    client.store("aa/bb/cc/f", &bytes(1, 1)).await;
    // Bottom up, as clients delete a tree.
    client.delete("aa/bb/cc/f").await.unwrap();
    for directory in ["aa/bb/cc", "aa/bb", "aa"] {
        client.remove_directory(directory).await.unwrap();
    }
    assert_eq!(client.names("/").await, Vec::<String>::new());
    client.store("aa/bb/f", &bytes(1, 1)).await;
    client.rename("aa/bb", "cc").await.unwrap();
    assert!(client.stat("aa").await.unwrap().is_directory());
    assert_eq!(client.names("/").await, ["aa", "cc"]);
}

async fn files_and_directories_are_told_apart(store: Store) {
    let client = store.client();
    client.store("file", &bytes(1, 1)).await;
    client.make_directory("d").await.unwrap();
    let refused = client.delete("d").await.unwrap_err();
    assert_eq!(refused.failure().code, 550);
    let refused = client.remove_directory("file").await.unwrap_err();
    assert_eq!(refused.failure().code, 550);
    let refused = client.make_directory("file").await.unwrap_err();
    assert!(matches!(refused, StorageError::Occupied), "{refused}");
    assert!(client.read("file").await.is_some());
    assert!(client.stat("d").await.unwrap().is_directory());
}

async fn listings_have_every_name(store: Store) {
    let client = store.client();
    for name in ["b.txt", "a.txt", "d/c.txt", "d/e/f.txt", "d.txt"] {
        client.store(&format!("in/{name}"), &bytes(3, 1)).await;
    }
    client.make_directory("in/empty").await.unwrap();
    assert_eq!(
        client.names("in").await,
        ["a.txt", "b.txt", "d", "d.txt", "empty"]
    );
    let facts = client.list(ListFormat::Facts, "in").await;
    let directories = facts
        .iter()
        .filter(|line| line.to_lowercase().contains("type=dir"));
    assert_eq!(directories.count(), 2, "{facts:?}");
    assert_eq!(client.list(ListFormat::Long, "in").await.len(), 5);
    assert_eq!(client.names("in/*.txt").await, ["a.txt", "b.txt", "d.txt"]);
    assert_eq!(client.names("in/empty").await, Vec::<String>::new());
}

async fn sizes_and_times_are_known(store: Store) {
    let client = store.client();
    let before = SystemTime::now();
    for size in [0, 1234, PART + 1] {
        client.store("a.bin", &bytes(size, 1)).await;
        let entry = client.stat("a.bin").await.unwrap();
        assert_eq!((entry.name.as_str(), entry.size), ("a.bin", size as u64));
        // Stores tell times to the second.
        let modified = entry.modified.unwrap() + Duration::from_secs(2);
        assert!(modified > before, "{modified:?} {before:?}");
    }
    let none = client.stat("none").await.unwrap_err();
    assert!(matches!(none, StorageError::NotFound), "{none}");
}

async fn directories_have_a_true_time_or_none(store: Store) {
    let client = store.client();
    let before = SystemTime::now() - Duration::from_secs(2);
    client.make_directory("in/made").await.unwrap();
    client.store("in/implied/a.txt", &bytes(1, 1)).await;
    for name in ["in/made", "in/implied"] {
        let modified = client.stat(name).await.unwrap().modified;
        assert!(modified.unwrap() > before, "{name}: {modified:?}");
    }
    let year = Utc::now().format("modify=%Y").to_string();
    for line in client.list(ListFormat::Facts, "in").await {
        assert!(!line.contains("modify=") || line.contains(&year), "{line}");
        assert!(
            line.contains("modify=") || !store.has_no_markers(),
            "{line}"
        );
    }
    for line in client.list(ListFormat::Long, "in").await {
        assert!(line.contains("  2000 ") || store.has_no_markers(), "{line}");
        assert!(!line.contains("1970"), "{line}");
    }
}

async fn a_deleted_file_is_gone(store: Store) {
    let client = store.client();
    for size in [0, 100, PART + 1] {
        client.store("d/a.bin", &bytes(size, 1)).await;
        client.delete("d/a.bin").await.unwrap();
        assert!(client.read("d/a.bin").await.is_none());
        assert_eq!(client.names("d").await, Vec::<String>::new());
        let gone = client.delete("d/a.bin").await.unwrap_err();
        assert!(matches!(gone, StorageError::NotFound), "{gone}");
    }
}

async fn a_renamed_file_is_the_same_file(store: Store) {
    let client = store.client();
    for size in [0, 100, PART + 1] {
        let file = bytes(size, 1);
        client.store("in/a.bin", &file).await;
        client.rename("in/a.bin", "done/b.bin").await.unwrap();
        assert!(client.read("done/b.bin").await.unwrap() == file);
        assert!(client.read("in/a.bin").await.is_none());
        // A copy that shares its bytes with the original would change here.
        client.store("in/a.bin", &file).await;
        append(&client, "in/a.bin", &bytes(1, 2)).await;
        assert!(client.read("done/b.bin").await.unwrap() == file);
        client.delete("in/a.bin").await.unwrap();
    }
}

async fn a_rename_replaces_only_where_that_is_allowed(store: Store) {
    let client = store.client();
    client.store("a", &bytes(10, 1)).await;
    client.store("b", &bytes(20, 2)).await;
    let refused = client
        .who_may_not_overwrite()
        .rename("a", "b")
        .await
        .unwrap_err();
    assert!(matches!(refused, StorageError::Exists), "{refused}");
    assert!(client.read("b").await.unwrap() == bytes(20, 2));
    client.rename("a", "b").await.unwrap();
    assert!(client.read("b").await.unwrap() == bytes(10, 1));
    assert!(client.read("a").await.is_none());
    client.rename("b", "b").await.unwrap();
    assert!(client.read("b").await.unwrap() == bytes(10, 1));
}

async fn a_rename_of_nothing_says_so(store: Store) {
    let client = store.client();
    let none = client.rename("none", "b").await.unwrap_err();
    assert!(matches!(none, StorageError::NotFound), "{none}");
    client.make_directory("d").await.unwrap();
    let inside = client.rename("d", "d/e").await.unwrap_err();
    assert!(matches!(inside, StorageError::IntoItself), "{inside}");
}

async fn a_renamed_directory_takes_all_with_it(store: Store) {
    let client = store.client();
    let files = ["a.txt", "sub/b.txt", "sub/deeper/c.txt"];
    for (seed, name) in (0..).zip(files) {
        client.store(&format!("in/{name}"), &bytes(100, seed)).await;
    }
    client.make_directory("in/empty").await.unwrap();
    client.rename("in", "out").await.unwrap();
    for (seed, name) in (0..).zip(files) {
        let found = client.read(&format!("out/{name}")).await.unwrap();
        assert!(found == bytes(100, seed), "{name}");
    }
    assert_eq!(client.names("out").await, ["a.txt", "empty", "sub"]);
    assert_eq!(client.names("/").await, ["out"]);
}

async fn a_directory_is_not_renamed_onto_another(store: Store) {
    let client = store.client();
    client.store("a/x", &bytes(1, 1)).await;
    client.store("b/y", &bytes(1, 2)).await;
    client.store("c", &bytes(1, 3)).await;
    for target in ["b", "c"] {
        let refused = client.rename("a", target).await.unwrap_err();
        assert!(
            matches!(refused, StorageError::Exists),
            "{target}: {refused}"
        );
    }
    assert!(client.read("a/x").await.is_some());
    assert!(client.read("b/y").await.is_some());
    assert!(client.read("c").await.unwrap() == bytes(1, 3));
}

async fn the_store_answers(store: Store) {
    store.storage.probe().await.unwrap();
}

async fn a_sweep_spares_what_is_young(store: Store) {
    let client = store.client();
    client.store("a.bin", &bytes(10, 1)).await;
    let swept = store.storage.sweep(Duration::from_hours(1)).await.uploads;
    assert_eq!(swept, 0);
    assert!(client.read("a.bin").await.is_some());
}

/// A gateway that was killed at its start has left it.
async fn what_the_store_was_tried_with_is_swept(store: Store) {
    let Some(server) = &store.fixture.server else {
        return;
    };
    let root = &store.fixture.root;
    let [old, young] = ["old", "young"].map(|name| format!("{root}/.bucketferry/probes/{name}"));
    server.put(&old, "tried");
    server.age(Duration::from_hours(2));
    server.put(&young, "tried");
    let swept = store.storage.sweep(Duration::from_hours(1)).await;
    assert_eq!(swept.uploads, 0);
    assert_eq!(server.keys(), [young]);
}
