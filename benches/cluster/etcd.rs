//! Three nodes of etcd with default settings, durable, with as much room as it needs: it keeps old values.

use std::path::Path;
use std::process::Command;

use crate::contestant::Server;
use crate::process;
use crate::support::wait::{SETTLE, check, eventually};
use crate::support::{http, ports};

const QUOTA: &str = "8589934592";

/// `None` where it is not installed.
pub fn version() -> Option<String> {
    let output = Command::new("etcd").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().next()?.replace("etcd Version: ", "etcd "))
}

pub fn start(dir: &Path) -> Vec<Server> {
    let ports: Vec<u16> = (0..3).map(|_| ports::free_pair()).collect();
    let peer = |port: u16| format!("http://127.0.0.1:{}", port + 1000);
    let all: Vec<String> =
        ports.iter().enumerate().map(|(number, &port)| format!("n{number}={}", peer(port))).collect();
    let mut servers = Vec::new();
    for (number, &port) in ports.iter().enumerate() {
        let (name, client) = (format!("n{number}"), format!("http://127.0.0.1:{port}"));
        let mut command = Command::new("etcd");
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD_")) {
            command.env_remove(variable);
        }
        command.args(["--name", &name, "--initial-cluster", &all.join(",")]).arg("--data-dir").arg(dir.join(&name));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer(port), "--initial-advertise-peer-urls", &peer(port)]);
        command.args(["--quota-backend-bytes", QUOTA, "--logger", "zap", "--log-level", "warn"]);
        let log = dir.join(format!("{name}.log"));
        let process = process::start(&command, &log);
        servers.push(Server { addr: format!("127.0.0.1:{port}"), process, log });
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

fn metric(addr: &str, name: &str) -> Result<String, String> {
    let text = http::call(addr, "GET", "/metrics", None)?.ok()?.text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned);
    value.ok_or_else(|| format!("no metric {name}"))
}
