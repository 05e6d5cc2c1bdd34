//! Several machines: network namespaces on a bridge, each with an address of its own.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::lab::Lab;
use super::process::Reaped;
use super::shell::{Background, Shell};
use super::wait::{SETTLE, check, eventually};

/// A machine: a process that does nothing but hold a network namespace.
pub struct Machine {
    pub addr: String,
    shell: Shell,
    holder: Reaped,
}

impl Machine {
    /// Number n has the address 192.168.0.n, as in the README.
    fn new(lab: &Lab, outside: &Shell, number: usize) -> Self {
        let addr = format!("192.168.0.{number}");
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "infinity"]).stdin(Stdio::null()).stdout(Stdio::null());
        let holder = Reaped::spawn(&mut command);
        let pid = holder.pid();
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        eventually(SETTLE, "the machine has its network", || {
            let its = std::fs::read_link(format!("/proc/{pid}/ns/net")).map_err(|error| error.to_string())?;
            check(its != own, || "it still has ours".to_owned())
        });
        outside.run(&format!(
            "ip link add m{number} type veth peer name eth0 netns {pid} && ip link set m{number} master lan up"
        ));
        let machine = Self { shell: Shell::new(&lab.path().join(format!("machine{number}"))), addr, holder };
        let addr = &machine.addr;
        machine.run(&format!("ip link set lo up && ip addr add {addr}/24 dev eth0 && ip link set eth0 up"));
        machine
    }

    fn inside(&self, line: &str) -> String {
        format!("nsenter --net=/proc/{}/ns/net -- sh -c '{}'", self.holder.pid(), line.replace('\'', r"'\''"))
    }

    pub fn run(&self, line: &str) -> String {
        self.shell.run(&self.inside(line))
    }

    pub fn start(&self, log: &str, line: &str) -> Background {
        self.shell.start(log, &self.inside(&format!("exec {line}")))
    }

    pub fn id(&self) -> String {
        format!("{0}:11000,{0}:12000", self.addr)
    }
}

pub fn lan(lab: &Lab) -> (Shell, Vec<Machine>) {
    let outside = Shell::new(&lab.path().join("outside"));
    outside.run("ip link add lan type bridge && ip addr add 192.168.0.254/24 dev lan && ip link set lan up");
    let machines = (1..=3).map(|number| Machine::new(lab, &outside, number)).collect();
    (outside, machines)
}

pub fn voters(shell: &Shell, addr: &str) -> Result<Vec<String>, String> {
    let stats = shell.try_run(&format!("curl -sf --max-time 5 {addr}/hraftd/raft/stats"))?;
    let stats: Value = serde_json::from_str(&stats).map_err(|error| error.to_string())?;
    let servers = stats["latest_configuration"].as_array().ok_or_else(|| stats.to_string())?;
    check(servers.iter().all(|server| server["suffrage"] == "Voter"), || stats.to_string())?;
    let mut ids: Vec<String> = servers.iter().filter_map(|server| Some(server["id"].as_str()?.to_owned())).collect();
    ids.sort();
    Ok(ids)
}
