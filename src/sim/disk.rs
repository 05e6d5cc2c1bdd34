//! A disk whose power can fail between any two changes.

use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

use rand::RngExt;

use super::host::{self, Host};
use super::world;
use crate::storage::disk::{Disk, DiskFile, MemDisk};
use crate::storage::log::Scheduler;

/// Writes a log as late as the disk of the host takes to flush.
#[derive(Debug, Clone, Copy)]
pub struct SlowDisk;

impl Scheduler for SlowDisk {
    fn run(&self, write: Box<dyn FnOnce() + Send>) {
        match world::disk_delay() {
            None => write(),
            Some(delay) => {
                host::spawn(async move {
                    tokio::time::sleep(delay).await;
                    write();
                });
            }
        }
    }
}

/// Clones share it.
#[derive(Debug, Clone)]
pub struct SimDisk {
    mem: MemDisk,
    power: Arc<Mutex<Power>>,
}

#[derive(Debug)]
struct Power {
    host: Host,
    /// How many changes there are left until it fails.
    left: Option<u32>,
    /// The next flush fails.
    sync_fails: bool,
}

impl SimDisk {
    /// A disk with the content of `mem`, used by `host`.
    pub fn new(mem: MemDisk, host: Host) -> Self {
        Self { mem, power: Arc::new(Mutex::new(Power { host, left: None, sync_fails: false })) }
    }

    /// The power fails after so many changes, and the host is dead with it.
    pub fn fail_after(&self, changes: u32) {
        self.power.lock().left = Some(changes);
    }

    /// The power does not fail after all.
    pub fn mend(&self) {
        let power = &mut *self.power.lock();
        if !power.host.is_dead() {
            power.left = None;
        }
        power.sync_fails = false;
        self.mem.fail_with(None);
    }

    /// The disk after a power failure: all that was flushed, and any part of what was not.
    pub fn after_power_loss(&self) -> MemDisk {
        self.mem.crash(|_, _, length| world::with_rng(|rng| rng.random_range(0..=length)))
    }

    /// The disk after the process has died and the system has not: what was not flushed is still to be.
    pub fn after_kill(&self) -> MemDisk {
        self.mem.clone()
    }

    /// A copy of the directory as it is now, file by file: `cp -r` in no time.
    pub fn copy(&self) -> MemDisk {
        let copy = MemDisk::new();
        for name in self.mem.list().expect("a disk in memory can be read") {
            if let Some(bytes) = self.mem.bytes(&name) {
                copy.put(&name, bytes);
            }
        }
        copy
    }

    /// There is no space left, or there is again.
    pub fn set_full(&self, full: bool) {
        self.mem.fail_with(full.then_some(io::ErrorKind::StorageFull));
    }

    /// The next flush of a file fails, and what it was to write is lost: it is still in memory, and taken for written.
    /// Later ones succeed.
    pub fn fail_next_sync(&self) {
        self.power.lock().sync_fails = true;
    }

    fn change(&self) -> io::Result<()> {
        let power = &mut *self.power.lock();
        match &mut power.left {
            Some(0) => {
                power.host.kill();
                Err(io::Error::other("the power has failed"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None if power.host.is_dead() => Err(io::Error::other("the process is dead")),
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
struct SimFile(SimDisk, Arc<dyn DiskFile>);

impl Disk for SimDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.change()?;
        Ok(Arc::new(SimFile(self.clone(), self.mem.create(name)?)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(SimFile(self.clone(), self.mem.open(name)?)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.mem.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change()?;
        self.mem.rename(from, to)
    }

    fn set_aside(&self, name: &str, folder: &str) -> io::Result<()> {
        self.change()?;
        self.mem.set_aside(name, folder)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change()?;
        self.mem.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.change()?;
        self.mem.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn display(&self, name: &str) -> String {
        self.mem.display(name)
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.change()?;
        self.1.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.change()?;
        if std::mem::take(&mut self.0.power.lock().sync_fails) {
            self.0.mem.lose_dirty();
            return Err(io::Error::other("the flush failed"));
        }
        self.1.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.1.len()
    }
}
