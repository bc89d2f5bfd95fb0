//! What each user of the users file has uploaded, and whose next upload is overdue.
//!
//! Promises:
//! - Only users that the operator wrote down have series, and no more of them than is allowed. All other
//!   uploads count as `other`. A client decides neither.
//! - The series of a user end when the user leaves the file.
//! - A restart of the gateway makes nobody overdue: what is expected counts from the last upload, or from when
//!   the gateway first knew of the expectation, whichever is later.
//!
//! Must not: read the users file.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use prometheus::{IntCounterVec, IntGaugeVec};

use super::labels::TRANSFER;

/// The users without series of their own. A user of this name is one of them.
const OTHER: &str = "other";

/// The outcome whose series is there before anybody has uploaded. With all others, too many would be.
const COMPLETE: &str = "complete";

/// Metrics by user. There are none before [`Senders::follow`].
#[derive(Debug)]
pub struct Senders {
    uploads: IntCounterVec,
    uploaded_bytes: IntCounterVec,
    last_upload: IntGaugeVec,
    overdue: IntGaugeVec,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether there is a users file, and so anything to count.
    follows: bool,
    /// Those with series of their own.
    own: HashMap<String, Sender>,
}

#[derive(Debug, Default)]
struct Sender {
    last_upload: Option<Instant>,
    expectation: Option<Expectation>,
}

#[derive(Debug, Clone, Copy)]
struct Expectation {
    every: Duration,
    known_since: Instant,
}

/// An upload that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Uploaded<'a> {
    /// The name of the user.
    pub user: &'a str,
    /// How it ended, as in `transfers_total`.
    pub outcome: &'a str,
    /// Bytes that came over the data connection.
    pub bytes: u64,
    /// The client was told 226.
    pub is_complete: bool,
}

impl Senders {
    pub(super) fn new(
        uploads: IntCounterVec,
        uploaded_bytes: IntCounterVec,
        last_upload: IntGaugeVec,
        overdue: IntGaugeVec,
    ) -> Self {
        Self {
            uploads,
            uploaded_bytes,
            last_upload,
            overdue,
            state: Mutex::default(),
        }
    }

    /// Gives series to the first `most` of these users, and takes them from all others. With each user comes the
    /// longest time between two uploads that is expected, if any is.
    pub fn follow(&self, users: Vec<(String, Option<Duration>)>, most: usize) {
        self.follow_at(users, most, Instant::now());
    }

    fn follow_at(&self, users: Vec<(String, Option<Duration>)>, most: usize, now: Instant) {
        let mut state = self.state();
        state.follows = true;
        self.begin(OTHER);
        let mut before = std::mem::take(&mut state.own);
        let followed = users.into_iter().filter(|(name, _)| name != OTHER);
        for (name, every) in followed.take(most) {
            let mut sender = before.remove(&name).unwrap_or_default();
            sender.expect(every, now);
            if every.is_none() {
                remove(&self.overdue, &name);
            }
            self.begin(&name);
            state.own.insert(name, sender);
        }
        for name in before.keys() {
            self.end(name);
        }
    }

    /// Counts an upload.
    pub fn uploaded(&self, upload: Uploaded<'_>) {
        self.uploaded_at(upload, Instant::now());
    }

    fn uploaded_at(&self, upload: Uploaded<'_>, now: Instant) {
        // Held until all is counted: else a reload could end the series in between, and they would begin again.
        let mut state = self.state();
        if !state.follows {
            return;
        }
        let sender = state.own.get_mut(upload.user);
        let name = sender.as_ref().map_or(OTHER, |_| upload.user);
        let uploads = self.uploads.with_label_values(&[name, upload.outcome]);
        uploads.inc();
        let bytes = self.uploaded_bytes.with_label_values(&[name]);
        bytes.inc_by(upload.bytes);
        if let Some(sender) = sender.filter(|_| upload.is_complete) {
            sender.last_upload = Some(now);
            self.last_upload
                .with_label_values(&[name])
                .set(seconds_since_1970());
        }
    }

    /// Brings up to date what changes by itself.
    pub(super) fn refresh(&self) {
        self.refresh_at(Instant::now());
    }

    fn refresh_at(&self, now: Instant) {
        for (name, sender) in &self.state().own {
            if let Some(overdue) = sender.overdue(now) {
                let seconds = i64::try_from(overdue.as_secs()).unwrap_or(i64::MAX);
                self.overdue.with_label_values(&[name]).set(seconds);
            }
        }
    }

    fn begin(&self, name: &str) {
        let _ = self.uploads.with_label_values(&[name, COMPLETE]);
        let _ = self.uploaded_bytes.with_label_values(&[name]);
    }

    fn end(&self, name: &str) {
        for outcome in TRANSFER.1 {
            // There is no series of an outcome that has not been.
            let _ = self.uploads.remove_label_values(&[name, outcome]);
        }
        let _ = self.uploaded_bytes.remove_label_values(&[name]);
        remove(&self.last_upload, name);
        remove(&self.overdue, name);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a series that may not be there.
fn remove(gauges: &IntGaugeVec, name: &str) {
    let _ = gauges.remove_label_values(&[name]);
}

fn seconds_since_1970() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

impl Sender {
    /// An expectation that only changes its length is known since it was first there.
    fn expect(&mut self, every: Option<Duration>, now: Instant) {
        let known_since = self.expectation.map_or(now, |before| before.known_since);
        self.expectation = every.map(|every| Expectation { every, known_since });
    }

    /// How long ago the next upload should have come; nothing if none is expected.
    fn overdue(&self, now: Instant) -> Option<Duration> {
        let Expectation { every, known_since } = self.expectation?;
        let since = self
            .last_upload
            .map_or(known_since, |last| last.max(known_since));
        Some(now.saturating_duration_since(since).saturating_sub(every))
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::metrics::Metrics;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    /// Metrics, and a clock that a test turns.
    struct Trial {
        metrics: Metrics,
        began: Instant,
    }

    impl Trial {
        fn new() -> Self {
            Self {
                metrics: Metrics::new().unwrap(),
                began: Instant::now(),
            }
        }

        fn follow(&self, users: &[(&str, Option<Duration>)], most: usize, after: Duration) {
            let users = users
                .iter()
                .map(|(name, every)| ((*name).to_owned(), *every));
            let senders = &self.metrics.senders;
            senders.follow_at(users.collect(), most, self.began + after);
        }

        fn upload(&self, user: &str, outcome: &str, after: Duration) {
            let upload = Uploaded {
                user,
                outcome,
                bytes: 10,
                is_complete: outcome == COMPLETE,
            };
            self.metrics.senders.uploaded_at(upload, self.began + after);
        }

        /// The lines of all series of users.
        fn series(&self) -> Vec<String> {
            let text = self.metrics.render().unwrap();
            let ours = text
                .lines()
                .filter_map(|line| line.strip_prefix("bucketferry_user_"));
            ours.map(str::to_owned).collect()
        }

        fn overdue(&self, user: &str, after: Duration) -> Option<i64> {
            self.metrics.senders.refresh_at(self.began + after);
            let gauges = prometheus::core::Collector::collect(&self.metrics.senders.overdue);
            let of_user = gauges[0]
                .get_metric()
                .iter()
                .find(|metric| metric.get_label()[0].value() == user);
            #[expect(clippy::cast_possible_truncation, reason = "whole seconds")]
            of_user.map(|metric| metric.get_gauge().get_value() as i64)
        }
    }

    #[test]
    fn without_a_users_file_nothing_is_counted_by_user() {
        let trial = Trial::new();
        trial.upload("anna", COMPLETE, HOUR);
        assert_eq!(trial.series(), Vec::<String>::new());
    }

    #[test]
    fn no_more_users_than_allowed_have_series_and_the_rest_are_other() {
        let trial = Trial::new();
        trial.follow(
            &[
                ("anna", None),
                ("other", None),
                ("bert", None),
                ("carl", None),
            ],
            2,
            HOUR,
        );
        for user in ["carl", "stranger", "other", "bert"] {
            trial.upload(user, "data_lost", HOUR);
        }
        assert_eq!(
            trial.series(),
            [
                "uploaded_bytes_total{user=\"anna\"} 0",
                "uploaded_bytes_total{user=\"bert\"} 10",
                "uploaded_bytes_total{user=\"other\"} 30",
                "uploads_total{outcome=\"complete\",user=\"anna\"} 0",
                "uploads_total{outcome=\"complete\",user=\"bert\"} 0",
                "uploads_total{outcome=\"complete\",user=\"other\"} 0",
                "uploads_total{outcome=\"data_lost\",user=\"bert\"} 1",
                "uploads_total{outcome=\"data_lost\",user=\"other\"} 3",
            ]
        );
    }

    #[test]
    fn series_end_with_their_user_and_do_not_come_back() {
        let trial = Trial::new();
        trial.follow(&[("anna", Some(HOUR)), ("bert", Some(HOUR))], 9, HOUR);
        for user in ["anna", "bert"] {
            trial.upload(user, COMPLETE, HOUR);
            trial.upload(user, "stalled", HOUR);
        }
        let of_anna = |trial: &Trial| {
            let mut series = trial.series();
            series.retain(|line| line.contains("anna"));
            series.len()
        };
        assert_eq!(of_anna(&trial), 5);
        trial.follow(&[("bert", Some(HOUR))], 9, 2 * HOUR);
        // A session that began before may go on.
        trial.upload("anna", COMPLETE, 2 * HOUR);
        assert_eq!(of_anna(&trial), 0);
        let series = trial.series();
        let bert = "uploads_total{outcome=\"complete\",user=\"bert\"} 1".to_owned();
        assert!(series.contains(&bert), "it counts on: {series:#?}");
    }

    #[test]
    fn an_expectation_that_is_taken_back_has_no_series() {
        let trial = Trial::new();
        trial.follow(&[("anna", Some(HOUR))], 9, HOUR);
        assert_eq!(trial.overdue("anna", 3 * HOUR), Some(3600));
        trial.follow(&[("anna", None)], 9, 3 * HOUR);
        assert_eq!(trial.overdue("anna", 3 * HOUR), None);
        // Expected again, it counts from then.
        trial.follow(&[("anna", Some(HOUR))], 9, 4 * HOUR);
        assert_eq!(trial.overdue("anna", 5 * HOUR), Some(0));
    }

    #[test]
    fn overdue_counts_from_the_last_upload_or_from_the_start() {
        let trial = Trial::new();
        trial.follow(&[("anna", Some(2 * HOUR))], 9, Duration::ZERO);
        assert_eq!(trial.overdue("anna", 2 * HOUR), Some(0));
        assert_eq!(trial.overdue("anna", 3 * HOUR), Some(3600));
        trial.upload("anna", "stalled", 3 * HOUR);
        assert_eq!(
            trial.overdue("anna", 3 * HOUR),
            Some(3600),
            "it was not stored"
        );
        trial.upload("anna", COMPLETE, 3 * HOUR);
        assert_eq!(trial.overdue("anna", 5 * HOUR), Some(0));
        // A reload changes nothing about those who stay.
        trial.follow(
            &[("anna", Some(2 * HOUR)), ("bert", Some(HOUR))],
            9,
            5 * HOUR,
        );
        assert_eq!(trial.overdue("anna", 6 * HOUR), Some(3600));
        assert_eq!(trial.overdue("bert", 6 * HOUR), Some(0));
        // What is expected sooner is overdue sooner.
        trial.follow(&[("anna", Some(HOUR))], 9, 6 * HOUR);
        assert_eq!(trial.overdue("anna", 6 * HOUR), Some(2 * 3600));
    }

    #[test]
    fn names_are_escaped() {
        let trial = Trial::new();
        trial.follow(&[("a\"b\\c} größe", None)], 9, HOUR);
        let line = r#"uploaded_bytes_total{user="a\"b\\c} größe"} 0"#;
        assert!(trial.series().contains(&line.to_owned()));
    }

    #[test]
    fn the_last_upload_is_told_as_a_time() {
        let trial = Trial::new();
        trial.follow(&[("anna", None)], 9, HOUR);
        trial.upload("anna", "stalled", HOUR);
        let last = |trial: &Trial| {
            let prefix = "last_upload_timestamp_seconds{user=\"anna\"} ";
            trial
                .series()
                .iter()
                .find_map(|line| line.strip_prefix(prefix)?.parse::<i64>().ok())
        };
        assert_eq!(last(&trial), None);
        trial.upload("anna", COMPLETE, HOUR);
        assert!((seconds_since_1970() - last(&trial).unwrap()).abs() < 60);
    }
}
