//! Restarts: of each node, of all, gracefully and not; with the data where it was.

use std::net::TcpStream;
use std::time::Instant;

use crate::support::cluster::Cluster;
use crate::support::lab::Lab;
use crate::support::wait::{SETTLE, check, eventually};

#[test]
fn each_node_restarts_gracefully() {
    let mut cluster = Cluster::start(3);
    for number in 0..3 {
        let key = format!("before{number}");
        cluster.nodes[number].set(&key, "1").unwrap();
        cluster.nodes[number].stop();
        let other = &cluster.nodes[(number + 1) % 3];
        eventually(SETTLE, "the others take writes", || other.set("meanwhile", &number.to_string()));
        cluster.nodes[number].start();
        cluster.settled();
        cluster.all_have(&key, "1");
        cluster.all_have("meanwhile", &number.to_string());
    }
}

#[test]
fn each_node_is_killed_and_restarts() {
    let mut cluster = Cluster::start(3);
    for number in 0..3 {
        let key = format!("before{number}");
        cluster.nodes[number].set(&key, "1").unwrap();
        cluster.nodes[number].kill();
        let other = &cluster.nodes[(number + 1) % 3];
        eventually(SETTLE, "the others take writes", || other.set("meanwhile", &number.to_string()));
        cluster.nodes[number].start();
        cluster.settled();
        cluster.all_have(&key, "1");
        cluster.all_have("meanwhile", &number.to_string());
    }
}

#[test]
fn all_stop_and_restart_at_once() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[1].set("k", r#"{"a":1}"#).unwrap();
    cluster.stop_all();
    cluster.start_all();
    cluster.settled();
    cluster.all_have("k", r#"{"a":1}"#);
    assert_eq!(cluster.nodes[2].value("k").unwrap(), serde_json::json!({"a": 1}));
}

#[test]
fn all_are_killed_and_restart_at_once() {
    let mut cluster = Cluster::start(3);
    for round in 0..3 {
        let key = format!("k{round}");
        cluster.nodes[round].set(&key, "true").unwrap();
        cluster.nodes.iter_mut().for_each(|node| node.kill());
        cluster.start_all();
        cluster.settled();
        cluster.all_have(&key, "true");
    }
}

/// Two of three suffice, the first of the `--rjoin` list absent.
#[test]
fn all_restart_but_the_first() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("k", "1").unwrap();
    cluster.stop_all();
    cluster.nodes[1].start();
    cluster.nodes[2].start();
    cluster.voters_are(&cluster.ids());
    cluster.all_have("k", "1");
    cluster.nodes[1].set("k", "2").unwrap();
    cluster.nodes[0].start();
    cluster.settled();
    cluster.all_have("k", "2");
}

#[test]
fn one_node_alone_is_killed_and_keeps_its_data() {
    let lab = Lab::new();
    let mut node = lab.node("only");
    for round in 0..4_u32 {
        node.start();
        node.wait_ready();
        if let Some(before) = round.checked_sub(1) {
            assert_eq!(node.value("round").unwrap(), before);
        }
        node.set("round", &round.to_string()).unwrap();
        if round % 2 == 0 { node.kill() } else { node.stop() }
    }
}

/// Its memory is gone: it comes back as a new Raft node in the place of the old one.
#[test]
fn a_node_in_memory_restarts() {
    let mut cluster = Cluster::start(2);
    let first = cluster.nodes[0].haddr.clone();
    let node = cluster.lab.node("n2").rjoin(&[&first]).args(&["--rmem"]);
    cluster.nodes.push(node);
    cluster.nodes[2].start();
    cluster.settled();
    for round in 0..2 {
        let key = format!("k{round}");
        cluster.nodes[2].set(&key, "1").unwrap();
        if round == 0 {
            cluster.nodes[2].kill()
        } else {
            cluster.nodes[2].stop()
        }
        cluster.nodes[2].start();
        cluster.settled();
        cluster.all_have(&key, "1");
    }
    let written = std::fs::read_dir(&cluster.nodes[2].rdir).map_or(0, Iterator::count);
    assert_eq!(written, 0, "--rmem left something in {}", cluster.nodes[2].rdir.display());
}

/// A cluster wholly in memory survives one node at a time.
#[test]
fn a_cluster_in_memory_survives_its_leader() {
    let mut cluster = Cluster::start_with(Lab::new(), 3, &["--rmem=true"]);
    cluster.nodes[0].set("k", "1").unwrap();
    let leader = cluster.leader();
    cluster.nodes[leader].kill();
    let other = &cluster.nodes[(leader + 1) % 3];
    eventually(SETTLE, "the others have a leader", || {
        let cluster = other.get("/hraftd/raft/cluster")?.ok()?.json();
        let id = &cluster["leader"]["id"];
        check(id.is_string() && cluster["leader"]["state"] == "Leader", || cluster.to_string())
    });
    cluster.leader();
    cluster.nodes[leader].start();
    cluster.settled();
    cluster.all_have("k", "1");
}

/// A second signal does not wait.
#[test]
fn a_stop_is_asked_for_twice() {
    let lab = Lab::new();
    let mut node = lab.node("only");
    node.start();
    node.wait_ready();
    node.ask_to_stop();
    node.ask_to_stop();
    node.wait_ended();
}

/// A port that is open belongs to a process that stops as asked, even while it opens its directory.
#[test]
fn it_stops_as_asked_from_the_moment_that_a_port_is_open() {
    let lab = Lab::new();
    let mut node = lab.node("only");
    for _ in 0..20 {
        node.start();
        let began = Instant::now();
        // Without a pause between the tries: the first moment counts.
        while TcpStream::connect(&node.haddr).is_err() {
            assert!(began.elapsed() < SETTLE, "{} opens no port", node.haddr);
        }
        node.stop();
    }
}
