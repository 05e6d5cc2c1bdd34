//! Several machines: network namespaces on a bridge, each with an address of its own.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::namespace::in_own_network;
use crate::shell::{Background, Shell};
use crate::support::lab::Lab;
use crate::support::process::Reaped;
use crate::support::wait::{SETTLE, check, eventually};

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

const NEEDS: [(&str, &str); 1] = [("nsenter", "util-linux")];

/// As the README says it, the first machine named on all.
#[test]
fn three_machines() {
    in_own_network("machines::three_machines", &NEEDS, || {
        let lab = Lab::new();
        let (outside, machines) = lan(&lab);
        let line = "hraftd -haddr :11000 -rjoin 192.168.0.1:11000";
        let mut nodes: Vec<Background> = machines.iter().map(|machine| machine.start("hraftd", line)).collect();
        let ids: Vec<String> = machines.iter().map(Machine::id).collect();
        for machine in &machines {
            eventually(SETTLE, "three voters, known by their own addresses", || {
                let found = voters(&outside, &format!("{}:11000", machine.addr))?;
                check(found == ids, || format!("{found:?}"))
            });
        }
        for machine in &machines {
            eventually(SETTLE, "ready", || {
                outside.try_run(&format!("curl -sf --max-time 5 {}:11000/hraftd/raft/ready", machine.addr))
            });
        }
        outside.run(r#"curl -sf 192.168.0.3:11000/hraftd/key -d '{"user1": "batman"}'"#);
        for machine in &machines {
            assert_eq!(machine.run("curl -s localhost:11000/hraftd/key/user1"), r#"{"user1":"batman"}"#);
        }
        // Open to the network: said once.
        let log = nodes[1].log_text();
        assert_eq!(log.lines().filter(|line| line.contains("authentication")).count(), 1, "{log}");

        // The first machine dies; the others go on, and it comes back.
        nodes.remove(0);
        eventually(SETTLE, "the others take writes", || {
            outside.try_run(r#"curl -sf --max-time 10 192.168.0.2:11000/hraftd/key -d '{"user2": "robin"}'"#)
        });
        nodes.push(machines[0].start("hraftd", line));
        eventually(SETTLE, "the first has what it missed", || {
            outside.try_run("curl -sf --max-time 5 '192.168.0.1:11000/hraftd/key/user2?level=none'")
        });
    });
}

/// Others could not reach it, nor could it tell: it is refused, with what to do about it.
#[test]
fn a_joiner_that_others_could_not_reach() {
    in_own_network("machines::a_joiner_that_others_could_not_reach", &NEEDS, || {
        let lab = Lab::new();
        let (outside, machines) = lan(&lab);
        let _first = machines[0].start("hraftd", "hraftd --haddr :11000 --rjoin 192.168.0.1:11000");
        eventually(SETTLE, "the first is there", || voters(&outside, "192.168.0.1:11000"));
        let lost = machines[1].start("lost", "hraftd --haddr 127.0.0.1:11000 --rjoin 192.168.0.1:11000");
        eventually(SETTLE, "it says why it is refused", || {
            let log = lost.log_text();
            check(log.contains("--hadv") && log.contains("--radv"), || log)
        });
        assert_eq!(voters(&outside, "192.168.0.1:11000").unwrap(), [machines[0].id()]);
    });
}

/// What is advertised is what others use, whatever the bind address: `--hadv`, `--radv` and `--iface`.
#[test]
fn advertised_addresses() {
    in_own_network("machines::advertised_addresses", &NEEDS, || {
        let lab = Lab::new();
        let (outside, machines) = lan(&lab);
        let lines = [
            "hraftd --haddr :7000 --raddr :7001 --hadv 192.168.0.1:7000 --radv 192.168.0.1:7001",
            "hraftd --haddr 0.0.0.0:11000 --iface eth0 --rjoin 192.168.0.1:7000",
            "hraftd --haddr 192.168.0.3:11000 --rjoin 192.168.0.1:7000",
        ];
        let _nodes: Vec<Background> =
            machines.iter().zip(lines).map(|(machine, line)| machine.start("hraftd", line)).collect();
        let mut ids = vec!["192.168.0.1:7000,192.168.0.1:7001".to_owned(), machines[1].id(), machines[2].id()];
        ids.sort();
        for addr in ["192.168.0.1:7000", "192.168.0.2:11000", "192.168.0.3:11000"] {
            eventually(SETTLE, "three voters by their advertised addresses", || {
                let found = voters(&outside, addr)?;
                check(found == ids, || format!("{addr}: {found:?}"))
            });
        }
    });
}
