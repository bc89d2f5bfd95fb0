//! What each store has of the memory: one that answers slowly, or not at all, leaves the others their part.
//!
//! Where there are several, the parts of one store hold three eighths of all memory at most. With all of that in parts that
//! are not full, none of them would ever be sent: so the first of a store that waits gets a right to finish all the same.
//! Its parts have rights for an eighth at most, or one.

/// How many eighths of all memory one store may hold.
const EIGHTHS: usize = 3;

/// For how many eighths its parts may have rights to finish.
const EIGHTHS_FINISHING: usize = 1;

/// One of the stores that share a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::storage::write) struct StoreIndex(usize);

/// What each store has.
#[derive(Debug)]
pub(in crate::storage::write) struct Shares {
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
    /// Of them, those on their way to the store.
    pub(super) in_flight: usize,
}

/// What the next one that waits may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Whatever there is.
    Any,
    /// Bytes, and no right to finish: its store has its share of those.
    Bytes,
    /// A right to finish, and nothing less.
    RightToFinish,
    /// Nothing yet: others may go first.
    Nothing,
}

/// What there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    /// Bytes that anyone may have.
    pub(super) free: usize,
    /// Bytes for rights to finish.
    pub(super) kept: usize,
}

/// Goes through those who wait, the first ones first.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    shares: &'a Shares,
    left: Left,
    /// By store: one before has a right coming.
    has_right: Vec<bool>,
}

impl Shares {
    /// The first store.
    pub(in crate::storage::write) const FIRST: StoreIndex = StoreIndex(0);

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
        share.in_flight += more.in_flight;
    }

    /// A store has so much less.
    pub(super) fn take(&mut self, store: StoreIndex, less: Share) {
        let share = &mut self.stores[store.0];
        share.held -= less.held;
        share.finishing -= less.finishing;
        share.in_flight -= less.in_flight;
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

    /// What a store has on its way.
    pub(super) fn in_flight(&self, store: StoreIndex) -> usize {
        self.stores[store.0].in_flight
    }

    /// The most that one store may hold.
    pub(super) fn limit(&self) -> usize {
        EIGHTHS * self.total / 8
    }

    /// Whether a store would have more than its share with so many bytes more.
    pub(super) fn is_beyond(&self, store: StoreIndex, bytes: usize) -> bool {
        self.are_limited() && self.stores[store.0].held + bytes > self.limit()
    }

    /// Whether one more of its parts, of this size, may get a right to finish. Each store gets one at least.
    fn may_finish(&self, store: StoreIndex, part_size: usize) -> bool {
        let finishing = self.stores[store.0].finishing;
        finishing == 0 || finishing + part_size <= EIGHTHS_FINISHING * self.total / 8
    }

    /// Begins with the first one that waits.
    pub(super) fn turn(&self, left: Left) -> Turn<'_> {
        Turn {
            shares: self,
            left,
            has_right: vec![false; self.stores.len()],
        }
    }
}

impl Share {
    /// Bytes that are no right.
    pub(super) fn plain(held: usize) -> Self {
        Self {
            held,
            ..Self::default()
        }
    }

    /// A right to finish a part of so many bytes.
    pub(super) fn right(part_size: usize) -> Self {
        Self {
            held: part_size,
            finishing: part_size,
            in_flight: 0,
        }
    }

    /// Held bytes that are on their way to the store.
    pub(super) fn in_flight(in_flight: usize) -> Self {
        Self {
            in_flight,
            ..Self::default()
        }
    }
}

impl Turn<'_> {
    /// What the next one that waits may have, for so many bytes more of a part of this store.
    pub(super) fn next(&mut self, store: StoreIndex, bytes: usize, part_size: usize) -> Next {
        let is_beyond = self.shares.is_beyond(store, bytes);
        let may_finish = self.shares.may_finish(store, part_size) && !self.has_right[store.0];
        match (is_beyond, may_finish) {
            (false, true) => Next::Any,
            (false, false) if self.left.free >= bytes => Next::Bytes,
            (true, true) if self.left.kept >= part_size => {
                self.has_right[store.0] = true;
                Next::RightToFinish
            }
            _ => Next::Nothing,
        }
    }
}
