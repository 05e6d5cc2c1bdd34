//! Backups: the whole state at one index, in one file that says of itself whether it is whole.
//!
//! ```text
//! head     as that of a snapshot (`file_header.rs`), with the magic `hraftdBK`; its body is the postcard of [`Head`]
//! blocks   as those of a snapshot of the head's format (`snapshot/format.rs`); their checksums go on from the head's
//! end      the last block: number of records u64 | postcard of [`Totals`], with the digest of the state
//! ```
//!
//! Contract:
//! * A file that is cut anywhere, has any other bit, or goes on behind its end, is [`BackupError::Damaged`].
//! * Writing and [checking](Backup::check) take a block and a record, and what there is beside keys; [loading](Backup::load)
//!   takes the state.
//! * All of it is in there: keys with their metadata and times to live, locks and their queues, leases, kept outcomes, tokens'
//!   hashes, log time, format. No secret of a token is.
//!
//! [`folder`] keeps the last ones in a directory.

pub mod folder;
mod read;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::everything as sample;

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk::DiskFile;
use super::file_header;
use super::snapshot::write::{FileSink, Sink, Writer};
use crate::formats::Format;
use crate::kv::KvStore;
use crate::raft_types::ClusterId;

pub use read::{Backup, BackupError};

const MAGIC: &[u8; 8] = b"hraftdBK";
const VERSION: u32 = 1;

/// What a backup says of itself, before all else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The cluster it is of.
    pub cluster: ClusterId,
    /// The index of the last entry that is in it.
    pub index: u64,
    /// The term of that.
    pub term: u64,
    /// When it was made, in milliseconds since 1970, by the clock of its node's machine.
    pub made_ms: u64,
    /// Log time at that moment, in milliseconds.
    pub now_ms: u64,
    /// The log time of the state.
    pub log_time_ms: u64,
    /// The format of the state.
    pub format: Format,
    /// The version of the hraftd that made it.
    pub by: String,
}

/// How much is in a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Keys.
    pub keys: u64,
    /// Locks that are held.
    pub locks: u64,
    /// Leases.
    pub leases: u64,
    /// Outcomes kept for repeated requests.
    pub kept: u64,
    /// Tokens.
    pub tokens: u64,
    /// The digest of the state: that of each replica at the index.
    pub digest: u64,
}

impl Totals {
    fn of(kv: &KvStore) -> Self {
        Self {
            keys: kv.len() as u64,
            locks: kv.locks().count() as u64,
            leases: kv.leases(std::ops::Bound::Unbounded).count() as u64,
            kept: kv.kept().count() as u64,
            tokens: kv.auth().tokens().count() as u64,
            digest: kv.digest(),
        }
    }
}

/// Gives the next bytes away; its error ends the backup.
struct Given<F>(F);

impl<F: FnMut(&[u8]) -> io::Result<()>> Sink for Given<F> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0(bytes)
    }
}

/// Makes a backup, and hands its bytes on as they come: a block at a time. Blocks as long as `take` does.
///
/// # Errors
/// Those of `take`.
pub fn write(head: &Head, kv: &KvStore, take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    write_to(Given(take), head, kv).map(drop)
}

/// Makes a backup in a new file, and flushes it; gives its length in bytes.
///
/// # Errors
/// The disk's.
pub fn write_file(file: &dyn DiskFile, head: &Head, kv: &KvStore) -> io::Result<u64> {
    write_to(FileSink::new(file), head, kv)?.finish()
}

fn write_to<S: Sink>(sink: S, head: &Head, kv: &KvStore) -> io::Result<S> {
    let body = postcard::to_stdvec(head).map_err(io::Error::other)?;
    let (head, crc) = file_header::seal(MAGIC, VERSION, &body);
    let mut writer = Writer::new(sink, &head, crc)?;
    writer.add_all(kv, || Ok(()))?;
    writer.finish(&postcard::to_stdvec(&Totals::of(kv)).map_err(io::Error::other)?)
}

/// True for a file that begins as a backup does, or as the part of one.
///
/// # Errors
/// The file cannot be read.
pub fn is_one(path: &Path) -> io::Result<bool> {
    use std::io::Read as _;
    let mut first = Vec::new();
    let file = read::open_without_waiting(path)?;
    // A named pipe says nothing, a device may without an end.
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    file.take(MAGIC.len() as u64).read_to_end(&mut first)?;
    Ok(first == MAGIC)
}
