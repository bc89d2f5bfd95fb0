//! A store that is down is not asked: whoever would ask it hears so at once, instead of waiting for it in vain.
//!
//! The gateway asks each store again and again whether it answers. When that has failed for as long as any request is tried
//! again, and for ten seconds, and no other request was answered meanwhile, not even one for something small that is not there, the store is
//! taken for down. The first answer ends that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::storage::error::StorageError;

/// It must have been silent for so long, unless it is asked more often.
const LEAST_PATIENCE: Duration = Duration::from_secs(10);

/// Whether a store is down.
#[derive(Debug)]
pub(super) struct Breaker {
    /// For so long it must have been silent.
    patience: Duration,
    is_open: AtomicBool,
    failing_since: Mutex<Option<Instant>>,
}

impl Breaker {
    /// For a store whose requests are tried again for `retry_timeout`, and which is asked every `probe_interval`. Where
    /// nothing is tried again, one answer that failed is not silence yet.
    pub(super) fn new(retry_timeout: Duration, probe_interval: Duration) -> Self {
        Self {
            patience: retry_timeout.max(probe_interval.min(LEAST_PATIENCE)),
            is_open: AtomicBool::new(false),
            failing_since: Mutex::default(),
        }
    }

    /// Whether the store may be asked.
    ///
    /// # Errors
    /// [`StorageError::StoreDown`] if it is down.
    pub(super) fn pass(&self) -> Result<(), StorageError> {
        if self.is_open.load(Ordering::Relaxed) {
            return Err(StorageError::StoreDown);
        }
        Ok(())
    }

    /// Notes what became of the question whether the store answers, which was asked at `began`. `answered` is when any
    /// request was answered last.
    pub(super) fn probed(
        &self,
        began: Instant,
        probed: &Result<(), StorageError>,
        answered: Option<Instant>,
    ) {
        let mut since = self
            .failing_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_silent = matches!(
            probed,
            Err(StorageError::StoreUnreachable(_) | StorageError::Store(_))
        );
        if !is_silent {
            *since = None;
            self.is_open.store(false, Ordering::Relaxed);
            return;
        }
        let first = *since.get_or_insert(began);
        if answered.is_some_and(|at| at > first) {
            // It fails at something, but it is there.
            *since = Some(began);
            self.is_open.store(false, Ordering::Relaxed);
        } else if first.elapsed() >= self.patience {
            self.is_open.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const INTERVAL: Duration = Duration::from_secs(10);

    fn unreachable() -> Result<(), StorageError> {
        Err(StorageError::StoreUnreachable(
            object_store::Error::NotImplemented {
                operation: String::new(),
                implementer: String::new(),
            },
        ))
    }

    /// The breaker after questions that failed, each begun so many seconds ago.
    fn after(began: &[u64], answered: Option<u64>) -> Breaker {
        let breaker = Breaker::new(PATIENCE, INTERVAL);
        let now = Instant::now();
        let ago = |seconds: u64| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        for seconds in began {
            breaker.probed(ago(*seconds), &unreachable(), answered.map(ago));
        }
        breaker
    }

    #[test]
    fn a_store_is_down_when_it_was_silent_for_longer_than_anybody_waits() {
        assert!(after(&[], None).pass().is_ok());
        assert!(after(&[19], None).pass().is_ok());
        assert!(matches!(
            after(&[21], None).pass(),
            Err(StorageError::StoreDown)
        ));
        assert!(after(&[21, 1], None).pass().is_err());
        assert!(after(&[21], Some(30)).pass().is_err(), "it answered before");
    }

    #[test]
    fn a_store_whose_requests_are_not_tried_again_is_not_down_at_once() {
        let breaker = Breaker::new(Duration::from_millis(1), INTERVAL);
        let ago = |seconds| {
            Instant::now()
                .checked_sub(Duration::from_secs(seconds))
                .unwrap()
        };
        breaker.probed(ago(9), &unreachable(), None);
        assert!(breaker.pass().is_ok());
        let breaker = Breaker::new(Duration::from_millis(1), INTERVAL);
        breaker.probed(ago(11), &unreachable(), None);
        assert!(breaker.pass().is_err());
        // One that is seldom asked is not waited for longer.
        let breaker = Breaker::new(PATIENCE, Duration::from_hours(1));
        breaker.probed(ago(21), &unreachable(), None);
        assert!(breaker.pass().is_err());
    }

    #[test]
    fn a_store_that_answers_anything_is_not_down() {
        assert!(after(&[21], Some(3)).pass().is_ok());
        let breaker = after(&[21], None);
        breaker.probed(Instant::now(), &Err(StorageError::NoBucket), None);
        assert!(breaker.pass().is_ok());
        breaker.probed(Instant::now(), &unreachable(), None);
        assert!(breaker.pass().is_ok(), "it begins anew");
    }
}
