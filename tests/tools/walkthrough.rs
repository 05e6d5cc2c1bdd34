//! The walkthrough of the original README, its lines as they are written there.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::namespace::in_own_network;
use crate::shell::{Background, Shell};
use crate::support::lab::Lab;
use crate::support::wait::{SETTLE, check, eventually};

const PORTS: [u16; 3] = [11000, 11001, 11002];

fn start(shell: &Shell, port: u16) -> Background {
    shell.start(&port.to_string(), &format!("hraftd --rjoin :11000 --haddr :{port}"))
}

fn node_id(port: u16) -> String {
    format!("127.0.0.1:{port},127.0.0.1:{}", port + 1000)
}

/// Waits until each of these nodes sees all three as voters, and one of them lead; the leader's port.
fn one_leader(shell: &Shell, asked: &[u16]) -> u16 {
    eventually(SETTLE, "three voters with a leader", || {
        let mut leaders = Vec::new();
        for port in asked {
            let stats = shell.try_run(&format!("curl -sf localhost:{port}/hraftd/raft/stats"))?;
            let seen: Value = serde_json::from_str(&stats).map_err(|error| error.to_string())?;
            let servers = seen["latest_configuration"].as_array().cloned().unwrap_or_default();
            let voters = servers.iter().filter(|server| server["suffrage"] == "Voter").count();
            check((servers.len(), voters) == (3, 3), || format!("{port}: {seen}"))?;
            shell.try_run(&format!("curl -sf localhost:{port}/hraftd/raft/ready"))?;
            if seen["state"] == "Leader" {
                leaders.push(*port);
            }
        }
        check(leaders.len() == 1, || format!("leaders: {leaders:?}"))?;
        Ok(leaders[0])
    })
}

fn answers(shell: &Shell, line: &str) -> String {
    eventually(SETTLE, line, || shell.try_run(line))
}

fn stop(mut node: Background) {
    node.process.signal(Signal::TERM);
    let status = node.process.wait(Duration::from_secs(8), "hraftd stops after SIGTERM");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn one_node_with_curl_and_httpie() {
    in_own_network("walkthrough::one_node_with_curl_and_httpie", &[("http", "httpie")], || {
        let lab = Lab::new();
        let shell = Shell::new(&lab.path().join("home"));
        let node = shell.start("hraftd", "hraftd");
        answers(&shell, "curl -sf localhost:11000/hraftd/raft/ready");
        shell.run(r#"curl -v -H "Content-Type: application/json" localhost:11000/hraftd/key -d '{"user1": "batman"}'"#);
        assert_eq!(shell.run("curl localhost:11000/hraftd/key/user1"), r#"{"user1":"batman"}"#);
        shell.run("http :11000/hraftd/key foo=barst");
        assert_eq!(
            serde_json::from_str::<Value>(&shell.run("http :11000/hraftd/key/foo")).unwrap(),
            serde_json::json!({"foo": "barst"})
        );
        // The line that it prints at its start works.
        let log = node.log_text();
        let printed = log.lines().find_map(|line| Some(&line[line.find("curl ")?..]));
        let printed = printed.unwrap_or_else(|| panic!("no curl line:\n{log}")).trim_end_matches(['`', '"', '\'']);
        shell.run(&format!("curl -f {}", printed.trim_start_matches("curl ")));
        assert!(lab.path().join("home/.hraftd/11000").is_dir(), "the default data directory");
        stop(node);
        // The same node, said at length.
        let node = start(&shell, 11000);
        answers(&shell, "curl -sf localhost:11000/hraftd/raft/ready");
        assert_eq!(shell.run("curl localhost:11000/hraftd/key/user1"), r#"{"user1":"batman"}"#);
        assert!(shell.run("curl -s localhost:11000/hraftd/raft/stats").contains(&node_id(11000)));
        stop(node);
    });
}

#[test]
fn a_local_cluster() {
    in_own_network("walkthrough::a_local_cluster", &[("http", "httpie"), ("jq", "jq"), ("python3", "python3")], || {
        let lab = Lab::new();
        let shell = Shell::new(&lab.path().join("home"));
        let mut nodes: Vec<Background> = PORTS.into_iter().map(|port| start(&shell, port)).collect();
        one_leader(&shell, &PORTS);

        shell.run(r#"curl localhost:11000/hraftd/key -d '{"user1": "batman"}'"#);
        assert_eq!(
            shell.run("curl localhost:11000/hraftd/key/user1 localhost:11001/key/user1 localhost:11002/key/user1"),
            r#"{"user1":"batman"}"#.repeat(3)
        );
        shell.run(r#"curl localhost:11000/hraftd/key -d '{"user2": "robin"}'"#);
        assert_eq!(
            shell.run("curl localhost:11000/hraftd/key/user2 localhost:11001/key/user2 localhost:11002/key/user2"),
            r#"{"user2":"robin"}"#.repeat(3)
        );
        assert_eq!(shell.run("curl localhost:11000/hraftd/raft/stats |jq -r .num_peers").trim(), "2");
        let pretty = shell.run("curl localhost:11000/hraftd/raft/cluster | python3 -m json.tool");
        let cluster: Value = serde_json::from_str(&shell.run("http :11000/hraftd/raft/cluster")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&pretty).unwrap(), cluster);
        assert_eq!(cluster["servers"].as_array().unwrap().len(), 3);

        // Kill the leader and watch one of the others be elected.
        let killed = one_leader(&shell, &PORTS);
        nodes.remove(PORTS.iter().position(|port| *port == killed).unwrap());
        let living: Vec<u16> = PORTS.into_iter().filter(|port| *port != killed).collect();
        let next = one_leader(&shell, &living);
        assert_ne!(next, killed);
        shell.run(&format!(r#"curl -sf localhost:{next}/hraftd/key -d '{{"user3": "alfred"}}'"#));
        for port in &living {
            assert_eq!(shell.run(&format!("curl localhost:{port}/key/user2")), r#"{"user2":"robin"}"#);
        }
        // Restarted, it learns about any updates that occurred while it was down.
        nodes.push(start(&shell, killed));
        one_leader(&shell, &PORTS);
        let line = format!("curl -sf 'localhost:{killed}/hraftd/key/user3?level=none'");
        assert_eq!(answers(&shell, &line), r#"{"user3":"alfred"}"#);

        let gone = node_id(11002);
        let removed = shell.run(&format!("http DELETE :11001/raft/remove id={gone}"));
        assert_eq!(serde_json::from_str::<Value>(&removed).unwrap(), serde_json::json!({"ok": true, "msg": "OK"}));
        eventually(SETTLE, "the removed one says so", || {
            let state = shell.try_run("curl -s localhost:11002/hraftd/raft/state")?;
            check(state.contains("Shutdown"), || state)
        });
        assert_eq!(shell.run("curl localhost:11000/hraftd/raft/stats |jq -r .num_peers").trim(), "1");
        for node in nodes {
            stop(node);
        }
    });
}

/// Go's flag style, both addresses given; curl on IPv4 and IPv6.
#[test]
fn wildcards_on_both_protocols() {
    in_own_network("walkthrough::wildcards_on_both_protocols", &[], || {
        let lab = Lab::new();
        let shell = Shell::new(&lab.path().join("home"));
        let _nodes: Vec<Background> = PORTS
            .into_iter()
            .map(|port| {
                let line = format!("hraftd -haddr :{port} -raddr :{} -rjoin :11000", port + 1000);
                shell.start(&port.to_string(), &line)
            })
            .collect();
        one_leader(&shell, &PORTS);
        shell.run(r#"curl -sf 127.0.0.1:11001/key -d '{"k": 1}'"#);
        assert_eq!(shell.run("curl -sf -g '[::1]:11002/key/k'"), r#"{"k":1}"#);
    });
}
