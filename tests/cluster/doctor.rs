//! Each finding of the doctor by a fault that is real, and none where there is none. `tests/tools` has those of clocks and of
//! the network, `visible` those of members that do not answer.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::http;
use crate::support::lab::Lab;
use crate::support::node::{BUILT, Node};
use crate::support::say;
use crate::support::slow_disk;
use crate::support::wait::{SETTLE, check, eventually};
use crate::visible;

fn findings(asked: &Node) -> Result<Vec<Value>, String> {
    let found = asked.get("/hraftd/raft/doctor")?.ok()?.json();
    Ok(found["findings"].as_array().cloned().unwrap_or_default())
}

/// Waits until the only findings are of this node and say this, in any order.
#[track_caller]
fn finds(asked: &Node, sick: &Node, parts: &[&str]) {
    eventually(SETTLE, &format!("{parts:?} of {}", sick.id()), || {
        let found = findings(asked)?;
        let of = |part: &str| {
            found.iter().any(|one| {
                let what = one["what"].as_str().is_some_and(|what| what.contains(part));
                let remedy = one["do"].as_str().is_some_and(|remedy| !remedy.is_empty());
                what && remedy && one["node"] == sick.id().as_str() && one["severity"] == "warning"
            })
        };
        check(found.len() == parts.len() && parts.iter().all(|part| of(part)), || format!("{found:#?}"))
    });
}

#[test]
fn a_node_with_other_flags_and_few_files() {
    let mut cluster = Cluster::start(3);
    let (other, asked) = (cluster.follower(), cluster.leader());
    cluster.nodes[other].stop();
    cluster.nodes[other].set_args(&["--heartbeat-interval", "120ms", "--max-value", "2M"]);
    let node = cluster.nodes.remove(other).files(500);
    cluster.nodes.insert(other, node);
    cluster.nodes[other].start();
    cluster.settled();
    finds(
        &cluster.nodes[asked],
        &cluster.nodes[other],
        &["--heartbeat-interval 120ms", "--max-value 2097152", "few files"],
    );
    cluster.nodes[other].stop();
    cluster.nodes[other].set_args(&[]);
    let node = cluster.nodes.remove(other).files(5_000);
    cluster.nodes.insert(other, node);
    cluster.nodes[other].start();
    cluster.settled();
    finds(&cluster.nodes[asked], &cluster.nodes[other], &[]);
}

#[test]
fn watchers_that_came_too_late() {
    let cluster = Cluster::start_with(Lab::new(), 3, &["--watch-history", "10"]);
    let asked = &cluster.nodes[cluster.follower()];
    for number in 0..20 {
        asked.set("k", &number.to_string()).unwrap();
    }
    let late = asked.get("/hraftd/watch?prefix=&after=1").unwrap();
    assert_eq!(late.status, 410, "{}", late.brief());
    finds(asked, asked, &["more than its history"]);
}

#[test]
fn leadership_that_moves_too_often() {
    let cluster = Cluster::start(3);
    for _ in 0..6 {
        let (leader, next) = (cluster.leader(), cluster.follower());
        let body = format!(r#"{{"id":"{}"}}"#, cluster.nodes[next].id());
        eventually(SETTLE, "leadership moves", || cluster.nodes[leader].post("/hraftd/raft/leader", &body)?.ok());
        eventually(SETTLE, "the other leads", || {
            let state = cluster.nodes[next].state()?;
            check(state == "Leader", || state.clone())
        });
    }
    let asked = &cluster.nodes[cluster.leader()];
    finds(asked, asked, &["moves too often"]);
}

/// The part of a write's time, in milliseconds.
fn part(asked: &Node, name: &str) -> f64 {
    let reply = http::call(&asked.haddr, "PUT", "/key/timed?timing&timeout=10s", Some(b"1")).unwrap();
    let parts = visible::adds_up(&reply);
    parts.iter().find(|(part, _)| part == name).unwrap_or_else(|| panic!("{parts:?}")).1
}

/// It shows in the part of a write that waits for it, and is found.
#[test]
fn a_slow_disk() {
    const FLUSH_MS: u32 = 200;
    let mut cluster = Cluster::start(3);
    let (leader, slow) = (cluster.leader(), cluster.follower());
    let third = 3 - leader - slow;
    cluster.nodes[slow].stop();
    let program = slow_disk::slow(cluster.lab.path(), Path::new(BUILT), FLUSH_MS);
    cluster.nodes[slow].program = Some(program);
    cluster.nodes[slow].start();
    cluster.settled();
    // Of two that are left, each is needed.
    cluster.nodes[third].kill();
    let asked = &cluster.nodes[cluster.leader()];
    eventually(SETTLE, "two of three take writes", || asked.set("k", "1"));
    if asked.id() == cluster.nodes[leader].id() {
        let (flush, quorum) = (part(asked, "flush"), part(asked, "quorum"));
        assert!(quorum > f64::from(FLUSH_MS) / 2.0 && flush < quorum, "a slow follower: {flush}, {quorum}");
    }
    // So many flushes that a hundredth of them says something.
    for number in 0..25 {
        asked.set("k", &number.to_string()).unwrap();
    }
    cluster.nodes[third].start();
    cluster.settled();
    let body = format!(r#"{{"id":"{}"}}"#, cluster.nodes[slow].id());
    eventually(SETTLE, "it leads", || {
        cluster.nodes[slow].post("/hraftd/raft/leader", &body)?.ok()?;
        let state = cluster.nodes[slow].state()?;
        check(state == "Leader", || state.clone())
    });
    finds(&cluster.nodes[third], &cluster.nodes[slow], &["its disk is slow"]);
    cluster.nodes[third].kill();
    for asked in [slow, leader] {
        let flush = part(&cluster.nodes[asked], "flush");
        assert!(flush > f64::from(FLUSH_MS) / 2.0, "a slow leader, asked at {asked}: {flush}");
    }
}

/// Issue 18, D10: a flush that took 20 s was told nowhere.
#[test]
fn a_disk_that_hangs() {
    let mut cluster = Cluster::start(1);
    cluster.nodes[0].stop();
    let (dir, hang) = (cluster.lab.path().to_owned(), cluster.lab.path().join("hang"));
    cluster.nodes[0].program = Some(slow_disk::slow(&dir, Path::new(BUILT), 0));
    cluster.nodes[0].start();
    cluster.settled();
    let node = &cluster.nodes[0];
    node.set("k", "1").unwrap();
    std::fs::write(&hang, "").unwrap();
    assert_eq!(node.post("/hraftd/key?timeout=500ms", r#"{"k":2}"#).unwrap().status, 504);
    eventually(SETTLE, "it is told", || {
        let found = findings(node)?;
        let told = |one: &Value| one["what"].as_str().is_some_and(|what| what.contains("not finished a flush"));
        check(found.iter().any(|one| told(one) && one["severity"] == "critical"), || format!("{found:#?}"))?;
        let (ready, log) = (node.get("/hraftd/raft/ready")?, node.log_text());
        check(ready.status == 503 && ready.text().contains("fdatasync"), || ready.brief())?;
        check(log.contains("not finished a flush"), || log.clone())
    });
    std::fs::remove_file(&hang).unwrap();
    eventually(SETTLE, "it is ready again", || node.ready());
    assert_eq!(node.value("k").unwrap(), 2, "the write whose outcome was unknown");
}

/// A machine that is busy is no finding: timers are long here, so that only what is broken would be one.
#[test]
fn a_hundred_looks_at_a_healthy_cluster_under_load() {
    let args = ["--heartbeat-interval", "500ms", "--election-timeout", "2s"];
    let cluster = Cluster::start_with(Lab::alone(), 3, &args);
    let over = AtomicBool::new(false);
    let writes = std::thread::scope(|scope| {
        let writers: Vec<_> = cluster
            .nodes
            .iter()
            .enumerate()
            .map(|(number, node)| {
                let over = &over;
                scope.spawn(move || {
                    let mut count = 0;
                    while !over.load(Ordering::Relaxed) {
                        node.set(&format!("k{number}"), &count.to_string()).unwrap();
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for look in 0..100 {
            let found = findings(&cluster.nodes[look % 3]);
            if found.as_ref().is_ok_and(Vec::is_empty) {
                continue;
            }
            over.store(true, Ordering::Relaxed);
            panic!("look {look}: {found:#?}");
        }
        over.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).sum::<usize>()
    });
    say(&format!("{writes} writes beside 100 looks"));
    assert!(writes > 0);
}
