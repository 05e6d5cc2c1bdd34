//! What applying a command answers.

use std::cell::Cell;

use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::Key;
use crate::record::Record;

/// What applying an entry answers. Deterministic: every replica gives the same reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The answer to an entry that is no command: a blank one, a membership.
    None,
    /// It is done, and there is no more to say.
    Done,
    /// One value is stored.
    Put {
        /// Whether the key was not there before.
        created: bool,
    },
    /// So many keys were removed.
    Deleted(u64),
    /// What an integer is now.
    Number(i64),
    /// A transaction was run.
    Txn {
        /// Whether its conditions held.
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
        /// Whether more is due than one entry may drop.
        more: bool,
    },
    /// Refused when it was applied: nothing was done.
    Failed(Box<Failure>),
    /// The client repeated a request that was answered before.
    Replayed {
        /// Index of the entry that was answered.
        index: u64,
        /// What it was answered, but for what a transaction read.
        #[serde(deserialize_with = "no_replay_within")]
        reply: Box<Reply>,
    },
    /// A key lives for another while.
    Touched {
        /// Index of the entry that last changed its value.
        modify_index: u64,
    },
}

/// What one operation of a transaction did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpResult {
    /// So many keys are stored.
    Set(u64),
    /// What integers are now.
    Numbers(Vec<(Key, i64)>),
    /// So many keys were removed.
    Deleted(u64),
    /// What a key holds, if it is there.
    Got(Key, Option<Record>),
    /// What was read is not kept for a repetition.
    NotKept,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// A condition of the request does not hold.
    Precondition {
        /// What the key holds.
        current: Option<Record>,
    },
    /// There is no such key.
    Missing,
    /// An integer was to be added to what is none.
    NotANumber {
        /// In a transaction, where.
        place: Option<Place>,
        /// The key.
        key: Key,
        /// What it is.
        why: NotANumber,
    },
    /// Somebody else holds the lock.
    Locked(LockView),
    /// Who asked does not hold the lock, or not any more.
    LockLost,
    /// The same `Idempotency-Key` came with another request.
    RetryMismatch,
    /// No more outcomes can be kept.
    RetriesFull,
    /// A transaction reads more than an answer may carry.
    ReadsTooMuch {
        /// Where it became too much.
        place: Place,
    },
}

/// An operation of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Whether it is one of `then`, not of `else`.
    pub then: bool,
    /// Which one, from 0.
    pub at: u32,
}

/// Why an integer cannot be added to.
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
