//! Who made locks and leases: the token, by the index of the entry that asked.

use imbl::OrdMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::command::{Principal, TokenId};

/// Invariant: `digest` is the sum over all. What was made while nobody was asked who he is has no owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::kv) struct Owners {
    of: OrdMap<u64, TokenId>,
    digest: u64,
}

impl Owners {
    /// Notes who made what the entry at `index` asked for.
    pub(in crate::kv) fn add(&mut self, index: u64, by: Option<&Principal>) {
        if let Some(owner) = by.and_then(Principal::owner) {
            self.restore(index, owner);
        }
    }

    pub(in crate::kv) fn restore(&mut self, index: u64, owner: TokenId) {
        self.remove(index);
        self.digest = self.digest.wrapping_add(digest_of(index, owner));
        self.of.insert(index, owner);
    }

    pub(in crate::kv) fn remove(&mut self, index: u64) {
        if let Some(owner) = self.of.remove(&index) {
            self.digest = self.digest.wrapping_sub(digest_of(index, owner));
        }
    }

    pub(in crate::kv) fn get(&self, index: u64) -> Option<TokenId> {
        self.of.get(&index).copied()
    }

    /// Whether somebody may change what the entry at `index` asked for.
    pub(in crate::kv) fn lets(&self, index: u64, by: Option<&Principal>) -> bool {
        self.get(index).is_none_or(|owner| by.and_then(Principal::owner) == Some(owner))
    }

    pub(in crate::kv) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    pub(in crate::kv) fn iter(&self) -> impl Iterator<Item = (u64, TokenId)> {
        self.of.iter().map(|(index, owner)| (*index, *owner))
    }

    pub(in crate::kv) fn digest(&self) -> u64 {
        self.digest
    }
}

fn digest_of(index: u64, owner: TokenId) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&index.to_le_bytes());
    bytes[8..].copy_from_slice(&owner.to_le_bytes());
    xxh3_64(&bytes)
}
