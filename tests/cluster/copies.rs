//! Data directories that were copied while their nodes ran, and put back.

use crate::support::cluster::Cluster;
use crate::support::http::Reply;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::wait::{SETTLE, check, eventually};

fn has_diverged(reply: &Reply) -> Result<(), String> {
    check(reply.status == 503 && reply.json()["code"] == "diverged", || reply.brief())
}

/// Issue 15, row 3 (`field/02`): two directories of an earlier moment, and one of a later.
#[test]
fn copies_of_different_moments_do_not_answer_differently() {
    let mut cluster = Cluster::start(3);
    cluster.put_back_different_moments();
    for number in [0, 1] {
        cluster.nodes[number].start();
    }
    for number in [0, 1] {
        cluster.nodes[number].wait_ready();
        assert_eq!(cluster.nodes[number].value("x").unwrap(), 0);
    }
    cluster.nodes[2].start();
    for _ in 0..2 {
        let third = &cluster.nodes[2];
        eventually(SETTLE, "the third says so", || has_diverged(&third.get("/hraftd/raft/ready")?));
        has_diverged(&third.get("/hraftd/key/x").unwrap()).unwrap();
        has_diverged(&third.get("/hraftd/watch?prefix=").unwrap()).unwrap();
        has_diverged(&third.post("/hraftd/key", r#"{"y":1}"#).unwrap()).unwrap();
        assert_eq!(third.state().unwrap(), "Shutdown");
        // What it knew to be committed when it was copied: the newest may not have been noted yet.
        assert!(third.local("x").unwrap().as_u64() > Some(0), "{:?}", third.local("x"));
        for other in &cluster.nodes[..2] {
            let told = other.get("/hraftd/raft/cluster").unwrap().json()["warnings"].to_string();
            assert!(told.contains("has diverged") && told.contains(&third.id()), "{told}");
        }
        cluster.nodes[0].set("y", "1").unwrap();
        cluster.nodes[2].assert_alive();
        cluster.nodes[2].stop();
        cluster.nodes[2].start();
    }
    let logs: String = cluster.nodes[..2].iter().map(Node::log_text).collect();
    assert!(logs.contains("takes no part any more"), "{logs}");
    let third = &cluster.nodes[2];
    eventually(SETTLE, "the third says so", || has_diverged(&third.get("/hraftd/raft/ready")?));
    cluster.nodes[2].stop();
    cluster.nodes[2].wipe();
    cluster.nodes[2].start();
    cluster.settled();
    cluster.all_have("x", "0");
    cluster.all_have("y", "1");
}

/// A directory that holds nothing yet is nobody's: the copy takes a Raft id of its own. Under one, the first of the two would
/// keep the other out for ever.
#[test]
fn a_copy_of_a_directory_that_holds_nothing_joins_as_another_node() {
    let lab = Lab::new();
    let mut first = lab.node("first");
    let mut waits = lab.node("waits").rjoin(&[&first.haddr]);
    let mut copied = lab.node("copied").rjoin(&[&first.haddr]);
    waits.start();
    eventually(SETTLE, "it waits", || waits.get("/hraftd/raft/health")?.ok().map(drop));
    std::fs::rename(waits.copy_beside(), &copied.rdir).unwrap();
    copied.start();
    eventually(SETTLE, "it waits", || copied.get("/hraftd/raft/health")?.ok().map(drop));
    first.start();
    Cluster { nodes: vec![first, waits, copied], lab }.settled();
}
