//! The configuration: the command line and the environment, read and checked once.
//!
//! * [`parse`] reads a node's command line. It is pure but for what it asks of its [`Machine`].
//! * [`from_process`] reads the real process: a [`Task`] is a node, the client, or one of the offline tools.
//! * [`args`] has the text that was typed, [`setting`] adds the environment and the configuration file, [`resolve`] has
//!   the rules across flags. [`check`] shows what came of it.
//!
//! Caveats:
//! * A name in `--haddr` is resolved when the port is opened ([`listen`]).
//! * An empty variable counts as unset, so the environment cannot set a flag to nothing.
//! * A data directory is not opened or created here.

mod address;
mod advertise;
mod args;
mod backup;
mod bind;
mod check;
mod client;
mod commands;
mod host_info;
mod resolve;
mod security;
mod setting;
mod task;
#[cfg(test)]
mod tests;
mod tokens;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::exit::Exit;
use crate::node::ReadLevel;
use crate::node_id::{HostPort, PublicId};
use crate::observe::RequestLog;
use crate::raft_types::Role;
use crate::telemetry::LogSettings;

pub use backup::BackupPlan;
pub use bind::{Bind, listen};
pub use check::Effective;
pub use client::{
    Access, BOUND, BackupArgs, BenchArgs, Bound, ClientTask, DeleteArgs, DrillArgs, ElectArgs, Endpoint, ExportArgs,
    GetArgs, ImportArgs, IncrArgs, LockArgs, LsArgs, MembersVerb, PutArgs, TokenVerb, TouchArgs, Verb, WatchArgs,
};
pub use host_info::{Machine, ThisMachine};
pub use security::{NamedFile, Security, TlsCertificate, TlsSettings};
pub use task::{Credentials, Offline, Task};
pub use tokens::RootTokenFile;

/// The place of a node's data.
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
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// Where each setting that was given is from, by its flag's long name.
    origins: BTreeMap<String, String>,
    /// The interface whose address is told.
    pub iface: Option<String>,
    /// The addresses told to others.
    pub public_id: PublicId,
    /// The address on which the client HTTP API listens.
    pub http_bind: Bind,
    /// The address on which the Raft HTTP transport listens.
    pub raft_bind: Bind,
    /// Client addresses of nodes to form or join a cluster with, in the order given, none twice; empty without `--rjoin`.
    pub rjoin: Vec<HostPort>,
    /// Form a cluster together with others once so many nodes are found, this one included.
    pub bootstrap_expect: Option<usize>,
    /// Names that requests may have in `Host`, beside those that are known.
    pub allow_hosts: Vec<String>,
    /// Who gets in, and what is shown to whom.
    pub security: Security,
    /// The place of the data.
    pub data: DataPlace,
    /// The data directory in error texts: `--rdir DIR`, `HRAFTD_RDIR=DIR`, or `HOME=... (data directory ...)`.
    pub data_label: String,
    /// The role that this node asks for.
    pub role: Role,
    /// The operator's word that a node which was moved runs nowhere else.
    pub moved: bool,
    /// This node's root tokens, if it has some.
    pub root_tokens: Option<RootTokenFile>,
    /// Read level of a GET that names none.
    pub read_level: ReadLevel,
    /// The most bytes of keys and values that the cluster keeps; 0: any number.
    pub quota_bytes: u64,
    /// Largest value, in bytes; at most `max_request_bytes`.
    pub max_value_bytes: usize,
    /// Largest request body, in bytes.
    pub max_request_bytes: usize,
    /// Log entries between snapshots; at least 1.
    pub snapshot_threshold: u64,
    /// Backups that the leader makes by itself.
    pub backups: Option<BackupPlan>,
    /// The number of changes kept for watchers.
    pub watch_history: usize,
    /// How long the outcome of a write with an `Idempotency-Key` is kept, in ms.
    pub idempotency_window_ms: u64,
    /// Time between two heartbeats of a leader, in ms.
    pub heartbeat_ms: u64,
    /// Shortest silence before an election, in ms; at least three heartbeats.
    pub election_min_ms: u64,
    /// Longest silence before an election, in ms; twice the shortest.
    pub election_max_ms: u64,
    /// Logging.
    pub log: LogSettings,
    /// Which requests are logged.
    pub request_log: RequestLog,
    warnings: Vec<String>,
}

/// Reads the task of this process from its arguments and environment.
///
/// # Errors
/// See [`parse`].
pub fn from_process() -> Result<Task, Exit> {
    let mut task = task::task(std::env::args_os(), &|name| std::env::var_os(name), &ThisMachine)?;
    if let Task::Serve(config) | Task::Check(config) = &mut task {
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        config.warnings.extend(setting::unknown::warnings(names));
    }
    Ok(task)
}

/// Reads a node's configuration from `argv`, which begins with the program's name, and the environment.
///
/// A flag beats its variable, a variable the configuration file, and that the default. May block on DNS if a bind address is a name, or if it names no
/// host and `--rjoin` has names.
///
/// # Errors
/// The [`Exit`] of a process that has no node to run: code 0 after help or version, 64 for a bad command line or
/// variable, 78 for a configuration that this machine cannot have.
pub fn parse(
    argv: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
    machine: &dyn Machine,
) -> Result<Config, Exit> {
    resolve::config(args::read(argv)?, &env, machine)
}

impl Config {
    /// True where no other machine can connect.
    pub fn loopback_only(&self) -> bool {
        self.http_bind.is_loopback() && self.raft_bind.is_loopback()
    }

    /// Warnings for the operator, to be logged once, at start.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// True for a client address that is this node's own. May block on DNS: call it off the async workers.
    ///
    /// See [`Config::is_this_node_on`].
    pub fn is_this_node(&self, addr: &HostPort) -> bool {
        self.is_this_node_on(addr, &ThisMachine)
    }

    /// True for our advertised client address, and for an address with our port whose host is this machine alone and on
    /// which we listen.
    ///
    /// * Not every address of the machine is ours: another node may listen on the same port of another address.
    /// * A name that leads to other machines too is not ours: every node behind it would take itself for the first.
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

    /// True for a client address that is certainly this node's own, and nobody else's: it may form a cluster where that is
    /// the first of the list. May block on DNS: call it off the async workers.
    ///
    /// See [`Config::is_certainly_this_node_on`].
    pub fn is_certainly_this_node(&self, addr: &HostPort) -> bool {
        self.is_certainly_this_node_on(addr, &ThisMachine)
    }

    /// True where the host is *literally* the advertised one, the one bound to, an IP of this machine on which we listen,
    /// loopback, or this machine's own name; and, where it is a name, does not lead to other machines.
    ///
    /// * Whatever else leads here, a service's name or a balancer, may lead others to themselves.
    /// * An advertised name may lead to one address that is not this machine's: a router's that forwards the port.
    pub fn is_certainly_this_node_on(&self, addr: &HostPort, machine: &dyn Machine) -> bool {
        let own = &self.public_id.haddr;
        let is_told = addr.port == own.port && addr.host.eq_ignore_ascii_case(&own.host);
        if address::ip(&addr.host).is_some() {
            return is_told || self.is_this_node_on(addr, machine);
        }
        let ips = machine.resolve(&addr.host).unwrap_or_default();
        let leads_elsewhere = ips.iter().any(|ip| !machine.has_address(*ip));
        if is_told {
            return !leads_elsewhere || ips.len() == 1;
        }
        let is_named_here = address::is_loopback(&addr.host)
            || self.http_bind.host.as_ref().is_some_and(|host| addr.host.eq_ignore_ascii_case(host))
            || host_info::is_name_of(&machine.host_name(), &addr.host);
        is_named_here && self.is_this_node_on(addr, machine)
    }
}

/// The page of `hraftd check config` for this configuration.
pub fn page(config: &Config) -> String {
    config.page()
}

/// Reads the configuration of this process once more: the same command line and environment, and the file as it is now.
/// May block on DNS.
///
/// # Errors
/// As [`parse`].
pub fn again() -> Result<Config, Exit> {
    parse(std::env::args_os(), |name| std::env::var_os(name), &ThisMachine)
}

impl fmt::Display for DataPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Dir(dir) => write!(f, "{}", dir.display()),
        }
    }
}
