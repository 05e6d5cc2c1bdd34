//! The index: where each live entry lies in the segment files.
//!
//! It is kept in chunks, so that growing and purging never move slots: one growing deque cost pauses
//! of 40–130 ms.

use std::collections::VecDeque;

use crate::raft_types::alias::LogId;

use super::frame::FrameLocation;

const CHUNK_SLOTS: usize = 1024;

/// The slot of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Its log id.
    pub id: LogId,
    /// Bytes of its frame.
    pub bytes: u32,
    /// The frame's location, once it was written.
    pub place: Option<FrameLocation>,
}

/// The slots of consecutive entries.
#[derive(Debug, Default)]
pub struct Index {
    chunks: VecDeque<Vec<Slot>>,
    /// Slots at the front of the first chunk that were purged.
    skip: usize,
    len: usize,
    first: u64,
    bytes: u64,
}

impl Index {
    /// The index of the first entry; meaningless if there is none.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// One past the index of the last entry; meaningless if there is none.
    pub fn end(&self) -> u64 {
        self.first + self.len as u64
    }

    /// Bytes of all their frames.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn position(&self, index: u64) -> Option<(usize, usize)> {
        let nth = usize::try_from(index.checked_sub(self.first)?).ok().filter(|nth| *nth < self.len)?;
        Some(((self.skip + nth) / CHUNK_SLOTS, (self.skip + nth) % CHUNK_SLOTS))
    }

    /// The slot of an entry.
    pub fn get(&self, index: u64) -> Option<&Slot> {
        self.position(index).map(|(chunk, nth)| &self.chunks[chunk][nth])
    }

    /// The slot of an entry, to change it.
    pub fn get_mut(&mut self, index: u64) -> Option<&mut Slot> {
        self.position(index).map(|(chunk, nth)| &mut self.chunks[chunk][nth])
    }

    /// Adds the next entry. Its index follows the last one's: the caller has checked.
    pub fn push(&mut self, slot: Slot) {
        if self.len == 0 {
            self.chunks.clear();
            (self.skip, self.first) = (0, slot.id.index);
        }
        debug_assert_eq!(slot.id.index, self.end(), "the log has no holes");
        if self.chunks.back().is_none_or(|chunk| chunk.len() == CHUNK_SLOTS) {
            self.chunks.push_back(Vec::with_capacity(CHUNK_SLOTS));
        }
        self.chunks.back_mut().expect("a chunk was just pushed").push(slot);
        self.len += 1;
        self.bytes += u64::from(slot.bytes);
    }

    /// Drops every entry from `index` on.
    pub fn truncate_from(&mut self, index: u64) {
        while self.len > 0 && self.end() > index {
            let chunk = self.chunks.back_mut().expect("entries lie in chunks");
            let slot = chunk.pop().expect("no chunk is left empty");
            if chunk.is_empty() {
                self.chunks.pop_back();
            }
            self.len -= 1;
            self.bytes -= u64::from(slot.bytes);
        }
    }

    /// Drops every entry up to `index`, inclusive.
    pub fn purge_to(&mut self, index: u64) {
        while self.len > 0 && self.first <= index {
            let chunk = self.chunks.front().expect("entries lie in chunks");
            self.bytes -= u64::from(chunk[self.skip].bytes);
            self.skip += 1;
            if self.skip == chunk.len() {
                self.chunks.pop_front();
                self.skip = 0;
            }
            self.len -= 1;
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::log::tests::id;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn the_index_is_a_deque_of_consecutive_slots() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut index = Index::default();
        let mut model: VecDeque<Slot> = VecDeque::new();
        let (mut next, mut longest) = (7, 0);
        for step in 0..300 {
            match rng.random_range(0..4) {
                0 if next > 0 => {
                    let keep = next - rng.random_range(0..(model.len() as u64 + 1).min(900));
                    index.truncate_from(keep);
                    model.retain(|slot| slot.id.index < keep);
                    next = keep;
                }
                1 if !model.is_empty() => {
                    let upto = model[0].id.index + rng.random_range(0..1500);
                    index.purge_to(upto);
                    model.retain(|slot| slot.id.index > upto);
                    next = next.max(upto + 1);
                }
                _ => {
                    for _ in 0..rng.random_range(0..700) {
                        let slot = Slot { id: id(step, next), bytes: rng.random_range(20..99), place: None };
                        index.push(slot);
                        model.push_back(slot);
                        next += 1;
                    }
                }
            }
            longest = longest.max(model.len());
            assert_eq!(index.len, model.len());
            assert_eq!(index.bytes(), model.iter().map(|slot| u64::from(slot.bytes)).sum::<u64>());
            if let (Some(first), Some(last)) = (model.front(), model.back()) {
                assert_eq!((index.first(), index.end()), (first.id.index, last.id.index + 1));
                for slot in [first, last, &model[model.len() / 2]] {
                    assert_eq!(index.get(slot.id.index), Some(slot));
                }
                assert_eq!(index.get(first.id.index.wrapping_sub(1)), None);
                assert_eq!(index.get(last.id.index + 1), None);
            }
        }
        assert!(longest > 2 * CHUNK_SLOTS, "chunks were crossed");
    }
}
