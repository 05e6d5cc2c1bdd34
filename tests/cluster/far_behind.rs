//! Nodes that are so far behind that the log they need is gone: a snapshot brings them up to date.

use crate::support::cluster::Cluster;
use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::wait::{SETTLE, check, eventually};

const KEYS: u32 = 1_000;

/// One entry a key.
fn write_many(node: &Node) {
    let mut conn = Conn::open(&node.haddr).unwrap();
    for number in 0..KEYS {
        let body = format!(r#"{{"far{number}":{{"n":{number}}}}}"#);
        conn.request("POST", "/hraftd/key", &[], Some(body.as_bytes())).unwrap().ok().unwrap();
    }
}

/// All of the keys, in the node's own copy.
fn has_all(node: &Node, applied: u64) {
    eventually(SETTLE, &format!("{} has applied {applied}", node.name), || {
        let found = node.stat("applied_index")?;
        check(found >= applied, || found.to_string())
    });
    let mut conn = Conn::open(&node.haddr).unwrap();
    for number in 0..KEYS {
        let path = format!("/hraftd/key/far{number}?level=none");
        let reply = conn.request("GET", &path, &[], None).unwrap();
        assert_eq!((reply.status, reply.text()), (200, format!(r#"{{"far{number}":{{"n":{number}}}}}"#)));
    }
}

fn compacted(node: &Node) -> u64 {
    eventually(SETTLE, &format!("{} has a recent snapshot", node.name), || {
        let index = node.stat("last_snapshot_index")?;
        check(index > u64::from(KEYS) / 2, || index.to_string())?;
        check(node.stat("last_snapshot_term")? > 0, || "term 0".to_owned())?;
        Ok(index)
    })
}

#[test]
fn a_follower_that_was_down_catches_up() {
    let mut cluster = Cluster::start_with(Lab::new(), 3, &["--snapshot-threshold", "100"]);
    let behind = cluster.follower();
    cluster.nodes[behind].kill();
    let leader = cluster.leader();
    write_many(&cluster.nodes[leader]);
    compacted(&cluster.nodes[leader]);
    let applied = cluster.nodes[leader].stat("applied_index").unwrap();
    cluster.nodes[behind].start();
    has_all(&cluster.nodes[behind], applied);
    compacted(&cluster.nodes[behind]);
    cluster.settled();
    cluster.nodes[behind].set("after", "1").unwrap();
    cluster.all_have("after", "1");

    // What it installed is on its disk.
    cluster.nodes[behind].kill();
    cluster.nodes[behind].start();
    has_all(&cluster.nodes[behind], applied);
}

#[test]
fn a_new_node_catches_up() {
    let mut cluster = Cluster::start_with(Lab::new(), 1, &["--snapshot-threshold", "100"]);
    write_many(&cluster.nodes[0]);
    compacted(&cluster.nodes[0]);
    let applied = cluster.nodes[0].stat("applied_index").unwrap();
    let first = cluster.nodes[0].haddr.clone();
    let node = cluster.lab.node("n1").rjoin(&[&first]).args(&["--snapshot-threshold", "100"]);
    cluster.nodes.push(node);
    cluster.nodes[1].start();
    cluster.settled();
    has_all(&cluster.nodes[1], applied);
}

/// In memory, and wiped at that.
#[test]
fn a_node_in_memory_catches_up() {
    let mut cluster = Cluster::start_with(Lab::new(), 3, &["--snapshot-threshold", "100", "--rmem"]);
    let behind = cluster.follower();
    cluster.nodes[behind].kill();
    let leader = cluster.leader();
    write_many(&cluster.nodes[leader]);
    compacted(&cluster.nodes[leader]);
    let applied = cluster.nodes[leader].stat("applied_index").unwrap();
    cluster.nodes[behind].start();
    cluster.settled();
    has_all(&cluster.nodes[behind], applied);
}

/// A start from snapshot and log together.
#[test]
fn one_node_restarts_from_its_snapshot() {
    let lab = Lab::new();
    let mut node = lab.node("only").args(&["--snapshot-threshold", "100"]);
    node.start();
    node.wait_ready();
    write_many(&node);
    let snapshot = compacted(&node);
    let applied = node.stat("applied_index").unwrap();
    for graceful in [true, false] {
        if graceful {
            node.stop()
        } else {
            node.kill()
        }
        node.start();
        node.wait_ready();
        has_all(&node, applied);
        assert!(node.stat("last_snapshot_index").unwrap() >= snapshot);
        node.set("after", "1").unwrap();
    }
}
