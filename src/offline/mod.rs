//! Tools for the data directory of a stopped node: `hraftd inspect` and `hraftd recover`.
//!
//! Contract:
//! * No node can start on a directory while a tool reads it, and no tool reads one that a node uses.
//! * `inspect`, and `recover` without `--yes`, change no byte of it.
//! * What is damaged is named, and what can be read beside it is shown; the exit code is then 78.
//!
//! Text for people goes to stdout as one piece, entries as JSON lines as they are read. A reader that
//! has seen enough (`| head`) is no error. Nothing here knows openraft's engine or a network.
//!
//! Caveat: what is read is what a start would read; a file that nobody reads (`*.tmp`, the zeroed spare of the log)
//! is not looked into.

mod entries;
mod inspect;
mod rebuild;
mod recover;
mod render;
mod survey;
#[cfg(test)]
mod tests;

use crate::config::Offline;
use crate::exit::Exit;
use crate::storage::StorageError;

/// Does it. Blocks.
pub fn run(task: Offline) -> Exit {
    let done = match task {
        Offline::Inspect { dir, entries: false } => inspect::inspect(&dir),
        Offline::Inspect { dir, entries: true } => entries::print(&dir),
        Offline::Recover { dir, yes: false } => recover::dry_run(&dir),
        Offline::Recover { dir, yes: true } => recover::recover(&dir),
    };
    done.unwrap_or_else(|exit| exit)
}

/// How a storage error ends a tool: every one of them is about the directory that was named.
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
