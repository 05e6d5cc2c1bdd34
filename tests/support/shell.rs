//! Commands as people type them, `hraftd` on their PATH.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::node::hraftd;
use super::process::{Reaped, finish};

/// A person's home directory and current directory.
#[derive(Debug)]
pub struct Shell {
    home: PathBuf,
}

impl Shell {
    pub fn new(home: &Path) -> Self {
        let httpie = home.join(".config/httpie");
        std::fs::create_dir_all(&httpie).unwrap();
        // Its look for updates forks a process that prints what is still buffered: a redirected answer comes twice.
        std::fs::write(httpie.join("config.json"), r#"{"disable_update_warnings": true}"#).unwrap();
        Self { home: home.to_owned() }
    }

    /// Runs a line to its end; what it printed, or how it failed.
    pub fn try_run(&self, line: &str) -> Result<String, String> {
        // httpie takes any standard input that is no terminal for the request's body, unless it is closed; to a
        // daemon a closed one would do harm.
        let stdin = if line.starts_with("http ") { "exec 0<&-; " } else { "" };
        let end = finish(self.command(&format!("{stdin}{line}")).current_dir(&self.home), Duration::from_secs(30));
        if end.code == Some(0) { Ok(end.stdout) } else { Err(format!("{line}: {end:?}")) }
    }

    /// Runs a line that must succeed; what it printed.
    pub fn run(&self, line: &str) -> String {
        self.try_run(line).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a line that goes on running, with the output in a log named after it.
    pub fn start(&self, log: &str, line: &str) -> Background {
        let log = self.home.join(format!("{log}.log"));
        let file = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = self.command(&format!("exec {line}"));
        command.current_dir(&self.home).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Background { line: line.to_owned(), process: Reaped::spawn(&mut command), log }
    }

    fn command(&self, line: &str) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_hraftd"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = [binary.parent().unwrap().to_owned(), "/usr/sbin".into(), "/sbin".into()];
        let path = std::env::join_paths(dirs.into_iter().chain(std::env::split_paths(&path))).unwrap();
        let mut command = Command::new("sh");
        for (name, value) in hraftd(&self.home).get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("PATH", path).args(["-c", line]);
        command
    }
}

/// A line that runs.
#[derive(Debug)]
pub struct Background {
    line: String,
    pub process: Reaped,
    log: PathBuf,
}

impl Background {
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.line, self.log_text());
        }
    }
}

/// The last lines of every log in a directory, for a failed test.
pub fn print_logs(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "log") && File::open(&path).is_ok() {
            eprintln!("--- {}\n{}", path.display(), std::fs::read_to_string(&path).unwrap_or_default());
        }
    }
}
