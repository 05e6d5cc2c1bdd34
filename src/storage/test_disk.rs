//! A disk that is asked before each change, and may refuse it: for tests of what a crash leaves, and for the simulation.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::disk::{Disk, DiskFile, MemDisk};

/// A change to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Create,
    Rename,
    Remove,
    Write,
    SyncDir,
    Sync,
}

type Hook = dyn Fn(Change) -> io::Result<()> + Send + Sync;

/// A disk that asks before each change.
#[derive(Clone)]
pub(crate) struct HookedDisk {
    pub(crate) mem: MemDisk,
    hook: Arc<Hook>,
}

struct HookedFile {
    file: Arc<dyn DiskFile>,
    hook: Arc<Hook>,
}

impl HookedDisk {
    pub(crate) fn new(mem: MemDisk, hook: impl Fn(Change) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self { mem, hook: Arc::new(hook) }
    }

    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(HookedFile { file, hook: self.hook.clone() })
    }
}

impl fmt::Debug for HookedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mem.fmt(f)
    }
}

impl fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl Disk for HookedDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        (self.hook)(Change::Create)?;
        self.mem.create(name).map(|file| self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.mem.open(name).map(|file| self.file(file))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.mem.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        (self.hook)(Change::Rename)?;
        self.mem.rename(from, to)
    }

    fn set_aside(&self, name: &str, folder: &str) -> io::Result<()> {
        (self.hook)(Change::Rename)?;
        self.mem.set_aside(name, folder)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        (self.hook)(Change::Remove)?;
        self.mem.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        (self.hook)(Change::SyncDir)?;
        self.mem.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        self.mem.free_bytes()
    }

    fn display(&self, name: &str) -> String {
        self.mem.display(name)
    }
}

impl DiskFile for HookedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        (self.hook)(Change::Write)?;
        self.file.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        (self.hook)(Change::Sync)?;
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

/// A disk on which only the first `changes` changes happen.
pub(crate) fn countdown(mem: MemDisk, changes: usize) -> HookedDisk {
    let left = AtomicUsize::new(changes);
    HookedDisk::new(mem, move |_| {
        let took = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        took.map(drop).map_err(|_| io::Error::other("the power is gone"))
    })
}

/// Runs `act` once for each change it makes, stopped before that change, and hands `check` the
/// disks that a crash there could leave, with whether `act` had succeeded. Gives the number of points.
pub(crate) fn crash_everywhere(
    base: impl Fn() -> MemDisk,
    act: impl Fn(Arc<dyn Disk>) -> bool,
    check: impl Fn(&MemDisk, bool),
) -> usize {
    for changes in 0.. {
        let disk = base();
        let done = act(Arc::new(countdown(disk.clone(), changes)));
        for named_early in [false, true] {
            if named_early {
                // A system may make names durable before it is asked to.
                disk.sync_dir().unwrap();
            }
            check(&disk.crash(|_, _, _| 0), done);
            check(&disk.crash(|_, _, len| len), done);
            let mut rng = StdRng::seed_from_u64(changes as u64);
            for _ in 0..4 {
                check(&disk.crash(|_, _, len| rng.random_range(0..=len)), done);
            }
        }
        // The process died and the system did not; last, because checking may clean up.
        check(&disk, done);
        if done {
            return changes;
        }
    }
    unreachable!()
}
