//! A disk whose power can fail between any two changes.

use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

use rand::RngExt;

use super::host::{self, Host};
use super::world;
use crate::storage::disk::{Disk, MemDisk};
use crate::storage::log::Scheduler;
use crate::storage::test_disk::{Change, HookedDisk};

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

    /// The same disk as a node has it.
    pub fn disk(&self) -> Arc<dyn Disk> {
        let (mem, power) = (self.mem.clone(), self.power.clone());
        Arc::new(HookedDisk::new(self.mem.clone(), move |change| {
            let mut power = power.lock();
            power.allow()?;
            if change == Change::Sync && std::mem::take(&mut power.sync_fails) {
                mem.lose_dirty();
                return Err(io::Error::other("the flush failed"));
            }
            Ok(())
        }))
    }
}

impl Power {
    fn allow(&mut self) -> io::Result<()> {
        match &mut self.left {
            Some(0) => {
                self.host.kill();
                Err(io::Error::other("the power has failed"))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None if self.host.is_dead() => Err(io::Error::other("the process is dead")),
            None => Ok(()),
        }
    }
}
