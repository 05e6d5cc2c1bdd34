//! The directory stays small under an endless overwrite, a dead follower or not.

use std::path::Path;

use crate::support::cluster::Cluster;
use crate::support::http::Conn;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::say;
use crate::support::wait::{SETTLE, check, eventually};

const MIB: u64 = 1 << 20;
const VALUE: usize = 100_000;
const KEYS: usize = 10;

/// Overwrites the same keys so often, through one node.
fn overwrite(node: &Node, times: usize) {
    let mut conn = Conn::open(&node.haddr).unwrap();
    for time in 0..times {
        let body = format!(r#"{{"k{}":"{time}.{}"}}"#, time % KEYS, "v".repeat(VALUE));
        conn.request("POST", "/hraftd/key", &[], Some(body.as_bytes())).unwrap().ok().unwrap();
    }
}

fn size(dir: &Path) -> u64 {
    let sizes = std::fs::read_dir(dir).unwrap().filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
    sizes.sum()
}

/// Snapshots of 1 MB every 100 entries of 0.1 MB: up to two of the former, 10 MB of log kept and as much again until the
/// next, what is written while a snapshot is made, whole segments of 16 MiB at both ends, and the spare.
const BOUND: u64 = 96 * MIB;

#[test]
fn a_dead_follower_does_not_make_it_grow() {
    let mut cluster = Cluster::start_with(Lab::busy(), 3, &["--snapshot-threshold", "100"]);
    overwrite(&cluster.nodes[0], 10);
    cluster.settled();
    let dead = cluster.follower();
    let before = cluster.nodes[dead].stat("last_log_index").unwrap();
    cluster.nodes[dead].kill();
    let leader = cluster.leader();
    let mut largest = 0;
    for _ in 0..20 {
        overwrite(&cluster.nodes[leader], 70);
        for node in cluster.running() {
            let found = size(&node.rdir);
            largest = largest.max(found);
            assert!(found < BOUND, "{} has {} MiB", node.name, found / MIB);
        }
    }
    say(&format!("140 MB were overwritten; the largest directory had {} MiB", largest / MIB));

    // What it needs is gone from the log: it gets a snapshot.
    let applied = cluster.nodes[leader].stat("applied_index").unwrap();
    cluster.nodes[dead].start();
    cluster.settled();
    let node = &cluster.nodes[dead];
    eventually(SETTLE, "it has caught up", || {
        let (found, snapshot) = (node.stat("applied_index")?, node.stat("last_snapshot_index")?);
        check(found >= applied && snapshot > before, || format!("applied {found}, snapshot {snapshot}"))
    });
    assert!(size(&node.rdir) < BOUND);
    assert_eq!(node.local("k9").unwrap(), cluster.nodes[leader].local("k9").unwrap());
}
