//! The directory of one node, locked for as long as anything uses it.
//!
//! A file in it is opened only if it is a regular one: no symbolic link is followed, no named pipe waited for. The directory
//! itself may be reached by a symbolic link.
//!
//! The lock belongs to the [`Disk`], not to the [`DataDir`]: a snapshot that is still being written in
//! the background keeps the directory locked.
//!
//! Caveats:
//! * The lock is advisory (`flock`) and ends with the process. On some network file systems it does not
//!   reach other hosts.
//! * The lock file is the one file opened outside the [`Disk`] seam. It is empty. It is never removed:
//!   two processes could then lock two files of that name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use super::StorageError;
use super::disk::{Disk, DiskFile, MemDisk, ReadOnlyDisk, RealDisk, open_file, others_may_write};
use super::diverged;

const LOCK_NAME: &str = "lock";

/// An open data directory, or one in memory.
#[derive(Debug)]
pub struct DataDir {
    /// The files: identity, log and snapshots.
    pub disk: Arc<dyn Disk>,
}

impl DataDir {
    /// Opens and locks a directory of the operating system. Makes it if it does not exist.
    ///
    /// # Errors
    /// `Locked`: another process, or another `DataDir` of this one, uses it. `Io`.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let place = path.join(LOCK_NAME).display().to_string();
        let disk = RealDisk::open(path).map_err(|error| StorageError::io(path.display().to_string(), error))?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = open_file(&path.join(LOCK_NAME), &mut options).map_err(|error| StorageError::io(&place, error))?;
        warn_of_others(path);
        match lock.try_lock() {
            Ok(()) => Ok(Self { disk: Arc::new(LockedDisk { disk, _lock: lock }) }),
            Err(TryLockError::WouldBlock) => Err(StorageError::Locked(path.display().to_string())),
            Err(TryLockError::Error(error)) => Err(StorageError::io(place, without_locks(error))),
        }
    }

    /// Opens an existing directory for reading: no byte of it changes. No node can start on it
    /// meanwhile; any number of readers may share it.
    ///
    /// Caveat: a directory that was copied without its lock file is not locked.
    ///
    /// # Errors
    /// `Locked`: a node uses it. `Io`, with `NotFound` if there is no such directory.
    pub fn read(path: &Path) -> Result<ReadDir, StorageError> {
        let place = path.join(LOCK_NAME).display().to_string();
        std::fs::read_dir(path).map_err(|error| StorageError::io(path.display().to_string(), error))?;
        let lock = match open_file(&path.join(LOCK_NAME), File::options().read(true)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(ReadDir { disk: Arc::new(ReadOnlyDisk::new(path)), _lock: None });
            }
            Err(error) => return Err(StorageError::io(place, error)),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(ReadDir { disk: Arc::new(ReadOnlyDisk::new(path)), _lock: Some(lock) }),
            Err(TryLockError::WouldBlock) => Err(StorageError::Locked(path.display().to_string())),
            Err(TryLockError::Error(error)) => Err(StorageError::io(place, error)),
        }
    }

    /// An empty directory in memory. It is gone when it is dropped.
    pub fn in_memory() -> Self {
        Self { disk: Arc::new(MemDisk::without_crashes()) }
    }
}

/// The error of a lock that cannot be had, with the usual reason.
fn without_locks(error: io::Error) -> io::Error {
    use rustix::io::Errno;
    let no_locks = [Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOSYS].map(Errno::raw_os_error);
    if !error.raw_os_error().is_some_and(|code| no_locks.contains(&code)) {
        return error;
    }
    let why = format!(
        "{error}: its file system has no locks, as NFS mounted with nolock or local_lock=none and no lock service; two \
         processes could use the directory at once. Put it on a local disk, or mount with locks"
    );
    io::Error::new(error.kind(), why)
}

/// Warns if other users may change the files: they could take this node's identity and votes.
fn warn_of_others(path: &Path) {
    // A directory whose metadata cannot be read fails at the next step.
    if let Some(why) = std::fs::metadata(path).ok().as_ref().and_then(others_may_write) {
        tracing::warn!("other users can change the data directory {}: {why}", path.display());
    }
}

/// True for the files of the Raft log, for snapshots, and for the note that they are not their cluster's.
pub fn is_raft_state(name: &str) -> bool {
    name.starts_with("log-") || name.starts_with("snapshot") || name == diverged::NAME
}

/// A data directory of a stopped node, for reading.
#[derive(Debug)]
pub struct ReadDir {
    /// Its files; every change fails.
    pub disk: Arc<dyn Disk>,
    _lock: Option<File>,
}

/// A directory and the lock on it.
#[derive(Debug)]
struct LockedDisk {
    disk: RealDisk,
    _lock: File,
}

impl Disk for LockedDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn set_aside(&self, name: &str, folder: &str) -> io::Result<()> {
        self.disk.set_aside(name, folder)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        self.disk.free_bytes()
    }

    fn display(&self, name: &str) -> String {
        self.disk.display(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 18, D12: NFS without locks was told with a path only.
    #[test]
    fn a_file_system_without_locks_is_named() {
        let told = |errno: rustix::io::Errno| without_locks(errno.into()).to_string();
        assert!(told(rustix::io::Errno::NOLCK).contains("has no locks, as NFS"));
        assert!(!told(rustix::io::Errno::IO).contains("NFS"));
    }

    #[test]
    fn one_user_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        let first = DataDir::open(&path).unwrap();
        let held = first.disk.clone();
        drop(first);
        let error = DataDir::open(&path).unwrap_err();
        assert!(matches!(&error, StorageError::Locked(name) if *name == path.display().to_string()), "{error}");
        drop(held);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn readers_share_a_directory_and_keep_others_out() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(DataDir::read(&dir.path().join("none")), Err(StorageError::Io { .. })));
        let unlocked = DataDir::read(dir.path()).unwrap();
        assert_eq!(unlocked.disk.list().unwrap(), [""; 0], "no lock file is made");
        let user = DataDir::open(dir.path()).unwrap();
        assert!(matches!(DataDir::read(dir.path()), Err(StorageError::Locked(_))));
        drop(user);
        let readers = [DataDir::read(dir.path()).unwrap(), DataDir::read(dir.path()).unwrap()];
        assert!(matches!(DataDir::open(dir.path()), Err(StorageError::Locked(_))));
        drop(readers);
        DataDir::open(dir.path()).unwrap();
    }
}
