//! What can be done to the state.

use std::fmt;

use bytes::Bytes;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::Key;

/// What one request does. Time spans are of log time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Stores JSON values under distinct keys. Conditions come only with one key.
    Set {
        /// Keys, and JSON text as it was sent.
        pairs: Vec<(Key, Bytes)>,
        /// How long they live, in milliseconds.
        ttl_ms: Option<u64>,
        /// What must hold of the key.
        conditions: Vec<Condition>,
    },
    /// Stores one value of any kind.
    Put {
        /// The key.
        key: Key,
        /// What to store.
        value: Value,
        /// How long it lives, in milliseconds.
        ttl_ms: Option<u64>,
        /// What must hold of the key.
        conditions: Vec<Condition>,
    },
    /// Deletes one key, whether it exists or not.
    Delete {
        /// The key.
        key: Key,
        /// What must hold of it.
        conditions: Vec<Condition>,
    },
    /// Deletes all keys that begin so; an empty prefix is all keys.
    DeletePrefix {
        /// How they begin.
        prefix: CompactString,
    },
    /// Adds to an integer; a key that is not there counts as 0.
    Incr {
        /// The key.
        key: Key,
        /// What to add.
        by: i64,
        /// How long it lives from now on, in milliseconds; as before where there is none.
        ttl_ms: Option<u64>,
        /// What must hold of the key.
        conditions: Vec<Condition>,
    },
    /// Sets how long a key lives, and changes nothing else of it.
    Touch {
        /// The key.
        key: Key,
        /// How long it lives from now on, in milliseconds.
        ttl_ms: u64,
        /// What must hold of the key.
        conditions: Vec<Condition>,
    },
    /// Conditions, and what to do where they hold and where they do not.
    Txn(Txn),
    /// Takes a lock, or a place in its queue. Answered by [`Granted`](super::Reply::Granted),
    /// [`Queued`](super::Reply::Queued) or [`Locked`](super::Failure::Locked).
    Acquire {
        /// The lock.
        name: Key,
        /// How long it is held unless it is renewed, in milliseconds.
        ttl_ms: u64,
        /// JSON shown to others.
        body: Option<Bytes>,
        /// How long to wait for it in the queue, in milliseconds; 0: not at all.
        wait_ms: u64,
    },
    /// Keeps a lock for another while.
    Renew {
        /// The lock.
        name: Key,
        /// Proves who holds it.
        token: u64,
        /// Another time to live, in milliseconds.
        ttl_ms: Option<u64>,
    },
    /// Gives a lock up.
    Release {
        /// The lock.
        name: Key,
        /// Proves who holds it.
        token: u64,
    },
    /// The waiting client is gone: takes its place out of the queue, or the lock back that it was just granted.
    Cancel {
        /// The lock.
        name: Key,
        /// Index of the entry that queued.
        ticket: u64,
    },
    /// Time has passed: drops what is due, at most so much.
    Tick {
        /// The most that is dropped by this entry.
        most: u32,
    },
}

/// A value and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// JSON text, or bytes of any kind.
    pub data: Bytes,
    /// Whether `data` is no JSON.
    pub is_bytes: bool,
    /// As the client named it, where that says more than `data` does.
    pub content_type: Option<CompactString>,
}

/// What must hold of a key for a write to be done (RFC 9110, 13.1). A key that is not there has the index 0 here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
// For who reads `hraftd inspect --entries`; postcard has no names.
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// `If-Match: *`.
    Exists,
    /// `If-None-Match: *`, `cas=0`.
    Missing,
    /// `If-Match`, `cas`: it was last modified by one of these.
    ModifiedBy(Vec<u64>),
    /// `If-None-Match`: it was last modified by none of these.
    NotModifiedBy(Vec<u64>),
}

/// A transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// All must hold.
    pub tests: Vec<Test>,
    /// What is done then.
    pub then: Vec<Op>,
    /// What is done otherwise.
    pub otherwise: Vec<Op>,
}

/// One condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    /// Of this key.
    pub key: Key,
    /// What must hold.
    pub of: TestOf,
}

/// What can be asked of a key. One that is not there has indexes and version 0, and no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TestOf {
    /// Whether it is there.
    Exists(bool),
    /// The index that last changed it.
    ModifyIndex(u64),
    /// The index that created it.
    CreateIndex(u64),
    /// How often it was written since.
    Version(u64),
    /// Its value, as JSON text; compared by structure, numbers by their text.
    Value(Bytes),
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Stores JSON values.
    Set {
        /// Keys, and JSON text as it was sent.
        pairs: Vec<(Key, Bytes)>,
        /// How long they live, in milliseconds.
        ttl_ms: Option<u64>,
    },
    /// Adds to integers.
    Incr {
        /// Keys, and what to add.
        pairs: Vec<(Key, i64)>,
        /// How long they live from now on, in milliseconds; as before where there is none.
        ttl_ms: Option<u64>,
    },
    /// Deletes one key.
    Delete(Key),
    /// Deletes all keys that begin so.
    DeletePrefix(CompactString),
    /// Reads one key.
    Get(Key),
}

fn bytes_of(pairs: &[(Key, Bytes)]) -> usize {
    pairs.iter().map(|(key, value)| key.len() + value.len()).sum()
}

impl Op {
    fn bytes(&self) -> usize {
        match self {
            Op::Set { pairs, .. } => bytes_of(pairs),
            Op::Incr { pairs, .. } => pairs.iter().map(|(key, _)| key.len() + 8).sum(),
            Op::Delete(key) | Op::DeletePrefix(key) | Op::Get(key) => key.len(),
        }
    }
}

impl Action {
    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        match self {
            Action::Set { pairs, .. } => bytes_of(pairs),
            Action::Put { key, value, .. } => key.len() + value.data.len(),
            Action::Txn(txn) => {
                let tests = txn.tests.iter().map(|test| match &test.of {
                    TestOf::Value(value) => test.key.len() + value.len(),
                    _ => test.key.len() + 8,
                });
                tests.sum::<usize>() + txn.then.iter().chain(&txn.otherwise).map(Op::bytes).sum::<usize>()
            }
            Action::Acquire { name, body, .. } => name.len() + body.as_ref().map_or(0, Bytes::len),
            Action::Delete { key, .. }
            | Action::DeletePrefix { prefix: key }
            | Action::Incr { key, .. }
            | Action::Touch { key, .. }
            | Action::Renew { name: key, .. }
            | Action::Release { name: key, .. }
            | Action::Cancel { name: key, .. } => key.len(),
            Action::Tick { .. } => 0,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Set { pairs, .. } => write!(f, "set {} keys", pairs.len()),
            Action::Put { key, .. } => write!(f, "put {key}"),
            Action::Delete { key, .. } => write!(f, "delete {key}"),
            Action::DeletePrefix { prefix } => write!(f, "delete all of {prefix}"),
            Action::Incr { key, by, .. } => write!(f, "add {by} to {key}"),
            Action::Touch { key, .. } => write!(f, "touch {key}"),
            Action::Txn(txn) => write!(f, "transaction of {} or {} operations", txn.then.len(), txn.otherwise.len()),
            Action::Acquire { name, .. } => write!(f, "acquire lock {name}"),
            Action::Renew { name, .. } => write!(f, "renew lock {name}"),
            Action::Release { name, .. } => write!(f, "release lock {name}"),
            Action::Cancel { name, ticket } => write!(f, "cancel ticket {ticket} for lock {name}"),
            Action::Tick { .. } => write!(f, "tick"),
        }
    }
}
