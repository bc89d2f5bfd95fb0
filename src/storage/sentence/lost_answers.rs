//! What a lost answer may mean, when others act on the same name meanwhile.

use crate::auth::Permission;

use super::*;

on_each_store! {
    an_upload_that_landed_is_told_although_its_retry_is_refused
    a_deletion_that_landed_is_told_although_its_retry_is_refused
    a_rename_that_landed_is_told_although_its_retry_is_refused
    a_rename_of_anothers_file_that_landed_is_told_although_its_retry_is_refused
    an_upload_that_may_have_landed_and_been_deleted_is_unresolved
    an_append_that_landed_and_was_taken_away_before_anyone_looked_is_unresolved
    a_deletion_that_finds_a_newer_file_after_a_lost_answer_is_unresolved
    an_upload_that_is_taken_away_before_the_look_is_unresolved
    an_upload_that_is_taken_away_after_a_500_is_unresolved
    an_upload_replaces_what_is_gone_at_the_next_look
    a_rename_whose_source_is_deleted_after_a_lost_answer_says_so
    a_rename_whose_source_is_gone_after_a_lost_deletion_is_unresolved
    a_rename_that_landed_does_not_replace_what_came_after_it
    a_rename_that_never_landed_replaces_what_came_before_it
    a_rename_whose_copy_may_have_been_deleted_is_unresolved
    an_append_that_others_got_ahead_of_is_told_so_although_its_answer_was_lost
}

/// Loses the answer of the next request for `operation`, and refuses the one after it.
fn lose_and_refuse(server: &Server, operation: &str, status: u16) {
    server.lose_next_answer(operation, 1);
    server.fail_next(operation, 1, status);
}

async fn an_upload_that_landed_is_told_although_its_retry_is_refused(two: Two) {
    let Some(server) = two.server() else { return };
    for status in [403, 404, 412, 409, 400] {
        for (operation, size) in [("PutObject", 10), (two.publication(), PART + 1)] {
            let file = bytes(size, 1);
            lose_and_refuse(server, operation, status);
            let uploaded = two.one.upload(StoreMode::Replace, "a", &file).await;
            let report = uploaded.report;
            assert_eq!(
                report.outcome,
                Outcome::COMPLETE,
                "{operation} {status}: {report:?}"
            );
            assert!(
                two.one.read("a").await.unwrap() == file,
                "{operation} {status}"
            );
            server.heal();
            two.one.delete("a").await.unwrap();
        }
    }
}

async fn a_deletion_that_landed_is_told_although_its_retry_is_refused(two: Two) {
    let Some(server) = two.server() else { return };
    for status in [403, 404, 412] {
        two.one.store("a", &bytes(10, 1)).await;
        lose_and_refuse(server, "DeleteObject", status);
        two.one.delete("a").await.unwrap();
        server.heal();
        assert_eq!(two.one.read("a").await, None, "{status}");
    }
}

async fn a_rename_that_landed_is_told_although_its_retry_is_refused(two: Two) {
    let Some(server) = two.server() else { return };
    for status in [403, 404, 412] {
        two.one.store("a", &bytes(10, 1)).await;
        lose_and_refuse(server, "CopyObject", status);
        two.one.rename("a", "b").await.unwrap();
        server.heal();
        assert_eq!(two.one.read("b").await.unwrap(), bytes(10, 1), "{status}");
        assert_eq!(two.one.read("a").await, None, "{status}");
        two.one.delete("b").await.unwrap();
    }
}

/// The file of another program has no mark.
async fn a_rename_of_anothers_file_that_landed_is_told_although_its_retry_is_refused(two: Two) {
    let Some(server) = two.server() else { return };
    let client = two.one.who_may_not_overwrite();
    let client = client.who_may(&[Permission::Rename, Permission::Release, Permission::Read]);
    server.put(two.fixture.root.clone().join("a").as_ref(), bytes(10, 1));
    lose_and_refuse(server, "CopyObject", 412);
    let renamed = client.rename("a", "b").await;
    server.heal();
    // Azure's tags are not of content: there it can't be told.
    let is_told = renamed.is_ok() || !two.fixture.is_s3();
    assert!(is_told, "{renamed:?}");
    assert_eq!(client.read("b").await.unwrap(), bytes(10, 1));
}

/// Found by the histories (S3, seed 164): it was there, and somebody has read it.
async fn an_upload_that_may_have_landed_and_been_deleted_is_unresolved(two: Two) {
    let Some(server) = two.server() else { return };
    let (one, other) = (&two.one, &two.other);
    for mode in [StoreMode::Append, StoreMode::Replace] {
        server.forget_requests();
        server.lose_next_answer("PutObject", 1);
        let upload = async { one.upload(mode, "a", &bytes(10, 1)).await };
        let newer = async {
            server.wait_for("PutObject", 1).await;
            server.wait_until_idle().await;
            other.delete("a").await.unwrap();
            other.store("a", &bytes(20, 2)).await;
        };
        let (upload, ()) = tokio::join!(upload, newer);
        assert_eq!(upload.report.outcome.0, "unresolved", "{:?}", upload.report);
        assert_eq!(other.read("a").await.unwrap(), bytes(20, 2));
        other.delete("a").await.unwrap();
    }
}

/// Found by the histories (Azure, seed 1002028): the look that would have told failed, the next one found nothing, and the
/// client was told that nothing was added to a file that another had renamed meanwhile, with what was added.
async fn an_append_that_landed_and_was_taken_away_before_anyone_looked_is_unresolved(two: Two) {
    let Some(server) = two.server() else { return };
    let (one, other) = (&two.one, &two.other);
    one.store("a", &bytes(5, 9)).await;
    server.heal();
    server.forget_requests();
    let fault = Fault::DoneBut(500);
    let (operation, nth) = ("PutObject", 0);
    server.strike(vec![Strike {
        operation,
        nth,
        fault,
    }]);
    let append = async { one.upload(StoreMode::Append, "a", &bytes(10, 1)).await };
    let taken = async {
        server.wait_for("PutObject", 1).await;
        server.wait_until_idle().await;
        other.rename("a", "b").await.unwrap();
        server.fail_next("HeadObject", 1, 400);
    };
    let (append, ()) = tokio::join!(append, taken);
    assert_eq!(append.report.outcome.0, "unresolved", "{:?}", append.report);
    assert_eq!(other.read("b").await.unwrap().len(), 15);
}

/// Found by the histories (Azure, seed 218): the first try had not deleted it, and the client was told 250.
async fn a_deletion_that_finds_a_newer_file_after_a_lost_answer_is_unresolved(two: Two) {
    let Some(server) = two.server() else { return };
    let (one, other) = (&two.one, &two.other);
    one.store("a", &bytes(5, 9)).await;
    server.fail_next("DeleteObject", 1, 500);
    let deletion = async { one.delete("a").await };
    let newer = async {
        server.wait_for("DeleteObject", 1).await;
        server.wait_until_idle().await;
        other.upload(StoreMode::Append, "a", &bytes(20, 2)).await
    };
    let (deletion, newer) = tokio::join!(deletion, newer);
    assert!(is_complete(&newer), "{:?}", newer.report);
    assert!(
        matches!(deletion, Err(StorageError::Unresolved(_))),
        "{deletion:?}"
    );
    assert_eq!(other.read("a").await.unwrap().len(), 25);
}

/// Slows the `nth` look at an object down, and has the object taken away meanwhile.
fn gone_at_the_look(server: &Server, key: &Path, nth: usize) -> impl Future<Output = ()> {
    server.forget_requests();
    server.strike(vec![Strike {
        operation: "HeadObject",
        nth,
        fault: Fault::Slow(Duration::from_secs(1)),
    }]);
    async move {
        server.wait_for("HeadObject", nth + 1).await;
        server.delete(key.as_ref());
    }
}

/// Found by the histories (Google, seed 40162): it was told 553, and its file was renamed by another.
async fn an_upload_that_is_taken_away_before_the_look_is_unresolved(two: Two) {
    let Some(server) = two.server() else { return };
    let key = two.fixture.root.clone().join("a");
    let (deny, _) = two.who_may_not_overwrite();
    // Under deny it looks before, too.
    for (client, nth) in [(&deny, 1), (&two.one, 0)] {
        let file = bytes(10, 1);
        let gone = gone_at_the_look(server, &key, nth);
        server.lose_next_answer("PutObject", 1);
        let upload = client.upload(StoreMode::Replace, "a", &file);
        let (upload, ()) = tokio::join!(upload, gone);
        assert_eq!(upload.report.outcome.0, "unresolved", "{:?}", upload.report);
        server.heal();
    }
}

/// Found by the histories (Google, seed 202045; in parts, Azure, seed 303878): it was told that the store had failed.
async fn an_upload_that_is_taken_away_after_a_500_is_unresolved(two: Two) {
    let Some(server) = two.server() else { return };
    let key = two.fixture.root.clone().join("a");
    for (operation, size) in [("PutObject", 10), (two.publication(), PART + 1)] {
        server.heal();
        server.forget_requests();
        let strike = |nth| Strike {
            operation,
            nth,
            fault: if nth == 0 {
                Fault::DoneBut(500)
            } else {
                Fault::Refuse(500)
            },
        };
        server.strike((0..100).map(strike).collect());
        let file = bytes(size, 1);
        let upload = two.one.upload(StoreMode::Replace, "a", &file);
        let gone = async {
            server.wait_for(operation, 1).await;
            server.wait_until_idle().await;
            server.delete(key.as_ref());
        };
        let (upload, ()) = tokio::join!(upload, gone);
        assert_eq!(
            upload.report.outcome.0, "unresolved",
            "{operation}: {:?}",
            upload.report
        );
    }
}

/// Where files may be replaced, a condition that fails is never the client's failure.
async fn an_upload_replaces_what_is_gone_at_the_next_look(two: Two) {
    let Some(server) = two.server() else { return };
    let key = two.fixture.root.clone().join("a");
    server.put(key.as_ref(), bytes(5, 9));
    let file = bytes(10, 1);
    let gone = gone_at_the_look(server, &key, 0);
    let upload = two.one.upload(StoreMode::Replace, "a", &file);
    let (upload, ()) = tokio::join!(upload, gone);
    assert!(is_complete(&upload), "{:?}", upload.report);
    assert_eq!(two.one.read("a").await.unwrap(), file);
}

/// Found by the histories (Google, seed 40145): the copy is there, and the client was told that there was no such file.
async fn a_rename_whose_source_is_deleted_after_a_lost_answer_says_so(two: Two) {
    let Some(server) = two.server() else { return };
    two.one.store("a", &bytes(10, 1)).await;
    server.lose_next_answer("CopyObject", 1);
    let key = two.fixture.root.clone().join("a");
    let rename = two.one.rename("a", "b");
    let deletion = async {
        server.wait_for("CopyObject", 1).await;
        server.wait_until_idle().await;
        server.delete(key.as_ref());
    };
    let (renamed, ()) = tokio::join!(rename, deletion);
    assert!(
        matches!(renamed, Err(StorageError::TakenAway)),
        "{renamed:?}"
    );
    assert_eq!(two.one.read("b").await.unwrap(), bytes(10, 1));
}

/// Programs claim a file by renaming it: two must not both be told that they have it.
async fn a_rename_whose_source_is_gone_after_a_lost_deletion_is_unresolved(two: Two) {
    let Some(server) = two.server() else { return };
    two.one.store("a", &bytes(10, 1)).await;
    server.fail_next("DeleteObject", 1, 500);
    let key = two.fixture.root.clone().join("a");
    let rename = two.one.rename("a", "b");
    let deletion = async {
        server.wait_for("DeleteObject", 1).await;
        server.wait_until_idle().await;
        server.delete(key.as_ref());
    };
    let (renamed, ()) = tokio::join!(rename, deletion);
    assert!(
        matches!(renamed, Err(StorageError::Unresolved(_))),
        "{renamed:?}"
    );
    assert_eq!(two.one.read("b").await.unwrap(), bytes(10, 1));
}

/// What the other client does between a rename's copy and the try after it.
async fn amid_a_rename<T>(two: &Two, amid: impl Future<Output = T>) -> Result<(), StorageError> {
    let server = two.server().unwrap();
    server.forget_requests();
    let rename = two.one.rename("a", "b");
    let amid = async {
        server.wait_for("CopyObject", 1).await;
        server.wait_until_idle().await;
        amid.await
    };
    tokio::join!(rename, amid).0
}

/// Found by the histories (Google, seed 500638): the next try put the renamed file in place of a newer one.
async fn a_rename_that_landed_does_not_replace_what_came_after_it(two: Two) {
    let Some(server) = two.server() else { return };
    let newer = bytes(20, 2);
    for others in [None, Some(bytes(5, 9))] {
        if let Some(others) = others {
            two.one.store("b", &others).await;
        }
        two.one.store("a", &bytes(10, 1)).await;
        server.lose_next_answer("CopyObject", 1);
        amid_a_rename(&two, two.other.store("b", &newer))
            .await
            .unwrap();
        assert_eq!(two.one.read("b").await.unwrap(), newer);
        assert_eq!(two.one.read("a").await, None);
        two.one.delete("b").await.unwrap();
    }
}

async fn a_rename_that_never_landed_replaces_what_came_before_it(two: Two) {
    let Some(server) = two.server() else { return };
    two.one.store("b", &bytes(5, 9)).await;
    two.one.store("a", &bytes(10, 1)).await;
    server.fail_next("CopyObject", 1, 500);
    amid_a_rename(&two, two.other.store("b", &bytes(20, 2)))
        .await
        .unwrap();
    assert_eq!(two.one.read("b").await.unwrap(), bytes(10, 1));
    assert_eq!(two.one.read("a").await, None);
}

/// Somebody may have read it.
async fn a_rename_whose_copy_may_have_been_deleted_is_unresolved(two: Two) {
    let Some(server) = two.server() else { return };
    let newer = bytes(20, 2);
    let (deny, _) = two.who_may_not_overwrite();
    for client in [&two.one, &deny] {
        client.store("a", &bytes(10, 1)).await;
        server.lose_next_answer("CopyObject", 1);
        server.forget_requests();
        let amid = async {
            server.wait_for("CopyObject", 1).await;
            server.wait_until_idle().await;
            two.other.delete("b").await.unwrap();
            two.other.store("b", &newer).await;
        };
        let (renamed, ()) = tokio::join!(client.rename("a", "b"), amid);
        assert!(
            matches!(renamed, Err(StorageError::Unresolved(_))),
            "{renamed:?}"
        );
        assert_eq!(two.one.read("b").await.unwrap(), newer);
        for name in ["a", "b"] {
            two.one.delete(name).await.unwrap();
        }
    }
}

/// The object that is there tells by the marks of those before it that this one never was.
async fn an_append_that_others_got_ahead_of_is_told_so_although_its_answer_was_lost(two: Two) {
    let Some(server) = two.server() else { return };
    let (one, other) = (&two.one, &two.other);
    one.store("a", &bytes(5, 9)).await;
    server.forget_requests();
    server.fail_next("PutObject", 1, 500);
    let append = async { one.upload(StoreMode::Append, "a", &bytes(10, 1)).await };
    let newer = async {
        server.wait_for("PutObject", 1).await;
        server.wait_until_idle().await;
        other.upload(StoreMode::Append, "a", &bytes(20, 2)).await
    };
    let (append, newer) = tokio::join!(append, newer);
    assert!(is_complete(&newer), "{:?}", newer.report);
    assert_eq!(append.report.outcome.0, "conflict", "{:?}", append.report);
}

/// Found by the histories (S3, seed 708155): the deletion was asked for again, and took a newer file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_directorys_deletions_take_no_newer_file_on_a_store_without_conditions() {
    let two = Two::with(Fixture::s3(), "try");
    let server = two.server().unwrap();
    server.refuse_conditions();
    two.one.storage().try_store().await.unwrap();
    two.one.store("d/a", &bytes(10, 1)).await;
    server.forget_requests();
    server.heal();
    server.refuse_conditions();
    let strike = Strike {
        operation: "DeleteObject",
        nth: 0,
        fault: Fault::DoneBut(500),
    };
    server.strike(vec![strike]);
    let newer = async {
        server.wait_for("DeleteObject", 1).await;
        server.wait_until_idle().await;
        two.one
            .upload(StoreMode::Append, "d/a", &bytes(20, 2))
            .await
    };
    let (renamed, newer) = tokio::join!(two.one.rename("d", "e"), newer);
    renamed.unwrap();
    assert!(is_complete(&newer), "{:?}", newer.report);
    assert_eq!(two.one.read("e/a").await.unwrap(), bytes(10, 1));
    assert_eq!(two.one.read("d/a").await.unwrap(), bytes(20, 2));
}

/// Whatever the store refuses, a rename that has left its source is no success.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_whose_deletion_is_refused_has_failed() {
    let faults = [(409, 409), (500, 409), (500, 403), (403, 403)];
    for ((first, then), refuses) in faults.into_iter().flat_map(|it| [(it, false), (it, true)]) {
        for (from, to) in [("a", "b"), ("d", "e")] {
            let two = Two::with(Fixture::s3(), "try");
            let server = two.server().unwrap();
            if refuses {
                server.refuse_conditions();
            }
            two.one.storage().try_store().await.unwrap();
            let source = if from == "d" { "d/a" } else { "a" };
            two.one.store(source, &bytes(10, 1)).await;
            server.heal();
            if refuses {
                server.refuse_conditions();
            }
            let strike = |(nth, status)| Strike {
                operation: "DeleteObject",
                nth,
                fault: Fault::Refuse(status),
            };
            let strikes = [(0, first), (1, then), (2, then), (3, then)];
            server.strike(strikes.map(strike).to_vec());
            let renamed = two.one.rename(from, to).await;
            server.heal();
            let is_left = two.one.read(source).await.is_some();
            assert_eq!(
                renamed.is_err(),
                is_left,
                "{from} {first} {then} {refuses}: {renamed:?}"
            );
        }
    }
}

/// A 409 may be of a lease, a policy or a proxy. It says of no file that it is another by now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_409_that_speaks_of_no_change_tells_of_none() {
    for fixture in [Fixture::s3, Fixture::google, Fixture::azure] {
        let two = Two::with(fixture(), "try");
        two.one.storage().try_store().await.unwrap();
        let server = two.server().unwrap();
        for name in ["a", "d/a"] {
            two.one.store(name, &bytes(10, 1)).await;
        }
        server.fail_next("DeleteObject", usize::MAX, 409);
        // S3's double gives the 409 another code then.
        server.refuse_conditions();
        for (from, to) in [("a", "b"), ("d", "e")] {
            let renamed = two.one.rename(from, to).await;
            assert!(renamed.is_err(), "{from}");
        }
        for name in ["a", "d/a"] {
            assert!(two.one.delete(name).await.is_err(), "{name}");
            assert!(two.one.read(name).await.is_some(), "{name}");
        }
    }
}

/// A trial that heard of no condition has learnt nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_409_that_speaks_of_no_change_is_no_kept_condition() {
    let two = Two::with(Fixture::s3(), "try");
    let server = two.server().unwrap();
    server.refuse_conditions();
    server.fail_next("DeleteObject", usize::MAX, 409);
    assert!(two.one.storage().try_store().await.is_err());
    let known = two.one.storage().conditions();
    let delete = known.iter().find(|tried| tried.operation == "delete");
    assert_ne!(delete.unwrap().holds, Some(true));
}
