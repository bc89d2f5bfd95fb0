//! Whether the gateway can take clients, and if not, why.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::config::ReadyNeedsStore;

/// What is known about being ready.
#[derive(Debug)]
pub struct Readiness {
    needs_store: ReadyNeedsStore,
    listening: AtomicBool,
    draining: AtomicBool,
    failed: AtomicBool,
    store: Mutex<Store>,
}

#[derive(Debug, Clone, Default)]
struct Store {
    asked: bool,
    has_answered: bool,
    /// Why it does not answer now; `None` while it does.
    trouble: Option<String>,
}

/// The answer to a probe.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) ready: bool,
    pub(super) text: String,
}

impl Readiness {
    /// Nothing is ready yet.
    #[must_use]
    pub fn new(needs_store: ReadyNeedsStore) -> Self {
        Self {
            needs_store,
            listening: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            store: Mutex::new(Store {
                asked: false,
                has_answered: false,
                trouble: Some("not asked yet".to_owned()),
            }),
        }
    }

    /// The listeners are open.
    pub fn listening(&self) {
        self.listening.store(true, Ordering::Relaxed);
    }

    /// The gateway takes no new sessions. It stays ready: who takes it off the balancer has told
    /// it to end, and what runs is to finish.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The gateway ends by itself. Nobody has taken it off the balancer yet.
    pub fn failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// The store was asked: `None` if it answered, else why not. Returns whether that is news.
    pub fn store_answered(&self, trouble: Option<String>) -> bool {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let news = !store.asked || store.trouble.is_some() != trouble.is_some();
        store.asked = true;
        store.has_answered |= trouble.is_none();
        store.trouble = trouble;
        news
    }

    pub(super) fn report(&self) -> Report {
        let listening = self.listening.load(Ordering::Relaxed);
        let store = self
            .store
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let store_ready = match self.needs_store {
            ReadyNeedsStore::Start => store.has_answered,
            ReadyNeedsStore::Always => store.trouble.is_none(),
        };
        let ready = listening && store_ready && !self.failed.load(Ordering::Relaxed);
        let text = format!(
            "{}\nlisteners: {}\nstore: {}\n",
            if ready { "ready" } else { "not ready" },
            match (listening, self.draining.load(Ordering::Relaxed)) {
                (_, true) => "closed, draining",
                (true, false) => "open",
                (false, false) => "not open",
            },
            store.trouble.as_deref().unwrap_or("answers"),
        );
        Report { ready, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_it_drains_but_not_once_it_has_failed() {
        let readiness = readiness(ReadyNeedsStore::Start);
        readiness.store_answered(None);
        readiness.draining();
        assert!(readiness.report().ready);
        readiness.failed();
        assert!(!readiness.report().ready);
    }

    fn readiness(needs_store: ReadyNeedsStore) -> Readiness {
        let readiness = Readiness::new(needs_store);
        readiness.listening();
        readiness
    }

    #[test]
    fn not_before_the_store_has_answered() {
        let readiness = readiness(ReadyNeedsStore::Start);
        assert!(!readiness.report().ready);
        readiness.store_answered(Some("connection refused".to_owned()));
        let report = readiness.report();
        assert!(!report.ready);
        assert!(report.text.contains("store: connection refused"));
    }

    #[test]
    fn a_later_outage_counts_only_where_asked_for() {
        for (needs, ready) in [
            (ReadyNeedsStore::Start, true),
            (ReadyNeedsStore::Always, false),
        ] {
            let readiness = readiness(needs);
            readiness.store_answered(None);
            assert!(readiness.report().ready);
            readiness.store_answered(Some("gone".to_owned()));
            let report = readiness.report();
            assert_eq!(report.ready, ready);
            assert!(report.text.contains("store: gone"));
        }
    }

    #[test]
    fn only_changes_are_news() {
        let readiness = readiness(ReadyNeedsStore::Start);
        assert!(readiness.store_answered(Some("gone for 1 s".to_owned())));
        assert!(!readiness.store_answered(Some("gone for 2 s".to_owned())));
        assert!(readiness.store_answered(None));
        assert!(!readiness.store_answered(None));
        assert!(readiness.store_answered(Some("gone".to_owned())));
        assert!(!readiness.store_answered(Some("gone for longer".to_owned())));
        assert!(readiness.store_answered(None));
    }

    #[test]
    fn not_without_listeners() {
        let readiness = Readiness::new(ReadyNeedsStore::Start);
        readiness.store_answered(None);
        assert!(!readiness.report().ready);
    }
}
