//! Some of a directory's files, as if they were a directory of their own.

use std::io;
use std::sync::Arc;

use super::{Disk, DiskFile};

/// The files of a directory whose names start with a prefix, seen without it.
#[derive(Debug)]
pub struct PrefixedDisk {
    disk: Arc<dyn Disk>,
    prefix: &'static str,
}

impl PrefixedDisk {
    /// The files of `disk` whose names start so.
    pub fn new(disk: Arc<dyn Disk>, prefix: &'static str) -> Self {
        Self { disk, prefix }
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

impl Disk for PrefixedDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(&self.name(name))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(&self.name(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = self.disk.list()?;
        Ok(names.iter().filter_map(|name| name.strip_prefix(self.prefix)).map(str::to_owned).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(&self.name(from), &self.name(to))
    }

    fn set_aside(&self, name: &str, folder: &str) -> io::Result<()> {
        self.disk.set_aside(&self.name(name), folder)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(&self.name(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        self.disk.free_bytes()
    }

    fn display(&self, name: &str) -> String {
        self.disk.display(&self.name(name))
    }
}
