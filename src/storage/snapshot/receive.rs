//! A snapshot that arrives from a peer.

use std::sync::Arc;

use super::file::TmpName;
use super::format::Reader;
use super::{SnapshotFile, SnapshotStore};
use crate::raft_types::alias::SnapshotMeta;
use crate::storage::StorageError;
use crate::storage::disk::{Disk, DiskFile};
use crate::storage::file_header::damaged;

/// The bytes of a snapshot, as they arrive, in a file that is removed if they never become whole. All
/// calls block.
#[derive(Debug)]
pub struct Incoming {
    store: SnapshotStore,
    tmp: TmpName,
    file: Arc<dyn DiskFile>,
    place: String,
    at: u64,
    flushed: u64,
}

/// What arrived is flushed this often, so that the last flush, and the log's beside it, wait for little.
const FLUSH_BYTES: u64 = 8 << 20;

impl Incoming {
    pub(super) fn new(store: SnapshotStore, disk: &Arc<dyn Disk>, name: String) -> Result<Self, StorageError> {
        let place = disk.display(&name);
        let (tmp, file) = TmpName::create(disk, name).map_err(|error| StorageError::io(&place, error))?;
        Ok(Self { store, tmp, file, place, at: 0, flushed: 0 })
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    /// `Io`; drop it then.
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

    /// Flushes and checks all of what arrived. The snapshot is then safe on the disk, but not this node's until it is
    /// [installed](SnapshotStore::install): openraft first truncates what contradicts it.
    ///
    /// # Errors
    /// `Io`. `Damaged`, `Version`, and `Mixed` (it is of another cluster) are about what was sent, not about this
    /// node's directory: nothing is kept of it, and the sender may try again. `Damaged` also where
    /// `expected` is given and differs from what the file says of itself.
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
        Ok(SnapshotFile::new(header.meta, header.cluster, self.at, self.file, self.place, Some(self.tmp)))
    }
}
