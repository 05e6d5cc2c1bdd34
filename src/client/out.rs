//! Standard output: bytes as they are. Whoever closed it wants no more, and is told nothing.

use std::io::{self, Write};

use super::link::Answer;
use crate::exit::{EX_FAILURE, Exit};
use crate::quote::{escaped, lines_escaped};

/// A query's switch.
pub(super) fn flag(on: bool) -> Option<String> {
    on.then(String::new)
}

/// Writes these, one after the other.
///
/// # Errors
/// Stdout is closed (0, silently) or takes nothing (1).
pub(super) fn write(parts: &[&[u8]]) -> Result<Exit, Exit> {
    let mut stdout = io::stdout().lock();
    let written = parts.iter().try_for_each(|part| stdout.write_all(part)).and_then(|()| stdout.flush());
    written.map(|()| Exit::printed("")).map_err(|error| failed(&error))
}

/// The server's answer, JSON, and a newline.
///
/// # Errors
/// As [`write`].
pub(super) fn answer(answer: &Answer) -> Result<Exit, Exit> {
    write(&[lines_escaped(&String::from_utf8_lossy(&answer.body)).as_bytes(), b"\n"])
}

/// What a write that failed ends the process with.
pub(super) fn failed(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Exit::printed(""),
        _ => Exit::error(EX_FAILURE, format!("cannot write to stdout: {error}")),
    }
}

/// A line for people, on stderr.
pub(super) fn say(line: &str) {
    // Nobody to tell that it cannot be told.
    let _ = writeln!(io::stderr(), "hraftd: {}", escaped(line));
}
