//! What stands under keys, found by the key at or before one: an ordered map as a list of lists.
//!
//! Finding is two binary searches, and the place that was found can be changed; an `OrdMap` makes two cursors with
//! memory of their own to find what is at or before a key (imbl 7, `get_prev`), and then finds that again to change it.
//!
//! Invariants: keys ascend; no inner list is empty; each stands in the outer one under its own first key. Clones share
//! everything: the first change after a clone copies the outer list, and then each inner one that it touches.

use triomphe::Arc;

use crate::command::Key;

/// Entries of an inner list. The outer list of 10,000,000 keys in pages of 16 then has 5,000 entries or more, a copy of
/// which takes as long as some hundred puts.
const FULL: usize = 128;
/// An inner list with no more is put together with one beside it, if that has room.
const FEW: usize = FULL / 4;
/// Lists that are put together leave room.
const MERGED: usize = FULL * 3 / 4;
/// For how many entries room is made at a time.
const GROWTH: usize = 8;

type Inner<T> = Vec<(Key, Arc<T>)>;

/// An ordered map from keys to what is shared between clones.
#[derive(Debug, Clone)]
pub(super) struct Directory<T> {
    lists: Arc<Vec<(Key, Arc<Inner<T>>)>>,
}

/// Where something stands, until something is added or removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct At {
    list: usize,
    nth: usize,
}

impl<T> Default for Directory<T> {
    fn default() -> Self {
        Self { lists: Arc::new(Vec::new()) }
    }
}

impl<T> Directory<T> {
    /// With this alone.
    pub(super) fn of(key: Key, value: T) -> Self {
        Self { lists: Arc::new(vec![(key.clone(), Arc::new(vec![(key, Arc::new(value))]))]) }
    }

    /// The last that stands under this key or one before it.
    pub(super) fn until(&self, key: &str) -> Option<At> {
        let list = last_until(&self.lists, key)?;
        Some(At { list, nth: last_until(&self.lists[list].1, key)? })
    }

    pub(super) fn get(&self, at: At) -> &T {
        &self.lists[at.list].1[at.nth].1
    }

    pub(super) fn before(&self, at: At) -> Option<At> {
        if let Some(nth) = at.nth.checked_sub(1) {
            return Some(At { nth, ..at });
        }
        let list = at.list.checked_sub(1)?;
        Some(At { list, nth: self.lists[list].1.len() - 1 })
    }

    pub(super) fn after(&self, at: At) -> Option<At> {
        if at.nth + 1 < self.lists[at.list].1.len() {
            return Some(At { nth: at.nth + 1, ..at });
        }
        let list = at.list + 1;
        (list < self.lists.len()).then_some(At { list, nth: 0 })
    }

    /// In order, from one on.
    pub(super) fn from(&self, at: At) -> impl Iterator<Item = &T> {
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

impl<T: Clone> Directory<T> {
    fn list_mut(&mut self, list: usize) -> &mut Inner<T> {
        Arc::make_mut(&mut Arc::make_mut(&mut self.lists)[list].1)
    }

    pub(super) fn get_mut(&mut self, at: At) -> &mut T {
        Arc::make_mut(&mut self.list_mut(at.list)[at.nth].1)
    }

    /// Adds one after that at a place; its key must belong there.
    pub(super) fn insert_after(&mut self, At { list, nth }: At, key: Key, value: T) {
        let right = insert(self.list_mut(list), nth + 1, (key, Arc::new(value)), FULL, GROWTH);
        if let Some(right) = right {
            Arc::make_mut(&mut self.lists).insert(list + 1, (right[0].0.clone(), Arc::new(right)));
        }
    }

    /// Takes out what stands at a place.
    pub(super) fn remove(&mut self, At { list, nth }: At) -> Arc<T> {
        let inner = self.list_mut(list);
        let (_, removed) = inner.remove(nth);
        let (is_empty, few) = (inner.is_empty(), inner.len() <= FEW);
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

    /// A list stands under its first key.
    fn name(&mut self, list: usize) {
        let (name, inner) = &mut Arc::make_mut(&mut self.lists)[list];
        if *name != inner[0].0 {
            *name = inner[0].0.clone();
        }
    }

    /// Puts a list and the next one together, if there is room.
    fn join(&mut self, list: usize) -> bool {
        let len = |list| self.lists.get(list).map_or(FULL, |(_, inner): &(_, Arc<Inner<T>>)| inner.len());
        if len(list) + len(list + 1) > MERGED {
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

/// Puts something into a list that holds so many at most; gives the right part, where it was full.
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

    fn check(directory: &Directory<u64>, model: &BTreeMap<Key, u64>) {
        assert!(directory.entries().eq(model), "all of it, in order");
        for (name, inner) in directory.lists.iter() {
            assert!(!inner.is_empty() && inner.len() <= FULL);
            assert_eq!(*name, inner[0].0);
        }
    }

    #[test]
    fn it_is_an_ordered_map_whose_clones_keep_what_they_had() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut directory = Directory::of(Key::default(), 0);
        let mut model = BTreeMap::from([(Key::default(), 0)]);
        let mut clones = Vec::new();
        // More is added than removed, then the other way round.
        for step in 1..20_000_u64 {
            let key = Key::from(format!("{:x}", rng.random_range(0..3_000)));
            let at = directory.until(&key).expect("the first stands under no key");
            let mut until = model.range_mut(..=key.clone());
            let (found, value) = until.next_back().expect("likewise");
            assert_eq!(directory.get(at), value);
            let (is_it, before) = (*found == key, until.next_back().map(|(_, value)| *value));
            assert_eq!(directory.before(at).map(|at| *directory.get(at)), before);
            let after = model.range(key.clone()..).find(|(after, _)| **after > key).map(|(_, value)| *value);
            assert_eq!(directory.after(at).map(|at| *directory.get(at)), after);
            if !is_it {
                directory.insert_after(at, key.clone(), step);
                model.insert(key, step);
            } else if rng.random_range(0..10) < if step < 8_000 { 3 } else { 9 } {
                assert_eq!(Some(*directory.remove(at)), model.remove(&key));
            } else {
                *directory.get_mut(at) = step;
                model.insert(key, step);
            }
            if step % 500 == 0 {
                check(&directory, &model);
                clones.push((directory.clone(), model.clone()));
                let at = directory.until("8").expect("likewise");
                let from = model.keys().rev().find(|key| key.as_str() <= "8").cloned().expect("likewise");
                assert!(directory.from(at).eq(model.range(from..).map(|(_, value)| value)));
            }
        }
        for (directory, model) in clones {
            check(&directory, &model);
        }
        let removed: Vec<_> = model.keys().skip(1).cloned().collect();
        for key in removed {
            directory.remove(directory.until(&key).expect("likewise"));
            model.remove(&key);
            check(&directory, &model);
        }
        assert_eq!((directory.len(), directory.lists.len()), (1, 1));
    }

    #[test]
    fn keys_that_ascend_fill_their_lists_and_few_take_few() {
        let mut directory = Directory::of(Key::default(), 0);
        let key = |n: usize| Key::from(format!("{n:05}"));
        for n in 1..FULL * 50 {
            directory.insert_after(directory.until(&key(n)).expect("the first"), key(n), n);
        }
        assert_eq!(directory.lists.len(), 50);
        for n in (1..FULL * 50).filter(|n| n % 50 > 0) {
            directory.remove(directory.until(&key(n)).expect("the first"));
        }
        assert!(directory.lists.len() <= 4, "{} lists", directory.lists.len());
    }
}
