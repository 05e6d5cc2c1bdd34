//! The changes that a command made, for watchers.

use std::sync::Arc;

use bytes::Bytes;

use crate::command::{Key, Principal};
use crate::record::Record;

/// One change, in the order in which they were applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Index of the entry that made it.
    pub index: u64,
    /// Its number among that entry's changes, from 1.
    pub n: u32,
    /// The change.
    pub change: Change,
    /// The name of the client that made it, where authentication is on.
    pub by: Option<Arc<str>>,
}

/// A change of one key or lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key was written.
    Set {
        /// The key.
        key: Key,
        /// Its new record.
        record: Record,
    },
    /// A client deleted a key.
    Deleted {
        /// The key.
        key: Key,
    },
    /// The time of a key was up, or its lease has ended.
    Expired {
        /// The key.
        key: Key,
        /// The lease that it was attached to, which ended.
        lease: Option<u64>,
    },
    /// A lock has a holder.
    Acquired {
        /// Its name.
        lock: Key,
        /// The holder's fencing token.
        token: u64,
        /// JSON that the holder shows.
        body: Option<Bytes>,
    },
    /// The holder gave a lock up.
    Released {
        /// Its name.
        lock: Key,
        /// The fencing token it had.
        token: u64,
    },
    /// The holder of a lock did not renew it in time, or its lease has ended.
    LockExpired {
        /// Its name.
        lock: Key,
        /// The fencing token it had.
        token: u64,
        /// The lease that it was attached to, which ended.
        lease: Option<u64>,
    },
}

/// Collects and numbers the changes of one entry.
#[derive(Debug)]
pub(super) struct Events<'a> {
    index: u64,
    began: usize,
    by: Option<&'a Principal>,
    all: &'a mut Vec<Event>,
}

impl<'a> Events<'a> {
    pub(super) fn new(index: u64, by: Option<&'a Principal>, all: &'a mut Vec<Event>) -> Self {
        Self { index, began: all.len(), by, all }
    }

    /// How many there are by now, for [`take_back`](Self::take_back).
    pub(super) fn mark(&self) -> usize {
        self.all.len()
    }

    /// Forgets those that came after a mark: they did not happen.
    pub(super) fn take_back(&mut self, mark: usize) {
        self.all.truncate(mark);
    }

    pub(super) fn push(&mut self, change: Change) {
        let n = u32::try_from(self.all.len() - self.began + 1).unwrap_or(u32::MAX);
        let by = self.by.map(|by| match by {
            Principal::Token(holder) => holder.name.clone(),
            Principal::Node | Principal::Root | Principal::Anonymous { .. } => by.name().into(),
        });
        self.all.push(Event { index: self.index, n, change, by });
    }
}
