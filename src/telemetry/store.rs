//! What is counted of one store: the metrics that have the label `store`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntCounter, IntGauge};

use super::metrics::Metrics;

/// The metrics of one store.
#[derive(Debug)]
pub struct StoreMetrics {
    name: String,
    all: Arc<Metrics>,
    swept: IntCounter,
    hidden: IntCounter,
    up: IntGauge,
    answered: Mutex<Option<Instant>>,
}

impl StoreMetrics {
    /// Those of the store of this name; its series begin here, at 0.
    #[must_use]
    pub fn new(name: &str, all: Arc<Metrics>) -> Self {
        let label = &[name];
        Self {
            swept: all.uploads_swept.with_label_values(label),
            hidden: all.store_keys_hidden.with_label_values(label),
            up: all.store_up.with_label_values(label),
            name: name.to_owned(),
            all,
            answered: Mutex::default(),
        }
    }

    /// The store's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The metrics of everything.
    #[must_use]
    pub fn all(&self) -> &Arc<Metrics> {
        &self.all
    }

    /// A request has ended.
    pub fn request(&self, operation: &str, outcome: &str, took: Duration) {
        self.request_without_time(operation, outcome);
        self.all
            .store_request_seconds
            .with_label_values(&[&self.name, operation])
            .observe(took.as_secs_f64());
    }

    /// The same, where its time says nothing.
    pub fn request_without_time(&self, operation: &str, outcome: &str) {
        if outcome != "error" {
            let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
            *answered = Some(Instant::now());
        }
        self.all
            .store_requests
            .with_label_values(&[&self.name, operation, outcome])
            .inc();
    }

    /// When a request was answered last, in whatever way; the answer that it can't be done now is none.
    #[must_use]
    pub fn answered(&self) -> Option<Instant> {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many keys were met that no FTP path can name.
    pub fn hide(&self, keys: usize) {
        self.hidden.inc_by(keys as u64);
    }

    /// So many unfinished uploads were removed.
    pub fn sweep(&self, uploads: usize) {
        self.swept.inc_by(uploads as u64);
    }

    /// Whether it answered when last asked.
    pub fn show_up(&self, is_up: bool) {
        self.up.set(is_up.into());
    }

    /// Whether it makes such changes on a condition.
    pub fn show_conditional(&self, operation: &str, holds: bool) {
        self.all
            .store_conditional_writes
            .with_label_values(&[&self.name, operation])
            .set(holds.into());
    }
}
