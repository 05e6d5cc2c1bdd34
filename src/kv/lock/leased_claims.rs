//! Which holders of locks, and which waiters, have a lease: found by either.

use std::ops::Bound;

use imbl::{OrdMap, OrdSet};
use xxhash_rust::xxh3::xxh3_64;

use crate::command::Key;

/// Invariants: both have the same claims; `digest` is the sum over all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LeasedClaims {
    /// The lease of a lock's ticket.
    leases: OrdMap<(Key, u64), u64>,
    claims: OrdSet<(u64, Key, u64)>,
    digest: u64,
}

impl LeasedClaims {
    pub(super) fn get(&self, name: &Key, ticket: u64) -> Option<u64> {
        // Without leases this costs nothing.
        if self.leases.is_empty() { None } else { self.leases.get(&(name.clone(), ticket)).copied() }
    }

    pub(super) fn add(&mut self, name: &Key, ticket: u64, lease: u64) {
        self.remove(name, ticket);
        self.leases.insert((name.clone(), ticket), lease);
        self.claims.insert((lease, name.clone(), ticket));
        self.digest = self.digest.wrapping_add(digest_of(name, ticket, lease));
    }

    pub(super) fn remove(&mut self, name: &Key, ticket: u64) {
        let Some(lease) = self.get(name, ticket) else { return };
        self.leases.remove(&(name.clone(), ticket));
        self.claims.remove(&(lease, name.clone(), ticket));
        self.digest = self.digest.wrapping_sub(digest_of(name, ticket, lease));
    }

    /// The locks and tickets of a lease.
    pub(super) fn of_lease(&self, lease: u64) -> impl Iterator<Item = (&Key, u64)> {
        let from = Bound::Included((lease, Key::default(), 0));
        let claims = self.claims.range((from, Bound::Unbounded)).take_while(move |(of, ..)| *of == lease);
        claims.map(|(_, name, ticket)| (name, *ticket))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, u64, u64)> {
        self.leases.iter().map(|((name, ticket), lease)| (name, *ticket, *lease))
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }
}

fn digest_of(name: &Key, ticket: u64, lease: u64) -> u64 {
    xxh3_64(&postcard::to_stdvec(&(name, ticket, lease)).expect("every claim can be encoded"))
}
