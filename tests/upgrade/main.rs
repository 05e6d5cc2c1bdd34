//! Upgrades without a stop: clusters of this version and of the one before it, which `.ci/upgrade` builds.
//!
//! Every order of replacing three nodes, and orders of five with the leader first, in the middle and last, under load; up,
//! and before the switch down again. No request fails but for connections that break at a node that is replaced. Nothing is
//! lost, and all have the same in the end. So it is where the cluster is closed then, step by step, and opened again.
//!
//! Without the old binary the tests are skipped, and say so; in CI they fail.

#![allow(clippy::unwrap_used, missing_docs)]

mod client;
mod closed;
mod load;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use load::{Load, StopOnDrop, WRITERS};
use serde_json::Value;
use support::cluster::Cluster;
use support::http::Conn;
use support::lab::Lab;
use support::node::Node;
use support::say;
use support::wait::{SETTLE, check, eventually};

/// The aim is what a restart takes; this is where something is wrong for sure.
const TOO_LONG: Duration = Duration::from_secs(10);

/// The format of the version before, and the one that this version brings.
const OLD: u64 = 1;
const NEW: u64 = 2;

/// The binary of the version before.
fn old_binary(test: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let commit = std::fs::read_to_string(root.join(".ci/upgrade-from")).unwrap();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let built = target.join("upgrade-from").join(commit.trim()).join("hraftd");
    if built.exists() {
        return Some(built);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing: .ci/upgrade builds it", built.display());
    say(&format!("{test}: skipped, {} is missing: .ci/upgrade builds it", built.display()));
    None
}

/// A cluster of the version before.
fn old_cluster(count: usize, old: &Path) -> Cluster {
    let lab = Lab::busy();
    let mut cluster = Cluster { nodes: Vec::new(), lab };
    for number in 0..count {
        let node = cluster.lab.node(&format!("n{number}"));
        let first = cluster.nodes.first().map_or(node.haddr.clone(), |first| first.haddr.clone());
        let mut node = node.rjoin(&[&first]);
        node.program = Some(old.to_owned());
        node.start();
        cluster.nodes.push(node);
        cluster.nodes[number].wait_ready();
    }
    cluster.settled();
    cluster
}

/// The index and the digest of a node's state.
fn digest(node: &Node) -> Result<(u64, String), String> {
    let about = node.get("/hraftd/raft/node")?.ok()?.json();
    let index = about["applied_index"].as_u64().ok_or_else(|| about.to_string())?;
    Ok((index, about["digest"].as_str().unwrap_or_default().to_owned()))
}

/// The cluster's format as a node of this version knows it.
fn format(node: &Node) -> Result<u64, String> {
    let about = node.get("/hraftd/raft/node")?.ok()?.json();
    about["format"].as_u64().ok_or_else(|| about.to_string())
}

/// One upgrade under load.
struct Upgrade<'a> {
    name: String,
    cluster: &'a mut Cluster,
    load: &'a Load,
    old: &'a Path,
}

impl Upgrade<'_> {
    fn is_old(&self, number: usize) -> bool {
        self.cluster.nodes[number].program.is_some()
    }

    /// Clients have been answered meanwhile.
    fn some_load(&self) {
        let than = self.load.slowest.lock().unwrap().count + 60;
        eventually(SETTLE, "requests are answered", || {
            let count = self.load.slowest.lock().unwrap().count;
            check(count > than, || format!("{count} requests"))
        });
    }

    /// Stops a node, changes how it is started, and starts it, with what is done right after that. Clients go on meanwhile.
    fn restart(&mut self, number: usize, what: &str, change: impl FnOnce(&mut Node), started: impl FnOnce(&Cluster)) {
        let leads = self.cluster.leader() == number;
        self.load.away[number].store(true, Ordering::SeqCst);
        let began = Instant::now();
        let (failures, log) = (self.load.failure_count(), self.cluster.nodes[number].log_text().len());
        let was_old = self.is_old(number);
        self.cluster.nodes[number].stop();
        let handed_over = self.cluster.nodes[number].log_text()[log..].contains("leadership handed over");
        let other = (number + 1) % self.cluster.nodes.len();
        let wanted = self.cluster.nodes[other].stat("commit_index").unwrap();
        change(&mut self.cluster.nodes[number]);
        self.cluster.nodes[number].start();
        started(self.cluster);
        eventually(SETTLE, "the node is ready again and has caught up", || {
            self.cluster.nodes[number].ready()?;
            let applied = self.cluster.nodes[number].stat("applied_index")?;
            check(applied >= wanted, || format!("applied {applied} of {wanted}"))
        });
        self.load.away[number].store(false, Ordering::SeqCst);
        let role = if leads { "leader" } else { "follower" };
        say(&format!("{}: node {number}, {role}, is {what} after {:.0?}", self.name, began.elapsed()));
        self.some_load();
        // 0.1.0 goes without a successor where none answers within 300 ms, as on a machine that has too much to do.
        if leads && was_old && !handed_over {
            let forgiven = self.load.forgive_timeouts(failures);
            say(&format!("{}: the old leader found no successor, and was gone: {forgiven} times 504", self.name));
        }
    }

    /// Stops a node, and starts the other version on its directory.
    fn replace(&mut self, number: usize, by_old: bool) {
        let program = by_old.then(|| self.old.to_owned());
        let version = if by_old { "the old version" } else { "the new one" };
        self.restart(number, version, |node| node.program = program, |_| ());
        // Before the last one nothing is new.
        if self.cluster.nodes.iter().any(|node| node.program.is_some()) {
            for node in self.cluster.nodes.iter().filter(|node| node.program.is_none()) {
                assert_eq!(format(node), Ok(OLD), "{}", node.name);
                let refused = node.post("/hraftd/lease?ttl=15s", "").unwrap();
                assert_eq!((refused.status, &refused.json()["code"]), (501, &"not_yet".into()), "{}", refused.brief());
            }
        }
    }

    /// Once all are new: the switch.
    fn is_raised(&self) {
        for node in &self.cluster.nodes {
            eventually(SETTLE, &format!("{} has the new format", node.name), || {
                let format = format(node)?;
                check(format == NEW, || format!("format {format}"))
            });
            let made = node.post("/hraftd/lease?ttl=15s", "").unwrap();
            assert_eq!(made.status, 201, "{}", made.brief());
        }
        self.some_load();
    }
}

/// Runs one upgrade of an old cluster under load, and looks at what is left.
fn upgrade(name: &str, count: usize, old: &Path, steps: impl FnOnce(&mut Upgrade<'_>)) -> Cluster {
    let mut cluster = old_cluster(count, old);
    let load = Load::new(&cluster);
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&load);
        load.begin(scope);
        let mut upgrade = Upgrade { name: name.to_owned(), cluster: &mut cluster, load: &load, old };
        upgrade.some_load();
        // What forming a cluster took does not count.
        load.slowest.lock().unwrap().forget();
        steps(&mut upgrade);
        upgrade.is_raised();
        drop(stop);
    });
    let (slowest, broken) = (*load.slowest.lock().unwrap(), load.broken.load(Ordering::Relaxed));
    let (holds, seen) = (load.holds.load(Ordering::Relaxed), load.seen.load(Ordering::Relaxed));
    say(&format!(
        "{name}: requests: {slowest}; {broken} connections broke, {holds} holds of the lock, {seen} changes watched"
    ));
    static LONGEST_MS: AtomicU64 = AtomicU64::new(0);
    let stall = u64::try_from(slowest.silence.max(slowest.request).as_millis()).unwrap();
    say(&format!("upgrade: the longest stall so far: {} ms", LONGEST_MS.fetch_max(stall, Ordering::SeqCst).max(stall)));
    let failed = load.failures();
    assert!(failed.is_empty(), "{} requests failed: {:#?}", failed.len(), &failed[..failed.len().min(20)]);
    assert!(slowest.request.max(slowest.silence) < TOO_LONG, "{slowest}");
    assert!(holds > 0 && seen > 0, "{holds} holds, {seen} changes");
    let acked: Vec<u64> = load.acked.iter().map(|acked| acked.load(Ordering::SeqCst)).collect();
    nothing_is_missing(&cluster, &acked);
    cluster
}

/// All have the same at the same index, and one of them every acknowledged write.
fn nothing_is_missing(cluster: &Cluster, acked: &[u64]) {
    eventually(SETTLE, "all have the same state", || {
        let digests: Result<Vec<_>, _> = cluster.nodes.iter().map(digest).collect();
        let digests = digests?;
        check(digests.iter().all(|digest| *digest == digests[0]), || format!("{digests:?}"))
    });
    let node = &cluster.nodes[0];
    let mut conn = Conn::open(&node.haddr).unwrap();
    for (writer, &last) in acked.iter().enumerate() {
        assert!(last > 0, "writer {writer} of {WRITERS} wrote nothing");
        for number in 1..=last {
            let path = format!("/hraftd/key/w{writer}-{number}?level=none");
            let reply = conn.request("GET", &path, &[], None).unwrap();
            assert_eq!(reply.status, 200, "{path} at {}: {}", node.name, reply.brief());
        }
    }
}

/// The old binary on a directory of after the switch.
fn old_binary_is_refused(cluster: &mut Cluster, old: &Path, number: usize) {
    let node = &mut cluster.nodes[number];
    node.stop();
    node.program = Some(old.to_owned());
    let finished = node.start_refused();
    assert_eq!(finished.code, Some(78), "{}", finished.stderr);
    assert!(finished.stderr.contains("use a newer hraftd"), "{}", finished.stderr);
    node.program = None;
    node.start();
    node.wait_ready();
}

fn of_three(order: [usize; 3]) {
    let name = format!("three nodes, {order:?}");
    let Some(old) = old_binary(&name) else { return };
    let mut cluster = upgrade(&name, 3, &old, |upgrade| {
        let [first, second, last] = order;
        upgrade.replace(first, false);
        upgrade.replace(second, false);
        // And back, as long as one is old.
        upgrade.replace(second, true);
        upgrade.replace(second, false);
        upgrade.replace(last, false);
    });
    old_binary_is_refused(&mut cluster, &old, order[0]);
}

#[test]
fn three_nodes_0_1_2() {
    of_three([0, 1, 2]);
}

#[test]
fn three_nodes_0_2_1() {
    of_three([0, 2, 1]);
}

#[test]
fn three_nodes_1_0_2() {
    of_three([1, 0, 2]);
}

#[test]
fn three_nodes_1_2_0() {
    of_three([1, 2, 0]);
}

#[test]
fn three_nodes_2_0_1() {
    of_three([2, 0, 1]);
}

#[test]
fn three_nodes_2_1_0() {
    of_three([2, 1, 0]);
}

/// Where the leader comes in an order of five.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leader {
    /// Whoever leads is the next, each time.
    First,
    /// Two others before it.
    Middle,
    /// Whoever leads is left, as long as there is another.
    Last,
}

/// Orders that begin at each of five nodes.
fn of_five(leader: Leader) {
    let name = format!("five nodes, the leader {leader:?}");
    let Some(old) = old_binary(&name) else { return };
    upgrade(&name, 5, &old, |upgrade| {
        for step in 0..5 {
            let leads = upgrade.cluster.leader();
            let left: Vec<usize> = (0..5).map(|n| (leads + 1 + n) % 5).filter(|n| upgrade.is_old(*n)).collect();
            let wanted = match leader {
                Leader::First => true,
                Leader::Middle => step == 2,
                Leader::Last => false,
            };
            let next = left.iter().copied().find(|number| (*number == leads) == wanted).unwrap_or(left[0]);
            upgrade.replace(next, false);
            // All the way back, once.
            if step == 1 && leader == Leader::Middle {
                upgrade.replace(next, true);
                upgrade.replace(next, false);
            }
        }
    });
}

#[test]
fn five_nodes_the_leader_first() {
    of_five(Leader::First);
}

#[test]
fn five_nodes_the_leader_in_the_middle() {
    of_five(Leader::Middle);
}

#[test]
fn five_nodes_the_leader_last() {
    of_five(Leader::Last);
}

/// An old node that was down is in the way until it is removed; when it returns after the switch it is told what it needs.
#[test]
fn an_old_node_that_returns_after_the_switch() {
    let name = "an old node that returns";
    let Some(old) = old_binary(name) else { return };
    let mut cluster = old_cluster(3, &old);
    let away = cluster.follower();
    cluster.nodes[away].stop();
    let left: Vec<usize> = (0..3).filter(|number| *number != away).collect();
    for &number in &left {
        cluster.nodes[number].stop();
        cluster.nodes[number].program = None;
        cluster.nodes[number].start();
        eventually(SETTLE, "it runs", || cluster.nodes[number].state().map(drop));
    }
    left.iter().for_each(|&number| cluster.nodes[number].wait_ready());
    assert_eq!(format(&cluster.nodes[left[0]]), Ok(OLD), "the one that is away may be old");
    let id = cluster.nodes[away].id();
    cluster.nodes[left[0]].delete(&format!("/hraftd/raft/remove?id={id}"), None).unwrap().ok().unwrap();
    for &number in &left {
        eventually(SETTLE, "the new format", || {
            let format = format(&cluster.nodes[number])?;
            check(format == NEW, || format!("format {format}"))
        });
    }
    let seen: Value = cluster.nodes[left[1]].get("/hraftd/raft/cluster").unwrap().ok().unwrap().json();
    assert_eq!(seen["format"], NEW, "{seen}");
    assert!(seen["servers"].as_array().unwrap().iter().all(|server| server["formats"]["newest"] == NEW), "{seen}");

    // It lists the others, and would join anew.
    let others: Vec<String> = left.iter().map(|&number| cluster.nodes[number].haddr.clone()).collect();
    cluster.nodes[away].set_args(&["--rjoin", &others.join(",")]);
    cluster.nodes[away].start();
    let is_told = |numbers: &[usize]| {
        eventually(SETTLE, "it is told", || {
            let log: String = numbers.iter().map(|&number| cluster.nodes[number].log_text()).collect();
            check(log.contains("too old") && log.contains("hraftd 0.2.0 or newer"), || log)
        });
    };
    is_told(&[away]);
    is_told(&left);
    assert!(cluster.nodes[away].ready().is_err());
    // As the new version it is welcome.
    cluster.nodes[away].stop();
    cluster.nodes[away].program = None;
    cluster.nodes[away].start();
    cluster.settled();
}
