//! Snapshots of the map: files `snapshot-<index, 16 hex digits>-<term, 8 hex digits>`.
//!
//! Contract:
//! * A file with such a name is whole: it was written as `*.tmp`, flushed, read back and checked before
//!   it was renamed. A file whose flush failed never gets such a name, and is removed. Older snapshots are removed only once the new name is durable.
//! * A damaged newest snapshot is an error, never a reason to use an older one: the log that
//!   followed the older one may have been purged.
//! * The current snapshot never goes back: an older one is dropped.
//! * Writing, checking and loading take one block (256 KiB) and one record, never the whole map.
//!
//! All calls block (`spawn_blocking`). Caveats:
//! * Reading back right after writing reads the page cache: that checks the writer, not the disk.
//! * Keys and values are not compressed.
//! * With a directory in memory a snapshot is held beside the map, in the same memory.

mod file;
mod format;
#[cfg(test)]
#[path = "../../../tests/fuzz/snapshot.rs"]
mod fuzz;
mod items;
mod numbers;
mod receive;
#[cfg(test)]
mod tests;
mod view;

use parking_lot::{Mutex, RwLock};
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use self::file::TmpName;
use self::format::{Header, Reader, Writer};
use super::StorageError;
use super::disk::{Disk, DiskFile};
use super::identity::ClusterHandle;
use crate::kv::KvStore;
use crate::raft_types::ClusterId;
use crate::raft_types::alias::{LogId, SnapshotMeta};
use crate::storage::file_header::damaged;
use crate::task::Moment;

pub use file::SnapshotFile;
pub use numbers::{OnSnapshot, SnapshotNumbers, SnapshotStep};
pub use receive::ReceivedSnapshot;
pub use view::{SnapshotView, views};

const PREFIX: &str = "snapshot-";
const TMP_SUFFIX: &str = ".tmp";

/// The snapshots of one data directory. Clones share it.
#[derive(Debug, Clone)]
pub struct SnapshotStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    cluster: ClusterHandle,
    current: RwLock<Option<SnapshotFile>>,
    /// Held while names change; never while a file is written.
    installing: Mutex<()>,
    next_tmp: AtomicU64,
    stopped: AtomicBool,
    numbers: SnapshotNumbers,
    told: numbers::Told,
}

impl SnapshotStore {
    /// Notes in the directory that its cluster has authentication; durable when this returns. Blocks.
    ///
    /// # Errors
    /// `Io`.
    pub fn note_authentication(&self) -> Result<(), StorageError> {
        super::closed::note(&*self.shared.disk)
    }
}

/// Index and term of the last entry that a snapshot covers, as in its name.
type SnapshotId = (u64, u64);

fn snapshot_id(log_id: &LogId) -> SnapshotId {
    (log_id.index, log_id.leader_id.term)
}

fn name_from_id((index, term): SnapshotId) -> String {
    format!("{PREFIX}{index:016x}-{term:08x}")
}

fn id_in_name(name: &str) -> Option<SnapshotId> {
    let (index, term) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let place = (u64::from_str_radix(index, 16).ok()?, u64::from_str_radix(term, 16).ok()?);
    (name_from_id(place) == name).then_some(place)
}

/// Reads the state that a file holds.
fn read(file: &dyn DiskFile, place: &str) -> Result<KvStore, StorageError> {
    let mut kv = KvStore::new();
    let (reader, header) = Reader::open(file, place)?;
    kv.restore_log_time(header.log_time_ms);
    kv.restore_format(header.format);
    reader.for_each(|item| item.restore(&mut kv))?;
    Ok(kv)
}

impl SnapshotStore {
    /// Finds the newest snapshot and checks its header; [`load`](Self::load) checks the rest. Removes
    /// unfinished snapshots. Removes older ones after checking all of the newest.
    ///
    /// # Errors
    /// `Damaged`, `Version`, `Io`. `Mixed`: the snapshot is of another cluster than the handle says.
    pub fn open(disk: Arc<dyn Disk>, cluster: ClusterHandle) -> Result<Self, StorageError> {
        let store = Self {
            shared: Arc::new(Shared {
                disk,
                cluster,
                current: RwLock::default(),
                installing: Mutex::default(),
                next_tmp: AtomicU64::new(1),
                stopped: AtomicBool::new(false),
                numbers: SnapshotNumbers::default(),
                told: numbers::Told::default(),
            }),
        };
        let mut found = Vec::new();
        for name in store.list()? {
            if name.starts_with(PREFIX) && name.ends_with(TMP_SUFFIX) {
                store.shared.disk.remove(&name).map_err(|error| store.io(&name, error))?;
            } else {
                found.extend(id_in_name(&name));
            }
        }
        if let Some(newest) = found.iter().max() {
            let file = store.open_file(*newest, found.len() > 1)?;
            // It got its name only after it was flushed, but a copied directory may not have been.
            file.file().sync_data().map_err(|error| StorageError::io(file.place(), error))?;
            // If the process died between rename and flush, the name is only now made durable.
            store.shared.disk.sync_dir().map_err(|error| store.io("", error))?;
            store.remove_older(*newest)?;
            *store.shared.current.write() = Some(file);
        }
        Ok(store)
    }

    /// The newest snapshot, if there is one. Does not block.
    pub fn current(&self) -> Option<SnapshotFile> {
        self.shared.current.read().clone()
    }

    /// Tells from now on how far snapshots are that are written here. Only the first one who asks is told.
    pub fn on_step(&self, tell: OnSnapshot) {
        let _first = self.shared.told.0.set(tell);
    }

    fn tell(&self, step: SnapshotStep, meta: &SnapshotMeta) {
        if let Some(tell) = self.shared.told.0.get() {
            tell(step, meta.last_log_id.map_or(0, |id| id.index));
        }
    }

    /// What it has counted since it was opened.
    pub fn numbers(&self) -> &SnapshotNumbers {
        &self.shared.numbers
    }

    /// Checks that no entry is missing between the snapshot and the log, which was purged up to and
    /// including `purged`. Call it at every start: openraft does not notice each missing snapshot.
    ///
    /// # Errors
    /// `Damaged`: the snapshot covers less.
    pub fn check_log(&self, purged: Option<&LogId>) -> Result<(), StorageError> {
        let covered = self.current().and_then(|file| file.meta().last_log_id);
        match purged {
            Some(purged) if covered.as_ref() < Some(purged) => {
                let shown = covered.map_or_else(|| "no entry".to_owned(), |covered| format!("index {}", covered.index));
                let what = format!("the log was purged up to index {}, but the snapshot covers {shown}", purged.index);
                Err(damaged(&self.shared.disk.display("snapshot"), 0, what))
            }
            _ => Ok(()),
        }
    }

    /// Writes a snapshot, makes it the current one and removes the previous one. Writes nothing if the
    /// current one covers as much, and returns that.
    ///
    /// # Errors
    /// `Io`; with `InvalidInput`: `meta` has no log id; with `Interrupted`: [`stop`](Self::stop) was called.
    /// The current snapshot is then what it was.
    pub fn write(&self, meta: &SnapshotMeta, cluster: ClusterId, kv: &KvStore) -> Result<SnapshotFile, StorageError> {
        if meta.last_log_id.is_none() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "a snapshot that covers no log entry");
            return Err(self.io("snapshot", error));
        }
        if let Some(current) = self.current().filter(|current| current.meta().last_log_id >= meta.last_log_id) {
            return Ok(current);
        }
        let began = Moment::now();
        self.tell(SnapshotStep::Begun, meta);
        let written = self.write_new(meta, cluster, kv);
        match &written {
            Ok(_) => {
                self.shared.numbers.took.took(began.elapsed());
                self.tell(SnapshotStep::Written, meta);
            }
            Err(_) if self.is_stopped() => {}
            Err(_) => {
                self.shared.numbers.failures.one();
                self.tell(SnapshotStep::Failed, meta);
            }
        }
        written
    }

    fn write_new(&self, meta: &SnapshotMeta, cluster: ClusterId, kv: &KvStore) -> Result<SnapshotFile, StorageError> {
        let name = self.tmp_name("build");
        let place = self.shared.disk.display(&name);
        let io = |error| StorageError::io(&place, error);
        let (tmp, file) = TmpName::create(&self.shared.disk, name).map_err(io)?;
        let header = Header { cluster, meta: meta.clone(), log_time_ms: kv.log_time_ms(), format: kv.format() };
        let mut writer = Writer::new(&*file, &header).map_err(io)?;
        for (key, record) in kv.iter() {
            self.go_on(&place)?;
            writer.add_key(key, record).map_err(io)?;
        }
        for (name, lock) in kv.locks() {
            writer.add_lock(name, &lock).map_err(io)?;
        }
        for (key, kept) in kv.kept() {
            self.go_on(&place)?;
            writer.add_kept(key, kept).map_err(io)?;
        }
        for (id, lease) in kv.leases(Bound::Unbounded) {
            self.go_on(&place)?;
            writer.add_lease(id, lease).map_err(io)?;
        }
        for (name, ticket, lease) in kv.leased_claims() {
            writer.add_claim(name, ticket, lease).map_err(io)?;
        }
        writer.add_auth(kv).map_err(io)?;
        writer.add_quota(kv).map_err(io)?;
        let len = writer.finish().map_err(io)?;
        // The log is purged on the word of this file: read it once before its name says that it is whole.
        Reader::open(&*file, &place)?.0.verify()?;
        self.go_on(&place)?;
        self.install(&SnapshotFile::new(header, len, file, place, Some(tmp)))
    }

    /// Starts to receive a snapshot from a peer.
    ///
    /// # Errors
    /// `Io`.
    pub fn receive(&self) -> Result<ReceivedSnapshot, StorageError> {
        ReceivedSnapshot::new(self.clone(), &self.shared.disk, self.tmp_name("receive"))
    }

    /// Makes a snapshot from [`ReceivedSnapshot::finish`] the current one, durably, and removes the previous
    /// one. Returns the current one, which is another if that covers as much. A snapshot of another
    /// directory is copied.
    ///
    /// # Errors
    /// `Io`: after a restart either of the two may be the current one; both are whole. For a copy also
    /// the errors of [`ReceivedSnapshot::finish`].
    pub fn install(&self, file: &SnapshotFile) -> Result<SnapshotFile, StorageError> {
        let disk = &self.shared.disk;
        let Some(last) = &file.meta().last_log_id else { return Ok(file.clone()) };
        let covered = || self.current().filter(|current| current.meta().last_log_id.as_ref() >= Some(last));
        let Some(tmp) = file.take_tmp(disk) else {
            return covered().map_or_else(|| self.install(&self.copy(file)?), Ok);
        };
        let _turn = self.shared.installing.lock();
        if let Some(current) = covered() {
            return Ok(current);
        }
        let place = snapshot_id(last);
        tmp.rename(&name_from_id(place)).map_err(|error| self.io(&name_from_id(place), error))?;
        disk.sync_dir().map_err(|error| self.io("", error))?;
        *self.shared.current.write() = Some(file.clone());
        if let Err(error) = self.remove_older(place) {
            // The next one, or the next start, tries again.
            tracing::warn!(%error, "cannot remove an older snapshot");
        }
        Ok(file.clone())
    }

    /// A copy in this directory, as if it had been received.
    fn copy(&self, file: &SnapshotFile) -> Result<SnapshotFile, StorageError> {
        let mut incoming = self.receive()?;
        let mut chunk = vec![0; 256 * 1024];
        loop {
            let read = file.file().read_at(&mut chunk, incoming.received());
            match read.map_err(|error| StorageError::io(file.place(), error))? {
                0 => return incoming.finish(Some(file.meta())),
                n => incoming.write(&chunk[..n])?,
            }
        }
    }

    /// Reads a whole snapshot and checks all of it. Takes the memory of the new map and of one block.
    ///
    /// # Errors
    /// `Damaged`, `Version`, `Io`.
    pub fn load(&self, file: &SnapshotFile) -> Result<KvStore, StorageError> {
        read(&**file.file(), file.place())
    }

    /// Makes writes, running and later, fail with `Interrupted`, so that a shutdown soon frees the
    /// directory.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }

    /// True once [`stop`](Self::stop) was called.
    pub fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Relaxed)
    }

    fn go_on(&self, place: &str) -> Result<(), StorageError> {
        if self.is_stopped() { Err(StorageError::io(place, io::ErrorKind::Interrupted.into())) } else { Ok(()) }
    }

    fn check_cluster(&self, place: &str, found: ClusterId) -> Result<(), StorageError> {
        match self.shared.cluster.get() {
            Some(expected) if expected != found => Err(StorageError::Mixed { file: place.to_owned(), found, expected }),
            _ => Ok(()),
        }
    }

    fn open_file(&self, place: SnapshotId, verify: bool) -> Result<SnapshotFile, StorageError> {
        let name = name_from_id(place);
        let shown = self.shared.disk.display(&name);
        let file = self.shared.disk.open(&name).map_err(|error| self.io(&name, error))?;
        let len = file.len().map_err(|error| self.io(&name, error))?;
        let (reader, header) = Reader::open(&*file, &shown)?;
        if header.meta.last_log_id.as_ref().map(snapshot_id) != Some(place) {
            return Err(damaged(&shown, 0, "its name and its head tell different log ids"));
        }
        self.check_cluster(&shown, header.cluster)?;
        if verify {
            reader.verify()?;
        }
        Ok(SnapshotFile::new(header, len, file, shown, None))
    }

    /// Removes all before this one.
    fn remove_older(&self, than: SnapshotId) -> Result<(), StorageError> {
        for name in self.list()? {
            if id_in_name(&name).is_some_and(|place| place < than) {
                self.shared.disk.remove(&name).map_err(|error| self.io(&name, error))?;
            }
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>, StorageError> {
        self.shared.disk.list().map_err(|error| self.io("", error))
    }

    fn tmp_name(&self, what: &str) -> String {
        format!("{PREFIX}{what}-{}{TMP_SUFFIX}", self.shared.next_tmp.fetch_add(1, Ordering::Relaxed))
    }

    fn io(&self, name: &str, error: io::Error) -> StorageError {
        StorageError::io(self.shared.disk.display(name), error)
    }
}
