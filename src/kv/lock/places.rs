//! The places of holders and waiters, by their deadlines.

use bytes::Bytes;
use imbl::OrdSet;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::command::Key;
use crate::kv::sizes::shown_bytes;

/// The deadline of a holder that has a lease.
pub(super) const NEVER: u64 = u64::MAX;

/// The request of a holder or a waiter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub(super) ttl_ms: u64,
    /// When the lock or the place in the queue is lost, in milliseconds of log time.
    pub(super) deadline_ms: u64,
    pub(super) body: Option<Bytes>,
}

/// The deadlines of all holders and waiters, with their names and tickets, and the sum of their digests: it is asked for
/// at any time, and there may be many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) deadlines: OrdSet<(u64, Key, u64)>,
    pub(super) digest: u64,
    /// How many holders and waiters there are.
    pub(super) count: usize,
    /// The bytes of what they show.
    pub(super) bytes: u64,
}

impl Places {
    /// Adds a holder, who has a token, or a waiter.
    pub(super) fn add(&mut self, name: &Key, ticket: u64, token: Option<u64>, claim: &Claim) {
        if claim.deadline_ms != NEVER {
            self.deadlines.insert((claim.deadline_ms, name.clone(), ticket));
        }
        self.count += 1;
        self.bytes += shown_bytes(&claim.body);
        self.digest = self.digest.wrapping_add(place_digest(name, ticket, token, claim));
    }

    pub(super) fn remove(&mut self, name: &Key, ticket: u64, token: Option<u64>, claim: &Claim) {
        self.deadlines.remove(&(claim.deadline_ms, name.clone(), ticket));
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(shown_bytes(&claim.body));
        self.digest = self.digest.wrapping_sub(place_digest(name, ticket, token, claim));
    }
}

fn place_digest(name: &Key, ticket: u64, token: Option<u64>, claim: &Claim) -> u64 {
    xxh3_64(&postcard::to_stdvec(&(name, ticket, token, claim)).expect("every claim can be encoded"))
}
