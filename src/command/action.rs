//! The actions that change the state.

use std::fmt;

use bytes::Bytes;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::{Grants, Key, Leased, Order, TokenHash, TokenId};
use crate::formats::{Feature, Format, OLDEST};

/// The change that one request asks for. Durations are in log time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Stores JSON values under distinct keys. Conditions come only with one key.
    Set {
        /// Keys, and JSON text as it was sent.
        pairs: Vec<(Key, Bytes)>,
        /// Time to live, in milliseconds.
        ttl_ms: Option<u64>,
        /// The conditions on the key.
        conditions: Vec<Condition>,
    },
    /// Stores one value of any kind.
    Put {
        /// The key.
        key: Key,
        /// The value.
        value: Value,
        /// Time to live, in milliseconds.
        ttl_ms: Option<u64>,
        /// The conditions on the key.
        conditions: Vec<Condition>,
    },
    /// Deletes one key, whether it exists or not.
    Delete {
        /// The key.
        key: Key,
        /// The conditions on the key.
        conditions: Vec<Condition>,
    },
    /// Deletes all keys that begin with a prefix; the empty one is all keys.
    DeletePrefix {
        /// The prefix.
        prefix: CompactString,
    },
    /// Adds to an integer; a key that is not there counts as 0.
    Incr {
        /// The key.
        key: Key,
        /// The number to add.
        by: i64,
        /// Time to live from now on, in milliseconds; `None` keeps the deadline.
        ttl_ms: Option<u64>,
        /// The conditions on the key.
        conditions: Vec<Condition>,
    },
    /// Sets a key's time to live, and changes nothing else of it.
    Touch {
        /// The key.
        key: Key,
        /// Time to live from now on, in milliseconds.
        ttl_ms: u64,
        /// The conditions on the key.
        conditions: Vec<Condition>,
    },
    /// Conditions, and the operations to run if they hold and if they do not.
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
    /// Withdraws a request for a lock, because its client is gone: takes it out of the queue, or takes the lock back.
    Cancel {
        /// The lock.
        name: Key,
        /// Index of the entry that queued.
        ticket: u64,
    },
    /// Drops what is due by now, at most `most`.
    Tick {
        /// The most that is dropped by this entry.
        most: u32,
    },
    /// Changes nothing: each node notes the digest of its state here, so that a node whose state differs is found.
    Mark,
    /// From here on the cluster has this format, unless it has a higher one. Only a leader proposes it, once all members
    /// understand it.
    Raise {
        /// The format.
        to: Format,
    },
    /// Makes a lease; its id is the index of this entry.
    Grant {
        /// How long it lasts unless it is kept alive, in milliseconds.
        ttl_ms: u64,
        /// JSON shown to others.
        body: Option<Bytes>,
    },
    /// Keeps a lease for another while.
    KeepAlive {
        /// The lease.
        lease: u64,
        /// Another time to live, in milliseconds.
        ttl_ms: Option<u64>,
    },
    /// Ends a lease, with all its keys and locks.
    Revoke {
        /// The lease.
        lease: u64,
    },
    /// Writes something that lasts as long as a lease.
    Leased {
        /// The lease.
        lease: u64,
        /// The write.
        write: Leased,
    },
    /// Authentication is on from here on, or off.
    Authentication {
        /// On.
        on: bool,
        /// What is granted to all; `None` leaves that as it is.
        anonymous: Option<Grants>,
        /// Only where it was never on or off.
        first: bool,
    },
    /// Makes a token, or replaces the grants and the time of the one of this name.
    PutToken {
        /// Its name; that of `anonymous` stands for what is granted to all.
        name: CompactString,
        /// Its id and the hash of its secret, where it is new.
        id: TokenId,
        /// The hash of its secret, where it is new.
        hash: TokenHash,
        /// What it allows.
        grants: Grants,
        /// Time to live, in milliseconds.
        ttl_ms: Option<u64>,
        /// A client whose certificate has this name needs no token.
        certificate: Option<CompactString>,
    },
    /// Gives a token another secret.
    RotateToken {
        /// Its name.
        name: CompactString,
        /// Its id.
        id: TokenId,
        /// The hash of the new secret.
        hash: TokenHash,
        /// How long the old one is good, in milliseconds.
        grace_ms: u64,
    },
    /// Ends a token.
    DeleteToken {
        /// Its name.
        name: CompactString,
    },
    /// From here on keys and values may have so many bytes. Only a leader proposes it.
    Quota {
        /// Bytes; 0: any number.
        bytes: u64,
    },
}

/// A value and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value {
    /// JSON text, or bytes of any kind.
    pub data: Bytes,
    /// True if `data` is not JSON text.
    pub is_bytes: bool,
    /// The content type that the client named, if it says more than `data` does.
    pub content_type: Option<CompactString>,
}

/// A condition on a key, without which a write is refused (RFC 9110, 13.1). A key that is not there has index 0 here.
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
    /// The operations to run if they hold.
    pub then: Vec<Op>,
    /// The operations to run otherwise.
    pub otherwise: Vec<Op>,
}

/// One condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    /// The key.
    pub key: Key,
    /// The requirement.
    pub of: TestOf,
}

/// A requirement on a key. One that is not there has indexes and version 0, and no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TestOf {
    /// It is there, or it is not.
    Exists(bool),
    /// The index that last changed it.
    ModifyIndex(u64),
    /// The index that created it.
    CreateIndex(u64),
    /// How often it was written since.
    Version(u64),
    /// Its value, as JSON text; compared by structure, numbers by their text.
    Value(Bytes),
    /// Its value is a number, and compares so with this one; both are compared exactly.
    Number(Order, Bytes),
    /// The key is the name of a lock, which is held with this token.
    Holder(u64),
    /// This lease is alive. The key is empty.
    Alive(u64),
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Stores JSON values.
    Set {
        /// Keys, and JSON text as it was sent.
        pairs: Vec<(Key, Bytes)>,
        /// Time to live, in milliseconds.
        ttl_ms: Option<u64>,
    },
    /// Adds to integers.
    Incr {
        /// Keys, and what to add.
        pairs: Vec<(Key, i64)>,
        /// Time to live from now on, in milliseconds; `None` keeps the deadline.
        ttl_ms: Option<u64>,
    },
    /// Deletes one key.
    Delete(Key),
    /// Deletes all keys that begin with this prefix.
    DeletePrefix(CompactString),
    /// Reads one key.
    Get(Key),
    /// Stores JSON values that last as long as a lease.
    SetLeased {
        /// Keys, and JSON text as it was sent.
        pairs: Vec<(Key, Bytes)>,
        /// The lease.
        lease: u64,
    },
    /// Adds to integers, which last as long as a lease from now on.
    IncrLeased {
        /// Keys, and what to add.
        pairs: Vec<(Key, i64)>,
        /// The lease.
        lease: u64,
    },
    /// Sets the time to live of those keys that are there, and changes nothing else of them.
    Touch {
        /// The keys.
        keys: Vec<Key>,
        /// Time to live from now on, in milliseconds.
        ttl_ms: u64,
    },
}

pub(super) fn bytes_of(pairs: &[(Key, Bytes)]) -> usize {
    pairs.iter().map(|(key, value)| key.len() + value.len()).sum()
}

impl Txn {
    /// What it has that hraftd 0.1.0 did not know.
    fn feature(&self) -> Option<Feature> {
        let mut ops = self.then.iter().chain(&self.otherwise);
        if ops.clone().any(|op| matches!(op, Op::SetLeased { .. } | Op::IncrLeased { .. })) {
            return Some(Feature::Leases);
        }
        let new = |test: &Test| matches!(test.of, TestOf::Number(..) | TestOf::Holder(_) | TestOf::Alive(_));
        let is_new = self.tests.iter().any(new) || ops.any(|op| matches!(op, Op::Touch { .. }));
        is_new.then_some(Feature::Conditions)
    }
}

impl Op {
    fn bytes(&self) -> usize {
        match self {
            Op::Set { pairs, .. } | Op::SetLeased { pairs, .. } => bytes_of(pairs),
            Op::Touch { keys, .. } => keys.iter().map(Key::len).sum(),
            Op::Incr { pairs, .. } | Op::IncrLeased { pairs, .. } => pairs.iter().map(|(key, _)| key.len() + 8).sum(),
            Op::Delete(key) | Op::DeletePrefix(key) | Op::Get(key) => key.len(),
        }
    }
}

impl Action {
    /// The format that a node must understand to read it.
    pub fn format(&self) -> Format {
        match self {
            Action::Set { .. }
            | Action::Put { .. }
            | Action::Delete { .. }
            | Action::DeletePrefix { .. }
            | Action::Incr { .. }
            | Action::Touch { .. }
            | Action::Acquire { .. }
            | Action::Renew { .. }
            | Action::Release { .. }
            | Action::Cancel { .. }
            | Action::Tick { .. }
            | Action::Mark => OLDEST,
            Action::Txn(txn) => txn.feature().map_or(OLDEST, Feature::format),
            // Who comes after it must understand that one.
            Action::Raise { to } => *to,
            Action::Grant { .. } | Action::KeepAlive { .. } | Action::Revoke { .. } | Action::Leased { .. } => {
                Feature::Leases.format()
            }
            Action::Authentication { .. }
            | Action::PutToken { .. }
            | Action::RotateToken { .. }
            | Action::DeleteToken { .. } => Feature::Tokens.format(),
            Action::Quota { .. } => Feature::Quota.format(),
        }
    }

    /// The feature that its client must ask for first.
    pub fn feature(&self) -> Option<Feature> {
        match self {
            Action::Grant { .. } | Action::KeepAlive { .. } | Action::Revoke { .. } | Action::Leased { .. } => {
                Some(Feature::Leases)
            }
            Action::Authentication { .. }
            | Action::PutToken { .. }
            | Action::RotateToken { .. }
            | Action::DeleteToken { .. } => Some(Feature::Tokens),
            Action::Txn(txn) => txn.feature(),
            _ => None,
        }
    }

    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        match self {
            Action::Set { pairs, .. } => bytes_of(pairs),
            Action::Put { key, value, .. } => key.len() + value.data.len(),
            Action::Txn(txn) => {
                let tests = txn.tests.iter().map(|test| match &test.of {
                    TestOf::Value(value) | TestOf::Number(_, value) => test.key.len() + value.len(),
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
            Action::Grant { body, .. } => body.as_ref().map_or(0, Bytes::len),
            Action::Leased { write, .. } => write.bytes(),
            Action::PutToken { name, grants, certificate, .. } => {
                name.len() + grants.bytes() + certificate.as_ref().map_or(0, CompactString::len)
            }
            Action::Authentication { anonymous, .. } => anonymous.as_ref().map_or(0, Grants::bytes),
            Action::RotateToken { name, .. } | Action::DeleteToken { name } => name.len(),
            Action::Tick { .. }
            | Action::Mark
            | Action::Raise { .. }
            | Action::Quota { .. }
            | Action::KeepAlive { .. }
            | Action::Revoke { .. } => 0,
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
            Action::Mark => write!(f, "mark"),
            Action::Raise { to } => write!(f, "raise the format to {to}"),
            Action::Grant { .. } => write!(f, "grant a lease"),
            Action::KeepAlive { lease, .. } => write!(f, "keep lease {lease} alive"),
            Action::Revoke { lease } => write!(f, "revoke lease {lease}"),
            Action::Leased { lease, write: leased } => write!(f, "{} under lease {lease}", leased.words()),
            Action::Authentication { on, .. } => write!(f, "authentication {}", if *on { "on" } else { "off" }),
            Action::PutToken { name, .. } => write!(f, "put token {name}"),
            Action::RotateToken { name, .. } => write!(f, "rotate token {name}"),
            Action::DeleteToken { name } => write!(f, "delete token {name}"),
            Action::Quota { bytes } => write!(f, "quota of {bytes} bytes"),
        }
    }
}
