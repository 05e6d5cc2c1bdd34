//! Leases: what is attached to one lasts as long as it does. Deadlines are in log time.
//!
//! The id of a lease is the index of the entry that made it. Here is what a lease is by itself; the keys that are
//! attached are in [`Keys`](super::keys::Keys), the locks in [`Locks`](super::lock::Locks).
//!
//! Caveat: only a tick ends a lease whose deadline has passed. Until then it is alive, and may be kept alive.

use std::ops::Bound;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::sizes::shown_bytes;
use crate::command::{Failure, Reply};

/// A lease that is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// How long it lasts unless it is kept alive, in milliseconds.
    pub ttl_ms: u64,
    /// When it ends, in milliseconds of log time.
    pub deadline_ms: u64,
    /// JSON shown to others.
    pub body: Option<Bytes>,
}

/// Invariants: `deadlines` has one item for each lease; `digest` and `bytes` are sums over all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Leases {
    alive: OrdMap<u64, Lease>,
    deadlines: OrdSet<(u64, u64)>,
    digest: u64,
    /// The bytes of what their holders show.
    bytes: u64,
}

impl Leases {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn get(&self, id: u64) -> Option<&Lease> {
        self.alive.get(&id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.alive.is_empty()
    }

    pub(super) fn grant(&mut self, id: u64, now_ms: u64, ttl_ms: u64, body: Option<&Bytes>) -> Reply {
        // A slice would keep the whole request.
        let body = body.map(|body| Bytes::copy_from_slice(body));
        self.restore(id, Lease { ttl_ms, deadline_ms: now_ms.saturating_add(ttl_ms), body });
        Reply::Leased { lease: id, ttl_ms }
    }

    pub(super) fn keep_alive(&mut self, id: u64, now_ms: u64, ttl_ms: Option<u64>) -> Reply {
        let Some(lease) = self.remove(id) else { return Reply::failed(Failure::LeaseLost { place: None, lease: id }) };
        let ttl_ms = ttl_ms.unwrap_or(lease.ttl_ms);
        self.restore(id, Lease { ttl_ms, deadline_ms: now_ms.saturating_add(ttl_ms), ..lease });
        Reply::Leased { lease: id, ttl_ms }
    }

    /// The answer to a repeated request: a lease is told again only while it is alive, with the time that is left.
    pub(super) fn replay(&self, now_ms: u64, reply: Reply) -> Reply {
        let Reply::Replayed { index, reply: kept } = &reply else { return reply };
        let Reply::Leased { lease: id, .. } = **kept else { return reply };
        match self.get(id) {
            Some(lease) => {
                let ttl_ms = lease.deadline_ms.saturating_sub(now_ms);
                Reply::Replayed { index: *index, reply: Box::new(Reply::Leased { lease: id, ttl_ms }) }
            }
            None => Reply::failed(Failure::LeaseLost { place: None, lease: id }),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.deadlines.get_min().map(|(deadline, _)| *deadline)
    }

    /// The lease that is due first.
    pub(super) fn due(&self, now_ms: u64) -> Option<u64> {
        self.deadlines.get_min().filter(|(deadline, _)| *deadline <= now_ms).map(|(_, id)| *id)
    }

    /// Puts one lease back as a snapshot has it.
    pub(super) fn restore(&mut self, id: u64, lease: Lease) {
        self.remove(id);
        self.deadlines.insert((lease.deadline_ms, id));
        self.digest = self.digest.wrapping_add(digest_of(id, &lease));
        self.bytes += shown_bytes(&lease.body);
        self.alive.insert(id, lease);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Lease> {
        let lease = self.alive.remove(&id)?;
        self.deadlines.remove(&(lease.deadline_ms, id));
        self.digest = self.digest.wrapping_sub(digest_of(id, &lease));
        self.bytes = self.bytes.saturating_sub(shown_bytes(&lease.body));
        Some(lease)
    }

    /// All leases from one on, by their ids.
    pub(super) fn from(&self, from: Bound<u64>) -> impl Iterator<Item = (u64, &Lease)> {
        self.alive.range((from, Bound::Unbounded)).map(|(id, lease)| (*id, lease))
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }
}

fn digest_of(id: u64, lease: &Lease) -> u64 {
    xxh3_64(&postcard::to_stdvec(&(id, lease)).expect("every lease can be encoded"))
}
