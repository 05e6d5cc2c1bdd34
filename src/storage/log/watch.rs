//! Who is told of what happens to a log.

use std::fmt;

use crate::raft_types::alias::{LogEntry, LogId, Vote};

/// Is told of each change of a log, in the order of the changes, by whoever makes them: it must not wait.
pub trait LogWatch: fmt::Debug + Send + Sync {
    /// A vote is about to be saved.
    fn voted(&self, vote: &Vote);

    /// Entries are about to be handed to the writer.
    fn appended(&self, entries: &[LogEntry]);

    /// These entries are on the disk.
    fn flushed(&self, first: u64, last: u64);

    /// This is committed, and what is before it.
    fn committed(&self, committed: Option<LogId>);

    /// The entries after this one are about to be dropped.
    fn truncated(&self, after: Option<LogId>);
}
