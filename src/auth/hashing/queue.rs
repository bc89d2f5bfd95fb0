//! Who waits for a slot, and who is next.
//!
//! Promises:
//! - Origins take turns: an IPv4 address, or a /48 of IPv6, and within it each /64. So what one of them sends delays the
//!   others by one turn each.
//! - Origins that have logged in before come first. Of [`STRANGERS_TURN`] turns one is a stranger's, so that a user
//!   who logs in again and again keeps nobody out.
//! - Bounded: a place for each session, and no fewer than [`MAX_WAITING`]. As long as places are free, one origin may have
//!   as many as it likes: it may be a balancer with all clients behind it. Where all are taken, the last one of the
//!   largest origin gives its place to an origin that has fewer.
//!
//! Must not: know what is waited for.

use std::collections::{HashMap, VecDeque};

use crate::auth::origin::{Origin, OriginCounts};

/// Most that wait, if there may not be more sessions than that.
pub(super) const MAX_WAITING: usize = 2048;

/// One turn in so many is a stranger's while known origins wait.
const STRANGERS_TURN: u32 = 4;

/// Those who wait; see the module.
#[derive(Debug)]
pub(super) struct Queue<T> {
    next: u64,
    turns: u32,
    known: Lane<T>,
    strangers: Lane<T>,
    counts: OriginCounts,
    capacity: usize,
}

/// A place in the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    number: u64,
    origin: Origin,
    is_known: bool,
}

/// There is no place left for this origin.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crowded;

impl<T> Queue<T> {
    /// An empty queue with this many places.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            next: 0,
            turns: 0,
            known: Lane::default(),
            strangers: Lane::default(),
            counts: OriginCounts::default(),
            capacity,
        }
    }

    /// Has at least this many places from now on.
    pub(super) fn grow_to(&mut self, places: usize) {
        self.capacity = self.capacity.max(places);
    }

    /// Takes the last place of its origin. Whoever is pushed out by that is dropped.
    ///
    /// # Errors
    /// [`Crowded`] if there is none.
    pub(super) fn push(
        &mut self,
        origin: Origin,
        is_known: bool,
        waiter: T,
    ) -> Result<Place, Crowded> {
        if self.len() >= self.capacity {
            self.make_room(origin, is_known)?;
        }
        let number = self.next;
        self.next += 1;
        self.counts.add(origin);
        self.lane(is_known).push(origin, number, waiter);
        Ok(Place {
            number,
            origin,
            is_known,
        })
    }

    /// The one whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let is_strangers = self.turns % STRANGERS_TURN == STRANGERS_TURN - 1;
        let known = !self.known.is_empty() && (self.strangers.is_empty() || !is_strangers);
        self.turns = self.turns.wrapping_add(1);
        let (origin, waiter) = self.lane(known).pop()?;
        self.counts.remove(origin);
        Some(waiter)
    }

    /// Gives a place back. It may be another's turn already, or have been taken away.
    pub(super) fn leave(&mut self, place: Place) {
        let lane = self.lane(place.is_known);
        if lane.remove(place.origin, place.number).is_some() {
            self.counts.remove(place.origin);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len + self.strangers.len
    }

    /// Takes a place away from a stranger for an origin that is known, or from an origin that has more of them. That is
    /// a stranger, if one has.
    fn make_room(&mut self, asker: Origin, is_known: bool) -> Result<(), Crowded> {
        let load = self.counts.load_with_one_more(asker);
        let has_more = |largest: &Origin| self.counts.load(*largest) > load;
        let stranger = self.strangers.largest(&self.counts);
        let stranger = stranger.filter(|largest| is_known || has_more(largest));
        let known = || self.known.largest(&self.counts).filter(has_more);
        let (largest, of_known) = match stranger {
            Some(stranger) => (stranger, false),
            None => (known().ok_or(Crowded)?, true),
        };
        if self.lane(of_known).remove_last(largest).is_some() {
            self.counts.remove(largest);
        }
        Ok(())
    }

    fn lane(&mut self, known: bool) -> &mut Lane<T> {
        if known {
            &mut self.known
        } else {
            &mut self.strangers
        }
    }
}

/// Sites that take turns.
#[derive(Debug)]
struct Lane<T> {
    turns: VecDeque<Origin>,
    sites: HashMap<Origin, Site<T>>,
    len: usize,
}

/// The narrowest origins of one site, which take turns.
#[derive(Debug)]
struct Site<T> {
    turns: VecDeque<Origin>,
    lines: HashMap<Origin, VecDeque<(u64, T)>>,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self {
            turns: VecDeque::new(),
            sites: HashMap::new(),
            len: 0,
        }
    }
}

impl<T> Default for Site<T> {
    fn default() -> Self {
        Self {
            turns: VecDeque::new(),
            lines: HashMap::new(),
        }
    }
}

impl<T> Lane<T> {
    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, origin: Origin, number: u64, waiter: T) {
        let widest = origin.widest();
        let turns = &mut self.turns;
        let site = self.sites.entry(widest).or_insert_with(|| {
            turns.push_back(widest);
            Site::default()
        });
        site.push(origin, number, waiter);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<(Origin, T)> {
        let widest = self.turns.pop_front()?;
        let site = self.sites.get_mut(&widest)?;
        let popped = site.pop();
        if site.lines.is_empty() {
            self.sites.remove(&widest);
        } else {
            self.turns.push_back(widest);
        }
        self.len -= usize::from(popped.is_some());
        popped
    }

    fn remove(&mut self, origin: Origin, number: u64) -> Option<T> {
        self.remove_by(origin, |line| {
            line.iter().position(|(other, _)| *other == number)
        })
    }

    fn remove_last(&mut self, origin: Origin) -> Option<T> {
        self.remove_by(origin, |line| line.len().checked_sub(1))
    }

    fn remove_by(
        &mut self,
        origin: Origin,
        position: impl FnOnce(&VecDeque<(u64, T)>) -> Option<usize>,
    ) -> Option<T> {
        let widest = origin.widest();
        let site = self.sites.get_mut(&widest)?;
        let line = site.lines.get_mut(&origin)?;
        let (_, waiter) = line.remove(position(line)?)?;
        if line.is_empty() {
            site.forget(origin);
        }
        if site.lines.is_empty() {
            self.sites.remove(&widest);
            self.turns.retain(|other| *other != widest);
        }
        self.len -= 1;
        Some(waiter)
    }

    /// The narrowest origin of which most wait.
    fn largest(&self, counts: &OriginCounts) -> Option<Origin> {
        let origins = self.sites.values().flat_map(|site| site.lines.keys());
        origins.copied().max_by_key(|origin| counts.load(*origin))
    }
}

impl<T> Site<T> {
    fn push(&mut self, origin: Origin, number: u64, waiter: T) {
        let turns = &mut self.turns;
        let line = self.lines.entry(origin).or_insert_with(|| {
            turns.push_back(origin);
            VecDeque::new()
        });
        line.push_back((number, waiter));
    }

    fn pop(&mut self) -> Option<(Origin, T)> {
        let origin = self.turns.pop_front()?;
        let line = self.lines.get_mut(&origin)?;
        let (_, waiter) = line.pop_front()?;
        if line.is_empty() {
            self.lines.remove(&origin);
        } else {
            self.turns.push_back(origin);
        }
        Some((origin, waiter))
    }

    fn forget(&mut self, origin: Origin) {
        self.lines.remove(&origin);
        self.turns.retain(|other| *other != origin);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn at(address: &str) -> Origin {
        address.parse::<IpAddr>().unwrap().into()
    }

    fn host(number: usize) -> Origin {
        let number = u32::try_from(number).unwrap();
        IpAddr::from(std::net::Ipv4Addr::from_bits(number)).into()
    }

    fn all(queue: &mut Queue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn origins_take_turns_and_each_is_first_come_first_served() {
        let mut queue = Queue::new(MAX_WAITING);
        for waiter in ["a1", "a2", "a3"] {
            queue.push(host(1), false, waiter).unwrap();
        }
        queue.push(host(2), false, "b1").unwrap();
        queue.push(host(3), false, "c1").unwrap();
        assert_eq!(all(&mut queue), ["a1", "b1", "c1", "a2", "a3"]);
        assert!(queue.counts.is_empty() && queue.len() == 0);
    }

    #[test]
    fn a_prefix_has_one_turn_and_shares_it() {
        let mut queue = Queue::new(MAX_WAITING);
        for (network, waiter) in [("1", "x1"), ("1", "y1"), ("2", "x2"), ("3", "x3")] {
            let address = format!("2001:db8:7:{network}::1");
            queue.push(at(&address), false, waiter).unwrap();
        }
        queue.push(host(1), false, "a1").unwrap();
        queue.push(host(1), false, "a2").unwrap();
        let due = ["x1", "a1", "x2", "a2", "x3", "y1"];
        assert_eq!(all(&mut queue), due);
    }

    #[test]
    fn known_origins_come_first_and_strangers_have_a_turn_in_four() {
        let mut queue = Queue::new(MAX_WAITING);
        for _ in 0..2 {
            queue.push(host(9), false, "stranger").unwrap();
        }
        for _ in 0..4 {
            queue.push(host(1), true, "known").unwrap();
        }
        let (k, s) = ("known", "stranger");
        assert_eq!(all(&mut queue), [k, k, k, s, k, s]);
    }

    #[test]
    fn whoever_leaves_is_not_waited_for() {
        let mut queue = Queue::new(MAX_WAITING);
        let first = queue.push(host(1), false, "a1").unwrap();
        queue.push(host(1), false, "a2").unwrap();
        let other = queue.push(host(2), true, "b1").unwrap();
        queue.leave(first);
        queue.leave(other);
        queue.leave(other);
        assert_eq!(all(&mut queue), ["a2"]);
        queue.leave(first);
        assert!(queue.counts.is_empty() && queue.len() == 0);
        assert!(queue.known.turns.is_empty() && queue.strangers.turns.is_empty());
    }

    /// All clients may be behind one balancer.
    #[test]
    fn one_origin_may_have_all_places_as_long_as_nobody_else_comes() {
        let mut queue = Queue::new(MAX_WAITING);
        for _ in 0..MAX_WAITING {
            queue.push(host(1), false, "a").unwrap();
        }
        assert_eq!(queue.push(host(1), false, "a").unwrap_err(), Crowded);
        queue.push(host(2), false, "b").unwrap();
        assert_eq!(queue.len(), MAX_WAITING);
    }

    #[test]
    fn where_all_places_are_taken_the_largest_origin_gives_one() {
        let mut queue = Queue::new(4);
        for waiter in ["a1", "a2", "a3"] {
            queue.push(host(1), false, waiter).unwrap();
        }
        queue.push(host(2), false, "b1").unwrap();
        assert_eq!(queue.push(host(1), false, "a4").unwrap_err(), Crowded);
        queue.push(host(3), false, "c1").unwrap();
        queue.push(host(4), false, "d1").unwrap();
        // One of each: nobody has too many.
        assert_eq!(queue.push(host(5), false, "e1").unwrap_err(), Crowded);
        // Whoever has logged in before takes precedence.
        queue.push(host(6), true, "f1").unwrap();
        let left = all(&mut queue);
        assert_eq!((left[0], left.len()), ("f1", 4));
    }

    #[test]
    fn an_origin_that_has_logged_in_before_gives_places_to_strangers_too() {
        let mut queue = Queue::new(8);
        for _ in 0..7 {
            queue.push(host(1), true, "hoard").unwrap();
        }
        queue.push(host(2), false, "a1").unwrap();
        queue.push(host(3), false, "b1").unwrap();
        queue.push(host(4), true, "known").unwrap();
        let left = all(&mut queue);
        let count = |waiter| left.iter().filter(|other| **other == waiter).count();
        assert_eq!((count("hoard"), count("known"), left.len()), (6, 1, 8));
    }

    #[test]
    fn a_flood_from_many_addresses_delays_others_by_a_turn_each() {
        let mut queue = Queue::new(MAX_WAITING);
        for round in 0..MAX_WAITING {
            let _ = queue.push(host(round % 200), false, "flood");
        }
        assert_eq!(queue.len(), MAX_WAITING);
        queue.push(host(1000), false, "honest").unwrap();
        let before = std::iter::from_fn(|| queue.pop()).position(|waiter| waiter == "honest");
        assert_eq!(before, Some(200));
    }
}
