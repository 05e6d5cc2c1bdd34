//! The watchers of each key.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use compact_str::CompactString;
use tokio::sync::Notify;

use super::{Filter, Subject};
use crate::command::Key;

const NO_EVENT: u64 = u64::MAX;

/// How many watchers of one key are woken at once.
pub(super) const WAKE_BATCH_WATCHERS: usize = 64;

/// A watcher's mark: the first event for it that it has not looked at.
#[derive(Debug)]
pub(super) struct Mark {
    first: AtomicU64,
    /// All events before this one were looked at.
    seen: AtomicU64,
    notify: Notify,
}

impl Mark {
    /// The first event marked since the last call.
    pub(super) fn take(&self) -> Option<u64> {
        let first = self.first.swap(NO_EVENT, Ordering::AcqRel);
        (first != NO_EVENT).then_some(first)
    }

    /// True if an event is marked.
    pub(super) fn is_set(&self) -> bool {
        self.first.load(Ordering::Acquire) != NO_EVENT
    }

    /// Waits until an event is marked.
    pub(super) async fn marked(&self) {
        while !self.is_set() {
            self.notify.notified().await;
        }
    }

    /// Notes that all events before this one were looked at. No mark is set for them: it would wake the watcher for
    /// nothing, or show it a position that is gone.
    pub(super) fn saw(&self, next: u64) {
        self.seen.store(next, Ordering::Release);
    }

    /// Marks the first of these events that was not looked at. Returns whether the watcher must be woken.
    fn set_first_unseen(&self, events: &[u64]) -> bool {
        let seen = self.seen.load(Ordering::Acquire);
        let first = if events.first() >= Some(&seen) { 0 } else { events.partition_point(|&event| event < seen) };
        events.get(first).is_some_and(|&event| self.set(event))
    }

    /// The first event that is marked.
    fn first(&self) -> Option<u64> {
        let first = self.first.load(Ordering::Acquire);
        (first != NO_EVENT).then_some(first)
    }

    fn set(&self, event: u64) -> bool {
        self.first.load(Ordering::Relaxed) == NO_EVENT
            && self.first.compare_exchange(NO_EVENT, event, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Wakes the watcher, if it waits for a mark.
    pub(super) fn wake(&self) {
        self.notify.notify_one();
    }
}

/// In the order of their bytes: all are woken in one order, and no choice of names makes a look-up slow.
type Marks<K> = BTreeMap<K, Vec<Arc<Mark>>>;

/// All watchers, by what they watch.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    count: AtomicUsize,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    keys: Marks<Key>,
    locks: Marks<Key>,
    /// By their lengths: a key has one prefix of each.
    prefixes: BTreeMap<usize, Marks<CompactString>>,
}

impl All {
    fn each_list<'a>(&'a self, subject: &Subject<Key>, mut of: impl FnMut(&'a Vec<Arc<Mark>>)) {
        match subject {
            Subject::Lock(lock) => self.locks.get(lock).into_iter().for_each(of),
            Subject::Key(key) => {
                self.keys.get(key).into_iter().for_each(&mut of);
                for (length, marks) in self.prefixes.range(..=key.len()) {
                    key.get(..*length).and_then(|prefix| marks.get(prefix)).into_iter().for_each(&mut of);
                }
            }
        }
    }
}

impl Subscribers {
    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub(super) fn add(&self, filter: Filter) -> Arc<Mark> {
        let mark = Arc::new(Mark { first: AtomicU64::new(NO_EVENT), seen: AtomicU64::new(0), notify: Notify::new() });
        let mut all = self.all();
        let marks = match filter {
            Filter::Key(key) => all.keys.entry(key).or_default(),
            Filter::Lock(lock) => all.locks.entry(lock).or_default(),
            Filter::Prefix(prefix) => all.prefixes.entry(prefix.len()).or_default().entry(prefix).or_default(),
        };
        marks.push(mark.clone());
        self.count.fetch_add(1, Ordering::AcqRel);
        mark
    }

    pub(super) fn remove(&self, filter: &Filter, mark: &Arc<Mark>) {
        let mut all = self.all();
        match filter {
            Filter::Key(key) => remove(&mut all.keys, key, mark),
            Filter::Lock(lock) => remove(&mut all.locks, lock, mark),
            Filter::Prefix(prefix) => {
                if let Some(marks) = all.prefixes.get_mut(&prefix.len()) {
                    remove(marks, prefix, mark);
                    if marks.is_empty() {
                        all.prefixes.remove(&prefix.len());
                    }
                }
            }
        }
        self.count.fetch_sub(1, Ordering::AcqRel);
    }

    /// Marks events, numbered from `first` on, for all watchers of their subjects. Wakes the watchers of a subject that
    /// has few, and appends those of a subject that has many to `later`. Returns how many of the many it looked at.
    pub(super) fn mark(&self, subjects: &[Subject<Key>], first: u64, later: &mut VecDeque<Arc<Mark>>) -> u32 {
        let all = self.all();
        // Each list once, however many of the events are for it: it may have thousands of watchers.
        let mut places = HashMap::new();
        let mut lists: Vec<(&[Arc<Mark>], Vec<u64>)> = Vec::new();
        for (event, subject) in (first..).zip(subjects) {
            all.each_list(subject, |marks| {
                let place = *places.entry(ptr::from_ref(marks)).or_insert(lists.len());
                if place == lists.len() {
                    lists.push((marks, Vec::new()));
                }
                lists[place].1.push(event);
            });
        }
        let mut looked_at = 0;
        for (marks, events) in &lists {
            let marked = marks.iter().filter(|mark| mark.set_first_unseen(events));
            if marks.len() <= WAKE_BATCH_WATCHERS {
                marked.for_each(|mark| mark.wake());
            } else {
                looked_at += marks.len();
                later.extend(marked.cloned());
            }
        }
        u32::try_from(looked_at).unwrap_or(u32::MAX)
    }

    /// How many watch keys, prefixes and locks, and the first event that one of them has not taken.
    pub(super) fn counts(&self) -> ([usize; 3], Option<u64>) {
        let all = self.all();
        let count = |marks: &mut dyn Iterator<Item = &Vec<Arc<Mark>>>| marks.map(Vec::len).sum();
        let prefixes = || all.prefixes.values().flat_map(BTreeMap::values);
        let counts = [count(&mut all.keys.values()), count(&mut prefixes()), count(&mut all.locks.values())];
        let marks = all.keys.values().chain(all.locks.values()).chain(prefixes()).flatten();
        (counts, marks.filter_map(|mark| mark.first()).min())
    }

    /// Makes everybody look for themselves.
    pub(super) fn mark_all(&self) {
        let all = self.all();
        let prefixes = all.prefixes.values().flat_map(BTreeMap::values);
        for mark in all.keys.values().chain(all.locks.values()).chain(prefixes).flatten() {
            // They begin where they are.
            mark.set(0);
            mark.wake();
        }
    }
}

fn remove<K: Ord>(marks: &mut Marks<K>, key: &K, mark: &Arc<Mark>) {
    if let Some(list) = marks.get_mut(key) {
        if let Some(at) = list.iter().position(|other| Arc::ptr_eq(other, mark)) {
            list.swap_remove(at);
        }
        if list.is_empty() {
            marks.remove(key);
        }
    }
}
