//! An ordered map in pages: like imbl's `OrdMap`, with half its overhead.
//!
//! `OrdMap` splits its leaves in the middle. Under ascending keys they stay half empty: 79 bytes a key. A page here has up
//! to 16 keys. A key after a full page starts a new one, and a full page moves keys to the page before it: 41 bytes.
//!
//! Invariants:
//! * A page's name is not after its first key, and after all keys of the page before.
//! * The first page's name is the empty string, which is no key.
//!
//! Clones share pages. A change copies the page it touches.

mod index;

use std::mem;
use std::ops::Bound;

use triomphe::Arc;

use crate::command::Key;
use index::{Location, PageIndex, insert};

/// The most keys of a page.
const PAGE_KEYS: usize = 16;
/// A page with at most this many keys is merged into a neighbour that has room.
const SPARSE_PAGE_KEYS: usize = PAGE_KEYS / 4;
/// The most keys of a merged page: it leaves room for more.
const MERGED_PAGE_KEYS: usize = PAGE_KEYS * 3 / 4;
/// How many keys a page's capacity grows by.
const GROWTH_KEYS: usize = 4;

type Page<V> = Vec<(Key, V)>;

/// Keys in the order of their bytes, and what they hold.
#[derive(Debug, Clone)]
pub(super) struct Pages<V> {
    pages: PageIndex<Page<V>>,
    len: usize,
}

impl<V> Default for Pages<V> {
    fn default() -> Self {
        Self { pages: PageIndex::default(), len: 0 }
    }
}

impl<V: PartialEq> PartialEq for Pages<V> {
    /// Compares keys and values, not the boundaries of pages.
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<V: Eq> Eq for Pages<V> {}

impl<V> Pages<V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: &str) -> Option<&V> {
        let page = self.pages.get(self.pages.until(key)?);
        find(page, key).ok().map(|at| &page[at].1)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&Key, &V)> {
        Counted { items: self.from(Bound::Unbounded), left: self.len }
    }

    /// About how many keys begin with `prefix`: those of all pages that may have one. It looks at few of them.
    pub(super) fn about_with_prefix(&self, prefix: &str) -> usize {
        // The last page may have other keys only.
        self.len.min(PAGE_KEYS * self.pages.count_with_prefix(prefix))
    }

    /// How many keys begin with `prefix`. It looks at each page that has one, not at each key.
    pub(super) fn count_with_prefix(&self, prefix: &str) -> usize {
        if prefix.is_empty() {
            return self.len;
        }
        let Some(first) = self.pages.until(prefix) else { return 0 };
        let mut count = 0;
        for page in self.pages.from(first) {
            let before = page.partition_point(|(key, _)| key.as_str() < prefix);
            let until = match page.last() {
                Some((last, _)) if last.starts_with(prefix) => page.len(),
                _ => before + page[before..].partition_point(|(key, _)| key.starts_with(prefix)),
            };
            count += until - before;
            if until < page.len() {
                break;
            }
        }
        count
    }

    /// The keys from one on, in order.
    pub(super) fn from<'a>(&'a self, from: Bound<&'a str>) -> impl Iterator<Item = (&'a Key, &'a V)> {
        let start = match from {
            Bound::Included(start) | Bound::Excluded(start) => start,
            Bound::Unbounded => "",
        };
        let pages = self.pages.from(self.pages.until(start).unwrap_or_default());
        let before = move |key: &Key| match from {
            Bound::Included(from) => key.as_str() < from,
            Bound::Excluded(from) => key.as_str() <= from,
            Bound::Unbounded => false,
        };
        let items = pages.flat_map(|page| page.iter().map(|(key, value)| (key, value)));
        items.skip_while(move |(key, _)| before(key))
    }
}

impl<V: Clone> Pages<V> {
    /// Stores what `make` makes of the old value; gives both.
    pub(super) fn put(&mut self, key: &Key, make: impl FnOnce(Option<&V>) -> V) -> (Option<V>, V) {
        let Some(at) = self.pages.until(key) else {
            let new = make(None);
            self.pages = PageIndex::with_entry(Key::default(), vec![(key.clone(), new.clone())]);
            self.len += 1;
            return (None, new);
        };
        let page = self.pages.get(at);
        let found = find(page, key);
        if found.is_err_and(|nth| nth < PAGE_KEYS && page.len() == PAGE_KEYS) && self.spill(at) {
            return self.put(key, make);
        }
        let page = self.pages.get_mut(at);
        match found {
            Ok(nth) => {
                let slot = &mut page[nth].1;
                let new = make(Some(slot));
                (Some(mem::replace(slot, new.clone())), new)
            }
            Err(nth) => {
                let new = make(None);
                if let Some(right) = insert(page, nth, (key.clone(), new.clone()), PAGE_KEYS, GROWTH_KEYS) {
                    self.add_after(at, right);
                }
                self.len += 1;
                (None, new)
            }
        }
    }

    fn add_after(&mut self, at: Location, page: Page<V>) {
        self.pages.insert_after(at, page[0].0.clone(), page);
    }

    /// Moves keys of a full page to the page before, if that has room: the keys that many clients add in turns
    /// ascend only roughly.
    fn spill(&mut self, at: Location) -> bool {
        let Some(before) = self.pages.before(at) else { return false };
        let room = PAGE_KEYS - self.pages.get(before).len();
        if room < 2 {
            return false;
        }
        let mut page = Arc::unwrap_or_clone(self.pages.remove(at));
        let rest = page.split_off(room.div_ceil(2));
        // Another place by now, perhaps.
        let Some(before) = self.pages.until(&page[0].0) else { return false };
        self.append(before, page);
        self.add_after(before, rest);
        true
    }

    fn append(&mut self, to: Location, items: Page<V>) {
        let page = self.pages.get_mut(to);
        page.reserve_exact(items.len());
        page.extend(items);
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<(Key, V)> {
        // First a look: to get at a page to change it copies what is shared.
        let at = self.pages.until(key)?;
        let nth = find(self.pages.get(at), key).ok()?;
        let page = self.pages.get_mut(at);
        let removed = page.remove(nth);
        self.len -= 1;
        if page.len() <= SPARSE_PAGE_KEYS {
            self.merge(at);
        }
        Some(removed)
    }

    /// Puts a page with few keys together with one beside it that has room.
    fn merge(&mut self, at: Location) {
        let joined = self.pages.before(at).is_some_and(|before| self.join(before, at));
        if !joined && let Some(after) = self.pages.after(at) {
            self.join(at, after);
        }
    }

    fn join(&mut self, left: Location, right: Location) -> bool {
        let len = |at| self.pages.get(at).len();
        if len(right) > 0 && len(left) + len(right) > MERGED_PAGE_KEYS {
            return false;
        }
        let page = Arc::unwrap_or_clone(self.pages.remove(right));
        if let Some((first, _)) = page.first()
            && let Some(left) = self.pages.until(first)
        {
            self.append(left, page);
        }
        true
    }
}

fn find<V>(page: &Page<V>, key: &str) -> Result<usize, usize> {
    page.binary_search_by(|(found, _)| found.as_str().cmp(key))
}

/// An iterator whose length is known.
struct Counted<I> {
    items: I,
    left: usize,
}

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.left = self.left.saturating_sub(1);
        self.items.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<I: Iterator> ExactSizeIterator for Counted<I> {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn check(pages: &Pages<u64>) {
        let mut len = 0;
        let mut last: Option<&str> = None;
        for (nth, (first, page)) in pages.pages.entries().enumerate() {
            assert_eq!(first.is_empty(), nth == 0);
            assert!(page.len() <= PAGE_KEYS && (nth == 0 || !page.is_empty()));
            assert!(last.is_none_or(|last| last < first.as_str()), "all of the page before are before");
            assert!(page.first().is_none_or(|(key, _)| first <= key));
            for (key, _) in page.iter() {
                assert!(last.is_none_or(|last| last < key.as_str()));
                last = Some(key);
            }
            len += page.len();
        }
        assert_eq!(len, pages.len());
    }

    #[test]
    fn it_is_an_ordered_map_whose_clones_keep_what_they_had() {
        let mut rng = SmallRng::seed_from_u64(1);
        let (mut pages, mut model) = (Pages::default(), BTreeMap::new());
        let mut clones = Vec::new();
        // More is added than removed, then the other way round, down to nothing.
        for step in 0..12_000_u64 {
            let key = Key::from(format!("{:x}", rng.random_range(0..1_500)));
            assert_eq!(pages.get(&key), model.get(&key));
            if rng.random_range(0..10) < if step < 6_000 { 3 } else { 8 } {
                assert_eq!(pages.remove(&key), model.remove_entry(&key));
            } else {
                let old = model.insert(key.clone(), step);
                let put = pages.put(&key, |seen| {
                    assert_eq!(seen.copied(), old);
                    step
                });
                assert_eq!(put, (old, step));
            }
            if step % 500 == 0 {
                check(&pages);
                clones.push((pages.clone(), model.clone()));
                for from in [Bound::Unbounded, Bound::Included(key.as_str()), Bound::Excluded(key.as_str())] {
                    assert!(pages.from(from).eq(model.range::<str, _>((from, Bound::Unbounded))));
                }
            }
        }
        for key in model.keys() {
            pages.remove(key);
            check(&pages);
        }
        assert_eq!((pages.len(), pages.pages.len()), (0, 1));
        for (pages, model) in clones {
            assert!(pages.iter().eq(&model));
            assert_eq!(pages.iter().len(), model.len());
        }
    }

    #[test]
    fn keys_that_ascend_fill_their_pages_and_few_keys_take_few_pages() {
        let key = |n: u64| Key::from(format!("{n:05}"));
        let mut pages = Pages::default();
        for n in 0..16_000 {
            pages.put(&key(n), |_| n);
        }
        assert_eq!(pages.pages.len(), 1_000);
        let mut turns = Pages::default();
        for n in 0..16_000 {
            turns.put(&key(n / 32 * 32 + n * 7 % 32), |_| n);
        }
        assert!(turns.pages.len() < 1_300, "{} pages", turns.pages.len());
        let mut others = Pages::default();
        for n in (0..16_000).map(|n| n * 7_919 % 16_000) {
            others.put(&key(n), |_| n);
        }
        assert_eq!(pages, others, "however it was made");
        for n in (0..16_000).filter(|n| n % 16 > 0) {
            pages.remove(&key(n));
        }
        assert!(pages.pages.len() < 300, "{} pages", pages.pages.len());
        check(&pages);
    }
}
