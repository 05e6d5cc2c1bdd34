//! What the clients of a drill saw, written down. Times are nanoseconds since the drill began.

use super::check::Op;

/// An operation on a key, as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) client: usize,
    /// The node that was asked.
    pub(super) node: usize,
    pub(super) key: Key,
    pub(super) op: Op,
    /// The index of its entry, where it was told one.
    pub(super) index: Option<u64>,
}

/// A key: some are used for a while, and then others, so that each has a history that is soon checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) group: u64,
    pub(super) slot: u64,
}

/// What the watch told: a value that was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// The key, without the prefix of the drill.
    pub(super) key: String,
    pub(super) value: Option<u64>,
    /// The position in the log, and among the changes of one entry.
    pub(super) id: (u64, u64),
    pub(super) node: String,
}

/// A time in which a client held the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tenure {
    pub(super) client: usize,
    pub(super) token: u64,
    /// When the request for it was sent.
    pub(super) asked: u64,
    /// From here on it held it for certain.
    pub(super) from: u64,
    /// It held it until here for certain: it gave it back, or its time was up.
    pub(super) until: u64,
}

/// What was done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Move,
    Stop,
}

/// Something that was done to the cluster, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disturbance {
    pub(super) fault: Fault,
    pub(super) node: String,
    pub(super) from: u64,
    pub(super) until: u64,
    /// How it failed.
    pub(super) failed: Option<String>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) nodes: Vec<String>,
    pub(super) records: Vec<Record>,
    /// Requests of which nothing was done.
    pub(super) not_done: u64,
    /// Why the last request failed that did.
    pub(super) last_failure: Option<String>,
    /// In the order in which they came.
    pub(super) events: Vec<Event>,
    /// Between these indices the watch was told that it missed changes.
    pub(super) holes: Vec<(u64, u64)>,
    /// How often the watch was opened.
    pub(super) watches: u64,
    /// The same once more, read in the end from the beginning; `None` where it could not be.
    pub(super) again: Option<Vec<Event>>,
    /// The watch saw the last write of the drill.
    pub(super) watch_is_whole: bool,
    pub(super) tenures: Vec<Tenure>,
    pub(super) disturbances: Vec<Disturbance>,
    /// Nodes that did not come back, and why.
    pub(super) lost_nodes: Vec<String>,
    /// Keys that no node read in the end.
    pub(super) unread: Vec<Key>,
}

impl Key {
    /// True for a key that has a slot for itself.
    pub(super) fn is_written_once(self) -> bool {
        self.slot >= super::load::SLOTS
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.group, self.slot)
    }
}
