//! Looks at the limits of this process before anything starts, so that a limit that is too low is one line and no panic.

use std::sync::{Arc, Barrier};
use std::thread;

use crate::exit::{EX_FAILURE, Exit};
use crate::platform;

/// Files that a node needs: both ports, the log, a snapshot, some connections.
const MIN_OPEN_FILES: u64 = 192;

/// Address space that a node needs: stacks of threads, the allocator's arenas, little of it in use.
const MIN_ADDRESS_SPACE_BYTES: u64 = 768 << 20;

/// Threads that a node starts beside two for each processor: the log's, the disk's, the names'.
const SPARE_THREADS: usize = 8;

/// Checks the limits of open files, address space and threads.
///
/// # Errors
/// The end of the process (code 1): a line that names the limit.
pub fn check() -> Result<(), Exit> {
    at_least(platform::open_file_hard_limit(), MIN_OPEN_FILES, "the limit of open files (ulimit -n)", 1, "")?;
    at_least(
        platform::address_space_limit(),
        MIN_ADDRESS_SPACE_BYTES,
        "the limit of address space (ulimit -v)",
        1024,
        " KiB",
    )?;
    let threads = thread::available_parallelism().map_or(1, usize::from) * 2 + SPARE_THREADS;
    threads_can_start(threads)
}

fn at_least(limit: Option<u64>, least: u64, what: &str, unit: u64, unit_name: &str) -> Result<(), Exit> {
    match limit {
        Some(limit) if limit < least => Err(Exit::error(
            EX_FAILURE,
            format!("{what} is {}{unit_name}; a node needs {}{unit_name} or more", limit / unit, least / unit),
        )),
        _ => Ok(()),
    }
}

/// Starts so many threads, all at once, and lets them end: no limit says how many may still be started.
fn threads_can_start(count: usize) -> Result<(), Exit> {
    let all_are_there = Arc::new(Barrier::new(count + 1));
    let mut started = Vec::with_capacity(count);
    for number in 0..count {
        let all_are_there = all_are_there.clone();
        match thread::Builder::new().name("probe".to_owned()).spawn(move || all_are_there.wait()) {
            Ok(thread) => started.push(thread),
            // Those that wait end with the process.
            Err(error) => {
                let line = format!(
                    "only {number} of {count} threads can be started: {error}; see the limit of processes and threads \
                     (ulimit -u), or of the control group (pids.max)"
                );
                return Err(Exit::error(EX_FAILURE, line));
            }
        }
    }
    all_are_there.wait();
    for thread in started {
        let _ = thread.join();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_low_is_named() {
        assert!(check().is_ok());
        let files = at_least(Some(18), MIN_OPEN_FILES, "the limit of open files (ulimit -n)", 1, "").unwrap_err();
        let line = "the limit of open files (ulimit -n) is 18; a node needs 192 or more";
        assert_eq!((files.code, files.err.as_deref()), (EX_FAILURE, Some(line)));
        assert_eq!(at_least(Some(192), 192, "", 1, ""), Ok(()));
        assert_eq!(at_least(None, 192, "", 1, ""), Ok(()));
    }
}
