//! An end before the node runs: what to print, and the exit code.
//!
//! Codes follow `sysexits.h`. 2 is never used: supervisord's classic `exitcodes=0,2` takes it for a wanted end.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::quote::{escaped, lines_escaped};

/// A clean stop, or help that was asked for.
pub const EX_OK: i32 = 0;
/// A failure at run time: a port in use, a disk error.
pub const EX_FAILURE: i32 = 1;
/// A bad command line.
pub const EX_USAGE: i32 = 64;
/// No node is reachable.
pub const EX_UNAVAILABLE: i32 = 69;
/// Not permitted.
pub const EX_NOPERM: i32 = 77;
/// Start it again: the process could not do so itself. Of the client: try again.
pub const EX_TEMPFAIL: i32 = 75;
/// A bad configuration: `HOME`, the data directory, a missing interface.
pub const EX_CONFIG: i32 = 78;

/// An error is printed within this time, or not at all.
const STDERR_TIMEOUT: Duration = Duration::from_secs(1);

/// How the process ends when there is nothing to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit code: one of the `EX_` constants.
    pub code: i32,
    /// Text for stdout, with its newlines.
    pub out: Option<String>,
    /// One line for stderr, without a newline and without the program's name.
    pub err: Option<String>,
}

impl Exit {
    /// Something that was asked for (help, version): stdout, code 0.
    pub fn printed(text: impl Into<String>) -> Self {
        Self { code: EX_OK, out: Some(text.into()), err: None }
    }

    /// A bad command line: 64.
    pub fn usage(line: impl AsRef<str>) -> Self {
        Self::error(EX_USAGE, line)
    }

    /// A bad configuration: 78.
    pub fn config(line: impl AsRef<str>) -> Self {
        Self::error(EX_CONFIG, line)
    }

    /// Run this program once more, in the place of this process: 75 where that cannot be done.
    pub fn again(why: impl AsRef<str>) -> Self {
        Self::error(EX_TEMPFAIL, why)
    }

    /// True for [`again`](Self::again).
    pub fn is_again(&self) -> bool {
        self.code == EX_TEMPFAIL
    }

    /// An error with a code of the caller's; it is [escaped], so that it is one line and steers no terminal.
    pub fn error(code: i32, line: impl AsRef<str>) -> Self {
        Self { code, out: None, err: Some(escaped(line.as_ref()).into_owned()) }
    }

    /// Prints what there is, so that [it steers no terminal](lines_escaped), and gives the process's exit code. A stdout that takes nothing is a failure
    /// (`hraftd --help >/dev/full`), a stderr that takes nothing is not.
    pub fn finish(self) -> ExitCode {
        let mut code = self.code;
        let mut line = self.err;
        if let Some(text) = self.out {
            let mut stdout = io::stdout().lock();
            if let Err(error) = stdout.write_all(lines_escaped(&text).as_bytes()).and_then(|()| stdout.flush())
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                code = EX_FAILURE;
                line = Some(format!("cannot write to stdout: {error}"));
            }
        }
        if let Some(line) = line {
            // A stderr that is full and not read must not keep the process.
            at_most(STDERR_TIMEOUT, move || {
                let _ = writeln!(io::stderr(), "hraftd: {line}");
            });
        }
        ExitCode::from(u8::try_from(code).unwrap_or(1))
    }
}

/// Does something on a thread of its own, and waits for it at most so long; it may then be unfinished.
pub(crate) fn at_most(time: Duration, work: impl FnOnce() + Send + 'static) {
    let work = Arc::new(Mutex::new(Some(work)));
    let (done, wait) = mpsc::channel();
    let started = thread::Builder::new().name("exit".to_owned()).spawn({
        let work = work.clone();
        move || {
            if let Some(work) = work.lock().take() {
                work();
            }
            let _ = done.send(());
        }
    });
    match started {
        Ok(_) => {
            let _ = wait.recv_timeout(time);
        }
        // There are no threads left: better late than never.
        Err(_) => {
            if let Some(work) = work.lock().take() {
                work();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        let exit = Exit::usage("--rdir a\nb\r\u{1b}[31m\u{202e}");
        assert_eq!(exit.err.as_deref(), Some("--rdir a\\nb\\r\\u{1b}[31m\\u{202e}"));
        assert_eq!((exit.code, exit.out), (64, None));
    }
}
