//! Which preconditions the store knows, and what is done where it knows none.
//!
//! Some stores refuse a condition, others pass over it in silence. There the gateway looks whether it holds and then
//! makes the change, while it makes no other change of the key: that keeps its own clients apart, but no other gateway. So
//! what the store knows is tried at the start ([`try_store`](crate::storage::Storage::try_store)); what has not been
//! tried yet is looked at as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{Error, Result};
use tokio::sync::{RwLockReadGuard, RwLockWriteGuard};

use crate::storage::store::metered::Metered;
use crate::storage::store::precondition::{Precondition, look};
use crate::storage::store::terms::Terms;
use crate::storage::write::locks::KeyLocks;
use crate::telemetry::StoreMetrics;

/// A change that can be made on a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Put,
    Complete,
    Copy,
    Delete,
}

/// What a condition on a change means on this store, for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    /// `put`, `complete`, `copy` or `delete`.
    pub operation: &'static str,
    /// Whether the store makes such a change on a condition; `None` if that could not be tried.
    pub holds: Option<bool>,
    /// What a user gains where the store honours the condition.
    pub promise: &'static str,
}

impl Operation {
    pub(crate) const ALL: [Self; 4] = [Self::Put, Self::Complete, Self::Copy, Self::Delete];

    /// The metric's label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Complete => "complete",
            Self::Copy => "copy",
            Self::Delete => "delete",
        }
    }

    /// What a user gains where the store honours the condition.
    pub(crate) fn promise(self) -> &'static str {
        match self {
            Self::Put => {
                "of two uploads to one name the later one stays; where overwriting is denied, the first"
            }
            Self::Complete => "the same for files of several parts",
            Self::Copy => {
                "a rename replaces nothing that came at the same time, and copies the version that it deletes"
            }
            Self::Delete => {
                "a file that is replaced while it is deleted or renamed stays; of two renames of a file, one succeeds"
            }
        }
    }
}

/// What becomes of a condition. What is not known of an operation is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// The store makes a change only if it holds.
    Holds = 1,
    /// The store passes over it, or over some of them.
    Ignored = 2,
    /// The store refuses the change, whether it holds or not.
    Refused = 3,
    /// The operator says that it holds.
    Trusted = 4,
    /// What has changed is not deleted, but nobody is told that there was nothing to delete.
    HoldsIfThere = 5,
}

/// A change that can be made now.
pub(crate) struct Ready<'a> {
    /// What the store is told.
    pub(crate) terms: Terms,
    /// Keeps other clients of this gateway away from the key.
    _held: Held<'a>,
}

/// A lock on a key.
#[expect(dead_code, reason = "it is held, not looked at")]
enum Held<'a> {
    /// By changes that the store keeps apart itself.
    Shared(RwLockReadGuard<'a, ()>),
    /// By one that depends on what was seen at the key.
    Alone(Looked<'a>),
}

/// What was seen at a key stays so, as far as this gateway's clients go.
pub(crate) type Looked<'a> = RwLockWriteGuard<'a, ()>;

/// What is known of the store, and the locks for what it does not do itself.
#[derive(Debug)]
pub(crate) struct Conditions {
    known: [AtomicU8; 4],
    metrics: Arc<StoreMetrics>,
    locks: KeyLocks,
}

impl Conditions {
    /// With what is known before anything was tried, if there is something.
    pub(crate) fn new(known: Option<Known>, metrics: Arc<StoreMetrics>) -> Self {
        let conditions = Self {
            known: Default::default(),
            metrics,
            locks: KeyLocks::default(),
        };
        if let Some(known) = known {
            for operation in Operation::ALL {
                conditions.learn(operation, known);
            }
        }
        conditions
    }

    /// Whether conditions hold, if it is known.
    pub(crate) fn known(&self, operation: Operation) -> Option<bool> {
        match self.state(operation) {
            0 => None,
            known => Some(holds(known)),
        }
    }

    /// Whether deletions on a condition spare what has changed.
    pub(crate) fn spare_what_has_changed(&self) -> bool {
        let known = self.state(Operation::Delete);
        holds(known) || known == Known::HoldsIfThere as u8
    }

    fn state(&self, operation: Operation) -> u8 {
        self.known[operation as usize].load(Ordering::Relaxed)
    }

    /// Notes what becomes of conditions.
    pub(crate) fn learn(&self, operation: Operation, known: Known) {
        let before = self.known[operation as usize].swap(known as u8, Ordering::Relaxed);
        let (hold, held) = (holds(known as u8), holds(before));
        let is_new = before == 0 || held;
        self.metrics.show_conditional(operation.label(), hold);
        if known == Known::HoldsIfThere && is_new {
            tracing::info!(
                "the store does not say of a deletion on a condition that nothing was there; the gateway looks before each, \
                 but of two renames of one file by two gateways both may be told that they were made"
            );
        } else if !hold && is_new {
            tracing::warn!(
                operation = operation.label(),
                "the store knows no conditions for this; the gateway looks before each change, which keeps its own \
                 clients apart, but not those of other gateways or programs"
            );
        }
    }

    /// Gets ready for a change. Where the store is not known to look at its precondition, that is looked at, and the
    /// key is held until what this gives is dropped. A store that refuses conditions is told none.
    pub(crate) async fn ready(
        &self,
        operation: Operation,
        objects: &Arc<Metered>,
        key: &Path,
        terms: &Terms,
    ) -> Result<Ready<'_>> {
        if terms.precondition == Precondition::None || self.known(operation) == Some(true) {
            return Ok(Ready {
                terms: terms.clone(),
                _held: Held::Shared(self.locks.lock(key).read().await),
            });
        }
        let held = self.look(objects, key, terms).await?;
        let is_refused = self.state(operation) == Known::Refused as u8;
        Ok(Ready {
            terms: if is_refused {
                terms.without_precondition()
            } else {
                terms.clone()
            },
            _held: Held::Alone(held),
        })
    }

    /// Makes a change on its precondition, by a request that the store is told in these terms.
    pub(crate) async fn make<'c, T>(
        &self,
        operation: Operation,
        objects: &Arc<Metered>,
        key: &Path,
        terms: &Terms,
        change: impl Fn(Terms) -> BoxFuture<'c, Result<T>> + Send,
    ) -> Result<T> {
        let ready = self.ready(operation, objects, key, terms).await?;
        let mut changed = change(ready.terms.clone()).await;
        if self.may_be_refused(operation, &ready.terms, &changed) {
            // A store that knows no conditions says so again.
            changed = change(ready.terms.clone()).await;
        }
        if !self.may_be_refused(operation, &ready.terms, &changed) {
            return changed;
        }
        drop(ready);
        let _held = self.look(objects, key, terms).await?;
        let changed = change(terms.without_precondition()).await;
        self.are_refused(operation, changed)
    }

    /// Looks whether the precondition holds, and holds the key.
    pub(crate) async fn look(
        &self,
        objects: &Arc<Metered>,
        key: &Path,
        terms: &Terms,
    ) -> Result<Looked<'_>> {
        let held = self.locks.lock(key).write().await;
        look(objects.as_ref(), key, &terms.precondition).await?;
        Ok(held)
    }

    /// Whether the store may have refused a change because it knows no preconditions. Then it is made without, after a
    /// [`look`](Self::look). A store that is known to look at them has refused something else, and the change has failed:
    /// only a condition keeps it out if it arrives late.
    pub(crate) fn may_be_refused<T>(
        &self,
        operation: Operation,
        terms: &Terms,
        changed: &Result<T>,
    ) -> bool {
        self.state(operation) != Known::Holds as u8
            && terms.precondition != Precondition::None
            && changed.as_ref().is_err_and(is_unsupported)
    }

    /// Notes that a change went through without the condition that it was refused with.
    pub(crate) fn are_refused<T>(&self, operation: Operation, changed: Result<T>) -> Result<T> {
        if changed.is_ok() {
            self.learn(operation, Known::Refused);
        }
        changed
    }
}

/// Whether it is a state in which the store is told its conditions, and believed.
fn holds(state: u8) -> bool {
    state == Known::Holds as u8 || state == Known::Trusted as u8
}

fn is_unsupported(error: &Error) -> bool {
    matches!(
        error,
        Error::NotSupported { .. } | Error::NotImplemented { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn conditions(known: Option<Known>) -> (Conditions, Arc<Metrics>) {
        let all = Arc::new(Metrics::new().unwrap());
        let metrics = StoreMetrics::new("a", Arc::clone(&all));
        (Conditions::new(known, Arc::new(metrics)), all)
    }

    #[test]
    fn what_is_certain_is_known() {
        for known in [Known::Holds, Known::Trusted] {
            let all = Operation::ALL.map(|operation| conditions(Some(known)).0.known(operation));
            assert_eq!(all, [Some(true); 4]);
        }
        let (tried, all) = conditions(None);
        assert_eq!(tried.known(Operation::Put), None);
        tried.learn(Operation::Put, Known::Ignored);
        assert_eq!(tried.known(Operation::Put), Some(false));
        assert_eq!(tried.known(Operation::Copy), None);
        let shown = &all.store_conditional_writes;
        let shown = shown.with_label_values(&["a", "put"]).get();
        assert_eq!(shown, 0);
    }
}
