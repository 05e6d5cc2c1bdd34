//! First boot: alone, one after the other, all at once, through a follower, beside a peer that never answers.

use std::net::TcpListener;

use crate::support::cluster::Cluster;
use crate::support::lab::Lab;
use crate::support::wait::{SETTLE, check, eventually};

#[test]
fn one_node_alone_answers() {
    let lab = Lab::new();
    let mut node = lab.node("only");
    node.start();
    node.wait_ready();
    eventually(SETTLE, "it leads", || {
        let state = node.state()?;
        check(state == "Leader", || state)
    });
    let index = node.set("user1", r#""batman""#).unwrap();
    assert_eq!(node.value("user1").unwrap(), "batman");
    let deleted = node.delete("/hraftd/key/user1", None).unwrap().ok().unwrap().json();
    assert!(deleted["index"].as_u64().unwrap() > index, "{deleted}");
    assert_eq!(deleted["deleted"], 1);
    assert_eq!(node.get("/hraftd/key/user1").unwrap().status, 404);
    let stats = node.stats().unwrap();
    assert_eq!((&stats["state"], &stats["num_peers"]), (&"Leader".into(), &"0".into()), "{stats}");
    assert_eq!(node.voters().unwrap(), [node.id()].into());
}

/// As the README starts them, with data written before the others join.
#[test]
fn three_started_one_after_the_other() {
    let lab = Lab::new();
    let mut first = lab.node("n0");
    first = {
        let own = first.haddr.clone();
        first.rjoin(&[&own])
    };
    first.start();
    first.wait_ready();
    first.set("early", "1").unwrap();
    let list = first.haddr.clone();
    let mut cluster = Cluster { nodes: vec![first], lab };
    for name in ["n1", "n2"] {
        let node = cluster.lab.node(name).rjoin(&[&list]);
        cluster.nodes.push(node);
        cluster.nodes.last_mut().unwrap().start();
    }
    cluster.settled();
    cluster.all_have("early", "1");
    cluster.nodes[2].set("late", "2").unwrap();
    cluster.all_have("late", "2");
    assert!(cluster.nodes.iter().all(|node| node.stats().unwrap()["num_peers"] == "2"));
}

/// Four at once, each with the same list, started in the given order.
fn four_at_once(order: [usize; 4]) {
    let mut cluster = Cluster::with_one_list(4);
    for number in order {
        cluster.nodes[number].start();
    }
    cluster.settled();
    cluster.nodes[order[0]].set("k", "[1]").unwrap();
    cluster.all_have("k", "[1]");
}

#[test]
fn four_at_once_the_first_first() {
    four_at_once([0, 1, 2, 3]);
}

#[test]
fn four_at_once_the_first_last() {
    four_at_once([3, 2, 1, 0]);
}

#[test]
fn four_at_once_the_first_in_between() {
    four_at_once([2, 0, 3, 1]);
}

/// The others wait for the first, however long it takes, and answer meanwhile.
#[test]
fn nodes_without_the_first_wait_for_it() {
    let mut cluster = Cluster::with_one_list(3);
    cluster.nodes[1].start();
    cluster.nodes[2].start();
    for node in &cluster.nodes[1..] {
        eventually(SETTLE, "it answers before it has joined", || {
            let ready = node.get("/hraftd/raft/ready")?;
            check(ready.status == 503, || ready.brief())?;
            check(node.stats()?["state"] != "Leader", || "it leads".to_owned())?;
            node.get("/hraftd/raft/cluster")?.ok().map(drop)
        });
    }
    let early = cluster.nodes[1].post("/hraftd/key", r#"{"early":1}"#).unwrap();
    assert_eq!(early.status, 503, "{}", early.brief());
    cluster.nodes[0].start();
    cluster.settled();
    assert_eq!(cluster.nodes[1].get("/hraftd/key/early").unwrap().status, 404);
}

#[test]
fn a_node_joins_through_a_follower() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].set("k", "1").unwrap();
    let follower = cluster.nodes[cluster.follower()].haddr.clone();
    let node = cluster.lab.node("n3").rjoin(&[&follower]);
    cluster.nodes.push(node);
    cluster.nodes[3].start();
    cluster.settled();
    cluster.all_have("k", "1");
}

/// `POST join` is what a joining node says itself; said again it changes nothing.
#[test]
fn joining_again_is_safe() {
    let cluster = Cluster::start(2);
    for node in &cluster.nodes {
        let body = format!(r#"{{"id":"{}","addr":"{}"}}"#, cluster.nodes[1].id(), cluster.nodes[1].raddr);
        let reply = node.post("/hraftd/raft/join", &body).unwrap().ok().unwrap();
        assert_eq!(reply.json(), serde_json::json!({"ok": true, "msg": "OK"}));
    }
    cluster.settled();
}

/// The kernel accepts for a listener that nobody reads from.
#[test]
fn a_listed_node_that_never_answers_does_not_keep_a_joiner_out() {
    let black_hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = black_hole.local_addr().unwrap().to_string();
    let mut cluster = Cluster::start(1);
    let real = cluster.nodes[0].haddr.clone();
    let node = cluster.lab.node("n1").rjoin(&[&silent, &real]);
    cluster.nodes.push(node);
    cluster.nodes[1].start();
    cluster.settled();
}

/// It may have a cluster. One more that says that it has none makes a majority of three.
#[test]
fn the_first_waits_for_a_majority_of_the_listed_nodes() {
    let black_hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = black_hole.local_addr().unwrap().to_string();
    let lab = Lab::new();
    let (first, second) = (lab.node("n0"), lab.node("n1"));
    let list = [first.haddr.clone(), silent.clone(), second.haddr.clone()];
    let list = [list[0].as_str(), list[1].as_str(), list[2].as_str()];
    let mut cluster = Cluster { nodes: vec![first.rjoin(&list), second.rjoin(&list)], lab };
    cluster.nodes[0].start();
    eventually(SETTLE, "it says for whom it waits", || {
        let log = cluster.nodes[0].log_text();
        check(log.contains("2 of 3 listed nodes") && log.contains(&silent), || log.clone())?;
        check(!log.contains("formed cluster"), || log.clone())
    });
    cluster.nodes[1].start();
    cluster.settled();
}

/// The same flags in Go's style, and from the environment; a flag beats the environment.
#[test]
fn flags_of_go_and_the_environment() {
    let mut cluster = Cluster::start(1);
    let first = cluster.nodes[0].haddr.clone();
    let joined = cluster.lab.node("go").args(&["-rjoin", &first, "-log-level=warn"]);
    cluster.nodes.push(joined);
    cluster.nodes[1].start();
    cluster.settled();

    let node = cluster.lab.node("env");
    let mut command = crate::support::node::hraftd(cluster.lab.path());
    command.env("HRAFTD_HADDR", &node.haddr).env("HRAFTD_RJOIN", &first).env("HRAFTD_RDIR", "/dev/null/beaten");
    command.arg("-rdir").arg(&node.rdir);
    let log = std::fs::File::create(cluster.lab.path().join("env-process.log")).unwrap();
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let _process = crate::support::process::Reaped::spawn(&mut command);
    let wanted = cluster.ids().into_iter().chain([node.id()]).collect();
    cluster.voters_are(&wanted);
}
