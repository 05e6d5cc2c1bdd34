//! One node of redis that flushes its log before it answers. It has no followers and no consensus.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Server, version_line};
use crate::support::ports;
use crate::support::wait::{SETTLE, eventually};

const PROGRAM: &str = "redis-server";
/// The Debian package that brings it.
pub const PACKAGE: &str = "Debian: redis-server";

pub fn find() -> Option<PathBuf> {
    version_line(Path::new(PROGRAM)).map(|_| PathBuf::from(PROGRAM))
}

/// `redis 7.0.15`, from `Redis server v=7.0.15 sha=…`.
pub fn version(binary: &Path) -> Option<String> {
    let line = version_line(binary)?;
    Some(format!("redis {}", line.split_whitespace().find_map(|word| word.strip_prefix("v="))?))
}

pub fn start(binary: &Path, dir: &Path) -> Vec<Server> {
    let port = ports::free_pair();
    let mut command = Command::new(binary);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(dir);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
    let addr = format!("127.0.0.1:{port}");
    let server = Server::start(&command, addr.clone(), dir.join("log"));
    eventually(SETTLE, "redis serves", || std::net::TcpStream::connect(&addr).map_err(|error| error.to_string()));
    vec![server]
}
