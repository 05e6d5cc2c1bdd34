//! The Raft log: a write-ahead log on the [`Disk`](super::disk::Disk) trait.
//!
//! * [`store`](LogStore): what openraft calls; it changes the memory and queues the operation.
//! * `queue`: the order of operations, and the state shared with the writer.
//! * `writer`: the one thread that writes; one flush for all that waits.
//! * `memory`, `index`: where entries lie, and a cache of the newest.
//! * `frame`, `record`, `segment`: the format. `files`: finding and reading segments. `spare`: segments zeroed ahead.
//! * `recovery`: reading it back, and telling a torn write from damage. `repair`: making the disk hold what was read.
//! * [`view`](LogView): a stopped node's log, read without changing it.
//!
//! Promises: votes, entries, truncations and purges are on disk in the order openraft asked for
//! them; what was acknowledged is there after a power loss; nothing that openraft did not write is
//! ever read; the first failed write or flush fails the log for good.

mod files;
mod frame;
mod history;
mod index;
mod memory;
mod queue;
mod record;
mod recovery;
mod repair;
mod segment;
mod spare;
mod store;
#[cfg(test)]
mod tests;
mod view;
mod watch;
mod writer;

use std::fmt;
use std::sync::Arc;

use crate::formats::FORMATS;

pub use files::has_log;
pub use queue::LogNumbers;
pub use record::format as format_of;
pub use store::{LogReader, LogStore};
pub use view::{Ending, LogView};
pub use watch::LogWatch;

/// The newest version of the segment format that this binary reads. Version 2 added kinds of commands, version 3 the owner
/// of the log under the checksums of its frames. Later ones have entries of a newer [`Format`](crate::formats::Format): a segment is only begun in
/// such a version for an entry that needs it.
pub const FORMAT_VERSION: u32 = FORMATS[FORMATS.len() - 1].log;

/// The oldest version that this binary reads.
pub const OLDEST_FORMAT_VERSION: u32 = 1;

/// Says when a log is written that has no thread for it: for simulations, whose time must stand still while a thread works.
pub trait Scheduler: fmt::Debug + Send + Sync {
    /// Runs this, now or later. It writes all that is queued by then, and is handed over once until then.
    fn run(&self, write: Box<dyn FnOnce() + Send>);
}

/// Writes on the caller's thread.
#[derive(Debug, Clone, Copy)]
pub struct AtOnce;

impl Scheduler for AtOnce {
    fn run(&self, write: Box<dyn FnOnce() + Send>) {
        write();
    }
}

/// Options of a log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Bytes of a segment file; a larger record gets a larger one.
    pub segment_bytes: u64,
    /// Bytes of memory for the newest entries; older ones are read from their files.
    pub cache_bytes: usize,
    /// Zero segments ahead: faster on a disk, pointless in memory.
    pub prezero: bool,
    /// Who says when the log is written. `None`: a thread of its own writes at once.
    pub scheduler: Option<Arc<dyn Scheduler>>,
    /// The Raft id of the node whose log it is. A log of another node is not opened. `None`: any.
    pub owner: Option<u64>,
    /// Refuse to truncate what is committed.
    pub keeps_committed: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            cache_bytes: 8 << 20,
            prezero: true,
            scheduler: None,
            owner: None,
            keeps_committed: true,
        }
    }
}
