//! A command that dies with this process.
//!
//! It is started through this program once more ([`become_bound`]): that one asks the kernel for a KILL when its parent
//! ends, and becomes the command. The kernel means the parent's *thread*, so commands are started on the main thread.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, getppid, kill_process, kill_process_group, set_parent_process_death_signal};
use tokio::process::Command;

use crate::config::{BOUND, Bound};
use crate::exit::{EX_FAILURE, Exit};

/// A command that runs.
pub(in crate::client) struct Child {
    child: tokio::process::Child,
    handle: Handle,
}

/// What a command is told through.
#[derive(Debug, Clone, Copy)]
pub(in crate::client) struct Handle {
    pid: Option<Pid>,
    /// It has a process group of its own, which has what it starts, too. Not at a terminal: it could not read there.
    has_group: bool,
}

impl Child {
    /// Starts a program with its arguments. With `input` its standard input is a pipe.
    ///
    /// # Errors
    /// It cannot be started: 1.
    pub(in crate::client) fn start(
        command: &[OsString],
        variables: &[(&str, String)],
        input: bool,
    ) -> Result<Self, Exit> {
        let failed = |error: io::Error| Exit::error(EX_FAILURE, format!("cannot start the command: {error}"));
        let has_group = input || !io::stdin().is_terminal();
        let mut starter = Command::new(std::env::current_exe().map_err(failed)?);
        starter.arg(BOUND).arg(std::process::id().to_string()).args(command).kill_on_drop(true);
        starter.envs(variables.iter().map(|(name, value)| (name, value)));
        if input {
            starter.stdin(Stdio::piped());
        }
        if has_group {
            starter.process_group(0);
        }
        let child = starter.spawn().map_err(failed)?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        Ok(Self { child, handle: Handle { pid, has_group } })
    }

    /// Its standard input, once.
    pub(super) fn input(&mut self) -> Option<tokio::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits until it has ended.
    pub(in crate::client) async fn ended(&mut self) -> Result<ExitStatus, Exit> {
        self.child
            .wait()
            .await
            .map_err(|error| Exit::error(EX_FAILURE, format!("cannot wait for the command: {error}")))
    }

    pub(in crate::client) fn handle(&self) -> Handle {
        self.handle
    }
}

impl Handle {
    /// Sends it a signal, and all that is in its group.
    pub(in crate::client) fn signal(self, signal: Signal) {
        // One that has ended gets none.
        if let Some(pid) = self.pid {
            let _ = if self.has_group { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
        }
    }

    /// Passes a signal on that this process was sent. A terminal has sent INT and QUIT to both: false.
    pub(in crate::client) fn pass_on(self, signal: Signal) -> bool {
        let is_for_it = self.has_group || !matches!(signal, Signal::INT | Signal::QUIT);
        if is_for_it {
            self.signal(signal);
        }
        is_for_it
    }
}

/// The exit code that a shell would give.
pub(super) fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(EX_FAILURE)
}

/// Becomes the command, which gets a KILL when its parent ends. Returns only where that cannot be.
pub fn become_bound(task: &Bound) -> Exit {
    let Some((program, arguments)) = task.command.split_first() else { return Exit::usage("the command is missing") };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return Exit::error(126, format!("the command would not end with hraftd: {error}"));
    }
    // It may have ended before that was asked for.
    if getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned()) != Some(task.parent) {
        return Exit::error(EX_FAILURE, "hraftd has ended: the command is not started");
    }
    let error = std::process::Command::new(program).args(arguments).exec();
    let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    Exit::error(code, format!("{}: {error}", program.display()))
}
