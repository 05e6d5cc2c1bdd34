//! Everything that differs by operating system: signals, the limit of open files, sockets for both IP families.
//!
//! Linux is tested. The rest is written for any Unix, so that macOS should build. Elsewhere the crate does not build; see
//! the error below for what is missing.
//!
//! These need no code here, because the standard library does what each system needs:
//! * Flushes: `File::sync_data` and `File::sync_all` are `fdatasync` and `fsync` on Linux, and `fcntl(F_FULLFSYNC)` on
//!   macOS, where `fsync` alone leaves data in the drive's cache.
//! * Preallocation: the log writes zeros ahead of itself, which works on every file system.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};

#[cfg(not(unix))]
compile_error!(
    "hraftd does not run on this system yet. It would need: signals that stop it (src/platform.rs), reads and writes at \
     an offset, and files and directories for their owner alone (src/storage/disk/real.rs, src/storage/data_dir.rs)"
);

/// Puts this program, started once more with the same arguments, in the place of this process. Returns only where that is
/// not possible.
pub fn run_again() -> io::Error {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    // The file that runs, even if another one has its name by now.
    let program = if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() };
    match program {
        Ok(program) => Command::new(program).arg0(name).args(arguments).exec(),
        Err(error) => error,
    }
}

/// The signals that ask for a stop: SIGTERM and SIGINT.
#[derive(Debug)]
pub struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    /// Takes these signals from now on: they no longer end the process by themselves.
    ///
    /// # Errors
    /// The system's, where no handler can be installed.
    pub fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// SIGHUP, which a closed terminal or a tool that rotates logs sends.
#[derive(Debug)]
pub struct Hangups(tokio::signal::unix::Signal);

impl Hangups {
    /// Takes the signal from now on: it no longer ends the process.
    ///
    /// # Errors
    /// The system's, where no handler can be installed.
    pub fn new() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        let _ = self.0.recv().await;
    }
}

/// Catches SIGXFSZ, so that a write beyond `ulimit -f` fails with an error.
///
/// The handler does nothing. To ignore the signal instead would need unsafe code, and children would inherit it.
///
/// # Errors
/// The system's, where no handler can be installed.
pub fn catch_file_size_signal() -> io::Result<()> {
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}

/// Files that this process may have open; `None` where there is no limit.
pub fn open_file_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Files that this process may have open once its limit is raised; `None` where there is no limit.
pub fn open_file_hard_limit() -> Option<u64> {
    highest_soft_limit(getrlimit(Resource::Nofile).maximum)
}

/// Bytes of address space that this process may have; `None` where there is no limit.
pub fn address_space_limit() -> Option<u64> {
    getrlimit(Resource::As).current
}

/// Raises the soft limit of open files as far as the system allows.
///
/// # Errors
/// The system's; the limit is then as it was.
pub fn raise_open_file_limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: highest_soft_limit(maximum), maximum })?)
}

/// macOS reports no hard limit, but takes no soft limit above `OPEN_MAX`.
fn highest_soft_limit(hard: Option<u64>) -> Option<u64> {
    const MACOS_OPEN_MAX: u64 = 10_240;
    if cfg!(target_vendor = "apple") {
        Some(hard.map_or(MACOS_OPEN_MAX, |hard| hard.min(MACOS_OPEN_MAX)))
    } else {
        hard
    }
}

/// Makes a socket on `[::]` take IPv4 connections too; the default differs by system and by machine
/// (`net.ipv6.bindv6only` on Linux).
///
/// # Errors
/// The system's, where it cannot.
pub fn accept_both_families(socket: &TcpSocket) -> io::Result<()> {
    Ok(sockopt::set_ipv6_v6only(socket, false)?)
}

/// True for the error of a machine that does not have the IP family of an address, such as one without IPv6.
pub fn is_unsupported_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

/// What the system says of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessNumbers {
    /// Processor time of all threads, in seconds.
    pub cpu_seconds: f64,
    /// Files that are open.
    pub open_files: u64,
    /// Bytes of memory.
    pub resident_bytes: u64,
    /// Bytes of address space.
    pub virtual_bytes: u64,
    /// When it was started, in seconds since 1970.
    pub start_time_seconds: f64,
    /// Threads.
    pub threads: u64,
}

/// What the system says of this process; zeros where it says nothing (on anything but Linux).
pub fn process_numbers() -> ProcessNumbers {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/self/stat");
    // The second field is the program's name, which may have spaces and parentheses.
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    // By their numbers in proc(5); the first two and the state are gone.
    let field = |number: usize| fields.get(number - 4).copied().unwrap_or(0.0);
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let boot = read("/proc/stat");
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok()).unwrap_or(0.0);
    ProcessNumbers {
        cpu_seconds: (field(14) + field(15)) / ticks,
        open_files: std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
        resident_bytes: field(24) as u64 * rustix::param::page_size() as u64,
        virtual_bytes: field(23) as u64,
        start_time_seconds: if fields.is_empty() { 0.0 } else { boot + field(22) / ticks },
        threads: field(20) as u64,
    }
}

/// The time of this machine, in milliseconds since 1970.
pub fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The memory that this process may use, in bytes: its cgroup's, or the machine's, whichever is less. `None` where that is
/// not known (on anything but Linux).
pub fn memory_bytes() -> Option<u64> {
    memory_below(Path::new("/"))
}

/// As the files below this folder have it.
fn memory_below(root: &Path) -> Option<u64> {
    let read = |path: &Path| std::fs::read_to_string(root.join(path.strip_prefix("/").unwrap_or(path))).ok();
    let number = |path: &Path| read(path)?.trim().parse::<u64>().ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    let mut least = machine;
    for line in read(Path::new("/proc/self/cgroup")).unwrap_or_default().lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (mount, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            all if all.split(',').any(|one| one == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        // Each of those above has its limit, too. Those that a container does not see are not there.
        for group in Path::new(path).ancestors() {
            let group = Path::new(mount).join(group.strip_prefix("/").unwrap_or(group));
            least = least.into_iter().chain(number(&group.join(file))).min();
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(memory_below(root.path()), None);
        put("proc/meminfo", "MemTotal:       16 kB\nMemFree: 1 kB\n");
        assert_eq!(memory_below(root.path()), Some(16_384));
        put("proc/self/cgroup", "0::/pods/a\n");
        put("sys/fs/cgroup/pods/a/memory.max", "max\n");
        assert_eq!(memory_below(root.path()), Some(16_384));
        put("sys/fs/cgroup/pods/memory.max", "4096\n");
        assert_eq!(memory_below(root.path()), Some(4_096));
        put("proc/self/cgroup", "4:cpu,memory:/b\n3:pids:/\n");
        put("sys/fs/cgroup/memory/b/memory.limit_in_bytes", "2048\n");
        assert_eq!(memory_below(root.path()), Some(2_048));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_numbers() {
        let numbers = process_numbers();
        assert!(numbers.threads >= 2 && numbers.open_files > 2, "{numbers:?}");
        assert!(numbers.resident_bytes > 1 << 20 && numbers.virtual_bytes > numbers.resident_bytes, "{numbers:?}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - 86_400.0..=now + 1.0).contains(&numbers.start_time_seconds), "{numbers:?}");
    }
}
