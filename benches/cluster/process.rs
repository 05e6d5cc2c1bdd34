//! Processes that do not outlive this one, however it ends.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::support::process::Reaped;

/// The first argument that makes this binary [`become_program`].
pub const CHILD: &str = "child";

/// Starts a program through this binary, which ties its life to ours and then becomes it. Only from the main thread: the
/// kernel takes the end of the starting thread for that of the parent.
pub fn start(command: &Command, log: &Path) -> Reaped {
    let log = File::create(log).unwrap();
    let mut through = Command::new(std::env::current_exe().unwrap());
    through.arg(CHILD).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => through.env(name, value),
            None => through.env_remove(name),
        };
    }
    // Ctrl-C is for us alone: the nodes must not stop in the midst of a cell.
    through.process_group(0).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Reaped::spawn(&mut through)
}

/// Ends as another program, or panics.
pub fn become_program(mut words: impl Iterator<Item = OsString>) {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let program = words.next().unwrap();
    let error = Command::new(&program).args(words).exec();
    panic!("cannot start {program:?}: {error}");
}
