//! What a state machine shows of its work, beside what readers and watchers see.

use std::fmt;

use crate::command::Reply;
use crate::kv::{Event, KvStore};
use crate::raft_types::alias::{LogEntry, LogId};

/// Sees each step of one state machine: a simulation, which checks it. It is called under the locks of the state machine,
/// and must not wait.
pub trait Observer: fmt::Debug + Send + Sync {
    /// The state is about to become that of a snapshot up to `last`.
    fn loaded(&self, last: LogId, kv: &KvStore);

    /// An entry was applied: the state after it, its reply, and the changes that it made.
    fn applied(&self, entry: &LogEntry, kv: &KvStore, reply: &Reply, events: &[Event]);
}
