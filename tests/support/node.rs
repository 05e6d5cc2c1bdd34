//! One node: a process of the built binary on loopback.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::http::{self, Reply};
use super::ports;
use super::process::{Finished, Reaped, finish};
use super::wait::{SETTLE, check, eventually};

/// The bound that the contract sets to a graceful stop.
const STOP: Duration = Duration::from_secs(8);
const TAIL: usize = 40;
/// The program that is tested.
pub const BUILT: &str = env!("CARGO_BIN_EXE_hraftd");

/// A node's place (addresses, directory, arguments) and, while it runs, its process.
#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub haddr: String,
    pub raddr: String,
    pub rdir: PathBuf,
    /// The arguments that say where it listens.
    pub bind: Vec<String>,
    /// The program, where it is not the built one: another version.
    pub program: Option<PathBuf>,
    log: PathBuf,
    home: PathBuf,
    args: Vec<String>,
    /// How many files it may open; as many as we where this is `None`.
    files: Option<usize>,
    process: Option<Reaped>,
}

impl Node {
    pub fn new(dir: &Path, name: &str) -> Self {
        let port = ports::free_pair();
        Self {
            name: name.to_owned(),
            haddr: format!("127.0.0.1:{port}"),
            raddr: format!("127.0.0.1:{}", port + 1000),
            rdir: dir.join(name),
            bind: vec!["--haddr".to_owned(), format!("127.0.0.1:{port}")],
            program: None,
            log: dir.join(format!("{name}.log")),
            home: dir.join("home"),
            args: Vec::new(),
            files: None,
            process: None,
        }
    }

    /// From its next start it is at other addresses.
    pub fn move_away(&mut self) {
        assert!(self.process.is_none(), "{} runs", self.name);
        let port = ports::free_pair();
        (self.haddr, self.raddr) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", port + 1000));
        self.bind = vec!["--haddr".to_owned(), self.haddr.clone()];
    }

    /// A copy of its data directory as it is now, file after file.
    pub fn copy_dir(&self, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for file in std::fs::read_dir(&self.rdir).unwrap().flatten() {
            // One that is gone meanwhile is not in the copy; folders are what it had before it began anew.
            if file.file_type().is_ok_and(|kind| kind.is_file()) {
                let _ = std::fs::copy(file.path(), to.join(file.file_name()));
            }
        }
    }

    /// Copies its data directory, as `cp -a` would, to one beside it.
    pub fn copy_beside(&self) -> PathBuf {
        let to = self.rdir.with_extension("copy");
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(&self.rdir).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        to
    }

    /// More arguments, on every start from now on.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    /// It may open so many files.
    pub fn files(mut self, files: usize) -> Self {
        self.files = Some(files);
        self
    }

    pub fn rjoin(self, haddrs: &[&str]) -> Self {
        self.args(&["--rjoin", &haddrs.join(",")])
    }

    /// Takes back every argument given before.
    pub fn forget_args(&mut self) {
        self.args.clear();
    }

    /// These instead of every argument given before.
    pub fn set_args(&mut self, args: &[&str]) {
        self.args = args.iter().map(|&arg| arg.to_owned()).collect();
    }

    /// The public id.
    pub fn id(&self) -> String {
        format!("{},{}", self.haddr, self.raddr)
    }

    pub fn command(&self) -> Command {
        let built = self.program.as_deref().unwrap_or(Path::new(BUILT));
        let mut command = match self.files {
            Some(files) => program_with_files(built, &self.home, files),
            None => program(built, &self.home),
        };
        command.args(&self.bind).arg("--rdir").arg(&self.rdir).args(&self.args);
        command
    }

    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(Reaped::spawn(&mut command));
    }

    /// Starts it and waits for it to end: for starts that are refused.
    pub fn start_refused(&self) -> Finished {
        finish(&mut self.command(), Duration::from_secs(10))
    }

    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        drop(self.process.take().unwrap());
    }

    /// `kill -9` of all of them, at once.
    pub fn kill_all<'a>(nodes: impl IntoIterator<Item = &'a mut Self>) {
        let nodes: Vec<&mut Self> = nodes.into_iter().collect();
        nodes.iter().for_each(|node| node.process.as_ref().unwrap().signal(Signal::KILL));
        nodes.into_iter().for_each(Self::kill);
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.as_ref().unwrap().pid().cast_signed()).unwrap()
    }

    /// The exit code, where it has ended by itself.
    pub fn ended(&mut self) -> Option<Option<i32>> {
        let ended = self.process.as_mut().unwrap().exited()?;
        self.process = None;
        Some(ended.code())
    }

    /// SIGTERM: it must exit 0 in under 8 s.
    pub fn stop(&mut self) {
        self.ask_to_stop();
        self.wait_stopped();
    }

    pub fn ask_to_stop(&self) {
        self.process.as_ref().unwrap().signal(Signal::TERM);
    }

    pub fn wait_stopped(&mut self) {
        let began = Instant::now();
        let status = self.process.as_mut().unwrap().wait(STOP, &format!("{} stops after SIGTERM", self.name));
        assert_eq!(status.code(), Some(0), "{} after SIGTERM, {:?}\n{}", self.name, began.elapsed(), self.log_tail());
        self.process = None;
    }

    /// It ends, in whatever way.
    pub fn wait_ended(&mut self) {
        self.process.as_mut().unwrap().wait(STOP, &format!("{} ends", self.name));
        self.process = None;
    }

    /// Returns once all its threads stand still: until then one of them may answer what was asked after the signal.
    pub fn pause(&self) {
        self.process.as_ref().unwrap().signal(Signal::STOP);
        let tasks = PathBuf::from(format!("/proc/{}/task", self.pid().as_raw_nonzero()));
        eventually(SETTLE, "all threads stopped", || {
            for task in std::fs::read_dir(&tasks).unwrap().flatten() {
                // A thread that ended in between stands still, too.
                let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { continue };
                let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
                check(state == Some('T'), || stat.clone())?;
            }
            Ok(())
        });
    }

    pub fn resume(&self) {
        self.process.as_ref().unwrap().signal(Signal::CONT);
    }

    /// Deletes the data directory.
    pub fn wipe(&self) {
        assert!(self.process.is_none());
        std::fs::remove_dir_all(&self.rdir).unwrap();
    }

    /// The process ended by itself, where it has.
    pub fn assert_alive(&mut self) {
        let ended = self.process.as_mut().unwrap().exited();
        assert!(ended.is_none(), "{} ended by itself: {ended:?}", self.name);
    }

    pub fn get(&self, path: &str) -> Result<Reply, String> {
        http::call(&self.haddr, "GET", path, None)
    }

    pub fn post(&self, path: &str, body: &str) -> Result<Reply, String> {
        http::call(&self.haddr, "POST", path, Some(body.as_bytes()))
    }

    pub fn delete(&self, path: &str, body: Option<&str>) -> Result<Reply, String> {
        http::call(&self.haddr, "DELETE", path, body.map(str::as_bytes))
    }

    /// Writes `{"key": value}` (the value is JSON); the index of its entry.
    pub fn set(&self, key: &str, value: &str) -> Result<u64, String> {
        let body = format!("{{{}:{value}}}", Value::from(key));
        let reply = self.post("/hraftd/key", &body)?.ok()?;
        reply.json()["index"].as_u64().ok_or_else(|| format!("no index: {}", reply.brief()))
    }

    /// A linearizable read of a key that needs no escaping: its JSON.
    pub fn value(&self, key: &str) -> Result<Value, String> {
        Ok(self.get(&format!("/hraftd/key/{key}"))?.ok()?.json()[key].clone())
    }

    /// What this node itself has for the key: its JSON.
    pub fn local(&self, key: &str) -> Result<Value, String> {
        Ok(self.get(&format!("/hraftd/key/{key}?level=none"))?.ok()?.json()[key].clone())
    }

    pub fn stats(&self) -> Result<Value, String> {
        Ok(self.get("/hraftd/raft/stats")?.ok()?.json())
    }

    /// A number out of the stats, where all are strings.
    pub fn stat(&self, name: &str) -> Result<u64, String> {
        let stats = self.stats()?;
        stats[name].as_str().and_then(|text| text.parse().ok()).ok_or_else(|| format!("no {name}: {stats}"))
    }

    pub fn state(&self) -> Result<String, String> {
        let reply = self.get("/hraftd/raft/state")?.ok()?;
        reply.json()["msg"].as_str().map(str::to_owned).ok_or_else(|| reply.brief())
    }

    /// Ids of the voters as this node knows them; an error while the membership also has a learner.
    pub fn voters(&self) -> Result<BTreeSet<String>, String> {
        let stats = self.stats()?;
        let servers = stats["latest_configuration"].as_array().ok_or_else(|| stats.to_string())?;
        let all_vote = servers.iter().all(|server| server["suffrage"] == "Voter");
        check(all_vote, || format!("a learner: {servers:?}"))?;
        let ids: Vec<String> = servers.iter().filter_map(|server| Some(server["id"].as_str()?.to_owned())).collect();
        let set: BTreeSet<String> = ids.iter().cloned().collect();
        check(set.len() == servers.len(), || format!("an id twice: {ids:?}"))?;
        Ok(set)
    }

    /// `Ok` when it would serve key requests.
    pub fn ready(&self) -> Result<(), String> {
        self.get("/hraftd/raft/ready")?.ok().map(drop)
    }

    /// Waits until it serves key requests.
    pub fn wait_ready(&self) {
        eventually(SETTLE, &format!("{} is ready", self.name), || self.ready());
    }

    /// A line of `/proc/PID/status` in KiB, such as `VmRSS` and `VmHWM`.
    pub fn memory_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.as_ref().unwrap().pid())).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.strip_suffix("kB"));
        value.unwrap_or_else(|| panic!("no {name}: {status}")).trim().parse().unwrap()
    }

    pub fn log_text(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log_text();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.process = None;
        if std::thread::panicking() {
            eprintln!("--- {} ({}), the end of its log:\n{}", self.name, self.id(), self.log_tail());
        } else {
            assert!(!self.log_text().contains("panicked at"), "{} panicked:\n{}", self.name, self.log_text());
        }
    }
}

/// The built binary, with nothing of the caller's environment that could change what it does.
pub fn hraftd(home: &Path) -> Command {
    program(Path::new(BUILT), home)
}

fn program(path: &Path, home: &Path) -> Command {
    unswayed(Command::new(path), home)
}

/// The same, where it may open so many files.
fn program_with_files(path: &Path, home: &Path, files: usize) -> Command {
    let mut command = unswayed(Command::new("sh"), home);
    command.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]).arg(path);
    command
}

fn unswayed(mut command: Command, home: &Path) -> Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HRAFTD_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").env("HOME", home);
    command
}

/// A file for a node to trip over.
pub fn plain_file(path: &Path) -> PathBuf {
    File::create(path).unwrap();
    path.to_owned()
}
