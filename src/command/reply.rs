//! The replies to commands.

use std::cell::Cell;

use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Denied, Key};
use crate::record::Record;

/// The reply to an entry. It is deterministic: every replica gives the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The reply to a blank entry or a membership.
    None,
    /// It is done, and there is no more to say.
    Done,
    /// One value is stored.
    Put {
        /// True if the key was not there before.
        created: bool,
    },
    /// The number of keys that were removed.
    Deleted(u64),
    /// The new value of an integer.
    Number(i64),
    /// A transaction was run.
    Txn {
        /// True if its conditions held.
        succeeded: bool,
        /// One for each operation that was run.
        results: Vec<OpResult>,
    },
    /// The lock is held by who asked.
    Granted {
        /// Index of the entry that granted it: a fencing token.
        token: u64,
        /// How long it is held unless it is renewed, in milliseconds.
        ttl_ms: u64,
    },
    /// A place in the queue of a lock; its ticket is the index of this entry.
    Queued,
    /// Time has passed.
    Ticked {
        /// True if more is due than one entry may drop.
        more: bool,
    },
    /// Refused when it was applied: nothing was done.
    Failed(Box<Failure>),
    /// The client repeated a request that was answered before.
    Replayed {
        /// Index of the entry that was answered.
        index: u64,
        /// The reply it got, without the values that a transaction read.
        #[serde(deserialize_with = "no_replay_within")]
        reply: Box<Reply>,
    },
    /// A key lives for another while.
    Touched {
        /// Index of the entry that last changed its value.
        modify_index: u64,
    },
    /// A lease is alive.
    Leased {
        /// Its id.
        lease: u64,
        /// How long it lasts unless it is kept alive, in milliseconds.
        ttl_ms: u64,
    },
    /// A token is good.
    Token {
        /// True if the secret that came with the command is its secret now.
        fresh: bool,
    },
}

/// The result of one operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpResult {
    /// The number of keys that were stored.
    Set(u64),
    /// The new values of integers.
    Numbers(Vec<(Key, i64)>),
    /// The number of keys that were removed.
    Deleted(u64),
    /// The record of a key, if it is there.
    Got(Key, Option<Record>),
    /// A value was read; it is not kept for a repetition.
    NotKept,
    /// The number of keys whose time to live was set.
    Touched(u64),
}

/// The reason why a command was refused. Nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// A condition of the request does not hold.
    Precondition {
        /// The key's record.
        current: Option<Record>,
    },
    /// There is no such key.
    Missing,
    /// An integer was to be added to what is none.
    NotANumber {
        /// The operation, in a transaction.
        place: Option<OpIndex>,
        /// The key.
        key: Key,
        /// The reason.
        why: NotANumber,
    },
    /// Somebody else holds the lock.
    Locked(LockView),
    /// The caller does not hold the lock, or no longer does.
    LockLost,
    /// The same `Idempotency-Key` came with another request.
    RetryMismatch,
    /// No more outcomes can be kept.
    RetriesFull,
    /// A transaction reads more than an answer may carry.
    ReadsTooMuch {
        /// The operation that read too much.
        place: OpIndex,
    },
    /// There is no such lease, or it has ended.
    LeaseLost {
        /// The operation, in a transaction.
        place: Option<OpIndex>,
        /// The id that was given.
        lease: u64,
    },
    /// The client may not do that.
    Denied(Denied),
    /// There is no such token.
    NoToken,
    /// There are as many tokens as there may be.
    TokensFull,
    /// Another token has this certificate.
    CertificateTaken,
    /// There is no room for more.
    Quota {
        /// Bytes of keys and values that are there.
        bytes: u64,
        /// The most that there may be.
        quota: u64,
    },
}

/// Names an operation of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpIndex {
    /// True for one of `then`, false for one of `else`.
    pub then: bool,
    /// Its number, from 0.
    pub at: u32,
}

/// The reason why an addition to an integer failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotANumber {
    /// It is text that reads like an integer.
    TextOfNumber,
    /// It is something else.
    Other,
    /// The sum does not fit into 64 bits.
    Overflow,
}

/// A lock as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockView {
    /// Index of the entry that granted it.
    pub token: u64,
    /// Index of the entry that asked for it.
    pub ticket: u64,
    /// How long it is held unless it is renewed, in milliseconds.
    pub ttl_ms: u64,
    /// When it is lost, in milliseconds of log time.
    pub deadline_ms: u64,
    /// JSON that the holder shows.
    pub body: Option<Bytes>,
    /// How many wait for it.
    pub waiting: u64,
}

/// An answer that was kept is no repetition itself. Decoding one within another, again and again, as a broken or hostile
/// message may have it, would use up the stack and end the process.
fn no_replay_within<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<Reply>, D::Error> {
    thread_local!(static WITHIN: Cell<bool> = const { Cell::new(false) });
    if WITHIN.replace(true) {
        return Err(D::Error::custom("a repetition of a repetition"));
    }
    let reply = Reply::deserialize(deserializer);
    WITHIN.set(false);
    reply.map(Box::new)
}

impl Reply {
    /// Refused.
    pub fn failed(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replayed(reply: Reply) -> Reply {
        Reply::Replayed { index: 1, reply: Box::new(reply) }
    }

    #[test]
    fn a_repetition_of_repetitions_is_no_reply() {
        let good = postcard::to_stdvec(&replayed(Reply::Done)).unwrap();
        let twice = postcard::to_stdvec(&replayed(replayed(Reply::Done))).unwrap();
        for _ in 0..2 {
            assert_eq!(postcard::from_bytes(&good), Ok(replayed(Reply::Done)), "what was refused is forgotten");
            assert!(postcard::from_bytes::<Reply>(&twice).is_err());
        }
        // Half a million of them: an overflow of the stack would be no panic, but the end of the process.
        assert!(postcard::from_bytes::<Reply>(&good[..2].repeat(500_000)).is_err());
    }
}
