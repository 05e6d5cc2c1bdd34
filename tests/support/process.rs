//! Child processes that never outlive the test.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::wait::eventually;

/// A child that is killed and reaped when dropped.
#[derive(Debug)]
pub struct Reaped(Child);

impl Reaped {
    pub fn spawn(command: &mut Command) -> Self {
        match command.spawn() {
            Ok(child) => Self(child),
            Err(error) => panic!("cannot start {command:?}: {error}"),
        }
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// `None` while it runs.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    pub fn wait(&mut self, within: Duration, what: &str) -> ExitStatus {
        eventually(within, what, || self.exited().ok_or_else(|| "it still runs".to_owned()))
    }
}

impl From<Child> for Reaped {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a command ended and what it printed.
#[derive(Debug)]
pub struct Finished {
    /// `None` where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

/// Runs a command to its end, without standard input; panics when it takes longer than `within`.
pub fn finish(command: &mut Command, within: Duration) -> Finished {
    let (out, err) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    command.stdin(Stdio::null()).stdout(out.reopen().unwrap()).stderr(err.reopen().unwrap());
    let read = |file: &tempfile::NamedTempFile| {
        String::from_utf8_lossy(&std::fs::read(file.path()).unwrap_or_default()).into_owned()
    };
    let began = Instant::now();
    let mut child = Reaped::spawn(command);
    let status = eventually(within, &format!("{command:?} ends"), || {
        child.exited().ok_or_else(|| format!("it still runs\nstdout: {}\nstderr: {}", read(&out), read(&err)))
    });
    Finished { code: status.code(), stdout: read(&out), stderr: read(&err), took: began.elapsed() }
}
