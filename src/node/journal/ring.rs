//! The newest events of a node, and those who wait for more.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::node::rpc::{Cursor, Event, PAGE_EVENTS, Page};

/// So many are kept.
const KEPT: usize = 10_000;

/// The newest events.
#[derive(Debug)]
pub struct EventRing {
    boot: u64,
    events: Mutex<VecDeque<Event>>,
    /// The number of the last.
    last: watch::Sender<u64>,
}

impl EventRing {
    pub(crate) fn new(boot: u64) -> Self {
        Self { boot, events: Mutex::default(), last: watch::Sender::new(0) }
    }

    pub(super) fn push(&self, event: Event) {
        let mut events = self.events.lock();
        if events.len() == KEPT {
            events.pop_front();
        }
        let id = *self.last.borrow() + 1;
        events.push_back(Event { id, ..event });
        // Under the lock, so that numbers are told in order.
        self.last.send_replace(id);
    }

    /// The position after all that there is.
    pub fn end(&self) -> Cursor {
        Cursor { boot: self.boot, id: *self.last.borrow() }
    }

    /// The events after a position, [`PAGE_EVENTS`] at most; all that are kept where it is of another process.
    pub fn after(&self, cursor: Option<Cursor>) -> Page {
        let events = self.events.lock();
        let first = events.front().map_or(*self.last.borrow() + 1, |event| event.id);
        let is_own = cursor.is_some_and(|cursor| cursor.boot == self.boot);
        let from = cursor.filter(|_| is_own).map_or(first, |cursor| cursor.id.saturating_add(1));
        let missed = cursor.is_some() && (!is_own || from < first);
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX).min(events.len());
        let events: Vec<Event> = events.range(skip..).take(PAGE_EVENTS).cloned().collect();
        let id = events.last().map_or_else(|| from.max(first).saturating_sub(1).min(*self.last.borrow()), |e| e.id);
        Page { next: Cursor { boot: self.boot, id }, events, missed }
    }

    /// The same, once there are some, or at `deadline`.
    pub async fn wait_after(&self, cursor: Option<Cursor>, deadline: Instant) -> Page {
        let mut last = self.last.subscribe();
        let seen = cursor.filter(|cursor| cursor.boot == self.boot).map_or(0, |cursor| cursor.id);
        // Where none came, there are none.
        let _ = timeout_at(deadline, last.wait_for(|last| *last > seen)).await;
        self.after(cursor)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::node::rpc::EventKind;

    fn event(index: u64) -> Event {
        Event::new(EventKind::Commit, 1, index, String::new())
    }

    fn ids(page: &Page) -> Vec<u64> {
        page.events.iter().map(|event| event.id).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_read_once_and_what_is_gone_is_told() {
        let ring = EventRing::new(7);
        assert_eq!(ring.after(None), Page { next: ring.end(), events: Vec::new(), missed: false });
        (1..=3).for_each(|index| ring.push(event(index)));
        let page = ring.after(None);
        assert_eq!((ids(&page), page.next, page.missed), (vec![1, 2, 3], ring.end(), false));
        let none = ring.wait_after(Some(page.next), Instant::now() + Duration::from_secs(1)).await;
        assert_eq!((ids(&none), none.next, none.missed), (vec![], page.next, false));
        ring.push(event(4));
        assert_eq!(ids(&ring.wait_after(Some(page.next), Instant::now()).await), [4]);

        let other = ring.after(Some(Cursor { boot: 8, id: 3 }));
        assert_eq!((ids(&other), other.missed), (vec![1, 2, 3, 4], true));
        (5..=KEPT as u64 + 4).for_each(|index| ring.push(event(index)));
        let late = ring.after(Some(page.next));
        assert_eq!((late.events[0].id, late.events.len(), late.missed), (5, PAGE_EVENTS, true));
        let (mut cursor, mut seen) = (late.next, late.events.len());
        loop {
            let next = ring.after(Some(cursor));
            assert!(!next.missed);
            if next.events.is_empty() {
                break;
            }
            (cursor, seen) = (next.next, seen + next.events.len());
        }
        assert_eq!((seen, cursor), (KEPT, ring.end()));
        let ahead = ring.after(Some(Cursor { boot: 7, id: u64::MAX }));
        assert_eq!((ids(&ahead), ahead.next), (vec![], ring.end()));
    }
}
