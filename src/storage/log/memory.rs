//! The log in memory: its head, its index, and a cache of its newest entries.
//!
//! It runs ahead of the disk: it changes when an operation is queued. A crash loses what was not yet
//! acknowledged.
//!
//! Invariants:
//! * The cache holds the last `cache.len()` entries of the index.
//! * An entry leaves the cache only once it was written: it can always be read from cache or file.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::raft_types::alias::{LogEntry, LogId};
use crate::storage::disk::DiskFile;

use super::frame::{FrameLocation, Owner};
use super::index::{Index, Slot};
use super::record::Head;

/// The log in memory.
#[derive(Debug)]
pub struct Memory {
    /// Votes, purge point and so on, as queued.
    pub head: Head,
    /// The entries' log ids and locations.
    pub index: Index,
    /// The open segment files and their owners, by id.
    pub files: BTreeMap<u64, (Arc<dyn DiskFile>, Owner)>,
    cache: VecDeque<LogEntry>,
    /// About how many bytes of memory the cached entries take.
    cached_bytes: usize,
    cache_limit: usize,
}

/// About how many bytes of memory an entry takes, given the length of its frame.
///
/// A thousand keys in one entry take half as much again as their frame, for the pointers to each. The
/// parts of a small entry take an allocation each. A deque takes up to twice what it holds.
fn cost(frame_bytes: u32) -> usize {
    const ALLOCATION_BYTES: usize = 128;
    let frame_bytes = frame_bytes as usize;
    2 * size_of::<LogEntry>() + ALLOCATION_BYTES + frame_bytes + frame_bytes / 2
}

/// An entry that is to be read from its file.
#[derive(Debug)]
pub struct Cold {
    /// The file.
    pub file: Arc<dyn DiskFile>,
    /// The owner of the segment.
    pub owner: Owner,
    /// The location in it.
    pub place: FrameLocation,
    /// Its log id and length, to check.
    pub slot: Slot,
}

/// Consecutive entries: first those to be read, then those at hand.
#[derive(Debug, Default)]
pub struct Fetched {
    /// To be read.
    pub cold: Vec<Cold>,
    /// At hand.
    pub hot: Vec<LogEntry>,
}

impl Memory {
    /// An empty log.
    pub fn new(cache_limit: usize) -> Self {
        Self {
            head: Head::default(),
            index: Index::default(),
            files: BTreeMap::new(),
            cache: VecDeque::new(),
            cached_bytes: 0,
            cache_limit,
        }
    }

    /// Adds the next entry, which the head accepts.
    pub fn push(&mut self, entry: LogEntry, bytes: u32, place: Option<FrameLocation>) {
        self.head.last = Some(entry.log_id);
        self.index.push(Slot { id: entry.log_id, bytes, place });
        self.cache.push_back(entry);
        self.cached_bytes += cost(bytes);
        self.evict();
    }

    /// Notes where an entry was written, unless it is gone meanwhile.
    pub fn written(&mut self, id: LogId, place: FrameLocation) {
        if let Some(slot) = self.index.get_mut(id.index)
            && slot.id == id
        {
            slot.place = Some(place);
        }
    }

    /// Brings the cache back to its limit.
    pub fn evict(&mut self) {
        while self.cached_bytes > self.cache_limit {
            let Some(slot) = self.oldest_cached().filter(|slot| slot.place.is_some()) else { return };
            self.cached_bytes -= cost(slot.bytes);
            self.cache.pop_front();
        }
    }

    fn oldest_cached(&self) -> Option<Slot> {
        self.index.get(self.index.end() - self.cache.len() as u64).copied()
    }

    /// Drops what comes after `after`.
    pub fn truncate(&mut self, after: Option<LogId>) {
        self.head.truncate(after);
        let from = self.head.last.map_or(0, |last| last.index + 1);
        while self.index.end() > from && !self.cache.is_empty() {
            let newest = self.index.get(self.index.end() - 1).expect("cached entries are in the index");
            self.cached_bytes -= cost(newest.bytes);
            self.cache.pop_back();
            self.index.truncate_from(self.index.end() - 1);
        }
        self.index.truncate_from(from);
    }

    /// Drops what comes up to `upto`. The entries are handed out, to be dropped outside of any
    /// lock: there can be many.
    pub fn purge(&mut self, upto: LogId) -> VecDeque<LogEntry> {
        self.head.purge(upto);
        let mut gone = 0;
        let cached_from = self.index.end() - self.cache.len() as u64;
        while gone < self.cache.len() && cached_from + gone as u64 <= upto.index {
            let slot = self.index.get(cached_from + gone as u64).expect("cached entries are in the index");
            self.cached_bytes -= cost(slot.bytes);
            gone += 1;
        }
        let kept = self.cache.split_off(gone);
        self.index.purge_to(upto.index);
        std::mem::replace(&mut self.cache, kept)
    }

    /// The entries from `start` up to `end`, exclusive, as far as there are: at least one, then
    /// only while their frames take no more than `limit` bytes.
    pub fn fetch(&self, start: u64, end: u64, limit: u64) -> Fetched {
        let mut fetched = Fetched::default();
        let (start, end) = (start.max(self.index.first()), end.min(self.index.end()));
        let cached_from = self.index.end() - self.cache.len() as u64;
        let mut bytes = 0;
        for index in start..end {
            let slot = *self.index.get(index).expect("the range was cut to the index");
            bytes += u64::from(slot.bytes);
            if index > start && bytes > limit {
                break;
            }
            if let Some(nth) = index.checked_sub(cached_from) {
                let nth = usize::try_from(nth).expect("a position in memory");
                fetched.hot.push(self.cache[nth].clone());
            } else {
                let place = slot.place.expect("only what was written leaves the cache");
                let segment = self.files.get(&place.segment).expect("segments with live entries are open");
                let (file, owner) = segment.clone();
                fetched.cold.push(Cold { file, owner, place, slot });
            }
        }
        fetched
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::{Disk, MemDisk};
    use crate::storage::log::tests::{entry, id};

    fn memory(limit: usize) -> Memory {
        let mut memory = Memory::new(limit);
        memory.files.insert(1, (MemDisk::new().create("x").unwrap(), None));
        memory
    }

    fn shape(fetched: &Fetched) -> (Vec<u64>, Vec<u64>) {
        let cold = fetched.cold.iter().map(|cold| cold.slot.id.index).collect();
        (cold, fetched.hot.iter().map(|entry| entry.log_id.index).collect())
    }

    #[test]
    fn only_what_was_written_leaves_the_cache() {
        let mut memory = memory(2 * cost(100) + 50);
        for index in 5..10 {
            memory.push(entry(1, index, 0), 100, None);
        }
        assert_eq!(shape(&memory.fetch(0, 99, 9999)), (vec![], vec![5, 6, 7, 8, 9]));
        for index in 5..7 {
            memory.written(id(1, index), FrameLocation { segment: 1, offset: index * 100 });
        }
        memory.written(id(2, 7), FrameLocation { segment: 1, offset: 1 });
        memory.evict();
        assert_eq!(shape(&memory.fetch(0, 99, 9999)), (vec![5, 6], vec![7, 8, 9]));
        assert_eq!(shape(&memory.fetch(6, 9, 200)), (vec![6], vec![7]));
        assert_eq!(shape(&memory.fetch(8, 9, 1)), (vec![], vec![8]), "one at least");
        assert_eq!(shape(&memory.fetch(10, 9, 1)), (vec![], vec![]));
    }

    #[test]
    fn the_cache_follows_truncation_and_purge() {
        let mut memory = memory(2 * cost(100) + 50);
        for index in 0..10 {
            memory.push(entry(1, index, 0), 100, Some(FrameLocation { segment: 1, offset: index }));
        }
        assert_eq!(shape(&memory.fetch(0, 99, 9999)), ((0..8).collect(), vec![8, 9]));
        memory.truncate(Some(id(1, 8)));
        assert_eq!(shape(&memory.fetch(7, 99, 9999)), (vec![7], vec![8]));
        memory.truncate(Some(id(1, 5)));
        memory.push(entry(2, 6, 0), 100, None);
        assert_eq!(shape(&memory.fetch(4, 99, 9999)), (vec![4, 5], vec![6]));
        assert_eq!(memory.index.bytes(), 700);
        assert_eq!(memory.purge(id(1, 3)).len(), 0);
        assert_eq!(shape(&memory.fetch(0, 99, 9999)), (vec![4, 5], vec![6]));
        assert_eq!(memory.purge(id(2, 20)).len(), 1);
        assert_eq!((memory.cached_bytes, memory.index.bytes(), memory.head.last), (0, 0, Some(id(2, 20))));
        memory.push(entry(3, 21, 0), 100, None);
        assert_eq!(shape(&memory.fetch(0, 99, 9999)), (vec![], vec![21]));
    }
}
