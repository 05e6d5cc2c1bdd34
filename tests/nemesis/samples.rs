//! What processes take as time goes on: memory, files, threads, disk.

use std::time::{Duration, Instant};

use crate::faults::WITNESS;
use crate::support::namespace::say_figure;
use crate::world::World;

const EVERY: Duration = Duration::from_secs(1);
/// In so long the witness has grown to what it needs.
pub const LONG: Duration = Duration::from_secs(240);

/// Of a debug build, with a few thousand keys.
const MEMORY_KIB: u64 = 512 << 10;
/// Connections of the clients and of its peers, and the log's files.
const FILES: u64 = 400;
/// Workers of two runtimes, the log's, and those that block.
const THREADS: u64 = 64;
/// Snapshots, log and spare segments: far below the file system, which is [`crate::world`]'s.
const DISK_KIB: u64 = 224 << 10;

const WHAT: [(&str, u64); 4] =
    [("memory (KiB)", MEMORY_KIB), ("files", FILES), ("threads", THREADS), ("disk (KiB)", DISK_KIB)];

pub struct Samples {
    began: Instant,
    next: Instant,
    /// Of the witness.
    taken: Vec<[u64; 4]>,
}

impl Samples {
    pub fn new() -> Self {
        Self { began: Instant::now(), next: Instant::now(), taken: Vec::new() }
    }

    /// Looks at all nodes, if it is time; asserts their bounds.
    pub fn look(&mut self, world: &World) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + EVERY;
        for place in world.nodes.iter().filter(|place| place.process.is_some()) {
            // One that has just ended shows nothing.
            let Some(sample) = sample(place.pid(), place.disk_kib()) else { continue };
            for ((what, most), seen) in WHAT.iter().zip(sample) {
                assert!(seen <= *most, "node {}: {seen} {what}, more than {most}", place.number);
            }
            if place.number == WITNESS {
                self.taken.push(sample);
            }
        }
    }

    /// The last quarter of the time is like the second.
    pub fn assert_steady(&self) {
        let quarter = self.taken.len() / 4;
        for (at, (what, _)) in WHAT.iter().enumerate() {
            let medians: Vec<u64> = (0..4)
                .map(|number| {
                    let part = &self.taken[number * quarter..][..quarter];
                    let mut values: Vec<u64> = part.iter().map(|sample| sample[at]).collect();
                    values.sort_unstable();
                    values.get(values.len() / 2).copied().unwrap_or(0)
                })
                .collect();
            let most = self.taken.iter().map(|sample| sample[at]).max().unwrap_or(0);
            say_figure(&format!("witness, {what}: medians of the quarters {medians:?}, at most {most}"));
            let allowance = if at == 0 {
                32 << 10
            } else if at == 3 {
                64 << 10
            } else {
                16
            };
            assert!(
                self.began.elapsed() < LONG || medians[3] <= medians[1] + medians[1] / 4 + allowance,
                "{what} of the witness grew: {medians:?}"
            );
        }
    }
}

fn sample(pid: u32, disk_kib: u64) -> Option<[u64; 4]> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().ok()
    };
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some([number("VmRSS")?, files, number("Threads")?, disk_kib])
}
