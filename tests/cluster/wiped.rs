//! Nodes whose data directory was deleted: they come back in the place they had.

use std::collections::BTreeSet;

use crate::support::cluster::Cluster;
use crate::support::wait::{SETTLE, check, eventually};

/// All members know the same cluster: the data written before and after is on each of them.
fn is_whole(cluster: &Cluster, ids: &BTreeSet<String>) {
    assert_eq!(cluster.ids(), *ids);
    cluster.settled();
    cluster.all_have("before", r#""kept""#);
    for (number, node) in cluster.nodes.iter().enumerate() {
        let key = format!("after{number}");
        node.set(&key, "1").unwrap();
        cluster.all_have(&key, "1");
    }
}

#[test]
fn a_wiped_follower_replaces_itself() {
    let mut cluster = Cluster::start(3);
    let ids = cluster.ids();
    cluster.nodes[0].set("before", r#""kept""#).unwrap();
    let wiped = cluster.follower();
    cluster.nodes[wiped].kill();
    cluster.nodes[wiped].wipe();
    cluster.nodes[wiped].start();
    is_whole(&cluster, &ids);
}

/// One after the other, every node loses its disk: the cluster keeps its data.
#[test]
fn each_node_is_wiped_in_turn() {
    let mut cluster = Cluster::start(3);
    let ids = cluster.ids();
    cluster.nodes[0].set("before", r#""kept""#).unwrap();
    for number in [2, 1, 0] {
        cluster.nodes[number].stop();
        cluster.nodes[number].wipe();
        let other = &cluster.nodes[(number + 1) % 3];
        eventually(SETTLE, "the others have a leader", || other.set("meanwhile", "1"));
        cluster.nodes[number].start();
        is_whole(&cluster, &ids);
    }
}

/// Its `--rjoin` names only itself: Go's hraftd formed a second cluster here, and took writes.
#[test]
fn the_wiped_first_node_joins_what_is_there() {
    let mut cluster = Cluster::start(3);
    let ids = cluster.ids();
    cluster.nodes[0].set("before", r#""kept""#).unwrap();
    cluster.nodes[0].kill();
    cluster.nodes[0].wipe();
    let term = eventually(SETTLE, "the others have a leader", || {
        cluster.nodes[1].set("meanwhile", "1")?;
        cluster.nodes[1].stat("term")
    });
    cluster.nodes[0].start();
    // From its first answer on, it has the cluster's data or none: never a cluster of its own.
    eventually(SETTLE, "the first node has the cluster's data", || {
        let state = cluster.nodes[0].state()?;
        let voters = cluster.nodes[0].voters().unwrap_or_default();
        assert!(voters.len() != 1, "it formed a cluster of its own: {state}, {voters:?}");
        let found = cluster.nodes[0].local("before")?;
        check(found == "kept", || found.to_string())
    });
    is_whole(&cluster, &ids);
    assert!(cluster.nodes[0].stat("term").unwrap() >= term);
}

/// The same with the list of all on every node.
#[test]
fn the_wiped_first_node_of_a_list_joins_what_is_there() {
    let mut cluster = Cluster::with_one_list(3);
    cluster.start_all();
    cluster.settled();
    let ids = cluster.ids();
    cluster.nodes[1].set("before", r#""kept""#).unwrap();
    cluster.nodes[0].kill();
    cluster.nodes[0].wipe();
    cluster.nodes[0].start();
    is_whole(&cluster, &ids);
}

/// Without a quorum nobody can be replaced: the wiped node waits until the dead one is back.
#[test]
fn a_wiped_node_waits_for_a_quorum() {
    let mut cluster = Cluster::start(3);
    let ids = cluster.ids();
    cluster.nodes[0].set("before", r#""kept""#).unwrap();
    cluster.all_have("before", r#""kept""#);
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    cluster.nodes[2].wipe();
    cluster.nodes[2].start();
    eventually(SETTLE, "the wiped node answers, and is not ready", || {
        let ready = cluster.nodes[2].get("/hraftd/raft/ready")?;
        check(ready.status == 503, || ready.brief())
    });
    cluster.nodes[1].start();
    is_whole(&cluster, &ids);
}
