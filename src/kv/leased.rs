//! Writes under a lease, and the end of one: all its keys and locks go in one entry.

use std::ops::Bound;

use super::KvStore;
use super::event::{Change, Events};
use super::lease::Lease;
use super::lock::{Hold, Moment};
use crate::command::{Failure, Key, Leased, LockView, Principal, Reply};

/// A lock that is held, and the lease that it is held under, if it is.
pub type HeldLock = (LockView, Option<u64>);

/// How long what is written lasts; neither: until it is overwritten or deleted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Life {
    pub(super) deadline_ms: Option<u64>,
    pub(super) lease: Option<u64>,
}

impl Life {
    /// As long as a lease does.
    pub(super) fn of_lease(lease: u64) -> Self {
        Self { deadline_ms: None, lease: Some(lease) }
    }

    pub(super) fn is_endless(self) -> bool {
        self.deadline_ms.is_none() && self.lease.is_none()
    }
}

impl KvStore {
    /// For so long from now on.
    pub(super) fn life(&self, ttl_ms: Option<u64>) -> Life {
        Life { deadline_ms: self.deadline(ttl_ms), lease: None }
    }

    /// A write under a lease.
    pub(super) fn leased(
        &mut self,
        (index, by): (u64, Option<&Principal>),
        lease: u64,
        write: &Leased,
        events: &mut Events<'_>,
    ) -> Reply {
        if self.leases.get(lease).is_none() {
            return Reply::failed(Failure::LeaseLost { place: None, lease });
        }
        let life = Life::of_lease(lease);
        match write {
            Leased::Set { pairs, conditions } => {
                if let Some(refused) = pairs.first().and_then(|(key, _)| self.refused(key, conditions)) {
                    return refused;
                }
                self.set(index, pairs, life, events);
                Reply::Done
            }
            Leased::Put { key, value, conditions } => {
                self.refused(key, conditions).unwrap_or_else(|| self.put(index, key, value, life, events))
            }
            Leased::Incr { key, by, conditions } => {
                self.refused(key, conditions).unwrap_or_else(|| self.incr(index, key, *by, life, events))
            }
            Leased::Acquire { name, body, wait_ms } => {
                let hold = Hold::Lease(lease);
                let moment = Moment { index, now_ms: self.log_time_ms, by, auth: &self.auth };
                self.locks.acquire(&self.leases, moment, name, (hold, *wait_ms), body.as_ref(), events)
            }
        }
    }

    /// Ends a lease because its holder wants it.
    pub(super) fn revoke(&mut self, index: u64, lease: u64, events: &mut Events<'_>) -> Reply {
        if self.leases.get(lease).is_none() {
            return Reply::failed(Failure::LeaseLost { place: None, lease });
        }
        Reply::Deleted(self.end_lease(index, lease, events))
    }

    /// Ends the leases that are due, one after another, until what they took with them comes to `most`. A lease is never
    /// ended in part, so the last may take more. Returns how much of `most` is left.
    pub(super) fn expire_leases(&mut self, index: u64, most: usize, events: &mut Events<'_>) -> usize {
        let mut left = most;
        while left > 0
            && let Some(lease) = self.leases.due(self.log_time_ms)
        {
            left = left.saturating_sub(self.cost_of_lease(lease));
            self.end_lease(index, lease, events);
        }
        left
    }

    /// How much ends with a lease, itself included.
    pub(super) fn cost_of_lease(&self, lease: u64) -> usize {
        1 + self.keys.count_of_lease(lease) + self.locks.count_of_lease(lease)
    }

    fn end_lease(&mut self, index: u64, lease: u64, events: &mut Events<'_>) -> u64 {
        self.leases.remove(lease);
        let keys: Vec<Key> = self.keys.of_lease(lease, None).cloned().collect();
        for key in &keys {
            self.keys.remove(key);
            events.push(Change::Expired { key: key.clone(), lease: Some(lease) });
        }
        self.lease_owners.remove(lease);
        let moment = Moment { index, now_ms: self.log_time_ms, by: None, auth: &self.auth };
        self.locks.end_lease(moment, lease, events);
        keys.len() as u64
    }

    /// A lease, if it is alive.
    pub fn lease(&self, id: u64) -> Option<&Lease> {
        self.leases.get(id)
    }

    /// All leases from one on, by their ids.
    pub fn leases(&self, from: Bound<u64>) -> impl Iterator<Item = (u64, &Lease)> {
        self.leases.from(from)
    }

    /// The keys that are attached to a lease, in their order, from the one that comes after `after`.
    pub fn keys_of_lease(&self, id: u64, after: Option<&Key>) -> impl Iterator<Item = &Key> {
        self.keys.of_lease(id, after)
    }

    /// How many keys and how many locks, and places in their queues, are attached to a lease.
    pub fn counts_of_lease(&self, id: u64) -> (usize, usize) {
        (self.keys.count_of_lease(id), self.locks.count_of_lease(id))
    }

    /// The lease that the holder of a lock has attached it to.
    pub fn lease_of_lock(&self, name: &str) -> Option<u64> {
        self.locks.lease_of(name)
    }

    /// Those who hold locks or wait for them under a lease: the lock, the ticket, the lease.
    pub fn leased_claims(&self) -> impl Iterator<Item = (&Key, u64, u64)> {
        self.locks.leased()
    }

    /// Puts one lease back as a snapshot has it.
    pub fn restore_lease(&mut self, id: u64, lease: Lease) {
        self.leases.restore(id, lease);
    }

    /// Puts back, as a snapshot has it, that a holder or waiter has a lease.
    pub fn restore_leased_claim(&mut self, name: &Key, ticket: u64, lease: u64) {
        self.locks.attach(name, ticket, lease);
    }
}
