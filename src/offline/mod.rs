//! Tools for the data directory of a stopped node: `hraftd inspect` and `hraftd recover`.
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

mod entries;
mod inspect;
mod rebuild;
mod recover;
mod render;
mod survey;
#[cfg(test)]
mod tests;
mod tokens;

use crate::config::Offline;
use crate::exit::Exit;
use crate::storage::StorageError;

/// Runs the tool. Blocks.
pub fn run(task: Offline) -> Exit {
    let done = match task {
        Offline::Inspect { dir, entries: false } => inspect::inspect(&dir),
        Offline::Inspect { dir, entries: true } => entries::print(&dir),
        Offline::Recover { dir, yes: false } => recover::dry_run(&dir),
        Offline::Recover { dir, yes: true } => recover::recover(&dir),
    };
    done.unwrap_or_else(|exit| exit)
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
