//! Outcomes of requests with an `Idempotency-Key`, kept for as long as a client may repeat the request.
//!
//! Time is log time, so all replicas forget an outcome with the same entry.
//!
//! An outcome is small, whatever it was about: values are not kept, and a refusal that shows what a key or a lock holds
//! shows to a repetition what it holds by then. An older snapshot may have outcomes that are not; they are cut as they are
//! put back, so that all replicas have the same.

use std::sync::Arc;

use compact_str::CompactString;
use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::command::{Failure, OpResult, Reply, Retry};

/// How much is kept; a request beyond that is refused. All replicas must use the same numbers, so a change of one is a
/// change of the format.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The most outcomes.
    pub kept: usize,
    /// The most bytes of their keys and replies.
    pub kept_bytes: u64,
}

/// How much of all that is kept one client may take while more than half of it is taken: one part of so many.
const SHARES: usize = 16;

pub(super) const LIMITS: Limits = Limits { kept: 1_000_000, kept_bytes: 64 << 20 };

/// The most bytes of keys and numbers that the outcome of a transaction keeps.
const MAX_KEPT_NUMBERS_BYTES: usize = 4 * 1024;

/// How many due outcomes one command forgets, so that memory is freed where nobody ticks.
const FORGET: usize = 4;

/// The state of the kept outcomes, for one `Idempotency-Key` that comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryRoom {
    /// The outcome of this key is kept.
    pub is_kept: bool,
    /// More than half of what may be kept is.
    pub is_scarce: bool,
}

/// An amount of kept outcomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryUse {
    /// Their number.
    pub count: usize,
    /// The bytes of their keys and replies.
    pub bytes: u64,
}

impl RetryUse {
    /// The most that one client may have while room is scarce.
    pub const SHARE: Self = Self { count: LIMITS.kept / SHARES, bytes: LIMITS.kept_bytes / SHARES as u64 };

    /// One outcome.
    pub fn of(key: &str, reply: &Reply) -> Self {
        Self { count: 1, bytes: bytes_with_key(key, reply) }
    }

    /// Adds another amount.
    pub fn add(&mut self, more: Self) {
        self.count += more.count;
        self.bytes += more.bytes;
    }

    /// True once a client with so much may have no more.
    pub fn is_a_share(&self) -> bool {
        self.count >= Self::SHARE.count || self.bytes >= Self::SHARE.bytes
    }
}

/// The kept reply to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    digest: u128,
    index: u64,
    deadline_ms: u64,
    reply: Reply,
}

#[cfg(test)]
impl Kept {
    pub(super) fn with_reply(self, reply: Reply) -> Self {
        Self { reply, ..self }
    }
}

/// Invariants: `deadlines` has one item for each outcome; `bytes` and `digest` are sums over all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Retries {
    kept: OrdMap<CompactString, Arc<Kept>>,
    deadlines: OrdSet<(u64, CompactString)>,
    bytes: u64,
    digest: u64,
}

impl Retries {
    /// The reply to a request that must not be applied: the kept one, or a refusal. `None`: apply it.
    pub(super) fn check(&mut self, limits: Limits, now_ms: u64, retry: &Retry) -> Option<Reply> {
        self.expire(now_ms, FORGET);
        match self.kept.get(&retry.key) {
            Some(kept) if kept.deadline_ms > now_ms => Some(if kept.digest == retry.digest {
                Reply::Replayed { index: kept.index, reply: Box::new(kept.reply.clone()) }
            } else {
                Reply::failed(Failure::RetryMismatch)
            }),
            Some(_) => None,
            None => {
                let full = self.kept.len() >= limits.kept || self.bytes >= limits.kept_bytes;
                full.then(|| Reply::failed(Failure::RetriesFull))
            }
        }
    }

    /// Whether the outcome of this key is kept.
    pub(super) fn has(&self, key: &str) -> bool {
        self.kept.contains_key(key)
    }

    pub(super) fn room(&self, limits: Limits, key: &str) -> RetryRoom {
        let is_scarce = self.kept.len() > limits.kept / 2 || self.bytes > limits.kept_bytes / 2;
        RetryRoom { is_kept: self.kept.contains_key(key), is_scarce }
    }

    pub(super) fn keep(&mut self, index: u64, now_ms: u64, retry: &Retry, reply: &Reply) {
        let deadline_ms = now_ms.saturating_add(retry.window_ms);
        self.restore(retry.key.clone(), Kept { digest: retry.digest, index, deadline_ms, reply: reply.clone() });
    }

    /// Puts one outcome back as it is; also from a snapshot.
    pub(super) fn restore(&mut self, key: CompactString, mut kept: Kept) {
        self.forget(&key);
        kept.reply = small(kept.reply);
        self.deadlines.insert((kept.deadline_ms, key.clone()));
        self.bytes += bytes_of(&key, &kept);
        self.digest = self.digest.wrapping_add(digest_of(&key, &kept));
        self.kept.insert(key, Arc::new(kept));
    }

    fn forget(&mut self, key: &str) {
        let Some((key, kept)) = self.kept.remove_with_key(key) else { return };
        self.bytes -= bytes_of(&key, &kept);
        self.digest = self.digest.wrapping_sub(digest_of(&key, &kept));
        self.deadlines.remove(&(kept.deadline_ms, key));
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.deadlines.get_min().map(|(deadline, _)| *deadline)
    }

    /// Forgets at most `most` outcomes that are due. Returns how many it forgot.
    pub(super) fn expire(&mut self, now_ms: u64, most: usize) -> usize {
        let mut forgotten = 0;
        while forgotten < most
            && let Some((deadline_ms, key)) = self.deadlines.get_min().cloned()
            && deadline_ms <= now_ms
        {
            self.forget(&key);
            forgotten += 1;
        }
        forgotten
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&CompactString, &Kept)> {
        self.kept.iter().map(|(key, kept)| (key, &**kept))
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }
}

fn digest_of(key: &str, kept: &Kept) -> u64 {
    xxh3_64(&postcard::to_stdvec(&(key, kept)).expect("every outcome can be encoded"))
}

fn bytes_of(key: &str, kept: &Kept) -> u64 {
    bytes_with_key(key, &kept.reply)
}

/// Of a reply that is cut as it is kept, or was.
fn bytes_with_key(key: &str, reply: &Reply) -> u64 {
    let bytes = match reply {
        Reply::Txn { results, .. } if has_too_many_numbers(results) => 8 * results.len(),
        Reply::Txn { results, .. } => results.iter().map(|result| bytes_of_numbers(result).max(8)).sum(),
        Reply::Failed(failure) => match &**failure {
            Failure::NotANumber { key, .. } => key.len(),
            _ => 0,
        },
        _ => 0,
    };
    (key.len() + bytes + 16) as u64
}

fn has_too_many_numbers(results: &[OpResult]) -> bool {
    results.iter().map(bytes_of_numbers).sum::<usize>() > MAX_KEPT_NUMBERS_BYTES
}

fn bytes_of_numbers(result: &OpResult) -> usize {
    match result {
        OpResult::Numbers(numbers) => numbers.iter().map(|(key, _)| key.len() + 8).sum(),
        _ => 0,
    }
}

/// The part of a reply that is kept.
fn small(mut reply: Reply) -> Reply {
    match &mut reply {
        Reply::Txn { results, .. } => {
            let too_long = has_too_many_numbers(results);
            for result in results {
                if matches!(result, OpResult::Got(..)) || (too_long && matches!(result, OpResult::Numbers(_))) {
                    *result = OpResult::NotKept;
                }
            }
        }
        Reply::Failed(failure) => match &mut **failure {
            Failure::Precondition { current } => *current = None,
            Failure::Locked(view) => view.body = None,
            _ => {}
        },
        _ => {}
    }
    reply
}
