//! Handles to snapshot files, and the names of unfinished ones.

use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::format::Header;
use crate::formats::Format;
use crate::raft_types::ClusterId;
use crate::raft_types::alias::SnapshotMeta;
use crate::storage::disk::{Disk, DiskFile, MemDisk};

/// A whole, verified snapshot. Clones share it.
///
/// It holds the file open: a transfer goes on after the name was removed for a newer snapshot. A received
/// snapshot has a temporary name, and is removed with its last handle unless it is installed.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    header: Header,
    len: u64,
    file: Arc<dyn DiskFile>,
    place: String,
    /// Until it is installed.
    tmp: Mutex<Option<TmpName>>,
}

impl SnapshotFile {
    pub(super) fn new(header: Header, len: u64, file: Arc<dyn DiskFile>, place: String, tmp: Option<TmpName>) -> Self {
        Self { inner: Arc::new(Inner { header, len, file, place, tmp: Mutex::new(tmp) }) }
    }

    /// A stand-in for "no snapshot", which openraft's interface cannot express. Its metadata has no log
    /// id, and it has no bytes. It cannot be loaded.
    ///
    /// # Errors
    /// None in fact.
    pub(crate) fn nothing() -> io::Result<Self> {
        let file = MemDisk::without_crashes().create("nothing")?;
        let (cluster, meta, format) = (ClusterId(0), SnapshotMeta::default(), Format::default());
        Ok(Self::new(Header { cluster, meta, log_time_ms: 0, format }, 0, file, "memory:nothing".to_owned(), None))
    }

    /// The last log id and the membership it covers.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.inner.header.meta
    }

    /// The cluster it is of.
    pub fn cluster(&self) -> ClusterId {
        self.inner.header.cluster
    }

    /// The format of the state in it: nodes that do not understand that cannot read it.
    pub fn format(&self) -> Format {
        self.inner.header.format
    }

    /// Its length in bytes; at least one.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.inner.len
    }

    /// The file, to be read from 0 to [`len`](Self::len). Reads block.
    pub fn file(&self) -> &Arc<dyn DiskFile> {
        &self.inner.file
    }

    /// The path it was made at, as an operator would name it.
    pub fn place(&self) -> &str {
        &self.inner.place
    }

    /// Takes the temporary name, if it is of this directory. Whoever installs the snapshot takes it, once.
    pub(super) fn take_tmp(&self, of: &Arc<dyn Disk>) -> Option<TmpName> {
        let mut tmp = self.inner.tmp.lock();
        tmp.take_if(|tmp| Arc::ptr_eq(&tmp.disk, of))
    }
}

/// The name of an unfinished file; the file is removed when this is dropped.
pub(super) struct TmpName {
    disk: Arc<dyn Disk>,
    name: Option<String>,
}

impl fmt::Debug for TmpName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TmpName").field(&self.name).finish()
    }
}

impl TmpName {
    /// Makes the file.
    pub fn create(disk: &Arc<dyn Disk>, name: String) -> io::Result<(Self, Arc<dyn DiskFile>)> {
        let file = disk.create(&name)?;
        Ok((Self { disk: disk.clone(), name: Some(name) }, file))
    }

    /// Gives the file its final name. On an error it is removed.
    pub fn rename(mut self, to: &str) -> io::Result<()> {
        let Some(name) = &self.name else { return Ok(()) };
        self.disk.rename(name, to)?;
        self.name = None;
        Ok(())
    }
}

impl Drop for TmpName {
    fn drop(&mut self) {
        if let Some(name) = &self.name
            && let Err(error) = self.disk.remove(name)
        {
            // Not worse than disk space: the next start removes it.
            tracing::warn!(file = self.disk.display(name), %error, "cannot remove an unfinished snapshot");
        }
    }
}
