//! Commands, which the Raft log holds, and replies, which applying them gives.
//!
//! Both are encoded with postcard: in the log, between nodes, and (kept replies) in snapshots. Variants are only added at
//! the end. A change of an existing variant needs a new one.

mod action;
mod auth;
mod leased;
mod limits;
mod needs;
mod reply;

use std::fmt;

use bytes::Bytes;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::formats::{Feature, Format, OLDEST};

pub use action::{Action, Condition, Op, Test, TestOf, Txn, Value};
pub use auth::{
    ANONYMOUS, Denied, Grant, Grants, Holder, MAX_GRANTS, MAX_TOKEN_NAME_BYTES, Need, Principal, ROOT, Scope,
    TokenHash, TokenId,
};
pub use leased::{Leased, Order};
pub use limits::{MAX_RENEWED_TTL, MAX_TESTS_OF_CONDITION, MAX_TTL, MAX_TXN_ITEMS, MAX_WAIT, MIN_RENEWED_TTL, MIN_TTL};
pub use needs::Whose;
pub use reply::{Failure, LockView, NotANumber, OpIndex, OpResult, Reply};

/// A key: non-empty UTF-8 of at most [`MAX_KEY_BYTES`] bytes.
pub type Key = CompactString;

/// The most bytes a key may have.
pub const MAX_KEY_BYTES: usize = 4096;

/// One write, applied atomically: the whole of it in one log entry, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Stores each value under its key. hraftd 0.1 wrote it; it is only read now.
    Set(Vec<(Key, Bytes)>),
    /// Deletes one key, whether it exists or not. hraftd 0.1 wrote it; it is only read now.
    Delete(Key),
    /// Every other command.
    Stamped(Stamped),
    /// The same, of a client of a cluster that has authentication on: who asked for it.
    By(Principal, Stamped),
}

/// An action, the time it was proposed, and the key that tells a repetition of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped {
    /// Log time at which the leader proposed it, in milliseconds; 0 until it does.
    pub stamp_ms: u64,
    /// From the client's `Idempotency-Key`.
    pub retry: Option<Retry>,
    /// The action.
    pub action: Action,
}

/// Tells a repetition of a request from another request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// The client's `Idempotency-Key`.
    pub key: CompactString,
    /// The digest of the whole request: method, path, query, conditions and body.
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
            Command::Stamped(stamped) | Command::By(_, stamped) => stamped.action.bytes(),
        }
    }

    /// The format that a node must understand to read it.
    pub fn format(&self) -> Format {
        match self {
            Command::Set(_) | Command::Delete(_) => OLDEST,
            Command::Stamped(stamped) => stamped.action.format(),
            Command::By(..) => Feature::Tokens.format(),
        }
    }

    /// What it does, but for the first kinds, which hraftd 0.1 wrote.
    pub fn stamped(&self) -> Option<&Stamped> {
        match self {
            Command::Set(_) | Command::Delete(_) => None,
            Command::Stamped(stamped) | Command::By(_, stamped) => Some(stamped),
        }
    }

    /// True of a transaction that changes nothing, whichever branch is run: its answer needs no entry.
    pub fn only_reads(&self) -> bool {
        let Some(Stamped { action: Action::Txn(txn), .. }) = self.stamped() else { return false };
        txn.then.iter().chain(&txn.otherwise).all(|op| matches!(op, Op::Get(_)))
    }

    /// The client that asked for it, where it says so.
    pub fn by(&self) -> Option<&Principal> {
        match self {
            Command::Set(_) | Command::Delete(_) | Command::Stamped(_) => None,
            Command::By(by, _) => Some(by),
        }
    }

    /// The same of nobody.
    pub fn without_client(self) -> Self {
        match self {
            Command::By(_, stamped) => Command::Stamped(stamped),
            other => other,
        }
    }

    /// Sets the log time at which it is proposed, in milliseconds.
    pub fn stamp(&mut self, log_time_ms: u64) {
        if let Command::Stamped(stamped) | Command::By(_, stamped) = self {
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
            Command::Stamped(stamped) | Command::By(_, stamped) => write!(f, "{}", stamped.action),
        }
    }
}
