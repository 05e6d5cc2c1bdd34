//! Nodes that may open few files: what clients ask of one node costs connections to others, and the log finds its file all
//! the same.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Runtime;

use crate::support::cluster::Cluster;
use crate::support::crowd::{Client, allow_files, open_many, request};
use crate::support::node::Node;
use crate::support::say;
use crate::support::wait::{SETTLE, check, eventually};

const FILES: usize = 256;
/// A node with so few files has places for some more.
const CLIENTS: usize = 60;
/// Together more than two segments of the log (16 MiB each).
const VALUES: usize = 40;

fn cluster() -> Cluster {
    allow_files();
    Cluster::start_with_files(3, FILES)
}

fn open_files(node: &Node) -> usize {
    let folder = PathBuf::from(format!("/proc/{}/fd", node.pid().as_raw_nonzero()));
    std::fs::read_dir(folder).unwrap().count()
}

/// All ask at once, again and again; returns what was answered, and how often.
fn flood(runtime: &Runtime, clients: Vec<Client>, asked: &[u8], go_on: &AtomicBool) -> Vec<(u16, String)> {
    let mut answers = Vec::new();
    let mut clients = clients;
    while go_on.load(Ordering::Relaxed) {
        let round =
            runtime.block_on(futures_util::future::join_all(clients.iter_mut().map(|client| client.ask(asked))));
        for answer in round {
            let (head, body) = answer.unwrap();
            answers.push((head.status, String::from_utf8(body).unwrap()));
        }
    }
    answers
}

/// Floods a node from [`CLIENTS`] connections while values are written at another; the answers of the flood.
fn write_beside(cluster: &Cluster, flooded: usize, method: &str, target: &str) -> Vec<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (node, writer) = (&cluster.nodes[flooded], &cluster.nodes[(flooded + 1) % 3]);
    let asked = request(&node.haddr, method, target, "");
    let clients = runtime.block_on(open_many(&node.haddr, CLIENTS));
    let go_on = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&runtime, clients, &asked, &go_on));
        let (value, mut most) = (format!("\"{}\"", "s".repeat(900_000)), 0);
        let written = (0..VALUES).try_for_each(|number| {
            most = most.max(open_files(node));
            writer.set(&format!("v{}", number % 4), &value).map(drop)
        });
        go_on.store(false, Ordering::Relaxed);
        let answers = flood.join().unwrap();
        say(&format!("few files: {} times {target}, {most} of {FILES} files", answers.len()));
        written.unwrap();
        answers
    })
}

/// Issue 18, the second attack: each `GET /hraftd/raft/cluster` opened two connections to each member. The log found no file
/// for its next segment, so the node ended; and thousands of answers called living members `Lost`.
#[test]
fn asking_how_the_cluster_is_leaves_files_for_the_log() {
    let mut cluster = cluster();
    let flooded = cluster.follower();
    let before = open_files(&cluster.nodes[flooded]);
    let answers = write_beside(&cluster, flooded, "GET", "/hraftd/raft/cluster");
    assert!(answers.len() >= CLIENTS);
    for (status, body) in &answers {
        assert!(*status == 200 && !body.contains("Lost") && body.contains("Leader"), "{status} {body}");
    }
    cluster.nodes.iter_mut().for_each(Node::assert_alive);
    // Connections to the others are not kept for long either.
    eventually(SETTLE, "files are closed", || {
        let now = open_files(&cluster.nodes[flooded]);
        check(now <= before + 16, || format!("{now} files, {before} before"))
    });
}

/// Issue 18, the second attack: of thousands of weak reads and removals at a follower some got 504 at once, because the leader
/// closed connections that it had too many of.
#[test]
fn what_a_follower_passes_on_waits_for_its_turn() {
    let mut cluster = cluster();
    let flooded = cluster.follower();
    cluster.nodes[flooded].set("k", "1").unwrap();
    for (method, target, expected) in [
        ("GET", "/hraftd/key/k?level=weak", 200),
        ("DELETE", "/hraftd/raft/remove?id=:1", 404),
        ("POST", "/hraftd/raft/leader?id=:1", 404),
    ] {
        // Connections of the flood before would leave some of this one without a place.
        eventually(SETTLE, "the places of clients are free", || {
            let metrics = cluster.nodes[flooded].get("/metrics")?;
            let open =
                metrics.text().lines().find_map(|line| line.strip_prefix("hraftd_http_connections ")?.parse().ok());
            check(open.is_some_and(|open: f64| open < 4.0), || format!("{open:?} connections"))
        });
        let answers = write_beside(&cluster, flooded, method, target);
        let others: Vec<_> = answers.iter().filter(|(status, _)| *status != expected).collect();
        assert!(
            answers.len() >= CLIENTS && others.is_empty(),
            "{target}: {} others, {:?}",
            others.len(),
            others.first()
        );
    }
    cluster.nodes.iter_mut().for_each(Node::assert_alive);
}
