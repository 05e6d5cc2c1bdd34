//! How much there is of everything.

use bytes::Bytes;

use super::KvStore;

/// How much a state holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Keys.
    pub keys: usize,
    /// The bytes of all keys and values, and of what leases and locks show.
    pub bytes: u64,
    /// Locks that are held.
    pub locks: usize,
    /// Places in queues of locks.
    pub lock_waiters: usize,
    /// Outcomes that are kept for repeated requests.
    pub outcomes: usize,
}

/// The bytes of what a lease or a lock shows.
pub(super) fn shown_bytes(body: &Option<Bytes>) -> u64 {
    body.as_ref().map_or(0, |body| body.len() as u64)
}

impl KvStore {
    pub(super) fn bytes(&self) -> u64 {
        self.keys.bytes() + self.leases.bytes() + self.locks.bytes()
    }

    /// Locks whose holder's time was up at this log time and that others wait for, and how many these are: only a tick
    /// ends a lock.
    pub fn waiting_for_nobody(&self, at_ms: u64) -> (usize, usize) {
        self.locks.waiting_for_nobody(at_ms)
    }

    /// How much it holds. Costs nothing.
    pub fn sizes(&self) -> Sizes {
        let (locks, lock_waiters) = self.locks.counts();
        Sizes { keys: self.keys.len(), bytes: self.bytes(), locks, lock_waiters, outcomes: self.retries.len() }
    }
}
