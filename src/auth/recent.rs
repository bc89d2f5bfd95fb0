//! A map that holds a bounded number of entries and forgets the one renewed longest ago.
//!
//! Promises: never more than `capacity` entries; to push an entry out, `capacity` others must have
//! been renewed after it.
//! What it costs: whoever can renew `capacity` keys of their own can make it forget any key.
//! Must not: read a clock.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// The map; see the module.
pub(super) struct Recent<K, V> {
    entries: HashMap<K, Entry<V>>,
    oldest_first: BTreeMap<u64, K>,
    capacity: usize,
    renewals: u64,
}

struct Entry<V> {
    value: V,
    renewal: u64,
}

impl<K: Clone + Eq + Hash, V: Default> Recent<K, V> {
    /// An empty map for at most `capacity` entries.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            entries: HashMap::new(),
            oldest_first: BTreeMap::new(),
            capacity,
            renewals: 0,
        }
    }

    /// The value of `key`, which does not get any younger by being looked at.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Makes `key` the youngest entry, changes its value (at first the default), and forgets the
    /// oldest entry if there are now too many. Gives that one.
    pub(super) fn renew(&mut self, key: &K, change: impl FnOnce(&mut V)) -> Option<(K, V)> {
        let mut value = self.remove(key).unwrap_or_default();
        change(&mut value);
        let renewal = self.renewals;
        self.renewals += 1;
        self.entries.insert(key.clone(), Entry { value, renewal });
        self.oldest_first.insert(renewal, key.clone());
        let are_too_many = self.entries.len() > self.capacity;
        are_too_many.then(|| self.forget_oldest()).flatten()
    }

    /// Takes `key` out.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.oldest_first.remove(&entry.renewal);
        Some(entry.value)
    }

    /// Takes the oldest entry out.
    pub(super) fn forget_oldest(&mut self) -> Option<(K, V)> {
        let (_, key) = self.oldest_first.pop_first()?;
        let value = self.entries.remove(&key)?.value;
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_renewed_longest_ago_goes_first() {
        let mut map = Recent::<&str, u32>::new(2);
        map.renew(&"a", |value| *value += 1);
        map.renew(&"b", |value| *value += 1);
        map.renew(&"a", |value| *value += 1);
        map.renew(&"c", |value| *value += 1);
        assert_eq!(map.get_mut(&"a"), Some(&mut 2));
        assert_eq!(map.get_mut(&"b"), None);
        assert_eq!(map.get_mut(&"c"), Some(&mut 1));
    }

    #[test]
    fn looking_does_not_renew() {
        let mut map = Recent::<&str, u32>::new(2);
        map.renew(&"a", |_| ());
        map.renew(&"b", |_| ());
        map.get_mut(&"a");
        map.renew(&"c", |_| ());
        assert_eq!(map.get_mut(&"a"), None);
    }

    #[test]
    fn it_stays_within_its_bound_and_keeps_no_order_of_what_is_gone() {
        let mut map = Recent::<u32, u32>::new(10);
        for key in 0..1000 {
            map.renew(&key, |_| ());
            map.renew(&(key % 7), |_| ());
        }
        map.remove(&999);
        assert_eq!(map.entries.len(), 9);
        assert_eq!(map.oldest_first.len(), 9);
    }
}
