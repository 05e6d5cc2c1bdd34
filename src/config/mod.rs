//! The configuration: what the command line and the environment mean, checked once.
//!
//! [`parse`] reads a node's command line, [`Task`] is that or one of the offline tools. [`parse`] is pure but for what it asks of its [`Machine`]; [`from_process`] is `parse` on the real process. What was
//! typed is in [`args`] and never leaves this module; the rules that join the flags are in [`build`].
//!
//! Caveats: a name in `--haddr` is resolved when the port is opened ([`listen`]). An empty variable is unset, so the
//! environment cannot set a flag to nothing. A data directory is not opened or created here.

mod address;
mod advertise;
mod args;
mod bind;
mod host_info;
mod resolve;
mod setting;
mod task;
#[cfg(test)]
mod tests;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::node::ReadLevel;
use crate::node_id::{HostPort, PublicId};
use crate::raft_types::Role;
use crate::telemetry::LogSettings;

pub use crate::exit::{EX_CONFIG, EX_FAILURE, EX_OK, EX_USAGE, Exit};
pub use bind::{Bind, listen};
pub use host_info::{Machine, ThisMachine};
pub use task::{Offline, Task};

/// Where the node keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataPlace {
    /// In memory; nothing is on disk.
    Memory,
    /// In this directory, which need not exist yet.
    Dir(PathBuf),
}

/// Everything a node is told when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The addresses told to others.
    pub public_id: PublicId,
    /// Where the client HTTP API listens.
    pub http_bind: Bind,
    /// Where the Raft HTTP transport listens.
    pub raft_bind: Bind,
    /// Client addresses of nodes to form or join a cluster with, in the order given, none twice; empty without `--rjoin`.
    pub rjoin: Vec<HostPort>,
    /// Where the data is.
    pub data: DataPlace,
    /// What errors about the data directory call it: `--rdir DIR`, `HRAFTD_RDIR=DIR`, or `HOME=... (data directory ...)`.
    pub data_label: String,
    /// What this node asks to be.
    pub role: Role,
    /// Read level of a GET that names none.
    pub read_level: ReadLevel,
    /// Largest value, in bytes; at most `max_request_bytes`.
    pub max_value_bytes: usize,
    /// Largest request body, in bytes.
    pub max_request_bytes: usize,
    /// Log entries between snapshots; at least 1.
    pub snapshot_threshold: u64,
    /// The most changes kept for those who watch.
    pub watch_history: usize,
    /// How long the outcome of a write with an `Idempotency-Key` is kept, in ms.
    pub idempotency_window_ms: u64,
    /// How often the leader calls, in ms.
    pub heartbeat_ms: u64,
    /// Shortest silence before an election, in ms; at least three heartbeats.
    pub election_min_ms: u64,
    /// Longest silence before an election, in ms; twice the shortest.
    pub election_max_ms: u64,
    /// Logging.
    pub log: LogSettings,
    warnings: Vec<String>,
}

/// Reads what this process is to do.
///
/// # Errors
/// See [`parse`].
pub fn from_process() -> Result<Task, Exit> {
    task::task(std::env::args_os(), &|name| std::env::var_os(name), &ThisMachine)
}

/// Reads a configuration: `argv` with the program's name in front, and the environment. A flag beats its variable, and
/// that the default. May block on DNS where a bind address names no host and `--rjoin` has names.
///
/// # Errors
/// How to end instead: help or version (code 0), a bad command line or variable (64), or a configuration that
/// cannot be on this machine (78).
pub fn parse(
    argv: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
    machine: &dyn Machine,
) -> Result<Config, Exit> {
    resolve::config(args::read(argv)?, &env, machine)
}

impl Config {
    /// Whether nothing outside this machine can connect.
    pub fn loopback_only(&self) -> bool {
        self.http_bind.is_loopback() && self.raft_bind.is_loopback()
    }

    /// What the operator should be told once, at start.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether a client address is this node's own. May block on DNS: call it off the async workers.
    ///
    /// See [`Config::is_this_node_on`].
    pub fn is_this_node(&self, addr: &HostPort) -> bool {
        self.is_this_node_on(addr, &ThisMachine)
    }

    /// Whether `addr` is our advertised client address, or has our port and leads to nothing but this machine, on an
    /// address at which we listen. (Not every address of the machine: another node may listen on the same port of
    /// another one. Not a name that leads to other machines too: every node behind it would take itself for the first.)
    pub fn is_this_node_on(&self, addr: &HostPort, machine: &dyn Machine) -> bool {
        let own = &self.public_id.haddr;
        if addr.port == own.port && addr.host.eq_ignore_ascii_case(&own.host) {
            return true;
        }
        if addr.port != self.http_bind.port {
            return false;
        }
        let ips = machine.resolve(&addr.host).unwrap_or_default();
        ips.iter().all(|ip| machine.has_address(*ip)) && ips.iter().any(|ip| self.http_bind.covers(*ip, machine))
    }
}

impl fmt::Display for DataPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Dir(dir) => write!(f, "{}", dir.display()),
        }
    }
}
