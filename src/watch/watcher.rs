//! One watcher.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::subscribers::Mark;
use super::{Filter, Missed, Position, SCAN_EVENTS, Shared, TAKE_BYTES, TAKE_EVENTS, ring};
use crate::kv::Event;

/// A watcher. Dropping it ends the watch.
///
/// Invariants:
/// * Every event for it before `next` was returned, or is not after `after`.
/// * Unless `may_have` is set, the same holds of all events that it has no mark for.
#[derive(Debug)]
pub struct Watcher {
    pub(super) shared: Arc<Shared>,
    pub(super) filter: Filter,
    pub(super) mark: Arc<Mark>,
    /// Up to here everything was given.
    pub(super) after: Position,
    /// Sequence number of the next event to look at.
    pub(super) next: u64,
    /// True if there may be events that no mark tells of.
    pub(super) may_have: bool,
}

impl Watcher {
    /// The next events, at least one; none once watching has [ended](super::Watches::close). Cancelling it loses
    /// nothing.
    ///
    /// # Errors
    /// [`Missed`]: the history went on without this watcher.
    pub async fn next(&mut self) -> Result<Vec<Event>, Missed> {
        loop {
            if self.shared.closed.load(Ordering::Acquire) {
                return Ok(Vec::new());
            }
            match self.mark.take() {
                // What is before the mark was of others.
                Some(first) if !self.may_have => self.next = self.next.max(first),
                // What is before the mark may not have been looked at.
                Some(_) => {}
                None if self.may_have => {}
                None => {
                    self.mark.marked().await;
                    continue;
                }
            }
            self.may_have = true;
            let events = self.scan()?;
            if !events.is_empty() {
                return Ok(events);
            }
            if self.may_have {
                // A long history of others' events.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits until there may be something.
    pub async fn changed(&mut self) {
        if self.shared.closed.load(Ordering::Acquire) {
            return;
        }
        self.mark.marked().await;
        self.mark.take();
        self.may_have = true;
    }

    /// The position up to which every event was returned. A reader may go on from it, even if no event was for it.
    pub fn position(&mut self) -> Position {
        // In this order: of all events before `marked` the marks were set.
        let marked = self.shared.marked.load(Ordering::Acquire);
        if !self.may_have && !self.mark.is_set() && marked > self.next {
            let ring = self.shared.ring();
            // Else the marks are behind the history, and what it no longer has may have been for this watcher.
            if let Some(before) = ring.before(marked) {
                self.next = marked;
                self.after = self.after.max(before);
                self.mark.saw(marked);
            }
        }
        self.after
    }

    fn scan(&mut self) -> Result<Vec<Event>, Missed> {
        let ring = self.shared.ring();
        if self.next < ring.first() {
            // What was dropped may have been given before, or of others; only the ring's own word counts.
            self.next = ring.seek(self.after).inspect_err(|_| self.shared.note_compacted())?;
        }
        let (mut events, mut bytes) = (Vec::new(), 0);
        for event in ring.from(self.next).take(SCAN_EVENTS) {
            if events.len() == TAKE_EVENTS || bytes >= TAKE_BYTES {
                break;
            }
            self.next += 1;
            let position = Position::of_event(event);
            if position > self.after {
                self.after = position;
                if self.filter.takes(event) {
                    bytes += ring::bytes_of(event);
                    events.push(event.clone());
                }
            }
        }
        self.may_have = self.next < ring.end();
        self.mark.saw(self.next);
        Ok(events)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.subscribers.remove(&self.filter, &self.mark);
    }
}
