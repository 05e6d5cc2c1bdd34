//! What the system tells: memory of a process, files and their cache.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::node::Node;

pub fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

/// Resident memory, in bytes.
pub struct Memory {
    pub now: u64,
    pub peak: u64,
}

impl Memory {
    pub fn of(node: &Node) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid().as_raw_nonzero())).unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
        };
        Self { now: field("VmRSS:"), peak: field("VmHWM:") }
    }

    /// Makes the peak count from now on.
    pub fn forget_peak(node: &Node) {
        std::fs::write(format!("/proc/{}/clear_refs", node.pid().as_raw_nonzero()), "5").unwrap();
    }

    pub fn against(&self, state: u64) -> String {
        format!("{} MiB = {:.2} of {} MiB", mib(self.peak), self.peak as f64 / state as f64, mib(state))
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB, at most {} MiB", mib(self.now), mib(self.peak))
    }
}

fn each_file(dir: &Path, mut act: impl FnMut(&Path)) {
    for entry in std::fs::read_dir(dir).unwrap() {
        act(&entry.unwrap().path());
    }
}

pub fn dir_bytes(dir: &Path) -> u64 {
    let mut sum = 0;
    // A file may have been deleted since the directory was listed.
    each_file(dir, |path| sum += path.metadata().map_or(0, |metadata| metadata.len()));
    sum
}

/// Makes the next read of these files come from the disk.
pub fn drop_cache(dir: &Path) {
    each_file(dir, |path| {
        let file = File::open(path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    });
}

pub fn read_all(dir: &Path) {
    let mut buffer = vec![0; 1 << 20];
    each_file(dir, |path| {
        let mut file = File::open(path).unwrap();
        while file.read(&mut buffer).unwrap() > 0 {}
    });
}

/// Takes samples while `work` runs, and returns the largest.
pub fn while_sampling(sample: impl Fn() -> u64 + Sync, work: impl FnOnce() -> u64) -> u64 {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut largest = 0;
            while !done.load(Ordering::Relaxed) {
                largest = largest.max(sample());
                std::thread::sleep(Duration::from_millis(20));
            }
            largest
        });
        work();
        done.store(true, Ordering::Relaxed);
        sampler.join().unwrap()
    })
}
