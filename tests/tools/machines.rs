//! Several machines, each with an address of its own.

use crate::namespace::in_own_network;
use crate::support::lab::Lab;
use crate::support::machine::{Machine, lan, voters};
use crate::support::shell::Background;
use crate::support::wait::{SETTLE, check, eventually};

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
