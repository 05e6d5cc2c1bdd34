//! What a client's write becomes in the Raft log, and what applying it answers.
//!
//! Encoded with postcard: in the log, between nodes, and (replies that are kept for retries) in snapshots. Variants are
//! only ever added at the end, and a change to an existing one needs a new variant.

mod action;
mod reply;

use std::fmt;

use bytes::Bytes;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};

pub use action::{Action, Condition, Op, Test, TestOf, Txn, Value};
pub use reply::{Failure, LockView, NotANumber, OpResult, Place, Reply};

/// A key: non-empty UTF-8 of at most [`MAX_KEY_BYTES`] bytes.
pub type Key = CompactString;

/// The most bytes a key may have.
pub const MAX_KEY_BYTES: usize = 4096;

/// One write, applied atomically: the whole of it in one log entry, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Of the first format, in logs that hraftd 0.1 wrote; never written any more. Stores each value under its key.
    Set(Vec<(Key, Bytes)>),
    /// Of the first format too. Deletes one key, whether it exists or not.
    Delete(Key),
    /// All that is written today.
    Stamped(Stamped),
}

/// An action, when it was proposed, and how a repetition of it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped {
    /// Log time at which the leader proposed it, in milliseconds; 0 until it does.
    pub stamp_ms: u64,
    /// From the client's `Idempotency-Key`.
    pub retry: Option<Retry>,
    /// What to do.
    pub action: Action,
}

/// How a repetition of a request is told from another request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// The client's `Idempotency-Key`.
    pub key: CompactString,
    /// Of the whole request: method, path, query, conditions and body.
    pub digest: u128,
    /// How long the outcome is kept, in milliseconds of log time.
    pub window_ms: u64,
}

impl Command {
    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        match self {
            Command::Set(pairs) => pairs.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Command::Delete(key) => key.len(),
            Command::Stamped(stamped) => stamped.action.bytes(),
        }
    }

    /// Says when it is proposed.
    pub fn stamp(&mut self, log_time_ms: u64) {
        if let Command::Stamped(stamped) = self {
            stamped.stamp_ms = log_time_ms;
        }
    }
}

impl From<Action> for Command {
    fn from(action: Action) -> Self {
        Command::Stamped(Stamped { stamp_ms: 0, retry: None, action })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Set(pairs) => write!(f, "set {} keys", pairs.len()),
            Command::Delete(key) => write!(f, "delete {key}"),
            Command::Stamped(stamped) => write!(f, "{}", stamped.action),
        }
    }
}
