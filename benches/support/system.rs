//! What the system tells: CPU times, the disk, the machine.

use std::fs::{File, read_to_string};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// CPU that a process has used since it started, user and system, in seconds.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The process's name, in parentheses, may hold spaces and parentheses.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    seconds(fields.split_whitespace().skip(11).take(2))
}

/// CPU that all processes and the kernel have used since the machine started, in seconds.
pub fn busy_seconds() -> f64 {
    let stat = read_to_string("/proc/stat").unwrap_or_default();
    // user nice system idle iowait irq softirq steal
    let mut fields: Vec<&str> = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8).collect();
    if fields.len() == 8 {
        fields.drain(3..5);
    }
    seconds(fields.into_iter())
}

fn seconds<'a>(ticks: impl Iterator<Item = &'a str>) -> f64 {
    let ticks: u64 = ticks.filter_map(|text| text.parse::<u64>().ok()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// How long it takes to overwrite 4 KiB of a file and flush them to the disk, 256 times, sorted.
pub fn flush_times(dir: &Path) -> Vec<Duration> {
    const BLOCK: usize = 4096;
    const BLOCKS: u64 = 256;
    let path = dir.join("flush");
    let file = File::create(&path).unwrap();
    file.write_all_at(&vec![0; BLOCK * BLOCKS as usize], 0).unwrap();
    file.sync_all().unwrap();
    let block = [1; BLOCK];
    let mut times: Vec<Duration> = (0..BLOCKS)
        .map(|number| {
            let began = Instant::now();
            file.write_all_at(&block, number * BLOCK as u64).unwrap();
            file.sync_data().unwrap();
            began.elapsed()
        })
        .collect();
    std::fs::remove_file(&path).unwrap();
    times.sort();
    times
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The machine, in one line.
pub fn describe() -> String {
    let cpuinfo = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |it| it.1);
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?");
    format!("{} cores of {model}, Linux {}, load average {load} at the start", cores(), kernel.trim())
}
