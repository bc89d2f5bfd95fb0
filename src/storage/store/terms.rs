//! The terms of a change: its precondition, and what its tries may have done.

use std::sync::Arc;

use crate::storage::store::http::attempts::Attempts;
use crate::storage::store::precondition::Precondition;

/// The terms of one change. Every try of it carries the same precondition. Clones share what is known of the tries.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) precondition: Precondition,
    pub(crate) attempts: Arc<Attempts>,
}

impl Terms {
    /// A change on this precondition, which has not been tried yet.
    pub(crate) fn new(precondition: Precondition) -> Self {
        Self {
            precondition,
            attempts: Arc::default(),
        }
    }

    /// The same change whatever is there: it was looked at.
    pub(crate) fn without_precondition(&self) -> Self {
        Self {
            precondition: Precondition::None,
            attempts: Arc::clone(&self.attempts),
        }
    }

    /// A change whatever is there.
    pub(crate) fn none() -> Self {
        Self::new(Precondition::None)
    }
}
