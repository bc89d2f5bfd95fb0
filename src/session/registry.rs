//! All sessions: how many there are, from where, and whether one more may come.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::task::TaskTracker;

/// How many sessions there may be.
#[derive(Debug, Clone, Copy)]
pub struct Admission {
    /// At once, in all.
    pub max_sessions: usize,
    /// At once, from one address.
    pub max_sessions_per_ip: usize,
}

/// Why a connection was not let in; the label of a metric and the words of a 421.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `limits.max_sessions` is reached.
    TooManySessions,
    /// `limits.max_sessions_per_ip` is reached.
    TooManyFromAddress,
    /// Running transfers have all the open files that the system allows.
    TooFewOpenFiles,
    /// The address is not in `ftp.allow`, or is in `ftp.deny`.
    AddressDenied,
    /// The gateway is shutting down.
    ShuttingDown,
}

impl Refusal {
    /// The metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::TooManySessions => "max_sessions",
            Self::TooManyFromAddress => "max_sessions_per_ip",
            Self::TooFewOpenFiles => "open_files",
            Self::AddressDenied => "address_denied",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// What the client is told after `421 `.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::TooManySessions | Self::TooFewOpenFiles => "Too many sessions, try again later",
            Self::TooManyFromAddress => "Too many sessions from your address, try again later",
            Self::AddressDenied => "Your address is not allowed here",
            Self::ShuttingDown => "Gateway is shutting down, try again later",
        }
    }
}

/// The registry of all sessions; clones share it.
#[derive(Debug, Clone)]
pub struct Registry {
    admission: Admission,
    counts: Arc<Mutex<Counts>>,
    tasks: TaskTracker,
}

/// Bounded by the number of sessions: an address without one has no entry.
#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A session's place; dropping it makes room for another.
#[derive(Debug)]
pub struct Admitted {
    registry: Registry,
    address: IpAddr,
}

impl Registry {
    /// An empty registry with these limits.
    #[must_use]
    pub fn new(admission: Admission) -> Self {
        Self {
            admission,
            counts: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// A place for one more session from `address`.
    ///
    /// # Errors
    /// When a limit is reached.
    pub fn admit(&self, address: IpAddr) -> Result<Admitted, Refusal> {
        let mut counts = self.counts();
        if counts.total >= self.admission.max_sessions {
            return Err(Refusal::TooManySessions);
        }
        let from_address = counts.by_address.get(&address).copied().unwrap_or(0);
        if from_address >= self.admission.max_sessions_per_ip {
            return Err(Refusal::TooManyFromAddress);
        }
        counts.by_address.insert(address, from_address + 1);
        counts.total += 1;
        Ok(Admitted {
            registry: self.clone(),
            address,
        })
    }

    /// How many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts().total
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tasks that the gateway waits for before it ends: sessions, and what stores and discards
    /// on their behalf.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.registry.counts();
        counts.total -= 1;
        if let Some(from_address) = counts.by_address.get_mut(&self.address) {
            *from_address -= 1;
            if *from_address == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(max_sessions: usize, max_sessions_per_ip: usize) -> Registry {
        Registry::new(Admission {
            max_sessions,
            max_sessions_per_ip,
        })
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn limits_hold_in_all_and_by_address() {
        let registry = registry(3, 2);
        let first = registry.admit(address(1)).unwrap();
        let _second = registry.admit(address(1)).unwrap();
        let refused = registry.admit(address(1)).unwrap_err();
        assert_eq!(refused, Refusal::TooManyFromAddress);
        let _third = registry.admit(address(2)).unwrap();
        let refused = registry.admit(address(3)).unwrap_err();
        assert_eq!(refused, Refusal::TooManySessions);
        drop(first);
        assert!(registry.admit(address(1)).is_ok());
    }

    #[test]
    fn addresses_without_sessions_are_forgotten() {
        let registry = registry(10, 10);
        drop(registry.admit(address(1)).unwrap());
        assert!(registry.is_empty());
        assert!(registry.counts().by_address.is_empty());
    }

    #[test]
    fn a_refused_address_leaves_no_trace() {
        let registry = registry(10, 0);
        registry.admit(address(1)).unwrap_err();
        assert!(registry.counts().by_address.is_empty());
    }
}
