//! Whether the gateway can take clients, and if not, why.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::{ReadyNeedsStore, StoreName};

/// What is known about being ready.
#[derive(Debug)]
pub struct Readiness {
    needs_store: ReadyNeedsStore,
    listening: AtomicBool,
    draining: AtomicBool,
    failed: AtomicBool,
    needs_slices: AtomicBool,
    in_slices: AtomicBool,
    stores: Mutex<BTreeMap<String, Store>>,
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
            needs_slices: AtomicBool::new(false),
            in_slices: AtomicBool::new(false),
            stores: Mutex::default(),
        }
        .with_store(StoreName::DEFAULT)
    }

    /// The same with another store. Its state is shown, and does not decide whether the gateway is ready.
    #[must_use]
    pub fn with_store(self, name: &str) -> Self {
        let unasked = Store {
            asked: false,
            has_answered: false,
            trouble: Some("not asked yet".to_owned()),
        };
        self.stores().insert(name.to_owned(), unasked);
        self
    }

    fn stores(&self) -> MutexGuard<'_, BTreeMap<String, Store>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The listeners are open.
    pub fn listening(&self) {
        self.listening.store(true, Ordering::Relaxed);
    }

    /// Clients come by a Service that the gateway shares with others, once it is in the Service's slices.
    pub fn needs_slices(&self) {
        self.needs_slices.store(true, Ordering::Relaxed);
    }

    /// It is in the slices. What goes wrong with them later is for an alert to tell.
    pub fn in_slices(&self) {
        self.in_slices.store(true, Ordering::Relaxed);
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

    /// The store of this name was asked: `None` if it answered, else why not. Returns whether that is news.
    pub fn store_answered(&self, name: &str, trouble: Option<String>) -> bool {
        let mut stores = self.stores();
        let store = stores.entry(name.to_owned()).or_default();
        let news = !store.asked || store.trouble.is_some() != trouble.is_some();
        store.asked = true;
        store.has_answered |= trouble.is_none();
        store.trouble = trouble;
        news
    }

    pub(super) fn report(&self) -> Report {
        let listening = self.listening.load(Ordering::Relaxed);
        let stores = self.stores().clone();
        let store = stores.get(StoreName::DEFAULT).cloned().unwrap_or_default();
        let store_ready = match self.needs_store {
            ReadyNeedsStore::Start => store.has_answered,
            ReadyNeedsStore::Always => store.trouble.is_none(),
        };
        let in_slices = self.in_slices.load(Ordering::Relaxed);
        let is_away = self.needs_slices.load(Ordering::Relaxed) && !in_slices;
        let ready = listening && store_ready && !is_away && !self.failed.load(Ordering::Relaxed);
        let text = format!(
            "{}\nlisteners: {}\n{}{}",
            if ready { "ready" } else { "not ready" },
            match (listening, self.draining.load(Ordering::Relaxed)) {
                (_, true) => "closed, draining",
                (true, false) => "open",
                (false, false) => "not open",
            },
            if is_away {
                "EndpointSlices: not written yet\n"
            } else {
                ""
            },
            told(&stores),
        );
        Report { ready, text }
    }
}

/// A line for each store, the default one first.
fn told(stores: &BTreeMap<String, Store>) -> String {
    let line = |(name, store): (&String, &Store)| {
        let trouble = store.trouble.as_deref().unwrap_or("answers");
        match name.as_str() {
            StoreName::DEFAULT => format!("store: {trouble}\n"),
            name => format!("store {name}: {trouble}\n"),
        }
    };
    let (default, others): (Vec<_>, Vec<_>) = stores
        .iter()
        .partition(|(name, _)| *name == StoreName::DEFAULT);
    default.into_iter().chain(others).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_it_drains_but_not_once_it_has_failed() {
        let readiness = readiness(ReadyNeedsStore::Start);
        readiness.store_answered(StoreName::DEFAULT, None);
        readiness.draining();
        assert!(readiness.report().ready);
        readiness.failed();
        assert!(!readiness.report().ready);
    }

    #[test]
    fn not_before_it_is_in_the_slices_of_a_shared_service() {
        let readiness = readiness(ReadyNeedsStore::Start);
        readiness.store_answered(StoreName::DEFAULT, None);
        assert!(readiness.report().ready);
        readiness.needs_slices();
        let report = readiness.report();
        assert!(!report.ready && report.text.contains("EndpointSlices: not written yet"));
        readiness.in_slices();
        assert!(readiness.report().ready);
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
        readiness.store_answered(StoreName::DEFAULT, Some("connection refused".to_owned()));
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
            readiness.store_answered(StoreName::DEFAULT, None);
            assert!(readiness.report().ready);
            readiness.store_answered(StoreName::DEFAULT, Some("gone".to_owned()));
            let report = readiness.report();
            assert_eq!(report.ready, ready);
            assert!(report.text.contains("store: gone"));
        }
    }

    #[test]
    fn other_stores_are_named_and_not_waited_for() {
        let readiness = readiness(ReadyNeedsStore::Always).with_store("archive");
        readiness.store_answered(StoreName::DEFAULT, None);
        assert!(readiness.store_answered("archive", Some("no answer".to_owned())));
        let report = readiness.report();
        assert!(report.ready);
        let text = "ready\nlisteners: open\nstore: answers\nstore archive: no answer\n";
        assert_eq!(report.text, text);
    }

    #[test]
    fn only_changes_are_news() {
        let readiness = readiness(ReadyNeedsStore::Start);
        assert!(readiness.store_answered(StoreName::DEFAULT, Some("gone for 1 s".to_owned())));
        assert!(!readiness.store_answered(StoreName::DEFAULT, Some("gone for 2 s".to_owned())));
        assert!(readiness.store_answered(StoreName::DEFAULT, None));
        assert!(!readiness.store_answered(StoreName::DEFAULT, None));
        assert!(readiness.store_answered(StoreName::DEFAULT, Some("gone".to_owned())));
        assert!(!readiness.store_answered(StoreName::DEFAULT, Some("gone for longer".to_owned())));
        assert!(readiness.store_answered(StoreName::DEFAULT, None));
    }

    #[test]
    fn not_without_listeners() {
        let readiness = Readiness::new(ReadyNeedsStore::Start);
        readiness.store_answered(StoreName::DEFAULT, None);
        assert!(!readiness.report().ready);
    }
}
