//! A directory with the last backups of a cluster. Others' files in it are left alone.
//!
//! * A file gets its name once it is flushed, read again and whole.
//! * Names: `hraftd-CLUSTER-TIME-INDEX.backup`, with the first 8 digits of the cluster's id, and the time in UTC.
//! * The newest is the one of the highest index. Times are of clocks, which may have been wrong.

use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Backup, BackupError, Head};
use crate::kv::KvStore;
use crate::raft_types::ClusterId;
use crate::storage::StorageError;
use crate::storage::disk::{Disk, RealDisk};

const SUFFIX: &str = ".backup";
const TIME: &str = "%Y%m%dT%H%M%SZ";

/// A directory for backups.
#[derive(Debug, Clone)]
pub struct Folder {
    disk: Arc<dyn Disk>,
    /// How the names of this node's unfinished files end.
    tmp: String,
}

/// A backup that is in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// The index it is of.
    pub index: u64,
    /// When it was made, in milliseconds since 1970; whole seconds.
    pub made_ms: u64,
    /// The file's name.
    pub name: String,
}

fn prefix(cluster: ClusterId) -> String {
    format!("hraftd-{}-", cluster.to_string().get(..8).unwrap_or_default())
}

fn name_of(head: &Head) -> String {
    let seconds = i64::try_from(head.made_ms / 1000).unwrap_or_default();
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{}{}-{}{SUFFIX}", prefix(head.cluster), time.strftime(TIME), head.index)
}

fn kept(name: &str, prefix: &str) -> Option<Kept> {
    let (time, index) = name.strip_prefix(prefix)?.strip_suffix(SUFFIX)?.split_once('-')?;
    let time = jiff::civil::DateTime::strptime(TIME, time).ok()?.to_zoned(TimeZone::UTC).ok()?;
    let made_ms = u64::try_from(time.timestamp().as_millisecond()).ok()?;
    Some(Kept { made_ms, index: index.parse().ok()?, name: name.to_owned() })
}

impl Folder {
    /// Opens a directory, and makes it where it is not there. `owner` tells this node's unfinished files from those of others:
    /// they are removed.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(path: &Path, owner: u64) -> Result<Self, StorageError> {
        let disk = RealDisk::open(path).map_err(|error| StorageError::io(path.display().to_string(), error))?;
        Self::on(Arc::new(disk), owner)
    }

    /// The same on any disk.
    ///
    /// # Errors
    /// `Io`.
    pub fn on(disk: Arc<dyn Disk>, owner: u64) -> Result<Self, StorageError> {
        let folder = Self { disk, tmp: format!(".{owner:016x}.tmp") };
        for name in folder.names()?.iter().filter(|name| name.ends_with(&folder.tmp)) {
            folder.disk.remove(name).map_err(|error| folder.io(name, error))?;
        }
        Ok(folder)
    }

    /// The backups of a cluster, the newest last.
    ///
    /// # Errors
    /// `Io`.
    pub fn list(&self, cluster: ClusterId) -> Result<Vec<Kept>, StorageError> {
        let prefix = prefix(cluster);
        let mut found: Vec<Kept> = self.names()?.iter().filter_map(|name| kept(name, &prefix)).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Makes a backup, reads it once more, and gives it its name; gives its length in bytes. Nothing of it is left where that
    /// fails.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn save(&self, head: &Head, kv: &KvStore) -> Result<u64, BackupError> {
        let name = name_of(head);
        let tmp = format!("{name}{}", self.tmp);
        let saved = self.save_as(&name, &tmp, head, kv);
        if saved.is_err() {
            // What cannot be removed now is removed by the next process.
            let _ = self.disk.remove(&tmp);
        }
        saved
    }

    fn save_as(&self, name: &str, tmp: &str, head: &Head, kv: &KvStore) -> Result<u64, BackupError> {
        let file = self.disk.create(tmp).map_err(|error| self.io(tmp, error))?;
        let bytes = super::write_file(&*file, head, kv).map_err(|error| self.io(tmp, error))?;
        Backup::read(file, self.disk.display(tmp))?.check()?;
        self.disk.rename(tmp, name).map_err(|error| self.io(name, error))?;
        self.disk.sync_dir().map_err(|error| self.io("", error))?;
        Ok(bytes)
    }

    /// Removes all of a cluster's but the newest `keep`.
    ///
    /// # Errors
    /// `Io`.
    pub fn prune(&self, cluster: ClusterId, keep: usize) -> Result<(), StorageError> {
        let found = self.list(cluster)?;
        for old in &found[..found.len().saturating_sub(keep)] {
            match self.disk.remove(&old.name) {
                // Two nodes may share the directory.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.io(&old.name, error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, StorageError> {
        self.disk.list().map_err(|error| self.io("", error))
    }

    fn io(&self, name: &str, error: io::Error) -> StorageError {
        StorageError::io(self.disk.display(name), error)
    }
}
