//! Three nodes of hraftd with default settings.

use std::path::Path;

use crate::contestant::Server;
use crate::process;
use crate::support::node::hraftd;
use crate::support::wait::{SETTLE, check, eventually};
use crate::support::{http, ports};

pub fn start(dir: &Path) -> Vec<Server> {
    let addrs: Vec<String> = (0..3).map(|_| format!("127.0.0.1:{}", ports::free_pair())).collect();
    let mut servers = Vec::new();
    for (number, addr) in addrs.iter().enumerate() {
        let mut command = hraftd(dir);
        command.args(["--haddr", addr, "--rjoin", &addrs[0], "--rdir"]).arg(dir.join(number.to_string()));
        let log = dir.join(format!("{number}.log"));
        let process = process::start(&command, &log);
        eventually(SETTLE, "hraftd is ready", || http::call(addr, "GET", "/hraftd/raft/ready", None)?.ok());
        servers.push(Server { addr: addr.clone(), process, log });
    }
    eventually(SETTLE, "three voters of hraftd", || voters(&addrs[0]));
    servers
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

pub fn version() -> String {
    let output = hraftd(Path::new("/")).arg("--version").output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
