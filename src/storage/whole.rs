//! Whether what is stored, and what is read, is what was sent: with stores that compare checksums, that know none, and
//! that damage what they have.

use std::sync::Arc;

use bytes::Bytes;
use doubles::{Damage, Server};

use crate::session::{Outcome, StoreMode};
use crate::storage::harness::{Client, Uploaded, bytes, storage};
use crate::storage::store::fixture::{Fixture, on_each_store};

/// The size of a part, and the least that every store takes.
const PART: usize = 5 << 20;

/// S3 as AWS is: it compares checksums, and keeps them.
const COMPARES: (&str, &str) = ("STORE__OPTIONS__AWS_CHECKSUM_ALGORITHM", "crc64nvme");

/// A gateway on a store.
struct One {
    client: Client,
    fixture: Fixture,
}

impl From<Fixture> for One {
    fn from(fixture: Fixture) -> Self {
        Self::with(fixture, &[])
    }
}

/// What the behaviours are tried on.
async fn ready(fixture: Fixture) -> One {
    let one = One::from(fixture);
    one.client.storage().try_store().await.unwrap();
    one
}

impl One {
    fn with(fixture: Fixture, own: &[(&str, &str)]) -> Self {
        let own = [&[("UPLOAD__PART_SIZE", "5 MiB")], own].concat();
        let settings = fixture.settings();
        let settings = settings.iter().map(|(name, value)| (&**name, &**value));
        let settings = settings.filter(|(name, _)| own.iter().all(|(own, _)| own != name));
        let settings: Vec<_> = settings.chain(own.iter().copied()).collect();
        Self {
            client: Client::of(&Arc::new(storage(&settings))),
            fixture,
        }
    }

    fn server(&self) -> &Server {
        self.fixture.server.as_ref().unwrap()
    }

    /// The key of a file.
    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.fixture.root)
    }

    async fn upload(&self, name: &str, file: &Bytes) -> Uploaded {
        self.client.upload(StoreMode::Replace, name, file).await
    }

    /// Uploads files of one part and of several to a store that damages them: a new name is gone again, and one that
    /// was there stays.
    async fn is_taken_back(&self, damage: Damage, sizes: &[usize]) {
        for size in sizes {
            let (before, file) = (bytes(20, 1), bytes(*size, 2));
            self.client.store("old", &before).await;
            self.server().damage(Some(damage));
            assert_corrupt(&self.upload("new", &file).await);
            assert_eq!(self.server().object(&self.key("new")), None, "{size}");
            assert_corrupt(&self.upload("old", &file).await);
            self.server().damage(None);
            let stored = self.server().object(&self.key("old")).unwrap();
            assert_ne!(stored, before, "{size}");
            assert_ne!(stored, file, "{size}");
            // Neither is in the way of the next try.
            for name in ["new", "old"] {
                self.client.store(name, &file).await;
                assert!(self.client.read(name).await.unwrap() == file);
            }
            self.client.delete("new").await.unwrap();
        }
    }
}

fn assert_corrupt(uploaded: &Uploaded) {
    let report = &uploaded.report;
    assert_eq!(report.outcome.0, "corrupt", "{report:?}");
    assert_eq!(report.failure.as_ref().unwrap().code, 451);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_store_reports_is_compared() {
    for (fixture, settings) in [
        (Fixture::s3(), &[COMPARES] as &[_]),
        (Fixture::google(), &[]),
    ] {
        let one = One::with(fixture, settings);
        one.is_taken_back(Damage::Flip, &[10, 100_000, PART + 1])
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_size_is_compared_where_a_store_has_no_checksum() {
    let one = One::from(Fixture::s3());
    one.server().ignore_checksums();
    one.is_taken_back(Damage::Cut, &[100_000, PART + 1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn md5_is_compared_where_it_is_asked_for() {
    let one = One::with(Fixture::s3(), &[("UPLOAD__VERIFY", "md5")]);
    one.server().ignore_checksums();
    one.is_taken_back(Damage::Flip, &[10, 100_000, 1 << 20])
        .await;
    for (operation, size) in [("PutObject", 1 << 20), ("UploadPart", PART + 1)] {
        one.server().flip_bit(operation, usize::MAX);
        assert_corrupt(&one.upload("new", &bytes(size, 1)).await);
        one.server().heal();
        one.client.store("new", &bytes(size, 1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_back_is_compared() {
    for fixture in [Fixture::s3(), Fixture::google(), Fixture::azure()] {
        let one = One::with(fixture, &[("UPLOAD__VERIFY", "read-back")]);
        one.server().ignore_checksums();
        one.is_taken_back(Damage::Flip, &[10, 100_000, PART + 1])
            .await;
    }
}

on_each_store! {
    what_is_whole_is_read_back
    what_was_stored_whole_is_read_whole
}

async fn what_is_whole_is_read_back(one: One) {
    let one = One::with(one.fixture, &[("UPLOAD__VERIFY", "read-back")]);
    for size in [0, 10, 100_000, PART + 1] {
        let (file, more) = (bytes(size, 1), bytes(PART + 3, 2));
        one.client.store("a", &file).await;
        let appended = one.client.upload(StoreMode::Append, "a", &more).await;
        assert_eq!(appended.report.outcome, Outcome::COMPLETE, "{appended:?}");
        let kept = StoreMode::RestartAt(size as u64 / 2);
        let restarted = one.client.upload(kept, "a", &more).await;
        assert_eq!(restarted.report.outcome, Outcome::COMPLETE, "{restarted:?}");
        let whole = [&file[..size / 2], &more].concat();
        // Nothing but what is kept.
        let cut = StoreMode::RestartAt(whole.len() as u64 - 1);
        let restarted = one.client.upload(cut, "a", &Bytes::new()).await;
        assert_eq!(restarted.report.outcome, Outcome::COMPLETE, "{restarted:?}");
        let whole = &whole[..whole.len() - 1];
        assert!(one.client.read("a").await.unwrap() == whole, "{size}");
    }
}

/// However it got there.
async fn what_was_stored_whole_is_read_whole(one: One) {
    for size in [0, 10, PART + 1, 2 * PART] {
        let (file, more) = (bytes(size, 1), bytes(10, 2));
        one.client.store("a", &file).await;
        let appended = one.client.upload(StoreMode::Append, "a", &more).await;
        assert_eq!(appended.report.outcome, Outcome::COMPLETE, "{appended:?}");
        one.client.rename("a", "b").await.unwrap();
        let whole = [&file[..], &more].concat();
        assert!(one.client.read("b").await.unwrap() == whole, "{size}");
    }
}

/// The last bytes of what has rotten are not sent.
async fn is_noticed(one: &One, name: &str) {
    let key = one.key(name);
    let size = one.server().size(&key).unwrap();
    one.server().rot(&key, Damage::Flip);
    let (report, sent) = one.client.download(name, 0).await;
    assert_eq!(report.outcome.0, "corrupt", "{name}: {report:?}");
    assert_eq!(report.failure.as_ref().unwrap().code, 451);
    assert!(
        (sent.len() as u64) < size,
        "{name}: {} of {size}",
        sent.len()
    );
    // From a later byte on nobody can tell.
    let (report, _) = one.client.download(name, 1).await;
    assert_eq!(report.outcome, Outcome::COMPLETE, "{name}: {report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_is_compared_with_what_was_stored() {
    for (fixture, settings) in [
        (Fixture::s3(), &[COMPARES] as &[_]),
        (Fixture::google(), &[]),
        (Fixture::azure(), &[]),
    ] {
        let one = One::with(fixture, settings);
        for (name, size) in [("small", 10), ("large", 3 * PART + 1)] {
            one.client.store(name, &bytes(size, 1)).await;
            is_noticed(&one, name).await;
        }
    }
    // Small objects carry their checksum, whatever the store knows.
    let one = One::from(Fixture::s3());
    one.server().ignore_checksums();
    one.client.store("small", &bytes(10, 1)).await;
    is_noticed(&one, "small").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_of_what_another_program_has_stored_is_compared() {
    for (fixture, settings) in [
        (Fixture::s3(), &[COMPARES] as &[_]),
        (Fixture::google(), &[]),
    ] {
        let one = One::with(fixture, settings);
        one.server().put(&one.key("a"), bytes(100_000, 1));
        assert_eq!(one.client.read("a").await.unwrap(), bytes(100_000, 1));
        is_noticed(&one, "a").await;
    }
}

/// A program that copies what an object says of itself to other content has damaged nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checksum_of_other_content_is_not_believed() {
    let one = One::with(Fixture::s3(), &[COMPARES]);
    one.client.store("a", &bytes(10, 1)).await;
    let (server, key) = (one.server(), one.key("a"));
    let carried = server.metadata(&key, "ferrycrc64").unwrap();
    let metadata = [("ferrycrc64", &*carried)];
    for size in [10, 20] {
        server.put_with(&key, bytes(size, 2), &metadata);
        assert_eq!(one.client.read("a").await.unwrap(), bytes(size, 2));
    }
    // Where the store keeps no such checksum, the size can tell, and the time when it was written.
    for fixture in [Fixture::azure(), Fixture::google()] {
        let one = One::from(fixture);
        let put = |size, metadata: &[(&str, &str)]| {
            let (key, content) = (one.key("a"), bytes(size, 2));
            one.server().put_with(&key, content, metadata);
        };
        put(20, &metadata);
        assert_eq!(one.client.read("a").await.unwrap(), bytes(20, 2));
        put(10, &metadata);
        let (report, _) = one.client.download("a", 0).await;
        let keeps_one = one.fixture.is_google();
        let due = if keeps_one { "complete" } else { "corrupt" };
        assert_eq!(report.outcome.0, due, "{report:?}");
        let (sum, written) = carried.rsplit_once('/').unwrap();
        let before = written.parse::<i64>().unwrap() - 3600;
        put(10, &[("ferrycrc64", &*format!("{sum}/{before}"))]);
        assert_eq!(one.client.read("a").await.unwrap(), bytes(10, 2));
    }
}

/// Found on versitygw 1.8.0: no download of a file that was gone on with from its middle was believed any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_takes_sums_of_sources_is_asked_for_none_of_copies() {
    let one = One::with(Fixture::s3(), &[("STORE__CONDITIONS", "try")]);
    one.server().take_sums_of_sources();
    one.client.storage().try_store().await.unwrap();
    assert_eq!(one.server().open_uploads(), []);
    let (file, more) = (bytes(2 * PART, 1), bytes(10, 2));
    for at in [PART, 2 * PART - 1, 2 * PART] {
        one.client.store("a", &file).await;
        let here = StoreMode::RestartAt(at as u64);
        let restarted = one.client.upload(here, "a", &more).await;
        assert_eq!(restarted.report.outcome, Outcome::COMPLETE, "{restarted:?}");
        let whole = [&file[..at], &more].concat();
        assert!(one.client.read("a").await.unwrap() == whole, "{at}");
    }
    assert!(one.server().count("UploadPartCopy") > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_found_out_whether_a_store_compares_checksums() {
    for (compares, expected) in [(true, "crc64nvme"), (false, "size")] {
        // A signature of the payload would be compared as well.
        let unsigned = ("STORE__OPTIONS__AWS_UNSIGNED_PAYLOAD", "true");
        let one = One::with(Fixture::s3(), &[("STORE__CONDITIONS", "try"), unsigned]);
        if !compares {
            one.server().ignore_checksums();
        }
        let storage = one.client.storage();
        assert_eq!(storage.comparison().0, "size");
        storage.try_store().await.unwrap();
        assert_eq!(storage.comparison().0, expected);
        assert_eq!(one.server().keys(), Vec::<String>::new());
        // What is too large for an MD5 has a checksum from now on, and is sent again when it was damaged.
        let file = bytes(100_000, 1);
        one.server().flip_bit("PutObject", 1);
        one.client.store("a", &file).await;
        let stored = one.server().object(&one.key("a")).unwrap();
        assert_eq!(stored == file, compares);
    }
}

/// Some stores compute another sum for uploads in parts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sum_of_sums_is_not_taken_for_the_checksum() {
    let one = One::with(Fixture::s3(), &[("STORE__CONDITIONS", "try")]);
    one.server().tell_sums_of_sums();
    let storage = one.client.storage();
    storage.try_store().await.unwrap();
    assert_eq!(storage.comparison().0, "size");
    assert_eq!(one.server().open_uploads(), []);
    one.client.store("a", &bytes(PART + 1, 1)).await;
    // Nor where an operator has said that the store compares.
    let one = One::with(Fixture::s3(), &[COMPARES]);
    one.server().tell_sums_of_sums();
    one.client.store("a", &bytes(PART + 1, 1)).await;
}

/// Some stores tell no checksum of copied parts, and want one all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_in_place_needs_no_checksum() {
    for conditions in ["try", "trust"] {
        let settings = [("STORE__CONDITIONS", conditions), COMPARES];
        let one = One::with(Fixture::s3(), &settings);
        one.server().want_sums_of_parts();
        let (file, more) = (bytes(PART + 1, 1), bytes(10, 2));
        one.client.store("a", &file).await;
        for _ in 0..2 {
            let appended = one.client.upload(StoreMode::Append, "a", &more).await;
            assert_eq!(appended.report.outcome, Outcome::COMPLETE, "{appended:?}");
        }
        let whole = [&file[..], &more, &more].concat();
        assert!(one.client.read("a").await.unwrap() == whole);
        assert_eq!(one.server().open_uploads(), []);
    }
}

/// It has heard that the file is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_size_that_can_not_be_asked_for_is_no_failure() {
    let one = One::from(Fixture::s3());
    one.server().ignore_checksums();
    one.server().fail_next("HeadObject", usize::MAX, 403);
    one.client.store("a", &bytes(100_000, 1)).await;
    one.server().heal();
    assert_eq!(one.client.read("a").await.unwrap(), bytes(100_000, 1));
}

/// An answer that is lost says nothing of what was stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_is_compared_although_its_answer_is_lost() {
    for (operation, size) in [
        ("PutObject", 100_000),
        ("CompleteMultipartUpload", PART + 1),
    ] {
        let one = One::from(Fixture::s3());
        one.server().ignore_checksums();
        one.server().damage(Some(Damage::Cut));
        one.server().lose_next_answer(operation, 1);
        let report = one.upload("a", &bytes(size, 1)).await.report;
        assert_eq!(report.outcome.0, "corrupt", "{operation}: {report:?}");
    }
}
