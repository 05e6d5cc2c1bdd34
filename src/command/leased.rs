//! What a write under a lease is, and how numbers are compared.

use bytes::Bytes;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::{Condition, Key, Value};

/// A write whose keys or lock last as long as a lease. None of them has a time to live of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leased {
    /// Stores JSON values under distinct keys. Conditions come only with one key.
    Set {
        /// Keys, and JSON text as it was sent.
        pairs: Vec<(Key, Bytes)>,
        /// The conditions on the key.
        conditions: Vec<Condition>,
    },
    /// Stores one value of any kind.
    Put {
        /// The key.
        key: Key,
        /// The value.
        value: Value,
        /// The conditions on the key.
        conditions: Vec<Condition>,
    },
    /// Adds to an integer; a key that is not there counts as 0.
    Incr {
        /// The key.
        key: Key,
        /// The number to add.
        by: i64,
        /// The conditions on the key.
        conditions: Vec<Condition>,
    },
    /// Takes a lock, or a place in its queue.
    Acquire {
        /// The lock.
        name: Key,
        /// JSON shown to others.
        body: Option<Bytes>,
        /// How long to wait for it in the queue, in milliseconds; 0: not at all.
        wait_ms: u64,
    },
}

impl Leased {
    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        match self {
            Leased::Set { pairs, .. } => super::action::bytes_of(pairs),
            Leased::Put { key, value, .. } => key.len() + value.data.len(),
            Leased::Incr { key, .. } => key.len(),
            Leased::Acquire { name, body, .. } => name.len() + body.as_ref().map_or(0, Bytes::len),
        }
    }

    /// The same without the lease, in words.
    pub(super) fn words(&self) -> CompactString {
        match self {
            Leased::Set { pairs, .. } => compact_str::format_compact!("set {} keys", pairs.len()),
            Leased::Put { key, .. } => compact_str::format_compact!("put {key}"),
            Leased::Incr { key, by, .. } => compact_str::format_compact!("add {by} to {key}"),
            Leased::Acquire { name, .. } => compact_str::format_compact!("acquire lock {name}"),
        }
    }
}

/// How a stored number must compare with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Order {
    /// The name of it in a transaction.
    pub fn as_str(self) -> &'static str {
        match self {
            Order::Less => "lt",
            Order::LessOrEqual => "le",
            Order::Greater => "gt",
            Order::GreaterOrEqual => "ge",
        }
    }

    /// Tells whether a number that compares so is as demanded.
    pub fn holds(self, found: std::cmp::Ordering) -> bool {
        match self {
            Order::Less => found.is_lt(),
            Order::LessOrEqual => found.is_le(),
            Order::Greater => found.is_gt(),
            Order::GreaterOrEqual => found.is_ge(),
        }
    }
}
