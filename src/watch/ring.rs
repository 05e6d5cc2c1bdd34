//! The newest events, bounded in number and in bytes.
//!
//! The bound in number is of what came before the newest entry, and lets go of whole entries: however much one entry
//! changes, who had seen all that was before it can read it, and who is amid it can read on while others follow. The bound
//! in bytes holds for all of it, and may cut an entry.

use std::collections::VecDeque;

use super::{HistoryLimits, Missed, Position};
use crate::kv::{Change, Event};

/// Bytes that an event takes beside its key and value.
const EVENT_OVERHEAD_BYTES: usize = 96;

/// A deque of no more than that is kept as it is.
const KEPT_CAPACITY_EVENTS: usize = 1 << 12;

/// Events with sequence numbers of this process.
#[derive(Debug)]
pub(super) struct Ring {
    limits: HistoryLimits,
    events: VecDeque<Event>,
    /// Sequence number of the first.
    first: u64,
    bytes: usize,
    /// Everything after this was kept.
    known_after: Position,
}

pub(super) fn bytes_of(event: &Event) -> usize {
    EVENT_OVERHEAD_BYTES
        + match &event.change {
            Change::Set { key, record } => key.len() + record.value().len(),
            Change::Deleted { key } | Change::Expired { key, .. } => key.len(),
            Change::Acquired { lock, body, .. } => lock.len() + body.as_ref().map_or(0, bytes::Bytes::len),
            Change::Released { lock, .. } | Change::LockExpired { lock, .. } => lock.len(),
        }
}

impl Ring {
    pub(super) fn new(limits: HistoryLimits, known_after: Position) -> Self {
        Self { limits, events: VecDeque::new(), first: 0, bytes: 0, known_after }
    }

    pub(super) fn push(&mut self, event: Event) {
        if self.events.back().is_none_or(|newest| newest.index != event.index) {
            self.begin_entry();
        }
        self.reserve_one();
        self.bytes += bytes_of(&event);
        self.events.push_back(event);
        while self.bytes > self.limits.bytes {
            self.drop_oldest();
        }
    }

    /// Drops the entries without which there are still enough events before the one that comes.
    fn begin_entry(&mut self) {
        let enough = self.limits.events.saturating_sub(1);
        while let Some(oldest) = self.oldest_entry_events().filter(|oldest| self.events.len() - oldest >= enough) {
            (0..oldest).for_each(|_| self.drop_oldest());
        }
        // After an entry that was large the deque is not to stay so.
        let wanted = self.events.len().max(self.limits.events.min(KEPT_CAPACITY_EVENTS));
        if self.events.capacity() / 4 > wanted {
            self.events.shrink_to(wanted + wanted / 4);
        }
    }

    fn oldest_entry_events(&self) -> Option<usize> {
        let index = self.events.front()?.index;
        match self.events.get(1) {
            Some(second) if second.index == index => Some(self.events.partition_point(|event| event.index <= index)),
            _ => Some(1),
        }
    }

    /// By itself the deque would take twice as much each time.
    fn reserve_one(&mut self) {
        let events = self.events.len();
        if events == self.events.capacity() {
            let more = if events < self.limits.events {
                events.max(16).min(self.limits.events - events)
            } else {
                events / 4 + 1
            };
            self.events.reserve_exact(more);
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.events.pop_front() else { return };
        self.bytes -= bytes_of(&oldest);
        self.first += 1;
        self.known_after = Position::of_event(&oldest);
    }

    pub(super) fn clear(&mut self, known_after: Position) {
        // A number that no event had: who has looked at all of them sees that something is missing.
        self.first = self.end() + 1;
        self.events.clear();
        self.bytes = 0;
        self.known_after = known_after;
    }

    /// Sequence number of the oldest event.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Sequence number of the next event.
    pub(super) fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// The events from a sequence number on that is not before the first.
    pub(super) fn from(&self, at: u64) -> impl Iterator<Item = &Event> {
        let skip = usize::try_from(at.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.events.range(skip.min(self.events.len())..)
    }

    /// The position of the event before a sequence number; `None` where that is not known any more.
    pub(super) fn before(&self, at: u64) -> Option<Position> {
        match at.checked_sub(self.first)? {
            0 => Some(self.known_after),
            nth => self.events.get(usize::try_from(nth - 1).ok()?).map(Position::of_event),
        }
    }

    /// Sequence number of the first event after a position.
    pub(super) fn seek(&self, after: Position) -> Result<u64, Missed> {
        if after < self.known_after {
            return Err(Missed { known_after: self.known_after });
        }
        Ok(self.seek_on(after).0)
    }

    /// Sequence number of the first event that is known after a position, and that position or the later one from which
    /// on all is known.
    pub(super) fn seek_on(&self, after: Position) -> (u64, Position) {
        let next = self.first + self.events.partition_point(|event| Position::of_event(event) <= after) as u64;
        (next, after.max(self.known_after))
    }
}
