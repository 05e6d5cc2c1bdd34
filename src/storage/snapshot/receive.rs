//! A snapshot that arrives from a peer.

use std::sync::Arc;

use super::file::TmpName;
use super::format::Reader;
use super::{SnapshotFile, SnapshotStore};
use crate::raft_types::alias::SnapshotMeta;
use crate::storage::StorageError;
use crate::storage::disk::{Disk, DiskFile};
use crate::storage::file_header::damaged;

/// A snapshot of which bytes still arrive. Its file is removed unless [`finish`](Self::finish) succeeds.
/// All calls block.
#[derive(Debug)]
pub struct ReceivedSnapshot {
    store: SnapshotStore,
    tmp: TmpName,
    file: Arc<dyn DiskFile>,
    place: String,
    at: u64,
    flushed: u64,
}

/// The most bytes between two flushes: the last flush, and the log's beside it, then wait for little.
const FLUSH_BYTES: u64 = 8 << 20;

impl ReceivedSnapshot {
    pub(super) fn new(store: SnapshotStore, disk: &Arc<dyn Disk>, name: String) -> Result<Self, StorageError> {
        let place = disk.display(&name);
        let (tmp, file) = TmpName::create(disk, name).map_err(|error| StorageError::io(&place, error))?;
        Ok(Self { store, tmp, file, place, at: 0, flushed: 0 })
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    /// `Io`, with `Interrupted` after [`SnapshotStore::stop`]. Drop it then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.store.go_on(&self.place)?;
        let io = |error| StorageError::io(&self.place, error);
        self.file.write_all_at(bytes, self.at).map_err(io)?;
        self.at += bytes.len() as u64;
        if self.at - self.flushed >= FLUSH_BYTES {
            self.file.sync_data().map_err(io)?;
            self.flushed = self.at;
        }
        Ok(())
    }

    /// How many bytes have arrived.
    pub fn received(&self) -> u64 {
        self.at
    }

    /// Flushes and checks all that arrived. The snapshot becomes this node's only when it is
    /// [installed](SnapshotStore::install): openraft first truncates what contradicts it.
    ///
    /// # Errors
    /// * `Io`.
    /// * `Damaged`: a checksum is wrong, or its metadata is not the `expected` one.
    /// * `Version`: a newer hraftd wrote it.
    /// * `Mixed`: it is of another cluster.
    ///
    /// All but `Io` are about the bytes that were sent, not about this node's directory. Nothing is kept,
    /// and the sender may try again.
    pub fn finish(self, expected: Option<&SnapshotMeta>) -> Result<SnapshotFile, StorageError> {
        self.file.sync_data().map_err(|error| StorageError::io(&self.place, error))?;
        let (reader, header) = Reader::open(&*self.file, &self.place)?;
        self.store.check_cluster(&self.place, header.cluster)?;
        if expected.is_some_and(|expected| *expected != header.meta) {
            return Err(damaged(&self.place, 0, "it is not the snapshot that was announced"));
        }
        if header.meta.last_log_id.is_none() {
            return Err(damaged(&self.place, 0, "it covers no log entry"));
        }
        reader.verify()?;
        Ok(SnapshotFile::new(header, self.at, self.file, self.place, Some(self.tmp)))
    }
}
