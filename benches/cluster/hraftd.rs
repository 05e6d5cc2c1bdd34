//! Three nodes of hraftd with default settings.

use std::path::Path;
use std::process::Command;

use crate::process::{Server, version_line};
use crate::support::node::hraftd;
use crate::support::wait::{SETTLE, check, eventually};
use crate::support::{http, ports};

pub fn start(binary: &Path, dir: &Path) -> Vec<Server> {
    let addrs: Vec<String> = (0..3).map(|_| format!("127.0.0.1:{}", ports::free_pair())).collect();
    let mut servers = Vec::new();
    for (number, addr) in addrs.iter().enumerate() {
        let mut command = command(binary, dir);
        command.args(["--haddr", addr, "--rjoin", &addrs[0], "--rdir"]).arg(dir.join(number.to_string()));
        servers.push(Server::start(&command, addr.clone(), dir.join(format!("{number}.log"))));
        eventually(SETTLE, "hraftd is ready", || http::call(addr, "GET", "/hraftd/raft/ready", None)?.ok());
    }
    eventually(SETTLE, "three voters of hraftd", || voters(&addrs[0]));
    servers
}

/// Runs `binary` in the environment that tests give to the built one.
fn command(binary: &Path, home: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, value) in hraftd(home).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn voters(addr: &str) -> Result<(), String> {
    let cluster = http::call(addr, "GET", "/hraftd/raft/cluster", None)?.ok()?.json();
    let servers = cluster["servers"].as_array().map_or(&[][..], Vec::as_slice);
    let voters = servers.iter().filter(|server| server["suffrage"] == "Voter" && server["state"] != "Lost").count();
    check(voters == 3, || cluster.to_string())
}

pub fn leads(addr: &str) -> Result<bool, String> {
    Ok(http::call(addr, "GET", "/hraftd/raft/state", None)?.ok()?.json()["msg"] == "Leader")
}

pub fn version(binary: &Path) -> Option<String> {
    version_line(binary)
}
