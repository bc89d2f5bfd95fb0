//! What a 226 and a 250 mean, on each store: with two gateways, lost answers, late requests, and stores that know no
//! conditions.

mod lost_answers;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use doubles::{Fault, Server, Strike};
use object_store::path::Path;

use crate::session::{Outcome, StoreMode};
use crate::storage::error::StorageError;
use crate::storage::harness::{Client, Uploaded, bytes, storage};
use crate::storage::store::fixture::{Fixture, on_each_store};

/// The size of a part, and the least that every store takes.
const PART: usize = 5 << 20;

/// For so long a request is tried again.
const RETRY: Duration = Duration::from_millis(400);

/// The same on a server that is no double, and may be busy.
const PATIENT: Duration = Duration::from_secs(10);

/// By then every try has ended, and every late request has arrived.
const LATE: Duration = Duration::from_millis(900);

/// Two gateways on one store.
struct Two {
    one: Client,
    other: Client,
    fixture: Fixture,
}

impl From<Fixture> for Two {
    fn from(fixture: Fixture) -> Self {
        Self::with(fixture, "trust")
    }
}

/// What the behaviours are tried on.
async fn ready(fixture: Fixture) -> Two {
    if !fixture.is_real() {
        return fixture.into();
    }
    let two = Two::with(fixture, "try");
    for gateway in [&two.one, &two.other] {
        gateway.storage().try_store().await.unwrap();
    }
    two
}

impl Two {
    fn with(fixture: Fixture, conditions: &str) -> Self {
        let retry = if fixture.is_real() { PATIENT } else { RETRY };
        let retry = format!("{}ms", retry.as_millis());
        let settings = fixture.settings();
        let settings = settings.iter().map(|(name, value)| (&**name, &**value));
        let own = [
            ("UPLOAD__PART_SIZE", "5 MiB"),
            ("STORE__RETRY_TIMEOUT", &retry),
            ("STORE__CONDITIONS", conditions),
        ];
        let settings = settings.filter(|(name, _)| own.iter().all(|(own, _)| own != name));
        let settings: Vec<_> = settings.chain(own).collect();
        let gateway = || Client::of(&Arc::new(storage(&settings)));
        let one = gateway();
        // What lies in memory is in one process.
        let other = if fixture.is_memory() {
            one.clone()
        } else {
            gateway()
        };
        Self {
            one,
            other,
            fixture,
        }
    }
}

impl Two {
    /// The service behind the bucket; folders and the memory have none.
    fn server(&self) -> Option<&Server> {
        self.fixture.server.as_ref()
    }

    fn who_may_not_overwrite(&self) -> (Client, Client) {
        (
            self.one.who_may_not_overwrite(),
            self.other.who_may_not_overwrite(),
        )
    }
}

fn is_complete(uploaded: &Uploaded) -> bool {
    uploaded.report.outcome == Outcome::COMPLETE
}

on_each_store! {
    one_of_two_uploads_takes_a_new_name_where_overwriting_is_denied
    one_of_two_large_uploads_takes_a_new_name_where_overwriting_is_denied
    one_of_two_appends_makes_a_new_file
    one_of_two_renames_takes_a_new_name_where_overwriting_is_denied
    one_of_two_renames_of_a_file_succeeds
    of_two_uploads_to_one_name_one_stays_whole
    a_late_upload_does_not_undo_a_newer_one
    a_late_completion_does_not_undo_a_newer_upload
    a_late_deletion_does_not_delete_a_newer_file
    a_late_copy_does_not_undo_a_newer_upload
    a_rename_whose_source_is_replaced_meanwhile_is_told_so
    a_rename_whose_target_is_deleted_meanwhile_goes_on
    a_deletion_beside_an_append_is_not_told_as_done
    a_client_that_is_gone_has_nothing_tried_again
    a_rename_keeps_its_source_until_the_copy_is_there
    a_directory_keeps_its_files_until_their_copies_are_there
    a_rename_whose_deletion_failed_can_be_finished
    of_two_renames_of_a_directory_the_later_one_goes_on
    of_two_renames_of_a_directory_the_earlier_one_has_it
    an_append_that_landed_is_told_although_another_has_appended_since
    an_upload_that_landed_is_told_although_another_has_replaced_it_since
    a_directory_keeps_a_file_whose_copy_is_not_there
    a_renamed_directory_costs_a_copy_for_each_file_and_few_requests_more
    a_small_file_costs_one_request_new_or_replaced_again
    a_small_file_costs_one_request_where_one_was_taken_away
    what_another_has_written_is_replaced
    what_is_damaged_on_its_way_is_sent_again
    what_is_damaged_again_and_again_is_not_stored
}

/// 200 times two clients of two gateways at once: each time, one of them is told that it has succeeded.
async fn one_of_two_uploads_takes_a_new_name_where_overwriting_is_denied(two: Two) {
    let (one, other) = two.who_may_not_overwrite();
    for round in 0..200 {
        let name = format!("d/{round}");
        let (first, second) = (bytes(7, 1), bytes(7, 2));
        let (a, b) = tokio::join!(
            one.upload(StoreMode::Replace, &name, &first),
            other.upload(StoreMode::Replace, &name, &second)
        );
        assert_ne!(is_complete(&a), is_complete(&b), "{round}: {a:?} {b:?}");
        let winner = if is_complete(&a) { first } else { second };
        assert_eq!(one.read(&name).await.unwrap(), winner, "{round}");
    }
}

async fn one_of_two_large_uploads_takes_a_new_name_where_overwriting_is_denied(two: Two) {
    let (one, other) = two.who_may_not_overwrite();
    for round in 0..6 {
        let name = format!("d/{round}");
        let (first, second) = (bytes(PART + 1, 1), bytes(PART + 1, 2));
        let (a, b) = tokio::join!(
            one.upload(StoreMode::Replace, &name, &first),
            other.upload(StoreMode::Replace, &name, &second)
        );
        assert_ne!(is_complete(&a), is_complete(&b), "{round}: {a:?} {b:?}");
        let winner = if is_complete(&a) { first } else { second };
        assert!(one.read(&name).await.unwrap() == winner, "{round}");
    }
}

async fn one_of_two_appends_makes_a_new_file(two: Two) {
    let (one, other) = two.who_may_not_overwrite();
    for round in 0..200 {
        let name = format!("d/{round}");
        let (first, second) = (bytes(7, 1), bytes(7, 2));
        let (a, b) = tokio::join!(
            one.upload(StoreMode::Append, &name, &first),
            other.upload(StoreMode::Append, &name, &second)
        );
        assert_ne!(is_complete(&a), is_complete(&b), "{round}: {a:?} {b:?}");
        let winner = if is_complete(&a) { first } else { second };
        assert_eq!(one.read(&name).await.unwrap(), winner, "{round}");
    }
}

async fn one_of_two_renames_takes_a_new_name_where_overwriting_is_denied(two: Two) {
    let (one, other) = two.who_may_not_overwrite();
    for round in 0..100 {
        let [a, b, to] = ["a", "b", "to"].map(|name| format!("d/{name}{round}"));
        // The same bytes: only their marks tell them apart.
        one.store(&a, &bytes(7, 1)).await;
        one.store(&b, &bytes(7, 1)).await;
        let (first, second) = tokio::join!(one.rename(&a, &to), other.rename(&b, &to));
        assert_ne!(
            first.is_ok(),
            second.is_ok(),
            "{round}: {first:?} {second:?}"
        );
        let left = if first.is_ok() { &b } else { &a };
        assert!(one.read(left).await.is_some(), "{round}");
        assert!(one.read(&to).await.is_some(), "{round}");
    }
}

/// Programs claim a file by renaming it, each to a name of its own or all to one.
async fn one_of_two_renames_of_a_file_succeeds(two: Two) {
    let (deny, other_deny) = two.who_may_not_overwrite();
    for round in 0..100 {
        let [from, to, own] = ["a", "to", "own"].map(|name| format!("d/{name}{round}"));
        let second = if round % 2 == 0 { &to } else { &own };
        let (one, other) = if round % 4 < 2 {
            (&two.one, &two.other)
        } else {
            (&deny, &other_deny)
        };
        one.store(&from, &bytes(7, 1)).await;
        let (a, b) = tokio::join!(one.rename(&from, &to), other.rename(&from, second));
        assert_ne!(a.is_ok(), b.is_ok(), "{round}: {a:?} {b:?}");
        let winner = if a.is_ok() { &to } else { second };
        assert_eq!(one.read(winner).await.unwrap(), bytes(7, 1), "{round}");
        assert_eq!(one.read(&from).await, None, "{round}");
    }
}

async fn of_two_uploads_to_one_name_one_stays_whole(two: Two) {
    for round in 0..50 {
        let (first, second) = (bytes(3000, 1), bytes(4000, 2));
        let (a, b) = tokio::join!(
            two.one.upload(StoreMode::Replace, "d/a", &first),
            two.other.upload(StoreMode::Replace, "d/a", &second)
        );
        assert!(is_complete(&a) && is_complete(&b), "{round}: {a:?} {b:?}");
        let found = two.one.read("d/a").await.unwrap();
        assert!(found == first || found == second, "{round}");
    }
}

/// Has the next request for `operation` done late, and all after it refused until healed.
fn late(server: &Server, operation: &str) {
    server.be_late(operation, 1, LATE / 2);
    server.fail_next(operation, usize::MAX, 503);
}

/// A try of the first upload arrives when the second has been acknowledged.
async fn late_upload(two: &Two, operation: &str, size: usize) {
    let Some(server) = two.server() else { return };
    for old in [None, Some(bytes(5, 9))] {
        if let Some(old) = &old {
            two.one.store("a", old).await;
        }
        late(server, operation);
        let lost = two
            .one
            .upload(StoreMode::Replace, "a", &bytes(size, 1))
            .await;
        // What S3 has aborted can't be completed any more, so that it is known to have failed.
        let is_known = ["unresolved", "store_error"].contains(&lost.report.outcome.0);
        assert!(is_known, "{:?}", lost.report);
        server.heal();
        let newer = bytes(20, 2);
        two.other.store("a", &newer).await;
        tokio::time::sleep(LATE).await;
        assert_eq!(two.other.read("a").await.unwrap(), newer);
        two.one.delete("a").await.unwrap();
    }
}

async fn a_late_upload_does_not_undo_a_newer_one(two: Two) {
    late_upload(&two, "PutObject", 10).await;
}

async fn a_late_completion_does_not_undo_a_newer_upload(two: Two) {
    late_upload(&two, two.publication(), PART + 1).await;
}

async fn a_late_deletion_does_not_delete_a_newer_file(two: Two) {
    let Some(server) = two.server() else { return };
    two.one.store("a", &bytes(10, 1)).await;
    late(server, "DeleteObject");
    let lost = two.one.delete("a").await;
    assert!(matches!(lost, Err(StorageError::Unresolved(_))), "{lost:?}");
    server.heal();
    let newer = bytes(20, 2);
    two.other.store("a", &newer).await;
    tokio::time::sleep(LATE).await;
    assert_eq!(two.other.read("a").await.unwrap(), newer);
}

async fn a_late_copy_does_not_undo_a_newer_upload(two: Two) {
    let Some(server) = two.server() else { return };
    for old in [None, Some(bytes(5, 9))] {
        if let Some(old) = &old {
            two.one.store("b", old).await;
        }
        two.one.store("a", &bytes(10, 1)).await;
        late(server, "CopyObject");
        let lost = two.one.rename("a", "b").await;
        assert!(matches!(lost, Err(StorageError::Unresolved(_))), "{lost:?}");
        server.heal();
        let newer = bytes(20, 2);
        two.other.store("b", &newer).await;
        tokio::time::sleep(LATE).await;
        assert_eq!(two.other.read("b").await.unwrap(), newer);
        assert_eq!(two.other.read("a").await.unwrap(), bytes(10, 1));
        two.one.delete("b").await.unwrap();
    }
}

/// Found by the histories (Google, seed 131): the store says that there is no such version, which is not that there is
/// no such file.
async fn a_rename_whose_source_is_replaced_meanwhile_is_told_so(two: Two) {
    let Some(server) = two.server() else { return };
    two.one.store("a", &bytes(10, 1)).await;
    server.stall("CopyObject", Duration::from_secs(20));
    let rename = async { two.one.rename("a", "b").await };
    let newer = async {
        server.wait_for("CopyObject", 1).await;
        two.other.store("a", &bytes(20, 2)).await;
        server.heal();
    };
    let (renamed, ()) = tokio::join!(rename, newer);
    assert!(
        matches!(renamed, Err(StorageError::Conflict)),
        "{renamed:?}"
    );
    assert_eq!(two.other.read("a").await.unwrap(), bytes(20, 2));
    assert_eq!(two.other.read("b").await, None);
}

/// Found by the histories (S3, seed 228): the store says that there is no such key, and means the target.
async fn a_rename_whose_target_is_deleted_meanwhile_goes_on(two: Two) {
    let Some(server) = two.server() else { return };
    two.one.store("a", &bytes(10, 1)).await;
    two.one.store("b", &bytes(20, 2)).await;
    server.stall("CopyObject", Duration::from_secs(20));
    let rename = async { two.one.rename("a", "b").await };
    let deletion = async {
        server.wait_for("CopyObject", 1).await;
        two.other.delete("b").await.unwrap();
        server.heal();
    };
    let (renamed, ()) = tokio::join!(rename, deletion);
    renamed.unwrap();
    assert_eq!(two.other.read("b").await.unwrap(), bytes(10, 1));
    assert_eq!(two.other.read("a").await, None);
}

/// Found by the histories (S3, seed 61): what was to be deleted is in the file that stays.
async fn a_deletion_beside_an_append_is_not_told_as_done(two: Two) {
    let Some(server) = two.server() else { return };
    let both: Bytes = [bytes(10, 1), bytes(20, 2)].concat().into();
    two.one.store("a", &bytes(10, 1)).await;
    server.stall("DeleteObject", Duration::from_secs(20));
    let deletion = async { two.one.delete("a").await };
    let append = async {
        server.wait_for("DeleteObject", 1).await;
        let more = bytes(20, 2);
        let append = two.other.upload(StoreMode::Append, "a", &more).await;
        assert!(is_complete(&append), "{:?}", append.report);
        server.heal();
    };
    let (deleted, ()) = tokio::join!(deletion, append);
    assert!(
        matches!(deleted, Err(StorageError::Conflict)),
        "{deleted:?}"
    );
    assert_eq!(two.other.read("a").await.unwrap(), both);
    two.one.delete("a").await.unwrap();
}

async fn a_client_that_is_gone_has_nothing_tried_again(two: Two) {
    let Some(server) = two.server() else { return };
    server.fail_next("PutObject", usize::MAX, 503);
    let file = bytes(10, 1);
    two.one.upload_and_leave("a", &file, RETRY / 8).await;
    let tries = server.count("PutObject");
    assert_eq!(tries, 1, "{:#?}", server.requests());
    server.heal();
    tokio::time::sleep(LATE).await;
    assert_eq!(server.count("PutObject"), tries);
    assert_eq!(two.one.read("a").await, None);
}

/// Ways in which a copy fails: an error within a 200 (S3's), a 200 that says nothing, and a plain refusal.
const FAILED_COPIES: [Option<u16>; 3] = [Some(200), None, Some(500)];

fn fail_copies(server: &Server, how: Option<u16>) {
    match how {
        Some(status) => server.fail_next("CopyObject", usize::MAX, status),
        None => server.say_nothing("CopyObject", usize::MAX),
    }
}

async fn a_rename_keeps_its_source_until_the_copy_is_there(two: Two) {
    let Some(server) = two.server() else { return };
    for how in FAILED_COPIES {
        let file = bytes(10, 1);
        two.one.store("a", &file).await;
        fail_copies(server, how);
        two.one.rename("a", "b").await.unwrap_err();
        server.heal();
        assert_eq!(two.one.read("a").await.unwrap(), file, "{how:?}");
        assert_eq!(two.one.read("b").await, None, "{how:?}");
        two.one.rename("a", "b").await.unwrap();
        assert_eq!(two.one.read("b").await.unwrap(), file, "{how:?}");
        two.one.delete("b").await.unwrap();
    }
}

async fn a_directory_keeps_its_files_until_their_copies_are_there(two: Two) {
    let Some(server) = two.server() else { return };
    let file = bytes(10, 1);
    for (round, how) in FAILED_COPIES.into_iter().enumerate() {
        let (from, to) = (format!("d{round}"), format!("n{round}"));
        for name in ["a", "e/b"] {
            two.one.store(&format!("{from}/{name}"), &file).await;
        }
        fail_copies(server, how);
        two.one.rename(&from, &to).await.unwrap_err();
        server.heal();
        for name in ["a", "e/b"] {
            let found = two.one.read(&format!("{from}/{name}")).await;
            assert_eq!(found.unwrap(), file, "{how:?}");
        }
        two.one.rename(&from, &to).await.unwrap();
        for name in ["a", "e/b"] {
            let found = two.one.read(&format!("{to}/{name}")).await;
            assert_eq!(found.unwrap(), file, "{how:?}");
        }
    }
}

async fn a_rename_whose_deletion_failed_can_be_finished(two: Two) {
    let Some(server) = two.server() else { return };
    let client = two.one.who_may_not_overwrite();
    client.store("a", &bytes(10, 1)).await;
    server.fail_next("DeleteObject", usize::MAX, 503);
    client.rename("a", "b").await.unwrap_err();
    server.heal();
    client.rename("a", "b").await.unwrap();
    assert_eq!(client.read("b").await.unwrap(), bytes(10, 1));
    assert_eq!(client.read("a").await, None);
}

/// The first one copies when the second begins. It deletes nothing, and says why.
async fn of_two_renames_of_a_directory_the_later_one_goes_on(two: Two) {
    let Some(server) = two.server() else { return };
    for (round, has_marker) in [true, false].into_iter().enumerate() {
        let [from, to, other] = ["d", "n", "o"].map(|name| format!("{name}{round}"));
        if has_marker {
            two.one.make_directory(&from).await.unwrap();
        }
        two.one.store(&format!("{from}/a"), &bytes(10, 1)).await;
        server.forget_requests();
        server.stall("CopyObject", Duration::from_secs(20));
        let first = two.one.rename(&from, &to);
        let second = async {
            server.wait_for("CopyObject", 1).await;
            let second = two.other.rename(&from, &other);
            let heal = async {
                server.wait_for("CopyObject", 2).await;
                server.heal();
            };
            tokio::join!(second, heal).0
        };
        let (first, second) = tokio::join!(first, second);
        assert!(matches!(first, Err(StorageError::Conflict)), "{first:?}");
        second.unwrap();
        let found = two.one.read(&format!("{other}/a")).await;
        assert_eq!(found.unwrap(), bytes(10, 1));
        assert!(two.one.stat(&from).await.is_err());
    }
}

/// The second one has seen the files, and begins when the first has ended.
async fn of_two_renames_of_a_directory_the_earlier_one_has_it(two: Two) {
    let Some(server) = two.server() else { return };
    // One that was made by itself stays.
    for (has_marker, stay) in [(false, &["n"][..]), (true, &["d", "n"])] {
        if has_marker {
            two.one.make_directory("p/d").await.unwrap();
        }
        let key = two.fixture.root.clone().join("p").join("d").join("a");
        server.put(key.as_ref(), bytes(10, 1));
        server.forget_requests();
        server.stall("PutObject", Duration::from_secs(20));
        let second = two.other.rename("p/d", "p/o");
        let first = async {
            server.wait_for("PutObject", 1).await;
            move_by_hand(server, &key, "n");
            server.heal();
        };
        let (second, ()) = tokio::join!(second, first);
        assert!(matches!(second, Err(StorageError::TakenAway)), "{second:?}");
        assert_eq!(two.one.names("p").await, stay);
    }
    // An empty one has nothing in it that another could take.
    two.one.make_directory("e").await.unwrap();
    two.one.rename("e", "f").await.unwrap();
    assert!(two.one.stat("f").await.unwrap().is_directory());
}

/// What another gateway leaves that has renamed a file's directory.
fn move_by_hand(server: &Server, key: &Path, to: &str) {
    let all = key.as_ref().rsplitn(3, '/').collect::<Vec<_>>();
    let file = server.object(key.as_ref()).unwrap();
    server.put(&format!("{}/{to}/{}", all[2], all[0]), file);
    server.delete(key.as_ref());
}

/// The first client's answer is lost, and another's change lands before it tries again.
async fn overtaken(two: &Two, server: &Server, mode: StoreMode, [first, second]: [&Bytes; 2]) {
    server.forget_requests();
    server.lose_next_answer("PutObject", 1);
    let one = async { two.one.upload(mode, "a", first).await };
    let other = async {
        server.wait_for("PutObject", 1).await;
        server.wait_until_idle().await;
        two.other.upload(mode, "a", second).await
    };
    let (one, other) = tokio::join!(one, other);
    assert!(is_complete(&other), "{:?}", other.report);
    assert!(is_complete(&one), "{:?}", one.report);
    server.heal();
}

async fn an_append_that_landed_is_told_although_another_has_appended_since(two: Two) {
    let Some(server) = two.server() else { return };
    let [old, first, second] = [bytes(10, 1), bytes(3, 2), bytes(4, 3)];
    two.one.store("a", &old).await;
    overtaken(&two, server, StoreMode::Append, [&first, &second]).await;
    let whole = [&old[..], &first, &second].concat();
    assert_eq!(two.one.read("a").await.unwrap(), whole);
}

async fn an_upload_that_landed_is_told_although_another_has_replaced_it_since(two: Two) {
    let Some(server) = two.server() else { return };
    let [first, second] = [bytes(3, 2), bytes(4, 3)];
    overtaken(&two, server, StoreMode::Replace, [&first, &second]).await;
    assert_eq!(two.one.read("a").await.unwrap(), second);
}

/// The store has said that it copied.
async fn a_directory_keeps_a_file_whose_copy_is_not_there(two: Two) {
    let Some(server) = two.server() else { return };
    two.one.store("d/a", &bytes(10, 1)).await;
    let copy = two.fixture.root.clone().join("e").join("a").to_string();
    server.stall("CopyObject", LATE);
    let lose = async {
        server.wait_for("CopyObject", 1).await;
        server.stall("ListObjectsV2", Duration::from_secs(20));
        while server.object(&copy).is_none() {
            tokio::time::sleep(RETRY / 100).await;
        }
        server.delete(&copy);
        server.heal();
    };
    let (renamed, ()) = tokio::join!(two.one.rename("d", "e"), lose);
    assert!(
        matches!(renamed, Err(StorageError::Store(_))),
        "{renamed:?}"
    );
    assert_eq!(two.one.read("d/a").await.unwrap(), bytes(10, 1));
    two.one.rename("d", "e").await.unwrap();
    assert_eq!(two.one.read("e/a").await.unwrap(), bytes(10, 1));
}

/// Three pages of files.
async fn a_renamed_directory_costs_a_copy_for_each_file_and_few_requests_more(two: Two) {
    let Some(server) = two.server() else { return };
    let files = 2500;
    for index in 0..files {
        let key = two.fixture.root.clone().join("d").join(index.to_string());
        server.put(key.as_ref(), bytes(10, 1));
    }
    server.forget_requests();
    two.one.rename("d", "e").await.unwrap();
    assert_eq!(server.count("CopyObject"), files);
    // Azure copies in the background, and has to be asked whether a copy is there. Google's listings tell no storage class.
    let asks = two.fixture.is_azure() || two.fixture.is_google();
    let heads = if asks { files } else { 0 };
    let heads = server.count("HeadObject") - heads;
    let lists = server.count("ListObjectsV2");
    assert!(heads < 10 && lists < 20, "{heads} {lists}");
    assert_eq!(two.one.names("e").await.len(), files);
}

async fn a_small_file_costs_one_request_new_or_replaced_again(two: Two) {
    let Some(server) = two.server() else { return };
    for round in 0..3 {
        server.forget_requests();
        two.one.store("a", &bytes(10, round)).await;
        assert_eq!(server.requests().len(), 1, "{:#?}", server.requests());
    }
}

/// Clients that pick a file up delete it or rename it, and the next one of the same name comes.
async fn a_small_file_costs_one_request_where_one_was_taken_away(two: Two) {
    let Some(server) = two.server() else { return };
    let one = &two.one;
    let store = async |name: &str| {
        server.forget_requests();
        one.store(name, &bytes(10, 1)).await;
        assert_eq!(server.count("PutObject"), 1, "{:#?}", server.requests());
        assert_eq!(server.requests().len(), 1, "{:#?}", server.requests());
    };
    store("d/a").await;
    one.delete("d/a").await.unwrap();
    store("d/a").await;
    one.rename("d/a", "b").await.unwrap();
    store("d/a").await;
    one.rename("d", "e").await.unwrap();
    store("d/a").await;
}

async fn what_another_has_written_is_replaced(two: Two) {
    for (round, size) in [(0, 10), (1, PART + 1), (2, 10)] {
        let file = bytes(size, round);
        two.one.store("a", &file).await;
        assert!(two.other.read("a").await.unwrap() == file, "{round}");
        let file = bytes(size, round + 10);
        two.other.store("a", &file).await;
        assert!(two.one.read("a").await.unwrap() == file, "{round}");
    }
}

impl Two {
    /// What publishes an upload in parts: Google composes it.
    fn publication(&self) -> &'static str {
        if self.fixture.is_google() {
            "Compose"
        } else {
            "CompleteMultipartUpload"
        }
    }
}

/// Flips a bit of what is sent so many times, for files of one part and of several.
async fn damage(two: &Two, times: usize, mut check: impl AsyncFnMut(&Uploaded, &Bytes)) {
    let Some(server) = two.server() else { return };
    for (operation, size) in [
        ("PutObject", 10),
        ("PutObject", 100_000),
        ("UploadPart", PART + 1),
    ] {
        let file = bytes(size, 1);
        server.flip_bit(operation, times);
        let uploaded = two.one.upload(StoreMode::Replace, "a", &file).await;
        server.heal();
        check(&uploaded, &file).await;
    }
    server.wait_until_idle().await;
    assert_eq!(server.open_uploads(), [], "{:#?}", server.requests());
}

async fn what_is_damaged_on_its_way_is_sent_again(two: Two) {
    damage(&two, 1, async |uploaded, file| {
        assert!(is_complete(uploaded), "{:?}", uploaded.report);
        assert!(two.one.read("a").await.unwrap() == *file);
    })
    .await;
}

async fn what_is_damaged_again_and_again_is_not_stored(two: Two) {
    damage(&two, usize::MAX, async |uploaded, _| {
        let report = &uploaded.report;
        assert_eq!(report.outcome.0, "corrupt", "{report:?}");
        assert_eq!(report.failure.as_ref().unwrap().code, 451);
        assert_eq!(two.one.read("a").await, None);
    })
    .await;
}

/// A store that refuses conditions with 501, and one that passes over them in silence.
const WITHOUT_CONDITIONS: [fn(&Server); 2] = [Server::refuse_conditions, Server::ignore_conditions];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_found_out_which_conditions_a_store_knows() {
    let known = async |without: Option<fn(&Server)>| {
        let two = Two::with(Fixture::s3(), "try");
        if let Some(without) = without {
            without(two.server().unwrap());
        }
        let storage = two.one.storage();
        let before = storage.conditions().map(|tried| tried.holds);
        assert_eq!(before, [None; 4]);
        storage.try_store().await.unwrap();
        assert_eq!(two.server().unwrap().keys(), Vec::<String>::new());
        assert_eq!(two.server().unwrap().open_uploads(), []);
        let shown = &storage.metrics.all().store_conditional_writes;
        let shown = ["put", "complete", "copy", "delete"].map(|operation| {
            let gauge = shown.with_label_values(&["default", operation]);
            Some(gauge.get() == 1)
        });
        let after = storage.conditions().map(|tried| tried.holds);
        assert_eq!(after, shown);
        after
    };
    assert_eq!(known(None).await, [Some(true); 4]);
    for without in WITHOUT_CONDITIONS {
        assert_eq!(known(Some(without)).await, [Some(false); 4]);
    }
}

/// A rename that meets an upload to its source would give the newer file both names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_copies_any_version_knows_no_condition_on_copies() {
    let two = Two::with(Fixture::s3(), "try");
    two.server().unwrap().copy_any_version();
    let storage = two.one.storage();
    storage.try_store().await.unwrap();
    let known = storage.conditions().map(|tried| tried.holds);
    assert_eq!(known, [Some(true), Some(true), Some(false), Some(true)]);
}

/// Whoever deletes what another has deleted is told that it was the one: between two gateways a rename would have two
/// winners, and nobody would know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_deletes_what_is_gone_knows_no_condition_on_deletions() {
    let two = Two::with(Fixture::s3(), "try");
    two.server().unwrap().delete_what_is_gone();
    let storage = two.one.storage();
    storage.try_store().await.unwrap();
    let known = storage.conditions().map(|tried| tried.holds);
    assert_eq!(known, [Some(true), Some(true), Some(true), Some(false)]);
    for round in 0..100 {
        let [from, to, own] = ["a", "to", "own"].map(|name| format!("d/{name}{round}"));
        two.one.store(&from, &bytes(7, 1)).await;
        let (a, b) = tokio::join!(two.one.rename(&from, &to), two.one.rename(&from, &own));
        assert_ne!(a.is_ok(), b.is_ok(), "{round}: {a:?} {b:?}");
    }
    // It is told the condition all the same.
    let deletions = two.server().unwrap().count("DeleteObject");
    assert!(deletions >= 100, "{deletions}");
    // And as it spares what has changed, a directory's files go at once.
    let before = two.server().unwrap().count("DeleteObjects");
    two.one.rename("d", "e").await.unwrap();
    assert_eq!(two.server().unwrap().count("DeleteObjects"), before + 1);
}

/// One answer may be a moment's: histories found two gateways that no condition kept apart any more (S3, seed 601217).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_refuses_once_knows_conditions_all_the_same() {
    for operation in [
        "PutObject",
        "CompleteMultipartUpload",
        "CopyObject",
        "DeleteObject",
    ] {
        for nth in 0..6 {
            let two = Two::with(Fixture::s3(), "try");
            let fault = Fault::Refuse(501);
            let strike = Strike {
                operation,
                nth,
                fault,
            };
            two.server().unwrap().strike(vec![strike]);
            let storage = two.one.storage();
            let tried = storage.try_store().await;
            let known = storage.conditions().map(|tried| tried.holds);
            assert!(
                !known.contains(&Some(false)),
                "{operation} {nth}: {tried:?} {known:?}"
            );
            two.one.upload(StoreMode::Replace, "a", &bytes(10, 1)).await;
            let known = storage.conditions().map(|tried| tried.holds);
            assert!(
                !known.contains(&Some(false)),
                "{operation} {nth}: {known:?}"
            );
        }
    }
}

/// What could not be tried is looked at before each change, as on a store that knows nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_tried_is_looked_at() {
    let two = Two::with(Fixture::s3(), "try");
    let server = two.server().unwrap();
    server.ignore_conditions();
    server.fail_next("PutObject", 1, 403);
    two.one.storage().try_store().await.unwrap_err();
    let (one, file) = (two.one.who_may_not_overwrite(), bytes(10, 1));
    one.store("a", &file).await;
    let refused = one.upload(StoreMode::Replace, "a", &bytes(20, 2)).await;
    assert_eq!(refused.report.outcome.0, "exists", "{:?}", refused.report);
    assert_eq!(one.read("a").await.unwrap(), file);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_works_on_a_store_without_conditions() {
    for without in WITHOUT_CONDITIONS {
        let two = Two::with(Fixture::s3(), "try");
        without(two.server().unwrap());
        two.one.storage().try_store().await.unwrap();
        let (one, deny) = (&two.one, two.one.who_may_not_overwrite());
        for size in [10, PART + 1] {
            let (file, more) = (bytes(size, 1), bytes(10, 2));
            one.store("a", &file).await;
            one.store("a", &file).await;
            assert!(is_complete(
                &one.upload(StoreMode::Append, "a", &more).await
            ));
            let whole = [&file[..], &more].concat();
            assert!(one.read("a").await.unwrap() == whole);
            assert!(is_complete(
                &one.upload(StoreMode::Unique, "u", &file).await
            ));
            assert!(is_complete(
                &deny.upload(StoreMode::Replace, "n", &file).await
            ));
            let refused = deny.upload(StoreMode::Replace, "n", &more).await;
            assert_eq!(refused.report.outcome.0, "exists", "{:?}", refused.report);
            one.rename("a", "b").await.unwrap();
            deny.rename("b", "n").await.unwrap_err();
            one.rename("b", "n").await.unwrap();
            assert!(one.read("n").await.unwrap() == whole);
            one.delete("n").await.unwrap();
            assert_eq!(one.read("n").await, None);
        }
    }
}

/// The clients of one gateway are kept apart without the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gateway_keeps_its_clients_apart_on_a_store_without_conditions() {
    for without in WITHOUT_CONDITIONS {
        let two = Two::with(Fixture::s3(), "try");
        without(two.server().unwrap());
        two.one.storage().try_store().await.unwrap();
        let one = two.one.who_may_not_overwrite();
        for round in 0..100 {
            let name = format!("d/{round}");
            let (first, second) = (bytes(7, 1), bytes(7, 2));
            let (a, b) = tokio::join!(
                one.upload(StoreMode::Replace, &name, &first),
                one.upload(StoreMode::Replace, &name, &second)
            );
            assert_ne!(is_complete(&a), is_complete(&b), "{round}: {a:?} {b:?}");
        }
    }
}

/// Found by the histories (S3, seed 101620): an upload that the store kept apart itself was under way when a rename
/// looked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_looked_for_waits_for_those_under_way() {
    let two = Two::from(Fixture::s3());
    let server = two.server().unwrap();
    let one = two.one.who_may_not_overwrite();
    one.store("a", &bytes(7, 1)).await;
    let slow = |operation, nth, by| Strike {
        operation,
        nth,
        fault: Fault::Slow(Duration::from_millis(by)),
    };
    let refused = Strike {
        operation: "CopyObject",
        nth: 0,
        fault: Fault::Refuse(501),
    };
    server.heal();
    server.strike(vec![
        slow("PutObject", 0, 500),
        refused,
        slow("CopyObject", 1, 1000),
    ]);
    server.forget_requests();
    let file = bytes(9, 2);
    let rename = async {
        server.wait_for("PutObject", 1).await;
        one.rename("a", "b").await
    };
    let (upload, renamed) = tokio::join!(one.upload(StoreMode::Replace, "b", &file), rename);
    assert!(is_complete(&upload), "{:?}", upload.report);
    assert!(matches!(renamed, Err(StorageError::Exists)), "{renamed:?}");
    assert_eq!(one.read("b").await.unwrap(), file);
}

/// Found by the histories (Google, seed 401316): after one 501 changes were made without conditions, and nothing kept out
/// one that arrived late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_known_to_look_at_conditions_is_always_told_them() {
    let two = Two::with(Fixture::s3(), "try");
    let (one, server) = (&two.one, two.server().unwrap());
    one.storage().try_store().await.unwrap();
    let file = bytes(7, 1);
    one.store("a", &file).await;
    server.refuse_conditions();
    let refused = one.upload(StoreMode::Replace, "a", &bytes(9, 2)).await;
    let outcome = refused.report.outcome.0;
    assert_eq!(outcome, "unsupported", "{:?}", refused.report);
    one.rename("a", "b").await.unwrap_err();
    one.delete("a").await.unwrap_err();
    server.heal();
    assert_eq!(one.read("a").await.unwrap(), file);
    let known = one.storage().conditions().map(|tried| tried.holds);
    assert_eq!(known, [Some(true); 4]);
}

/// Parts that somebody has removed are no missing bucket, and no missing file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_the_store_has_forgotten_is_a_failure_of_the_store() {
    for protocol in [Fixture::s3, Fixture::azure] {
        let two = Two::from(protocol());
        let server = two.server().unwrap();
        server.fail_next("CompleteMultipartUpload", 1, 404);
        let lost = two
            .one
            .upload(StoreMode::Replace, "a", &bytes(PART + 1, 1))
            .await;
        assert_eq!(lost.report.outcome.0, "store_error", "{:?}", lost.report);
    }
}

/// A store that is trusted, and knows no conditions: it refuses the first one, and from then on is looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_that_is_misplaced_replaces_nothing() {
    for size in [7, PART + 1] {
        let two = Two::from(Fixture::s3());
        two.server().unwrap().refuse_conditions();
        let one = two.one.who_may_not_overwrite();
        for round in 0..4 {
            let name = format!("d/{round}");
            let (first, second) = (bytes(size, 1), bytes(size, 2));
            let (a, b) = tokio::join!(
                one.upload(StoreMode::Replace, &name, &first),
                one.upload(StoreMode::Replace, &name, &second)
            );
            assert_ne!(is_complete(&a), is_complete(&b), "{round}: {a:?} {b:?}");
        }
    }
}

/// A conflict that says "try again" is no word about what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_that_passes_is_waited_out() {
    let two = Two::from(Fixture::s3());
    let server = two.server().unwrap();
    for client in [two.one.clone(), two.one.who_may_not_overwrite()] {
        server.fail_next("PutObject", 2, 409);
        client.store("a", &bytes(10, 1)).await;
        two.one.delete("a").await.unwrap();
    }
    // After this one S3 wants all parts anew.
    server.fail_next("CompleteMultipartUpload", 1, 409);
    let large = two
        .one
        .upload(StoreMode::Replace, "a", &bytes(PART + 1, 1))
        .await;
    let code = large.report.failure.map(|failure| failure.code);
    assert_eq!(code, Some(451));
    assert_eq!(two.one.read("a").await, None);
}
