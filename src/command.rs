//! What a client's write becomes in the Raft log, and what applying it answers.
//!
//! Encoded with postcard, in the log, in the wire format and in snapshots' values: variants are
//! only ever added at the end, and a change to an existing one needs a new variant.

use std::fmt;

use bytes::Bytes;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// A key: non-empty UTF-8 of at most [`MAX_KEY_BYTES`] bytes.
pub type Key = CompactString;

/// The most bytes a key may have.
pub const MAX_KEY_BYTES: usize = 4096;

/// One write, applied atomically: the whole of it in one log entry, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Stores each value under its key. Keys are distinct; a value is JSON text as it was sent.
    Set(Vec<(Key, Bytes)>),
    /// Deletes one key, whether it exists or not.
    Delete(Key),
}

impl Command {
    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        match self {
            Command::Set(pairs) => pairs.iter().map(|(key, value)| key.len() + value.len()).sum(),
            Command::Delete(key) => key.len(),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Set(pairs) => write!(f, "set {} keys", pairs.len()),
            Command::Delete(key) => write!(f, "delete {key}"),
        }
    }
}

/// What applying an entry answers. Deterministic: every replica gives the same reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The answer to an entry that is no command: a blank one, a membership.
    None,
    /// The keys of a [`Command::Set`] are stored.
    Set,
    /// How many keys a [`Command::Delete`] removed.
    Deleted(u64),
}
