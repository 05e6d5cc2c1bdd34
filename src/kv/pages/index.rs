//! An ordered map that finds the entry at or before a key. It is a list of lists.
//!
//! A search is two binary searches, and the entry it found can be changed in place. An `OrdMap` makes two cursors,
//! with memory of their own, to find the entry at or before a key (imbl 7, `get_prev`), and searches again to change it.
//!
//! Invariants:
//! * Keys ascend.
//! * No inner list is empty.
//! * The outer list has each inner list under its first key.
//!
//! Clones share everything. The first change after a clone copies the outer list and each inner list that it touches.

use triomphe::Arc;

use crate::command::Key;

/// The most entries of an inner list. With 10,000,000 keys in pages of 16 the outer list then has at least 5,000
/// entries; a copy of it takes as long as some hundred puts.
const LIST_ENTRIES: usize = 128;
/// An inner list with at most this many entries is merged into a neighbour that has room.
const SPARSE_LIST_ENTRIES: usize = LIST_ENTRIES / 4;
/// The most entries of a merged list: it leaves room for more.
const MERGED_LIST_ENTRIES: usize = LIST_ENTRIES * 3 / 4;
/// How many entries a list's capacity grows by.
const GROWTH_ENTRIES: usize = 8;

type Inner<T> = Vec<(Key, Arc<T>)>;

/// An ordered map from keys to what is shared between clones.
#[derive(Debug, Clone)]
pub(super) struct PageIndex<T> {
    lists: Arc<Vec<(Key, Arc<Inner<T>>)>>,
}

/// The location of an entry, until one is added or removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Location {
    list: usize,
    nth: usize,
}

impl<T> Default for PageIndex<T> {
    fn default() -> Self {
        Self { lists: Arc::new(Vec::new()) }
    }
}

impl<T> PageIndex<T> {
    /// A map of one entry.
    pub(super) fn with_entry(key: Key, value: T) -> Self {
        Self { lists: Arc::new(vec![(key.clone(), Arc::new(vec![(key, Arc::new(value))]))]) }
    }

    /// The entry of this key, or else of the last key before it.
    pub(super) fn until(&self, key: &str) -> Option<Location> {
        let list = last_until(&self.lists, key)?;
        Some(Location { list, nth: last_until(&self.lists[list].1, key)? })
    }

    pub(super) fn get(&self, at: Location) -> &T {
        &self.lists[at.list].1[at.nth].1
    }

    pub(super) fn before(&self, at: Location) -> Option<Location> {
        if let Some(nth) = at.nth.checked_sub(1) {
            return Some(Location { nth, ..at });
        }
        let list = at.list.checked_sub(1)?;
        Some(Location { list, nth: self.lists[list].1.len() - 1 })
    }

    pub(super) fn after(&self, at: Location) -> Option<Location> {
        if at.nth + 1 < self.lists[at.list].1.len() {
            return Some(Location { nth: at.nth + 1, ..at });
        }
        let list = at.list + 1;
        (list < self.lists.len()).then_some(Location { list, nth: 0 })
    }

    /// How many entries there are between the one at or before `prefix` and the last that begins with it, both included. The
    /// time it takes is that of the outer list.
    pub(super) fn count_with_prefix(&self, prefix: &str) -> usize {
        let Some(from) = self.until(prefix) else { return 0 };
        let is_before_end = |key: &Key| key.as_str() <= prefix || key.starts_with(prefix);
        let lists = self.lists[from.list..].partition_point(|(first, _)| is_before_end(first));
        let entries = self.lists[from.list..from.list + lists].iter();
        let all: usize = entries.clone().map(|(_, inner)| inner.len()).sum();
        let after =
            entries.last().map_or(0, |(_, inner)| inner.len() - inner.partition_point(|(key, _)| is_before_end(key)));
        all - after - from.nth
    }

    /// The entries from one on, in order.
    pub(super) fn from(&self, at: Location) -> impl Iterator<Item = &T> {
        let first = self.lists.get(at.list).map_or(&[][..], |(_, inner)| &inner[at.nth..]);
        let others = self.lists.iter().skip(at.list + 1).flat_map(|(_, inner)| inner.iter());
        first.iter().chain(others).map(|(_, value)| &**value)
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Key, &T)> {
        self.lists.iter().flat_map(|(_, inner)| inner.iter()).map(|(key, value)| (key, &**value))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lists.iter().map(|(_, inner)| inner.len()).sum()
    }
}

impl<T: Clone> PageIndex<T> {
    fn list_mut(&mut self, list: usize) -> &mut Inner<T> {
        Arc::make_mut(&mut Arc::make_mut(&mut self.lists)[list].1)
    }

    pub(super) fn get_mut(&mut self, at: Location) -> &mut T {
        Arc::make_mut(&mut self.list_mut(at.list)[at.nth].1)
    }

    /// Adds an entry after another; its key must belong there.
    pub(super) fn insert_after(&mut self, Location { list, nth }: Location, key: Key, value: T) {
        let right = insert(self.list_mut(list), nth + 1, (key, Arc::new(value)), LIST_ENTRIES, GROWTH_ENTRIES);
        if let Some(right) = right {
            Arc::make_mut(&mut self.lists).insert(list + 1, (right[0].0.clone(), Arc::new(right)));
        }
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, Location { list, nth }: Location) -> Arc<T> {
        let inner = self.list_mut(list);
        let (_, removed) = inner.remove(nth);
        let (is_empty, few) = (inner.is_empty(), inner.len() <= SPARSE_LIST_ENTRIES);
        if is_empty {
            Arc::make_mut(&mut self.lists).remove(list);
        } else {
            self.name(list);
            if few && !self.join(list) && list > 0 {
                self.join(list - 1);
            }
        }
        removed
    }

    /// Puts the list under its first key again.
    fn name(&mut self, list: usize) {
        let (name, inner) = &mut Arc::make_mut(&mut self.lists)[list];
        if *name != inner[0].0 {
            *name = inner[0].0.clone();
        }
    }

    /// Merges a list and the next one, if there is room. Returns whether it did.
    fn join(&mut self, list: usize) -> bool {
        let len = |list| self.lists.get(list).map_or(LIST_ENTRIES, |(_, inner): &(_, Arc<Inner<T>>)| inner.len());
        if len(list) + len(list + 1) > MERGED_LIST_ENTRIES {
            return false;
        }
        let (_, right) = Arc::make_mut(&mut self.lists).remove(list + 1);
        let right = Arc::unwrap_or_clone(right);
        let left = self.list_mut(list);
        left.reserve_exact(right.len());
        left.extend(right);
        true
    }
}

fn last_until<T>(list: &[(Key, T)], key: &str) -> Option<usize> {
    list.partition_point(|(first, _)| first.as_str() <= key).checked_sub(1)
}

/// Inserts into a list of at most `full` items. Returns the right part, if the list was full.
pub(super) fn insert<T>(
    list: &mut Vec<(Key, T)>,
    at: usize,
    item: (Key, T),
    full: usize,
    growth: usize,
) -> Option<Vec<(Key, T)>> {
    let insert_into = |list: &mut Vec<_>, at, item| {
        if list.len() == list.capacity() {
            list.reserve_exact(growth);
        }
        list.insert(at, item);
    };
    if list.len() < full {
        insert_into(list, at, item);
        return None;
    }
    // Keys that ascend fill their lists; others find room on both sides.
    let middle = if at == full { full } else { full / 2 };
    let mut right = list.split_off(middle);
    if at < middle {
        insert_into(list, at, item);
    } else {
        insert_into(&mut right, at - middle, item);
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn check(index: &PageIndex<u64>, model: &BTreeMap<Key, u64>) {
        assert!(index.entries().eq(model), "all of it, in order");
        for (name, inner) in index.lists.iter() {
            assert!(!inner.is_empty() && inner.len() <= LIST_ENTRIES);
            assert_eq!(*name, inner[0].0);
        }
    }

    #[test]
    fn it_is_an_ordered_map_whose_clones_keep_what_they_had() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut index = PageIndex::with_entry(Key::default(), 0);
        let mut model = BTreeMap::from([(Key::default(), 0)]);
        let mut clones = Vec::new();
        // More is added than removed, then the other way round.
        for step in 1..20_000_u64 {
            let key = Key::from(format!("{:x}", rng.random_range(0..3_000)));
            let at = index.until(&key).expect("the first stands under no key");
            let mut until = model.range_mut(..=key.clone());
            let (found, value) = until.next_back().expect("likewise");
            assert_eq!(index.get(at), value);
            let (is_it, before) = (*found == key, until.next_back().map(|(_, value)| *value));
            assert_eq!(index.before(at).map(|at| *index.get(at)), before);
            let after = model.range(key.clone()..).find(|(after, _)| **after > key).map(|(_, value)| *value);
            assert_eq!(index.after(at).map(|at| *index.get(at)), after);
            if !is_it {
                index.insert_after(at, key.clone(), step);
                model.insert(key, step);
            } else if rng.random_range(0..10) < if step < 8_000 { 3 } else { 9 } {
                assert_eq!(Some(*index.remove(at)), model.remove(&key));
            } else {
                *index.get_mut(at) = step;
                model.insert(key, step);
            }
            if step % 500 == 0 {
                check(&index, &model);
                clones.push((index.clone(), model.clone()));
                let at = index.until("8").expect("likewise");
                let from = model.keys().rev().find(|key| key.as_str() <= "8").cloned().expect("likewise");
                assert!(index.from(at).eq(model.range(from..).map(|(_, value)| value)));
            }
        }
        for (index, model) in clones {
            check(&index, &model);
        }
        let removed: Vec<_> = model.keys().skip(1).cloned().collect();
        for key in removed {
            index.remove(index.until(&key).expect("likewise"));
            model.remove(&key);
            check(&index, &model);
        }
        assert_eq!((index.len(), index.lists.len()), (1, 1));
    }

    #[test]
    fn keys_that_ascend_fill_their_lists_and_few_take_few() {
        let mut index = PageIndex::with_entry(Key::default(), 0);
        let key = |n: usize| Key::from(format!("{n:05}"));
        for n in 1..LIST_ENTRIES * 50 {
            index.insert_after(index.until(&key(n)).expect("the first"), key(n), n);
        }
        assert_eq!(index.lists.len(), 50);
        for n in (1..LIST_ENTRIES * 50).filter(|n| n % 50 > 0) {
            index.remove(index.until(&key(n)).expect("the first"));
        }
        assert!(index.lists.len() <= 4, "{} lists", index.lists.len());
    }
}
