//! Foreign back-ends behind the guard: a folder of libunftp's own, and `unftp-sbe-gcs` before a server that answers as it
//! is told.

mod google;

use std::io;
use std::path::Path;
use std::sync::Arc;

use unftp_core::storage::{Error, ErrorKind};
use unftp_sbe_fs::Filesystem;

use google::{Answer, Google, Seen};

use super::*;
use crate::session::{ListFormat, Outcome, Report, StoreMode};
use crate::storage::StorageError;
use crate::storage::foreign::ForeignStorage;
use crate::storage::harness::{Client, bytes, config, foreign};

/// More than can wait between the client and the server: some of it has got there.
const MUCH: usize = 400_000;

type Behind = Client<ForeignStorage>;

fn behind(back_end: Box<dyn Foreign>, settings: &[(&str, &str)]) -> Behind {
    Client::of(&Arc::new(foreign(back_end, settings).unwrap()))
}

/// A client of a folder as unFTP serves it.
fn on_folder(folder: &Path) -> Behind {
    let back_end = Filesystem::new(folder).unwrap();
    let plugin = Plugin::new(back_end, "unftp-sbe-fs", by_name);
    behind(Box::new(plugin), &[("STORE__URL", "gs://bucket")])
}

impl Google {
    fn client(&self, settings: &[(&str, &str)]) -> Behind {
        let mut all = vec![
            ("STORE__DRIVER", "unftp-sbe-gcs"),
            ("STORE__URL", "gs://bucket"),
            ("STORE__OPTIONS__GOOGLE_BASE_URL", self.address.as_str()),
            ("STORE__OPTIONS__GOOGLE_SKIP_SIGNATURE", "true"),
        ];
        all.extend(settings);
        behind(gcs::open(&config(&all).store).unwrap(), &all)
    }
}

fn outcome(report: &Report) -> (&'static str, u16) {
    let code = report.failure.as_ref().map_or(226, |failure| failure.code);
    (report.outcome.0, code)
}

#[tokio::test]
async fn any_back_end_can_stand_behind_the_guard() {
    let folder = tempfile::tempdir().unwrap();
    let client = on_folder(folder.path());
    let content = bytes(300_000, 1);
    client.make_directory("in").await.unwrap();
    client.store("in/a.bin", &content).await;
    assert_eq!(
        std::fs::read(folder.path().join("in/a.bin")).unwrap(),
        content
    );
    assert_eq!(client.read("in/a.bin").await.unwrap(), content);
    let (report, tail) = client.download("in/a.bin", 299_990).await;
    assert_eq!(report.outcome, Outcome::COMPLETE);
    assert_eq!(tail, content.slice(299_990..));
    assert_eq!(client.names("in").await, ["a.bin"]);
    assert_eq!(client.names("in/*.bin").await, ["a.bin"]);
    assert_eq!(client.names("").await, ["in"]);
    assert_eq!(client.stat("in/a.bin").await.unwrap().size, 300_000);
    assert!(client.stat("in").await.unwrap().is_directory());
    assert!(client.list(ListFormat::Long, "in").await[0].contains("300000"));
    let full = client.remove_directory("in").await;
    assert!(matches!(full, Err(StorageError::NotEmpty)), "{full:?}");
    let twice = client.make_directory("in").await;
    assert!(matches!(twice, Err(StorageError::Occupied)), "{twice:?}");
    client.delete("in/a.bin").await.unwrap();
    assert_eq!(client.read("in/a.bin").await, None);
    client.remove_directory("in").await.unwrap();
    assert!(matches!(
        client.stat("in").await,
        Err(StorageError::NotFound)
    ));
}

/// Why [`Driver`](crate::config::Driver) has no `unftp-sbe-fs`.
#[tokio::test]
async fn the_back_end_that_is_not_fit_leaves_half_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let client = on_folder(folder.path());
    let report = client.upload_and_break("a.bin", &bytes(300_000, 1)).await;
    assert_eq!(outcome(&report), ("data_lost", 426));
    let left = std::fs::metadata(folder.path().join("a.bin"))
        .unwrap()
        .len();
    assert!(left > 0);
}

#[tokio::test]
async fn what_no_foreign_back_end_can_is_refused_before_a_byte() {
    let google = Google::start([]).await;
    let client = google.client(&[]);
    let content = bytes(10, 1);
    let appended = client.upload(StoreMode::Append, "a", &content).await.report;
    assert_eq!(outcome(&appended), ("unsupported", 502));
    let at = StoreMode::RestartAt(5);
    let gone_on = client.upload(at, "a", &content).await.report;
    assert_eq!(outcome(&gone_on), ("unsupported", 554));
    let renamed = client.rename("a", "b").await.unwrap_err();
    assert_eq!(renamed.failure().code, 502);
    assert_eq!((appended.bytes, gone_on.bytes), (0, 0));
    assert_eq!(google.seen(), Vec::<Seen>::new());
}

#[tokio::test]
async fn a_whole_file_is_stored_and_compared() {
    let content = bytes(100_000, 1);
    let google = Google::start([Answer::stored(&content), Answer::stored(&content)]).await;
    google.client(&[]).store("a", &content).await;
    let seen = google.seen();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(
        seen[0]
            .line
            .starts_with("POST /upload/storage/v1/b/bucket/o")
    );
    assert!(seen[0].ended && seen[0].bytes == 100_000, "{seen:?}");
    assert!(seen[1].line.starts_with("GET "));
}

#[tokio::test]
async fn what_is_stored_has_to_be_what_was_sent() {
    let content = bytes(1000, 1);
    let google = Google::start([Answer::stored(&bytes(999, 1))]).await;
    let report = google
        .client(&[])
        .upload(StoreMode::Replace, "a", &content)
        .await
        .report;
    assert_eq!(outcome(&report), ("corrupt", 451));
    let google = Google::start([Answer::stored(&content), Answer::stored(&bytes(1000, 2))]).await;
    let report = google
        .client(&[])
        .upload(StoreMode::Replace, "a", &content)
        .await
        .report;
    assert_eq!(outcome(&report), ("corrupt", 451));
}

#[tokio::test]
async fn a_fresh_name_is_looked_for_before_and_after() {
    let content = bytes(MUCH, 1);
    let answers = [
        Answer::Status(404),
        Answer::stored(&content),
        Answer::Status(404),
        Answer::stored(&content),
    ];
    let google = Google::start(answers).await;
    let stored = google
        .client(&[])
        .upload(StoreMode::Unique, "a", &content)
        .await;
    assert_eq!(stored.report.outcome, Outcome::COMPLETE);
    assert!(stored.unique.unwrap().name().starts_with("a."));
    let seen = google.seen();
    let methods: Vec<_> = seen.iter().map(|seen| &seen.line[..4]).collect();
    assert_eq!(methods, ["GET ", "GET ", "POST", "GET "], "{seen:?}");
}

/// The end of a body is all that tells Google that an upload is whole.
#[tokio::test]
async fn the_body_of_an_upload_that_is_given_up_never_ends() {
    for content in [bytes(0, 1), bytes(10, 1), bytes(MUCH, 1)] {
        let google = Google::start([Answer::stored(&content)]).await;
        let report = google.client(&[]).upload_and_break("a", &content).await;
        assert_eq!(outcome(&report), ("data_lost", 426));
        google.assert_none_ended(content.len() == MUCH).await;
    }
}

#[tokio::test]
async fn an_upload_whose_commit_is_refused_never_ends() {
    for length in [10, MUCH] {
        let content = bytes(length, 1);
        let google = Google::start([Answer::stored(&content)]).await;
        let client = google.client(&[]);
        client
            .upload_and_die(StoreMode::Replace, "a", &content)
            .await;
        google.assert_none_ended(length == MUCH).await;
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_never_ends() {
    let content = bytes(MUCH, 1);
    let google = Google::start([Answer::stored(&content)]).await;
    let client = google.client(&[("UPLOAD__MAX_SIZE", "300000")]);
    let report = client
        .upload(StoreMode::Replace, "a", &content)
        .await
        .report;
    assert_eq!(outcome(&report), ("too_large", 552));
    google.assert_none_ended(true).await;
}

/// Neither an error nor a silence says that the file is not there.
#[tokio::test]
async fn a_lost_answer_is_unresolved() {
    for answer in [
        Answer::Status(500),
        Answer::Status(503),
        Answer::Close,
        Answer::Silence,
    ] {
        let google = Google::start([answer.clone()]).await;
        let client = google.client(&[("STORE__REQUEST_TIMEOUT", "300ms")]);
        let report = client
            .upload(StoreMode::Replace, "a", &bytes(10, 1))
            .await
            .report;
        assert_eq!(outcome(&report), ("unresolved", 451), "{answer:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_as_what_it_is() {
    let cases = [
        (401, "store_credentials", 451),
        (403, "store_denied", 451),
        (404, "no_bucket", 451),
        (400, "store_error", 451),
        (429, "store_error", 451),
    ];
    for (status, label, code) in cases {
        for answer in [Answer::Status(status), Answer::Early(status)] {
            let google = Google::start([answer.clone()]).await;
            let client = google.client(&[]);
            let report = client
                .upload(StoreMode::Replace, "a", &bytes(10, 1))
                .await
                .report;
            assert_eq!(outcome(&report), (label, code), "{answer:?}");
        }
    }
}

/// Whatever keeps the gateway from looking at it.
#[tokio::test]
async fn what_is_stored_and_can_not_be_seen_is_unresolved() {
    let content = bytes(10, 1);
    for status in [401, 403, 404, 500] {
        let mut answers = vec![Answer::stored(&content)];
        answers.extend(vec![Answer::Status(status); 3]);
        let google = Google::start(answers).await;
        let client = google.client(&[]);
        let report = client
            .upload(StoreMode::Replace, "a", &content)
            .await
            .report;
        assert_eq!(outcome(&report), ("unresolved", 451), "{status}");
    }
    let unknown = r#"{"name":"a","updated":"2026-01-01T00:00:00Z","size":"10"}"#.to_owned();
    let google = Google::start([Answer::stored(&content), Answer::Json(unknown)]).await;
    let report = google
        .client(&[])
        .upload(StoreMode::Replace, "a", &content)
        .await
        .report;
    assert_eq!(outcome(&report), ("unresolved", 451));
    // One look that fails is not the last.
    let answers = [
        Answer::stored(&content),
        Answer::Status(503),
        Answer::stored(&content),
    ];
    Google::start(answers)
        .await
        .client(&[])
        .store("a", &content)
        .await;
}

/// A mirroring client would delete its side.
#[tokio::test]
async fn a_missing_bucket_is_no_empty_directory() {
    let google = Google::start([Answer::Status(404), Answer::Status(404)]).await;
    let client = google.client(&[]);
    let report = client.try_list(ListFormat::Names, "").await;
    assert_eq!(outcome(&report), ("no_bucket", 451));
    let google = Google::start([Answer::Status(404), Answer::Status(404)]).await;
    let found = google.client(&[]).stat("d").await;
    assert!(matches!(found, Err(StorageError::NoBucket)), "{found:?}");
}

#[tokio::test]
async fn a_directory_of_two_pages_is_listed_whole() {
    let page = |name: &str, next: &str| {
        let item = format!(r#"{{"name":"d/{name}","updated":"2026-01-01T00:00:00Z","size":"1"}}"#);
        Answer::Json(format!(r#"{{"kind":"objects","items":[{item}]{next}}}"#))
    };
    let google = Google::start([page("a", r#","nextPageToken":"next""#), page("b", "")]).await;
    assert_eq!(google.client(&[]).names("d").await, ["a", "b"]);
    assert!(google.seen()[1].line.contains("pageToken=next"));
}

/// What is packed is sent whole, whatever was asked for: its beginning would pass for the end.
#[tokio::test]
async fn a_store_that_sends_all_of_a_file_is_not_taken_for_one_that_sends_its_end() {
    let content = bytes(1000, 1);
    let whole = Answer::Content(content.clone(), 1000);
    let google = Google::start([Answer::stored(&content), whole]).await;
    let (report, sent) = google.client(&[]).download("a", 400).await;
    assert_eq!(outcome(&report), ("unsupported", 554));
    assert!(sent.is_empty());
    let end = |from: usize| Answer::Content(content.slice(from..), 1000 - from);
    let google = Google::start([Answer::stored(&content), end(999), end(400)]).await;
    let (report, sent) = google.client(&[]).download("a", 400).await;
    assert_eq!(report.outcome, Outcome::COMPLETE);
    assert_eq!(sent, content.slice(400..));
}

/// What an operator has asked for is not left out in silence.
#[test]
fn a_setting_that_no_foreign_back_end_follows_is_refused() {
    for (setting, value) in [
        ("UPLOAD__RESUME_WINDOW", "1m"),
        ("UPLOAD__VERIFY", "read-back"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let plugin = Plugin::new(Filesystem::new(folder.path()).unwrap(), "x", by_name);
        let settings = [("STORE__URL", "gs://bucket"), (setting, value)];
        let refusal = foreign(Box::new(plugin), &settings).unwrap_err();
        let named = setting.to_ascii_lowercase().replace("__", ".");
        assert!(refusal.to_string().contains(&named), "{refusal}");
    }
}

/// Under `deny`, a look that has failed is no look.
#[tokio::test]
async fn nothing_is_replaced_where_it_can_not_be_looked() {
    let content = bytes(10, 1);
    let deny = [("UPLOAD__OVERWRITE", "deny")];
    for status in [401, 403, 500, 503] {
        let google = Google::start([Answer::Status(status)]).await;
        let report = google
            .client(&deny)
            .upload(StoreMode::Replace, "a", &content)
            .await
            .report;
        assert_ne!(report.outcome, Outcome::COMPLETE);
        assert_eq!(google.seen().len(), 1);
    }
    let google = Google::start([Answer::stored(&content)]).await;
    let report = google
        .client(&deny)
        .upload(StoreMode::Replace, "a", &content)
        .await
        .report;
    assert_eq!(outcome(&report), ("exists", 553));
    // It came while the client was sending.
    let content = bytes(MUCH, 1);
    let google = Google::start([
        Answer::Status(404),
        Answer::Status(200),
        Answer::stored(&content),
    ])
    .await;
    let report = google
        .client(&deny)
        .upload(StoreMode::Replace, "a", &content)
        .await
        .report;
    assert_eq!(outcome(&report), ("exists", 553));
    google.assert_none_ended(true).await;
}

#[tokio::test]
async fn a_download_that_breaks_off_is_a_failure() {
    let content = bytes(1000, 1);
    let google = Google::start([
        Answer::stored(&content),
        Answer::Content(content.slice(..500), 1000),
    ])
    .await;
    let (report, _) = google.client(&[]).download("a", 0).await;
    assert_ne!(report.outcome, Outcome::COMPLETE);
    let google = Google::start([
        Answer::stored(&content),
        Answer::Content(content.slice(..500), 500),
    ])
    .await;
    let (report, _) = google.client(&[]).download("a", 0).await;
    assert_eq!(outcome(&report), ("replaced", 426));
}

/// The back-end calls a token that it has not got a file that is not there.
#[test]
fn no_token_is_no_missing_file() {
    let of = |source: &str| Error::new(ErrorKind::PermanentFileNotAvailable, source.to_owned());
    let kind = |error: &Error| gcs::kind(Asked::Other, error);
    assert_eq!(kind(&of("dns error")), Kind::Credentials);
    assert_eq!(
        kind(&of("HTTP Error - Status: 404 (Not Found)")),
        Kind::Absent
    );
    assert_eq!(
        kind(&of("HTTP Error - Status: 401 (Unauthorized)")),
        Kind::Credentials
    );
    let no_bucket =
        "HTTP Error - Status: 404 (Not Found), Body: The specified bucket does not exist.";
    assert_eq!(kind(&of(no_bucket)), Kind::NoBucket);
    let broken_key = io::Error::new(io::ErrorKind::InvalidData, "bad service account key");
    assert_eq!(kind(&Error::from(broken_key)), Kind::Credentials);
    let directory = Error::from(ErrorKind::PermanentDirectoryNotAvailable);
    assert_eq!(kind(&directory), Kind::Absent);
}

#[test]
fn what_it_does_not_know_is_refused_with_the_reason() {
    let refusal = |settings: &[(&str, &str)]| {
        let config = config(settings);
        gcs::open(&config.store).map(drop).unwrap_err().to_string()
    };
    let driver = ("STORE__DRIVER", "unftp-sbe-gcs");
    let other = refusal(&[driver, ("STORE__URL", "s3://bucket")]);
    assert!(
        other.contains("s3://") && other.contains("gs://"),
        "{other}"
    );
    let url = ("STORE__URL", "gs://bucket");
    let option = refusal(&[driver, url, ("STORE__OPTIONS__GOOGLE_BUCKET", "x")]);
    assert!(
        option.contains("google_bucket") && option.contains("google_base_url"),
        "{option}"
    );
    let file = refusal(&[
        driver,
        url,
        ("STORE__OPTIONS__GOOGLE_SERVICE_ACCOUNT", "/none"),
    ]);
    assert!(file.contains("/none"), "{file}");
    let key = (
        "STORE__OPTIONS__GOOGLE_SERVICE_ACCOUNT_KEY",
        "{\"client_email\":\"a\"}",
    );
    let key = refusal(&[driver, url, key]);
    assert!(key.contains("private_key"), "{key}");
}
