//! Tools for the data directory of a stopped node, `hraftd inspect` and `hraftd recover`, and for backups, `hraftd backup
//! verify` and `hraftd restore`.
//!
//! Contract:
//! * No node can start on a directory while a tool reads it, and no tool reads one that a node uses.
//! * `inspect`, and `recover` without `--yes`, change no byte of it.
//! * A damaged file is named, everything readable beside it is shown, and the exit code is 78.
//!
//! Text for people goes to stdout as one piece, entries as JSON lines as they are read. A reader that
//! has seen enough (`| head`) is no error. Nothing here knows openraft's engine or a network.
//!
//! Caveat: the tools read what a start would read. They do not look into files that nobody reads (`*.tmp`, the zeroed
//! spare of the log).

#[cfg(test)]
mod backup_tests;
mod entries;
mod inspect;
mod rebuild;
mod recover;
mod render;
mod restore;
mod survey;
#[cfg(test)]
mod tests;
mod tokens;
mod verify;

use std::path::Path;

use crate::config::Offline;
use crate::exit::{EX_FAILURE, Exit};
use crate::storage::{StorageError, backup};

/// Runs the tool. Blocks.
pub fn run(task: Offline) -> Exit {
    let done = match task {
        Offline::Inspect { dir, .. } if is_neither(&dir) => {
            Err(Exit::error(EX_FAILURE, format!("{}: it is neither a directory nor a regular file", dir.display())))
        }
        Offline::Inspect { dir, entries: false } if backup::is_one(&dir).unwrap_or(false) => verify::inspect(&dir),
        Offline::Inspect { dir, entries: false } => inspect::inspect(&dir),
        Offline::Inspect { dir, entries: true } => entries::print(&dir),
        Offline::Recover { dir, yes: false } => recover::dry_run(&dir),
        Offline::Recover { dir, yes: true } => recover::recover(&dir),
        Offline::Verify { file } => verify::verify(&file),
        Offline::Restore { file, dir, expire } => restore::restore(&file, &dir, expire),
    };
    done.unwrap_or_else(|exit| exit)
}

/// A pipe, a device, a socket: to read it could last for ever.
fn is_neither(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_dir() && !found.is_file())
}

/// The exit for a storage error. Every one is about the directory that was named.
fn exit(error: StorageError) -> Exit {
    match error {
        StorageError::Locked(dir) => Exit::config(format!("{dir} is in use: stop its node first")),
        error => Exit::config(error.to_string()),
    }
}

/// A count with its noun.
fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
