//! The recent changes, and the watchers that wait for more.
//!
//! * History and live events come from one ordered ring. The state machine appends each entry's [`Event`]s to it before
//!   the entry counts as applied. A [`Watcher`] reads the ring from its own position on.
//! * Nothing is queued per watcher. One that never reads costs a few hundred bytes. One that is too slow finds its position
//!   gone ([`Missed`]).
//! * A task of its own wakes watchers ([`Watches::wake`]): a write costs the same with 10,000 watchers as with none.
//!
//! Parts: `ring` has the events, `subscribers` the watchers of each key, `watcher` one reader, `waker` the task.
//!
//! Caveat: history begins empty with the process and with each installed snapshot.

mod ring;
mod subscribers;
#[cfg(test)]
mod tests;
mod waker;
mod watcher;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use compact_str::CompactString;
use tokio::sync::watch;

use crate::command::Key;
use crate::kv::{Change, Event};
use crate::observe::{Counter, Recently};
use ring::Ring;
use subscribers::Subscribers;

pub use watcher::Watcher;

/// A position in the sequence of all events: up to and including this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Index of an entry.
    pub index: u64,
    /// The number of the event within the entry, from 1.
    pub n: u32,
}

impl Position {
    /// The position after all events of an entry.
    pub fn whole(index: u64) -> Self {
        Self { index, n: u32::MAX }
    }

    /// The position of an event.
    pub fn of_event(event: &Event) -> Self {
        Self { index: event.index, n: event.n }
    }

    /// Parses `17` or `17.2`, as [`Display`](fmt::Display) writes it.
    pub fn parse(text: &str) -> Option<Self> {
        let (index, n) = match text.split_once('.') {
            Some((index, n)) => (index, Some(n)),
            None => (text, None),
        };
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(index) || !n.is_none_or(is_number) {
            return None;
        }
        let index = index.parse().ok()?;
        // Events count from 1.
        let n = n.map_or(Some(u32::MAX), |n| n.parse().ok().filter(|&n| n > 0))?;
        Some(Self { index, n })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.n {
            u32::MAX => write!(f, "{}", self.index),
            n => write!(f, "{}.{n}", self.index),
        }
    }
}

/// The subject of a watch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Filter {
    /// One key.
    Key(Key),
    /// All keys that begin with this.
    Prefix(CompactString),
    /// One lock.
    Lock(Key),
}

impl Filter {
    /// True if an event is about the subject.
    pub fn takes(&self, event: &Event) -> bool {
        match (Subject::of_change(&event.change), self) {
            (Subject::Key(key), Filter::Key(wanted)) => key == wanted,
            (Subject::Key(key), Filter::Prefix(prefix)) => key.starts_with(prefix.as_str()),
            (Subject::Lock(lock), Filter::Lock(wanted)) => lock == wanted,
            _ => false,
        }
    }
}

/// The key or lock that an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject<T> {
    Key(T),
    Lock(T),
}

impl<'a> Subject<&'a Key> {
    fn of_change(change: &'a Change) -> Self {
        match change {
            Change::Set { key, .. } | Change::Deleted { key } | Change::Expired { key, .. } => Self::Key(key),
            Change::Acquired { lock, .. } | Change::Released { lock, .. } | Change::LockExpired { lock, .. } => {
                Self::Lock(lock)
            }
        }
    }

    fn owned(&self) -> Subject<Key> {
        match *self {
            Self::Key(key) => Subject::Key(key.clone()),
            Self::Lock(lock) => Subject::Lock(lock.clone()),
        }
    }
}

/// History does not reach back to where a watcher wants to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// Everything after this is known.
    pub known_after: Position,
}

/// Who watches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watching {
    /// Watchers of one key.
    pub keys: usize,
    /// Watchers of a prefix.
    pub prefixes: usize,
    /// Watchers of a lock.
    pub locks: usize,
    /// How many entries the slowest of them is behind.
    pub lag: u64,
    /// How often somebody asked for more than the history has.
    pub compacted: u64,
}

/// How much history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// The most events before those of the newest entry; entries are kept whole.
    pub events: usize,
    /// The most bytes that all may take, about.
    pub bytes: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { events: 65_536, bytes: 64 << 20 }
    }
}

/// How many events are read under one hold of the lock.
const SCAN_EVENTS: usize = 512;

/// How many events a watcher returns at once, and about how many bytes. One that nobody reads from keeps as much.
const TAKE_EVENTS: usize = 64;
const TAKE_BYTES: usize = 4 << 10;

/// History and watchers of one node. Clones share them.
#[derive(Debug, Clone)]
pub struct Watches {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ring: RwLock<Ring>,
    subscribers: Subscribers,
    /// Sequence number of the next event.
    end: watch::Sender<u64>,
    /// Sequence number of the first event that marks were not yet set for.
    marked: AtomicU64,
    closed: AtomicBool,
    /// How often a position was asked for that the history no longer has.
    compacted: Counter,
    compacted_lately: Recently,
}

impl Shared {
    fn ring(&self) -> RwLockReadGuard<'_, Ring> {
        self.ring.read()
    }

    fn note_compacted(&self) {
        self.compacted.one();
        self.compacted_lately.note();
    }

    fn ring_mut(&self) -> RwLockWriteGuard<'_, Ring> {
        self.ring.write()
    }
}

impl Watches {
    /// An empty history of what comes after `index`.
    pub fn new(limits: HistoryLimits, index: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                ring: RwLock::new(Ring::new(limits, Position::whole(index))),
                subscribers: Subscribers::default(),
                end: watch::Sender::new(0),
                marked: AtomicU64::new(0),
                closed: AtomicBool::new(false),
                compacted: Counter::default(),
                compacted_lately: Recently::default(),
            }),
        }
    }

    /// Adds what entries changed, in their order.
    pub fn append(&self, events: &mut Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let end = {
            let mut ring = self.shared.ring_mut();
            events.drain(..).for_each(|event| ring.push(event));
            ring.end()
        };
        // Where nobody watches there is nobody to wake, but once in a while, so that who comes is not told of much at first.
        // Whoever comes between the change of the ring and this look finds the events in the ring.
        let behind = end.saturating_sub(self.shared.marked.load(Ordering::Acquire));
        if !self.shared.subscribers.is_empty() || behind >= SCAN_EVENTS as u64 {
            self.shared.end.send_replace(end);
        }
    }

    /// Forgets history: the state was replaced by one of this index, and the changes in between are not known.
    pub fn reset(&self, index: u64) {
        self.shared.ring_mut().clear(Position::whole(index));
        self.shared.subscribers.mark_all();
    }

    /// Watches from a position on.
    ///
    /// # Errors
    /// [`Missed`]: history does not reach back to it.
    pub fn watch(&self, filter: Filter, after: Position) -> Result<Watcher, Missed> {
        // First the mark, then the look at the ring: what comes between is seen twice rather than never.
        let mark = self.shared.subscribers.add(filter.clone());
        let mut watcher = Watcher { shared: self.shared.clone(), filter, mark, after, next: 0, may_have: true };
        // Where there is no way on, its drop takes the mark back.
        watcher.next = self.shared.ring().seek(after).inspect_err(|_| self.shared.note_compacted())?;
        Ok(watcher)
    }

    /// Watches from a position on, or from the start of history if that is later.
    pub fn watch_on(&self, filter: Filter, after: Position) -> Watcher {
        let mark = self.shared.subscribers.add(filter.clone());
        let ring = self.shared.ring();
        let (next, after) = ring.seek_on(after);
        Watcher { shared: self.shared.clone(), filter, mark, after, next, may_have: true }
    }

    /// Watches from now on. For callers that are only woken and then read the state: [`Watcher::changed`].
    pub fn wait_for(&self, filter: Filter) -> Watcher {
        let mark = self.shared.subscribers.add(filter.clone());
        let ring = self.shared.ring();
        let next = ring.end();
        let after = ring.before(next).unwrap_or(Position::whole(0));
        mark.saw(next);
        Watcher { shared: self.shared.clone(), filter, mark, after, next, may_have: false }
    }

    /// How often somebody asked within this time for more than the history has.
    pub fn compacted_within(&self, window: Duration) -> usize {
        self.shared.compacted_lately.within(window)
    }

    /// Who watches, and how far behind they are.
    pub fn watching(&self) -> Watching {
        let ([keys, prefixes, locks], first) = self.shared.subscribers.counts();
        let ring = self.shared.ring();
        let index_before = |event: u64| ring.before(event).map(|position| position.index);
        let newest = index_before(ring.end());
        // One whose place the history has lost is behind by all of it.
        let oldest = first.map(|first| index_before(first.max(ring.first())));
        let lag = newest.zip(oldest).map_or(0, |(newest, oldest)| newest.saturating_sub(oldest.unwrap_or(0)));
        Watching { keys, prefixes, locks, lag, compacted: self.shared.compacted.get() }
    }

    /// Ends all watching; what waits is told.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.subscribers.mark_all();
    }

    /// True once [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }
}
