//! `kill -9` of the leader under writes through any living node: how long until the next write is acknowledged, and
//! is every acknowledged write still there.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::cluster::Cluster;
use crate::support::extent::extent;
use crate::support::http::{self, Conn};
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::say;
use crate::support::wait::{SETTLE, check, eventually};

/// Leaders that are killed, in the plain run and in the full one.
const KILLS: (usize, usize) = (4, 10);
const WRITERS: usize = 3;
/// The aim is a median under 2 s; this is where something is wrong for sure.
const TOO_LONG: Duration = Duration::from_secs(10);
/// Some hundred writes a second in all, so that the check of each on each node stays short.
const PACE: Duration = Duration::from_millis(10);
const NOBODY: usize = usize::MAX;

/// A write that got a 200.
#[derive(Debug, Clone)]
struct Acked {
    key: String,
    sent: Instant,
    acked: Instant,
    index: u64,
}

/// What the writers and the test share.
#[derive(Debug)]
struct Load {
    haddrs: Vec<String>,
    /// Number of the node that is dead, or [`NOBODY`].
    dead: AtomicUsize,
    stop: AtomicBool,
    acked: Mutex<Vec<Acked>>,
    refused: AtomicUsize,
}

impl Load {
    /// Writes a new key at each living node in turn. What was not acknowledged is not tried again.
    fn write(&self, writer: usize) {
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            number += 1;
            let node = (writer + number) % self.haddrs.len();
            if node == self.dead.load(Ordering::Relaxed) {
                continue;
            }
            let key = format!("w{writer}-{number}");
            let sent = Instant::now();
            let body = format!(r#"{{"{key}":{number}}}"#);
            match http::call(&self.haddrs[node], "POST", "/hraftd/key", Some(body.as_bytes())) {
                Ok(reply) if reply.status == 200 => {
                    let index = reply.json()["index"].as_u64().unwrap();
                    self.acked.lock().unwrap().push(Acked { key, sent, acked: Instant::now(), index });
                }
                _ => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
            // A rate, not a wait for something.
            std::thread::park_timeout(PACE);
        }
    }

    /// The earliest acknowledgement of a write that was sent after `killed`.
    fn first_after(&self, killed: Instant) -> Result<Instant, String> {
        let acked = self.acked.lock().unwrap();
        let refused = self.refused.load(Ordering::Relaxed);
        let first = acked.iter().rev().filter(|write| write.sent > killed).map(|write| write.acked).min();
        first.ok_or_else(|| format!("{} writes acknowledged, {refused} not", acked.len()))
    }
}

/// Ends the writers when the test ends, by a panic too: the scope waits for them.
struct StopOnDrop<'a>(&'a Load);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_next_write_after_the_leader_is_killed() {
    let mut cluster = Cluster::start_with(Lab::busy(), 3, &[]);
    let load = Load {
        haddrs: cluster.nodes.iter().map(|node| node.haddr.clone()).collect(),
        dead: AtomicUsize::new(NOBODY),
        stop: AtomicBool::new(false),
        acked: Mutex::new(Vec::new()),
        refused: AtomicUsize::new(0),
    };
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&load);
        for writer in 0..WRITERS {
            let load = &load;
            scope.spawn(move || load.write(writer));
        }
        for round in 0..extent(KILLS.0, KILLS.1) {
            let before = Instant::now();
            eventually(SETTLE, "writes before the kill", || load.first_after(before));
            let leader = cluster.leader();
            load.dead.store(leader, Ordering::Relaxed);
            cluster.nodes[leader].kill();
            let killed = Instant::now();
            let acked = eventually(TOO_LONG, &format!("round {round}: a write is acknowledged after kill -9"), || {
                load.first_after(killed)
            });
            times.push(acked - killed);
            cluster.nodes[leader].start();
            cluster.settled();
            load.dead.store(NOBODY, Ordering::Relaxed);
        }
        drop(stop);
    });
    report(times, &load);
    let acked = load.acked.into_inner().unwrap();
    let last = acked.iter().map(|write| write.index).max().unwrap();
    for node in &cluster.nodes {
        nothing_is_missing(node, &acked, last);
    }
}

fn report(mut times: Vec<Duration>, load: &Load) {
    let (acked, refused) = (load.acked.lock().unwrap().len(), load.refused.load(Ordering::Relaxed));
    say(&format!("failover: from kill -9 of the leader to the next acknowledged write, in ms: {:?}", millis(&times)));
    times.sort();
    let median = (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2;
    say(&format!("failover: median {} ms; {acked} writes acknowledged, {refused} not", median.as_millis()));
}

fn millis(times: &[Duration]) -> Vec<u128> {
    times.iter().map(Duration::as_millis).collect()
}

/// Every acknowledged write is in the node's own copy.
fn nothing_is_missing(node: &Node, acked: &[Acked], last: u64) {
    eventually(SETTLE, &format!("{} has applied {last}", node.name), || {
        let applied = node.stat("applied_index")?;
        check(applied >= last, || applied.to_string())
    });
    let mut conn = Conn::open(&node.haddr).unwrap();
    let missing: Vec<&Acked> = acked
        .iter()
        .filter(|write| {
            let path = format!("/hraftd/key/{}?level=none", write.key);
            conn.request("GET", &path, &[], None).unwrap().status != 200
        })
        .collect();
    assert!(missing.is_empty(), "{} of {} missing on {}: {missing:?}", missing.len(), acked.len(), node.name);
}
