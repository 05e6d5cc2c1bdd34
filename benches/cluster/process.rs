//! Server processes, none of which outlives this one, however it ends.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::support::process::Reaped;

/// The first argument that makes this binary [`become_program`].
pub const CHILD: &str = "child";

/// Lines of its log that are shown of a server that ended.
const LOG_LINES: usize = 20;

pub struct Server {
    pub addr: String,
    process: Reaped,
    log: PathBuf,
}

impl Server {
    /// Starts `command`, whose clients will connect to `addr`. Its output goes to the file `log`.
    ///
    /// The program is started by way of this binary, which ties its life to ours and then becomes it. Call this from the
    /// main thread only: the kernel takes the end of the starting thread for the end of the parent.
    pub fn start(command: &Command, addr: String, log: PathBuf) -> Self {
        let file = File::create(&log).unwrap();
        let mut by_way = Command::new(std::env::current_exe().unwrap());
        by_way.arg(CHILD).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => by_way.env(name, value),
                None => by_way.env_remove(name),
            };
        }
        // Ctrl-C is for this process alone: the servers must not stop in the midst of a cell.
        by_way.process_group(0).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { addr, process: Reaped::spawn(&mut by_way), log }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// How the server ended, with the end of its log; `None` while it runs.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.process.exited()?;
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        Some(format!("the server at {} has ended, {status}:\n{tail}", self.addr))
    }
}

/// Ends as another program, or panics.
pub fn become_program(mut words: impl Iterator<Item = OsString>) {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let program = words.next().unwrap();
    let error = Command::new(&program).args(words).exec();
    panic!("cannot start {program:?}: {error}");
}

/// The first line that a program prints of itself; `None` where it cannot be started.
pub fn version_line(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
}
