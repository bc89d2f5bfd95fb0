//! What can go wrong in a foreign back-end.

use std::error::Error;
use std::time::Duration;

use thiserror::Error;

use crate::storage::error::StorageError;

/// What went wrong, as far as its back-end says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There is nothing at the key.
    Absent,
    /// There is no such bucket.
    NoBucket,
    /// The directory has something in it.
    NotEmpty,
    /// The bucket's permissions don't allow it.
    Denied,
    /// The gateway's credentials are not accepted, or it has got none.
    Credentials,
    /// The back-end can't do this.
    Unsupported,
    /// The store is full.
    Full,
    /// There was no answer.
    Unreachable,
    /// The store has refused it, for a reason of its own.
    Refused,
    /// Anything else, an answer or none.
    Failed,
    /// A change was asked for, and nobody knows if it was made.
    Unresolved,
}

/// What a back-end said.
#[derive(Debug, Error)]
#[error("{kind:?}")]
pub struct Trouble {
    kind: Kind,
    #[source]
    source: Box<dyn Error + Send + Sync>,
}

impl Trouble {
    /// What went wrong, and what was said about it.
    pub fn new(kind: Kind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = source.into();
        Self { kind, source }
    }

    /// There was no answer for so long.
    pub(super) fn silence(patience: Duration) -> Self {
        let patience = humantime::format_duration(patience);
        Self::new(Kind::Unreachable, format!("no answer for {patience}"))
    }

    /// The same as the answer to a change. Where the back-end does not say that it was refused, it may have been made,
    /// or be made yet.
    pub(super) fn of_change(self) -> Self {
        let kind = match self.kind {
            Kind::Unreachable | Kind::Failed => Kind::Unresolved,
            refused => refused,
        };
        Self { kind, ..self }
    }

    /// What was asked for is there, and nobody could see what it has become.
    pub(super) fn unseen(self) -> Self {
        let kind = Kind::Unresolved;
        Self { kind, ..self }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// As a request's metric has it.
    pub(super) fn label(&self) -> &'static str {
        match self.kind {
            Kind::Absent | Kind::NoBucket => "not_found",
            Kind::Denied | Kind::Credentials => "denied",
            Kind::Unsupported => "unsupported",
            _ => "error",
        }
    }
}

impl From<Trouble> for StorageError {
    fn from(Trouble { kind, source }: Trouble) -> Self {
        let error = object_store::Error::Generic {
            store: "a foreign back-end",
            source,
        };
        match kind {
            Kind::Absent => Self::NotFound,
            Kind::NoBucket => Self::NoBucket,
            Kind::NotEmpty => Self::NotEmpty,
            Kind::Denied => Self::StoreDenied(error),
            Kind::Credentials => Self::StoreCredentials(error),
            Kind::Unsupported => Self::Unsupported(error),
            Kind::Full => Self::StoreFull(error),
            Kind::Unreachable => Self::StoreUnreachable(error),
            Kind::Refused | Kind::Failed => Self::Store(error),
            Kind::Unresolved => Self::Unresolved(error),
        }
    }
}
