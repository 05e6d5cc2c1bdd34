//! What a node tells of itself and of its cluster.

use std::time::{Duration, Instant};

use crate::support::cluster::Cluster;
use crate::support::lab::Lab;
use crate::support::wait::{SETTLE, check, eventually};

/// The keys of the seed's sample.
const STATS: &[&str] = &[
    "applied_index",
    "commit_index",
    "fsm_pending",
    "last_contact",
    "last_log_index",
    "last_log_term",
    "last_snapshot_index",
    "last_snapshot_term",
    "latest_configuration",
    "latest_configuration_index",
    "num_peers",
    "protocol_version",
    "protocol_version_max",
    "protocol_version_min",
    "snapshot_version_max",
    "snapshot_version_min",
    "state",
    "term",
    "format",
    "format_max",
    "format_min",
];

#[test]
fn stats_are_the_seeds() {
    let cluster = Cluster::start(3);
    cluster.nodes[0].set("k", "1").unwrap();
    cluster.all_have("k", "1");
    let leader = cluster.leader();
    for (number, node) in cluster.nodes.iter().enumerate() {
        let stats = node.stats().unwrap();
        let object = stats.as_object().unwrap();
        for key in STATS {
            let value = object.get(*key).unwrap_or_else(|| panic!("no {key}: {stats}"));
            assert!(*key == "latest_configuration" || value.is_string(), "{key} is no string: {stats}");
        }
        for key in ["applied_index", "commit_index", "last_log_index", "last_log_term", "term"] {
            assert!(stats[key].as_str().unwrap().parse::<u64>().unwrap() > 0, "{key}: {stats}");
        }
        let servers = stats["latest_configuration"].as_array().unwrap();
        assert_eq!(servers.len(), 3);
        for server in servers {
            let member = cluster.nodes.iter().find(|node| server["id"] == node.id().as_str()).unwrap();
            let wanted = serde_json::json!({"id": member.id(), "address": member.raddr, "suffrage": "Voter"});
            assert_eq!(*server, wanted);
        }
        assert_eq!(stats["num_peers"], "2");
        assert_eq!(stats["state"], if number == leader { "Leader" } else { "Follower" });
        let constants = [("protocol_version", "3"), ("protocol_version_max", "3"), ("protocol_version_min", "0")];
        for (key, value) in constants.into_iter().chain([("snapshot_version_max", "1"), ("snapshot_version_min", "0")])
        {
            assert_eq!(stats[key], value);
        }
        assert_eq!((&stats["format_min"], &stats["format_max"]), (&"1".into(), &"2".into()));
        let contact = stats["last_contact"].as_str().unwrap();
        if number == leader {
            assert_eq!(contact, "0");
        } else {
            // A duration as Go prints it: 3.685538ms, 812.5µs, 1.2s.
            let unit = contact.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
            assert!(["ns", "µs", "ms", "s"].contains(&unit) && contact.len() > unit.len(), "{contact}");
        }
    }
}

#[test]
fn the_cluster_seen_from_each_node() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    for (number, node) in cluster.nodes.iter().enumerate() {
        let seen = node.get("/hraftd/raft/cluster").unwrap().ok().unwrap().json();
        let state = |number| if number == leader { "Leader" } else { "Follower" };
        assert_eq!(seen["current"]["id"], node.id());
        assert_eq!(seen["current"]["address"], node.raddr);
        assert_eq!(seen["current"]["state"], state(number));
        assert_eq!(seen["leader"]["id"], cluster.nodes[leader].id());
        assert_eq!(seen["leader"]["state"], "Leader");
        let servers = seen["servers"].as_array().unwrap();
        assert_eq!(servers.len(), 3, "{seen}");
        for server in servers {
            let member = cluster.nodes.iter().position(|node| server["id"] == node.id().as_str()).unwrap();
            assert_eq!(server["address"], cluster.nodes[member].raddr);
            assert_eq!(server["version"], env!("CARGO_PKG_VERSION"));
            assert_eq!(server["formats"], serde_json::json!({"oldest": 1, "newest": 2}));
            assert_eq!((&server["state"], &server["suffrage"]), (&state(member).into(), &"Voter".into()), "{seen}");
        }
    }
    let dead = cluster.follower();
    cluster.nodes[dead].kill();
    let id = cluster.nodes[dead].id();
    eventually(SETTLE, "the dead node is Lost", || {
        let seen = cluster.nodes[leader].get("/hraftd/raft/cluster")?.ok()?.json();
        let server = seen["servers"].as_array().and_then(|all| all.iter().find(|server| server["id"] == id.as_str()));
        check(server.is_some_and(|server| server["state"] == "Lost"), || seen.to_string())
    });
}

/// Go's could hang for ever here.
#[test]
fn the_cluster_seen_past_silent_nodes() {
    let cluster = Cluster::start(3);
    let (leader, silent) = (cluster.leader(), cluster.follower());
    cluster.nodes[silent].pause();
    let began = Instant::now();
    let seen = cluster.nodes[leader].get("/hraftd/raft/cluster").unwrap().ok().unwrap().json();
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    let id = cluster.nodes[silent].id();
    let server = seen["servers"].as_array().unwrap().iter().find(|server| server["id"] == id.as_str()).unwrap();
    assert_eq!(server["state"], "Lost", "{seen}");
    cluster.nodes[silent].resume();
    cluster.settled();
}

#[test]
fn the_small_ones() {
    let cluster = Cluster::start(1);
    let node = &cluster.nodes[0];
    let state = node.get("/hraftd/raft/state").unwrap().ok().unwrap();
    assert_eq!(state.text(), r#"{"ok":true,"msg":"Leader"}"#);
    let about = node.get("/hraftd/raft/node").unwrap().ok().unwrap().json();
    assert_eq!(about["nodeID"], node.id());
    assert_eq!(about["version"].as_str().map(|version| version.contains(env!("CARGO_PKG_VERSION"))), Some(true));
    for key in ["startTime", "hostname", "IP"] {
        assert!(!about[key].is_null(), "{key}: {about}");
    }
    assert!(node.get("/hraftd/raft/health").unwrap().ok().unwrap().text().contains("OK"));
    node.get("/hraftd/raft/ready").unwrap().ok().unwrap();
    let root = node.get("/").unwrap().ok().unwrap().text();
    assert!(root.contains(env!("CARGO_PKG_VERSION")) && root.contains("/hraftd/key"), "{root}");
}

/// What an operator would act on is in the log; requests are not.
#[test]
fn the_log_tells_of_events_not_of_requests() {
    let mut cluster = Cluster::start(3);
    for node in &cluster.nodes {
        let log = node.log_text();
        for wanted in [node.id(), node.haddr.clone(), node.raddr.clone(), node.rdir.display().to_string()] {
            assert!(log.contains(&wanted), "{wanted} is not in the log of {}:\n{log}", node.name);
        }
        assert!(log.contains("curl "), "no curl line in the log of {}:\n{log}", node.name);
    }
    let lines = |cluster: &Cluster| cluster.nodes.iter().map(|node| node.log_text().lines().count()).sum::<usize>();
    let before = lines(&cluster);
    for number in 0..50 {
        cluster.nodes[number % 3].set(&format!("k{number}"), "1").unwrap();
        cluster.nodes[number % 3].get("/hraftd/key/missing").unwrap();
        cluster.nodes[number % 3].post("/hraftd/key", "nonsense").unwrap();
    }
    let after = lines(&cluster);
    assert!(after < before + 20, "{} lines for 150 requests", after - before);
    let (leader, dead) = (cluster.leader(), cluster.follower());
    let addr = cluster.nodes[dead].raddr.clone();
    let lost = cluster.nodes[leader].log_text().len();
    cluster.nodes[dead].kill();
    eventually(SETTLE, "the leader logs the peer it lost", || {
        let log = cluster.nodes[leader].log_text();
        check(log[lost..].lines().any(|line| line.contains(&addr)), || log)
    });
}

#[test]
fn the_log_as_json() {
    let lab = Lab::new();
    let mut node = lab.node("only").args(&["--log-format", "json"]);
    node.start();
    node.wait_ready();
    let id = node.id();
    node.stop();
    let log = node.log_text();
    assert!(log.contains(&id), "{log}");
    for line in log.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event["level"].is_string() && event["timestamp"].is_string(), "{line}");
    }
}

#[test]
fn the_log_level() {
    let lab = Lab::new();
    for (number, args) in [["--log-level", "error"], ["-log-level", "warn"]].into_iter().enumerate() {
        let mut node = lab.node(&format!("n{number}")).args(&args);
        node.start();
        node.wait_ready();
        node.stop();
        assert!(!node.log_text().contains("INFO"), "{}", node.log_text());
    }
}

/// Issue 20: who looks at the log or asks whether it is ready learns that writes are refused, and whom to start again.
#[test]
fn a_leader_without_a_quorum_says_so_and_names_the_dead() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    let ids: Vec<String> = others.iter().map(|number| cluster.nodes[*number].id()).collect();
    let said = |cluster: &Cluster, what: &str| {
        eventually(SETTLE, what, || {
            let log = cluster.nodes[leader].log_text();
            check(log.contains(what), || log.lines().last().unwrap_or_default().to_owned())
        });
    };
    for number in &others {
        cluster.nodes[*number].kill();
    }
    said(&cluster, "no quorum: writes are refused");
    let refused = cluster.nodes[leader].get("/hraftd/raft/ready").unwrap();
    assert_eq!((refused.status, &refused.json()["code"]), (503, &"no_leader".into()), "{}", refused.brief());
    for id in &ids {
        assert!(refused.json()["msg"].as_str().unwrap().contains(id.as_str()), "{id}: {}", refused.brief());
    }
    cluster.nodes[others[0]].start();
    cluster.nodes[leader].wait_ready();
    eventually(SETTLE, "its end", || {
        let log = cluster.nodes[leader].log_text();
        let ended = log.contains("a quorum answers again") || log.contains("no longer leads without a quorum");
        check(ended, || log.lines().last().unwrap_or_default().to_owned())
    });
}
