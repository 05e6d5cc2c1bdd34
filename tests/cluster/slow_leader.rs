//! Where the time of a write shows whose leader is slow. `visible` has a slow follower, `beside_proxy` a slow way.

use std::path::Path;
use std::time::Duration;

use crate::support::cluster::Cluster;
use crate::support::http;
use crate::support::lab::Lab;
use crate::support::node::{BUILT, Node};
use crate::support::slow_disk;
use crate::support::wait::{SETTLE, check, eventually};
use crate::visible;

/// How long the leader is held up: much longer than a write takes on a machine that is busy.
const HELD: Duration = Duration::from_secs(4);

/// Nobody else is elected meanwhile, and nobody is for a whole minute.
const TIMERS: [&str; 4] = ["--heartbeat-interval", "500ms", "--election-timeout", "30s"];

/// A write through a node: each part of its time, in milliseconds. They add up.
fn write(node: &Node, key: &str) -> Vec<(String, f64)> {
    let path = format!("/key/{key}?timing&timeout=60s");
    let mut connection = http::Conn::open_within(&node.haddr, Duration::from_secs(70)).unwrap();
    let reply = connection.request("PUT", &path, &[], Some(b"1")).unwrap();
    assert_eq!(reply.status / 100, 2, "{}", reply.brief());
    visible::adds_up(&reply)
}

/// Nearly all of the time is in one part, and no other has a quarter of it.
#[track_caller]
fn shows_in(parts: &[(String, f64)], wanted: &str) {
    for (name, ms) in parts.iter().filter(|(name, _)| name != "total") {
        let most = HELD.as_secs_f64() * 1e3;
        assert_eq!(*ms > most * 0.75, name == wanted, "{name}: {parts:?}");
        assert!(name == wanted || *ms < most * 0.25, "{name}: {parts:?}");
    }
}

/// It stands still when the write comes to it: that is before its own parts begin.
#[test]
fn one_that_stands_still_shows_as_the_hop_to_it() {
    let cluster = Cluster::start_with(Lab::new(), 3, &TIMERS);
    let (leader, follower) = (&cluster.nodes[cluster.leader()], &cluster.nodes[cluster.follower()]);
    let term = leader.stat("term").unwrap();
    // From here on there is a connection.
    write(follower, "before");
    leader.pause();
    let parts = std::thread::scope(|scope| {
        let write = scope.spawn(|| write(follower, "slow"));
        eventually(SETTLE, "it is under way", || {
            let metrics = follower.get("/metrics")?.text();
            // It, and the one that asks.
            check(metrics.lines().any(|line| line == "hraftd_http_in_flight 2"), || metrics.clone())
        });
        std::thread::sleep(HELD);
        leader.resume();
        write.join().unwrap()
    });
    shows_in(&parts, "forward");
    assert_eq!(leader.stat("term").unwrap(), term, "it led all the time");
}

/// Its flush hangs, and of two that are left each is needed: the other has the entry long before.
#[test]
fn one_with_a_slow_disk_shows_as_its_flush() {
    let lab = Lab::new();
    let (program, hang) = (slow_disk::slow(lab.path(), Path::new(BUILT), 0), lab.path().join("hang"));
    let mut cluster = Cluster::start_prepared(lab, 3, &TIMERS, |node| {
        // The first is the one that leads.
        node.program = (node.name == "n0").then(|| program.clone());
    });
    assert_eq!(cluster.leader(), 0);
    cluster.nodes[1].kill();
    let (leader, other) = (&cluster.nodes[0], &cluster.nodes[2]);
    for asked in [leader, other] {
        write(asked, "before");
        let last = leader.stat("last_log_index").unwrap();
        std::fs::write(&hang, "").unwrap();
        let parts = std::thread::scope(|scope| {
            let write = scope.spawn(|| write(asked, "slow"));
            eventually(SETTLE, "the other has it", || {
                let index = other.stat("last_log_index")?;
                check(index > last, || index.to_string())
            });
            std::thread::sleep(HELD);
            std::fs::remove_file(&hang).unwrap();
            write.join().unwrap()
        });
        shows_in(&parts, "flush");
    }
}
