//! What each store has of the memory: one that answers slowly, or not at all, leaves the others their part.
//!
//! Where there are several, the parts of one store hold three eighths of all memory at most. With all of that in parts that
//! are not full, none of them would ever be sent: so the first of a store that waits gets a right to finish all the same,
//! as long as few of its parts have one.

/// How many eighths of all memory one store may hold.
const EIGHTHS: usize = 3;

/// For how many eighths its parts may have rights to finish, so that the next gets one beyond that.
const EIGHTHS_FINISHING: usize = 1;

/// One of the stores that share a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoreIndex(usize);

/// What each store has.
#[derive(Debug)]
pub(super) struct Shares {
    total: usize,
    stores: Vec<Share>,
}

/// Bytes that a store has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// In all.
    pub(super) held: usize,
    /// Of them, what rights to finish have set apart.
    pub(super) finishing: usize,
}

/// What the next one that waits may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Whatever there is.
    Any,
    /// A right to finish, and nothing less.
    RightToFinish,
    /// Nothing yet: others may go first.
    Nothing,
}

/// Goes through those who wait, the first ones first.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    shares: &'a Shares,
    /// By store.
    has_waited: Vec<bool>,
}

impl Shares {
    /// The first store.
    pub(super) const FIRST: StoreIndex = StoreIndex(0);

    /// Of so many bytes, for one store.
    pub(super) fn new(total: usize) -> Self {
        Self {
            total,
            stores: vec![Share::default()],
        }
    }

    /// Another store.
    pub(super) fn add(&mut self) -> StoreIndex {
        self.stores.push(Share::default());
        StoreIndex(self.stores.len() - 1)
    }

    /// A store has so much more.
    pub(super) fn give(&mut self, store: StoreIndex, more: Share) {
        let share = &mut self.stores[store.0];
        share.held += more.held;
        share.finishing += more.finishing;
    }

    /// A store has so much less.
    pub(super) fn take(&mut self, store: StoreIndex, less: Share) {
        let share = &mut self.stores[store.0];
        share.held -= less.held;
        share.finishing -= less.finishing;
    }

    /// Whether any of it matters.
    pub(super) fn are_limited(&self) -> bool {
        self.stores.len() > 1
    }

    /// Whether no store has anything.
    #[cfg(test)]
    pub(super) fn are_empty(&self) -> bool {
        self.stores.iter().all(|share| *share == Share::default())
    }

    /// Begins with the first one that waits.
    pub(super) fn turn(&self) -> Turn<'_> {
        Turn {
            shares: self,
            has_waited: vec![false; self.stores.len()],
        }
    }
}

impl Share {
    /// Bytes that are no right.
    pub(super) fn plain(held: usize) -> Self {
        Self { held, finishing: 0 }
    }

    /// A right to finish a part of so many bytes.
    pub(super) fn right(part_size: usize) -> Self {
        Self {
            held: part_size,
            finishing: part_size,
        }
    }
}

impl Turn<'_> {
    /// What the next one that waits may have, for so many bytes of this store.
    pub(super) fn next(&mut self, store: StoreIndex, bytes: usize) -> Next {
        let is_first = !std::mem::replace(&mut self.has_waited[store.0], true);
        let (share, eighth) = (self.shares.stores[store.0], self.shares.total / 8);
        if !self.shares.are_limited() || share.held + bytes <= EIGHTHS * eighth {
            Next::Any
        } else if is_first && share.finishing < EIGHTHS_FINISHING * eighth {
            Next::RightToFinish
        } else {
            Next::Nothing
        }
    }
}
