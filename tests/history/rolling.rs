//! A rolling restart that nobody notices: SIGTERM, wait until it has caught up, the next; under writers and readers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::cluster::Cluster;
use crate::support::http::{Conn, PATIENCE};
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::say;
use crate::support::slowest::Slowest;
use crate::support::wait::{SETTLE, check, eventually};

const WRITERS: usize = 32;
const READERS: usize = 32;
/// Some thousand requests a second in all: a load, but no overload of two cores that others use too.
const PACE: Duration = Duration::from_millis(25);
/// The aim is 300 ms; this is where something is wrong for sure.
const TOO_LONG: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Load {
    haddrs: Vec<String>,
    /// Told to stop, or not ready again yet: connections to it may break, and no client moves to it.
    away: Vec<AtomicBool>,
    stop: AtomicBool,
    /// Number of the last acknowledged write of each writer.
    acked: Vec<AtomicU64>,
    writes: Mutex<Slowest>,
    reads: Mutex<Slowest>,
    broken: AtomicU64,
    failed: Mutex<Vec<String>>,
}

/// Ends the clients when the test ends, by a panic too: the scope waits for them.
struct StopOnDrop<'a>(&'a Load);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Load {
    fn new(cluster: &Cluster) -> Self {
        Self {
            haddrs: cluster.nodes.iter().map(|node| node.haddr.clone()).collect(),
            away: cluster.nodes.iter().map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            acked: (0..WRITERS).map(|_| AtomicU64::new(0)).collect(),
            writes: Mutex::default(),
            reads: Mutex::default(),
            broken: AtomicU64::new(0),
            failed: Mutex::default(),
        }
    }

    /// A new key each time: an attempt that comes through late overwrites nothing.
    fn write(&self, writer: usize) {
        let mut client = Client::new(self, writer);
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            number += 1;
            let body = format!(r#"{{"w{writer}-{number}":{number}}}"#);
            let sent = Instant::now();
            if client.call("POST", "/hraftd/key", Some(body.as_bytes())) {
                self.writes.lock().unwrap().answered(sent);
                self.acked[writer].store(number, Ordering::SeqCst);
            }
            // A rate, not a wait for something.
            std::thread::park_timeout(PACE);
        }
    }

    /// The last write that was acknowledged before the read began must be there.
    fn read(&self, reader: usize) {
        let mut client = Client::new(self, WRITERS + reader);
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.acked[reader].load(Ordering::SeqCst);
            let sent = Instant::now();
            if number > 0 && client.call("GET", &format!("/hraftd/key/w{reader}-{number}"), None) {
                self.reads.lock().unwrap().answered(sent);
            }
            std::thread::park_timeout(PACE);
        }
    }
}

struct Client<'a> {
    load: &'a Load,
    rng: StdRng,
    node: usize,
    conn: Option<Conn>,
}

impl<'a> Client<'a> {
    fn new(load: &'a Load, number: usize) -> Self {
        Self { load, rng: StdRng::seed_from_u64(number as u64), node: number % 3, conn: None }
    }

    /// For a living node.
    fn leave(&mut self) {
        self.conn = None;
        self.node = self.rng.random_range(0..3);
        while self.load.away[self.node].load(Ordering::SeqCst) {
            self.node = (self.node + 1) % 3;
        }
    }

    /// Tries other nodes as long as connections break at one that is going; whether it was a 200.
    fn call(&mut self, method: &str, path: &str, body: Option<&[u8]>) -> bool {
        loop {
            // Where it is until its connection breaks: nobody tells it that the node is going. Sometimes elsewhere, so
            // that nodes that came back have clients.
            if self.rng.random_range(0..50) == 0 {
                self.leave();
            }
            let addr = &self.load.haddrs[self.node];
            let conn = self.conn.take().map_or_else(|| Conn::open_within(addr, PATIENCE), Ok);
            let answer = conn.and_then(|mut conn| Ok((conn.request(method, path, &[], body)?, conn)));
            let failed = match answer {
                Ok((reply, conn)) => {
                    let closes = reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
                    self.conn = (!closes).then_some(conn);
                    if reply.status == 200 {
                        return true;
                    }
                    reply.brief()
                }
                Err(_) if self.load.away[self.node].load(Ordering::SeqCst) => {
                    self.load.broken.fetch_add(1, Ordering::Relaxed);
                    self.leave();
                    continue;
                }
                Err(error) => error,
            };
            let away: Vec<bool> = self.load.away.iter().map(|away| away.load(Ordering::SeqCst)).collect();
            let failed = format!("{method} {path} at node {}, away {away:?}: {failed}", self.node);
            self.load.failed.lock().unwrap().push(failed);
            return false;
        }
    }
}

#[test]
fn a_rolling_restart_loses_nothing() {
    let mut cluster = Cluster::start_with(Lab::busy(), 3, &[]);
    let load = Load::new(&cluster);
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&load);
        let load = &load;
        for number in 0..WRITERS {
            scope.spawn(move || load.write(number));
        }
        for number in 0..READERS {
            scope.spawn(move || load.read(number));
        }
        let enough = |than: u64| {
            eventually(SETTLE, "requests are answered", || {
                let (writes, reads) = (load.writes.lock().unwrap().count, load.reads.lock().unwrap().count);
                check(writes.min(reads) > than, || format!("{writes} writes, {reads} reads"))
            });
        };
        enough(500);
        say(&format!("rolling restart: before: writes: {}", load.writes.lock().unwrap()));
        say(&format!("rolling restart: before: reads: {}", load.reads.lock().unwrap()));
        *load.writes.lock().unwrap() = Slowest::default();
        *load.reads.lock().unwrap() = Slowest::default();
        for number in 0..3 {
            restart(&mut cluster, load, number);
            let done = load.writes.lock().unwrap().count;
            enough(done + 100);
        }
        drop(stop);
    });
    let (writes, reads) = (*load.writes.lock().unwrap(), *load.reads.lock().unwrap());
    let broken = load.broken.load(Ordering::Relaxed);
    say(&format!("rolling restart: writes: {writes}"));
    say(&format!("rolling restart: reads: {reads}"));
    say(&format!("rolling restart: {broken} connections broke at the stopping node"));
    let failed = load.failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} requests failed: {:#?}", failed.len(), &failed[..failed.len().min(20)]);
    assert!(writes.request.max(reads.request) < TOO_LONG, "writes: {writes}; reads: {reads}");
    let acked: Vec<u64> = load.acked.into_iter().map(AtomicU64::into_inner).collect();
    std::thread::scope(|scope| {
        for node in &cluster.nodes {
            scope.spawn(|| nothing_is_missing(node, &acked));
        }
    });
}

fn restart(cluster: &mut Cluster, load: &Load, number: usize) {
    let leads = cluster.leader() == number;
    load.away[number].store(true, Ordering::SeqCst);
    let began = Instant::now();
    cluster.nodes[number].stop();
    let stopped = began.elapsed();
    let wanted = cluster.nodes[(number + 1) % 3].stat("commit_index").unwrap();
    cluster.nodes[number].start();
    eventually(SETTLE, "the restarted node is ready and has caught up", || {
        cluster.nodes[number].ready()?;
        let applied = cluster.nodes[number].stat("applied_index")?;
        check(applied >= wanted, || format!("applied {applied} of {wanted}"))
    });
    let role = if leads { "leader" } else { "follower" };
    say(&format!("rolling restart: {role}: {stopped:.0?} to stop, back after {:.0?}", began.elapsed()));
    load.away[number].store(false, Ordering::SeqCst);
}

/// Every acknowledged write is in the node's own copy.
fn nothing_is_missing(node: &Node, acked: &[u64]) {
    let mut conn = Conn::open(&node.haddr).unwrap();
    for (writer, &last) in acked.iter().enumerate() {
        eventually(SETTLE, &format!("{} has the last write of writer {writer}", node.name), || {
            node.local(&format!("w{writer}-{last}"))
        });
        for number in 1..=last {
            let path = format!("/hraftd/key/w{writer}-{number}?level=none");
            let reply = conn.request("GET", &path, &[], None).unwrap();
            assert_eq!(reply.status, 200, "{path} at {}: {}", node.name, reply.brief());
        }
    }
}
