//! The snapshots of a stopped node, read without changing a byte of them. For tools.

use std::sync::Arc;

use super::format::{Header, Reader};
use super::items::Item;
use super::{id_in_name, name_from_id, snapshot_id};
use crate::formats::Format;
use crate::kv::KvStore;
use crate::raft_types::ClusterId;
use crate::raft_types::alias::SnapshotMeta;
use crate::storage::StorageError;
use crate::storage::disk::{Disk, DiskFile};
use crate::storage::file_header::damaged;

/// A snapshot file; of what is in it, only the head was checked.
#[derive(Debug)]
pub struct SnapshotView {
    /// The file's name.
    pub name: String,
    /// The last log id and the membership it covers.
    pub meta: SnapshotMeta,
    /// The cluster it is of.
    pub cluster: ClusterId,
    /// The format of the state.
    pub format: Format,
    /// Bytes of the file.
    pub bytes: u64,
    file: Arc<dyn DiskFile>,
    place: String,
}

impl SnapshotView {
    fn open(disk: &dyn Disk, name: String) -> Result<Self, StorageError> {
        let place = disk.display(&name);
        let io = |error| StorageError::io(&place, error);
        let file = disk.open(&name).map_err(io)?;
        let bytes = file.len().map_err(io)?;
        let (_, header) = Reader::open(&*file, &place)?;
        if header.meta.last_log_id.as_ref().map(snapshot_id) != id_in_name(&name) {
            return Err(damaged(&place, 0, "its name and its head tell different log ids"));
        }
        let Header { meta, cluster, format, .. } = header;
        Ok(Self { name, meta, cluster, format, bytes, file, place })
    }

    /// Checks all of it and counts its keys.
    ///
    /// # Errors
    /// `Damaged`, `Version`, `Io`.
    pub fn count_keys(&self) -> Result<u64, StorageError> {
        let mut keys = 0;
        Reader::open(&*self.file, &self.place)?
            .0
            .for_each(|item| keys += u64::from(matches!(item, Item::Key { .. })))?;
        Ok(keys)
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// `Damaged`, `Version`, `Io`.
    pub fn load(&self) -> Result<KvStore, StorageError> {
        super::read(&*self.file, &self.place)
    }
}

/// The snapshots of a directory, newest first; for each whose head cannot be read, why.
///
/// # Errors
/// `Io`: the directory cannot be read.
pub fn views(disk: &dyn Disk) -> Result<Vec<Result<SnapshotView, StorageError>>, StorageError> {
    let names = disk.list().map_err(|error| StorageError::io(disk.display(""), error))?;
    let mut places: Vec<_> = names.iter().filter_map(|name| id_in_name(name)).collect();
    places.sort_unstable();
    Ok(places.into_iter().rev().map(|place| SnapshotView::open(disk, name_from_id(place))).collect())
}
