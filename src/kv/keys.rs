//! The keys and their records, the order in which they expire, those of each lease, and a digest of all.

use std::ops::Bound;

use imbl::{OrdMap, OrdSet};

use super::gone::Gone;
use super::pages::Pages;
use crate::command::Key;
use crate::record::Record;

/// Invariants: `expiring` has exactly the keys with a deadline, `attached` exactly those with a lease, and `counts` how many
/// each lease has, where it has any; `digest` is the sum of all records' digests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Keys {
    map: Pages<Record>,
    expiring: OrdSet<(u64, Key)>,
    attached: OrdSet<(u64, Key)>,
    counts: OrdMap<u64, usize>,
    digest: u64,
    pub(super) gone: Gone,
    /// The sum of the bytes of all keys and values.
    bytes: u64,
}

fn bytes_of(key: &str, record: &Record) -> u64 {
    (key.len() + record.value().len()) as u64
}

impl Keys {
    pub(super) fn get(&self, key: &str) -> Option<&Record> {
        self.map.get(key)
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&Key, &Record)> {
        self.map.iter()
    }

    /// The bytes of all keys and values.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// The keys that begin with `prefix` and come after `after`, in order.
    pub(super) fn with_prefix<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Record)> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.with_prefix_from(prefix, from)
    }

    /// The keys that begin with `prefix`, in order. `from` must not be before `prefix`.
    pub(super) fn with_prefix_from<'a>(
        &'a self,
        prefix: &'a str,
        from: Bound<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Record)> {
        self.map.from(from).take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// About how many keys begin with `prefix`, and hardly less.
    pub(super) fn about_with_prefix(&self, prefix: &str) -> usize {
        self.map.about_with_prefix(prefix)
    }

    /// How many keys begin with `prefix`.
    pub(super) fn count_with_prefix(&self, prefix: &str) -> usize {
        self.map.count_with_prefix(prefix)
    }

    /// Stores what `make` makes of the old record.
    pub(super) fn put(&mut self, key: &Key, make: impl FnOnce(Option<&Record>) -> Record) -> Record {
        let (old, new) = self.map.put(key, make);
        self.gone.add(old.as_ref().map_or(0, |old| old.value().len()));
        self.digest = self.digest.wrapping_add(new.digest(key));
        self.bytes += bytes_of(key, &new);
        if let Some(old) = &old {
            self.bytes -= bytes_of(key, old);
            self.digest = self.digest.wrapping_sub(old.digest(key));
        }
        let (was, is) = (old.as_ref().and_then(Record::deadline_ms), new.deadline_ms());
        if was != is {
            if let Some(was) = was {
                self.expiring.remove(&(was, key.clone()));
            }
            if let Some(is) = is {
                self.expiring.insert((is, key.clone()));
            }
        }
        let (was, is) = (old.as_ref().and_then(Record::lease), new.lease());
        if was != is {
            self.detach(was, key);
            self.attach(is, key);
        }
        new
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<Record> {
        let (key, old) = self.map.remove(key)?;
        self.gone.add(old.value().len());
        self.digest = self.digest.wrapping_sub(old.digest(&key));
        self.bytes -= bytes_of(&key, &old);
        if let Some(deadline) = old.deadline_ms() {
            self.expiring.remove(&(deadline, key.clone()));
        }
        self.detach(old.lease(), &key);
        Some(old)
    }

    fn attach(&mut self, lease: Option<u64>, key: &Key) {
        let Some(lease) = lease else { return };
        self.attached.insert((lease, key.clone()));
        *self.counts.entry(lease).or_insert(0) += 1;
    }

    fn detach(&mut self, lease: Option<u64>, key: &Key) {
        let Some(lease) = lease else { return };
        self.attached.remove(&(lease, key.clone()));
        let left = self.count_of_lease(lease).saturating_sub(1);
        if left > 0 {
            self.counts.insert(lease, left);
        } else {
            self.counts.remove(&lease);
        }
    }

    /// The keys that are attached to a lease, in their order, from the one that comes after `after`.
    pub(super) fn of_lease(&self, lease: u64, after: Option<&Key>) -> impl Iterator<Item = &Key> {
        let from = match after {
            Some(after) => Bound::Excluded((lease, after.clone())),
            None => Bound::Included((lease, Key::default())),
        };
        self.attached.range((from, Bound::Unbounded)).take_while(move |(of, _)| *of == lease).map(|(_, key)| key)
    }

    pub(super) fn count_of_lease(&self, lease: u64) -> usize {
        self.counts.get(&lease).copied().unwrap_or(0)
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.expiring.get_min().map(|(deadline, _)| *deadline)
    }

    /// At most `most` keys that are due, the earliest first.
    pub(super) fn due(&self, now_ms: u64, most: usize) -> Vec<Key> {
        let due = self.expiring.iter().take_while(|(deadline, _)| *deadline <= now_ms);
        due.take(most).map(|(_, key)| key.clone()).collect()
    }
}
