//! Who is woken by which key.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use compact_str::CompactString;
use tokio::sync::Notify;

use super::{Filter, Subject};
use crate::command::Key;

const NOTHING: u64 = u64::MAX;

/// What a watcher is told: the first event for it that it has not looked at.
#[derive(Debug)]
pub(super) struct Mark {
    first: AtomicU64,
    notify: Notify,
}

impl Mark {
    /// The first event marked since the last call.
    pub(super) fn take(&self) -> Option<u64> {
        let first = self.first.swap(NOTHING, Ordering::AcqRel);
        (first != NOTHING).then_some(first)
    }

    /// Whether an event is marked.
    pub(super) fn is_set(&self) -> bool {
        self.first.load(Ordering::Acquire) != NOTHING
    }

    /// Waits until an event is marked.
    pub(super) async fn marked(&self) {
        while !self.is_set() {
            self.notify.notified().await;
        }
    }

    fn set(&self, event: u64) {
        if self.first.load(Ordering::Relaxed) == NOTHING
            && self.first.compare_exchange(NOTHING, event, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            self.notify.notify_one();
        }
    }
}

type Marks<K> = HashMap<K, Vec<Arc<Mark>>>;

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

impl Subscribers {
    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub(super) fn add(&self, filter: Filter) -> Arc<Mark> {
        let mark = Arc::new(Mark { first: AtomicU64::new(NOTHING), notify: Notify::new() });
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

    /// Marks an event for all who watch its subject.
    pub(super) fn mark(&self, subject: &Subject<Key>, event: u64) {
        let all = self.all();
        let set = |marks: Option<&Vec<Arc<Mark>>>| marks.into_iter().flatten().for_each(|mark| mark.set(event));
        match subject {
            Subject::Lock(lock) => set(all.locks.get(lock)),
            Subject::Key(key) => {
                set(all.keys.get(key));
                for (length, marks) in all.prefixes.range(..=key.len()) {
                    if let Some(prefix) = key.get(..*length) {
                        set(marks.get(prefix));
                    }
                }
            }
        }
    }

    /// Makes everybody look for themselves.
    pub(super) fn mark_all(&self) {
        let all = self.all();
        let prefixes = all.prefixes.values().flat_map(HashMap::values);
        for mark in all.keys.values().chain(all.locks.values()).chain(prefixes).flatten() {
            // They begin where they are.
            mark.set(0);
        }
    }
}

fn remove<K: Eq + Hash>(marks: &mut Marks<K>, key: &K, mark: &Arc<Mark>) {
    if let Some(list) = marks.get_mut(key) {
        list.retain(|other| !Arc::ptr_eq(other, mark));
        if list.is_empty() {
            marks.remove(key);
        }
    }
}
