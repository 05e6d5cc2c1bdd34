//! What processes take as time goes on: memory, files, threads, disk.

use std::time::{Duration, Instant};

use crate::faults::WITNESS;
use crate::support::namespace::say_figure;
use crate::world::{NODES, World};

const EVERY: Duration = Duration::from_secs(1);
/// In so long the witness has grown to what it needs.
pub const LONG: Duration = Duration::from_secs(240);

/// Of a debug build, with a few thousand keys.
const MEMORY_KIB: u64 = 512 << 10;
/// Connections of the clients and of its peers, and the log's files.
const FILES: u64 = 250;
/// Workers of two runtimes, the log's, and those that block.
const THREADS: u64 = 48;
/// Snapshots, log and spare segments: far below the file system, which is [`crate::world`]'s.
const DISK_KIB: u64 = 224 << 10;

const WHAT: [(&str, u64); 4] =
    [("memory (KiB)", MEMORY_KIB), ("files", FILES), ("threads", THREADS), ("disk (KiB)", DISK_KIB)];

/// How much more than in the second quarter the last may take: a quarter more, and so much.
const ALLOWANCE: [u64; 4] = [32 << 10, 16, 16, 64 << 10];

/// No less than this is a process that runs: else something else was looked at.
const LEAST: [u64; 4] = [2 << 10, 8, 3, 1];

/// Which of them is the disk.
const DISK: usize = 3;

pub struct Samples {
    next: Instant,
    /// Of each node. Those that are killed begin anew, but for their disk.
    taken: [Vec<[u64; 4]>; NODES],
}

impl Samples {
    pub fn new() -> Self {
        Self { next: Instant::now(), taken: Default::default() }
    }

    /// Looks at all nodes, if it is time; asserts their bounds.
    pub fn look(&mut self, world: &World) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + EVERY;
        for place in world.nodes.iter().filter(|place| place.process.is_some()) {
            // One that has just ended, or is not yet begun, shows nothing.
            let Some(sample) = sample(place.pid(), place.disk_kib()) else { continue };
            for ((what, most), seen) in WHAT.iter().zip(sample) {
                assert!(seen <= *most, "node {}: {seen} {what}, more than {most}", place.number);
            }
            self.taken[place.number].push(sample);
        }
    }

    /// All were looked at, in a run of this length; in a long one the last quarter of the time is like the second.
    pub fn assert_steady(&self, length: Duration) {
        let is_long = length >= LONG;
        for (number, taken) in self.taken.iter().enumerate() {
            let least = usize::try_from(length.as_secs() / 8).unwrap().max(1);
            assert!(taken.len() >= least, "node {number} was looked at {} times, not {least}", taken.len());
            for (at, (what, _)) in WHAT.iter().enumerate() {
                let medians = medians(taken, at);
                let most = taken.iter().map(|sample| sample[at]).max().unwrap_or(0);
                say_figure(&format!("node {number}, {what}: medians of the quarters {medians:?}, at most {most}"));
                assert!(most >= LEAST[at], "{what} of node {number}: at most {most}");
                let lasts = number == WITNESS || at == DISK;
                assert!(
                    !is_long || !lasts || medians[3] <= medians[1] + medians[1] / 4 + ALLOWANCE[at],
                    "{what} of node {number} grew: {medians:?}"
                );
            }
        }
    }
}

/// Of the quarters of the time.
fn medians(taken: &[[u64; 4]], at: usize) -> Vec<u64> {
    let quarter = taken.len() / 4;
    let of = |number: usize| {
        let mut values: Vec<u64> = taken[number * quarter..][..quarter].iter().map(|sample| sample[at]).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    };
    (0..4).map(of).collect()
}

/// `None` where it has ended, or has not yet become hraftd.
fn sample(pid: u32, disk_kib: u64) -> Option<[u64; 4]> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = |name: &str| Some(status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim());
    let number = |name: &str| value(name)?.trim_end_matches(" kB").parse().ok();
    if value("Name") != Some("hraftd") {
        return None;
    }
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some([number("VmRSS")?, files, number("Threads")?, disk_kib])
}
