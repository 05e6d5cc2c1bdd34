//! A disk that stops in the middle of what is done to it: for tests of what a crash leaves.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::disk::{Disk, DiskFile, MemDisk};

/// Lets a number of changes through, then fails each.
#[derive(Debug, Clone)]
pub(crate) struct Countdown {
    disk: MemDisk,
    left: Arc<AtomicUsize>,
}

impl Countdown {
    pub(crate) fn new(disk: MemDisk, changes: usize) -> Self {
        Self { disk, left: Arc::new(AtomicUsize::new(changes)) }
    }

    fn change(&self) -> io::Result<()> {
        let took = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        took.map(drop).map_err(|_| io::Error::other("crashed"))
    }
}

#[derive(Debug)]
struct CountdownFile(Countdown, Arc<dyn DiskFile>);

impl Disk for Countdown {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.change()?;
        Ok(Arc::new(CountdownFile(self.clone(), self.disk.create(name)?)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(CountdownFile(self.clone(), self.disk.open(name)?)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change()?;
        self.disk.rename(from, to)
    }

    fn set_aside(&self, name: &str, folder: &str) -> io::Result<()> {
        self.change()?;
        self.disk.set_aside(name, folder)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        if self.disk.bytes(name).is_some() {
            self.change()?;
        }
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.change()?;
        self.disk.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn display(&self, name: &str) -> String {
        self.disk.display(name)
    }
}

impl DiskFile for CountdownFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.change()?;
        self.1.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.change()?;
        self.1.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.1.len()
    }
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
        let done = act(Arc::new(Countdown::new(disk.clone(), changes)));
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
