//! `kill -9`, again and again, of one node, of two, and of all at once, under writes through all of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt, SeedableRng};

use crate::record::{Outcome, Record, post};
use crate::support::cluster::Cluster;
use crate::support::extent::extent;
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::say;
use crate::support::wait::{SETTLE, check, eventually};

/// Rounds of the plain run and of the full one; each kills once, and every fourth kills all.
const ROUNDS: (usize, usize) = (8, 36);
const WRITERS: u64 = 4;
/// Writes that may be begun in a round: what is written is read back at the end.
const WRITES_A_ROUND: usize = 300;

/// What the writers and the killer share.
#[derive(Default)]
struct Shared {
    record: Mutex<Record>,
    acknowledged: AtomicUsize,
    /// Writes that may still be begun.
    allowed: Mutex<usize>,
    more: Condvar,
    done: AtomicBool,
}

impl Shared {
    fn may_write(&self) -> bool {
        let mut allowed = self.allowed.lock().unwrap();
        while *allowed == 0 && !self.done.load(Ordering::SeqCst) {
            allowed = self.more.wait(allowed).unwrap();
        }
        *allowed = allowed.saturating_sub(1);
        !self.done.load(Ordering::SeqCst)
    }

    fn allow(&self, writes: usize) {
        *self.allowed.lock().unwrap() = writes;
        self.more.notify_all();
    }

    fn end(&self) {
        self.done.store(true, Ordering::SeqCst);
        self.allow(0);
    }

    /// Waits for so many more acknowledged writes; allows more where they were used up by refusals.
    fn wait_acknowledged(&self, more: usize, what: &str) {
        let wanted = self.acknowledged.load(Ordering::SeqCst) + more;
        eventually(SETTLE, what, || {
            if *self.allowed.lock().unwrap() == 0 {
                self.allow(WRITES_A_ROUND);
            }
            let found = self.acknowledged.load(Ordering::SeqCst);
            check(found >= wanted, || format!("{found} of {wanted}"))
        });
    }
}

/// Ends the writers, by a panic of the killer too: they would be waited for.
struct EndsAll<'a>(&'a Shared);

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn write(shared: &Shared, haddrs: &[String], writer: u64, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed + 1 + writer);
    for number in 0.. {
        if !shared.may_write() {
            return;
        }
        let key = format!("w{writer}-{number}");
        // Large ones cross segments and tear in their midst.
        let length = if rng.random_range(0..40) == 0 { 200_000 } else { rng.random_range(1..300) };
        let value = format!("{key}.{}", "x".repeat(length));
        let outcome = post(&haddrs[rng.random_range(0..haddrs.len())], &key, &value);
        shared.record.lock().unwrap().note(key, value, outcome);
        if outcome == Outcome::Acknowledged {
            shared.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn kill(cluster: &mut Cluster, shared: &Shared, rng: &mut StdRng, round: usize) {
    let mut order: Vec<usize> = (0..3).collect();
    order.shuffle(rng);
    let count = [1, 3, 1, 2][round % 4];
    let victims = &order[..count];
    let chosen = |cluster: &mut Cluster, act: &dyn Fn(Vec<&mut Node>)| {
        act(cluster.nodes.iter_mut().enumerate().filter(|(n, _)| victims.contains(n)).map(|(_, node)| node).collect());
    };
    chosen(cluster, &|nodes| Node::kill_all(nodes));
    if count == 1 && rng.random() {
        shared.wait_acknowledged(rng.random_range(1..50), &format!("round {round}: the other two go on"));
    }
    chosen(cluster, &|nodes| nodes.into_iter().for_each(Node::start));
    if rng.random_range(0..4) == 0 {
        // In the middle of a start, at wherever it is.
        let until = Instant::now() + Duration::from_millis(rng.random_range(0..300));
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        chosen(cluster, &|nodes| Node::kill_all(nodes));
        chosen(cluster, &|nodes| nodes.into_iter().for_each(Node::start));
    }
}

#[test]
fn killed_nodes_lose_nothing_that_was_acknowledged() {
    let seed = std::env::var("HRAFTD_TEST_SEED").map_or(3, |seed| seed.parse().unwrap());
    let rounds = extent(ROUNDS.0, ROUNDS.1);
    let mut rng = StdRng::seed_from_u64(seed);
    let began = Instant::now();
    let mut cluster = Cluster::start_with(Lab::busy(), 3, &["--snapshot-threshold", "700"]);
    let haddrs: Vec<String> = cluster.nodes.iter().map(|node| node.haddr.clone()).collect();
    let shared = Shared::default();
    std::thread::scope(|scope| {
        let _ended = EndsAll(&shared);
        for writer in 0..WRITERS {
            let (shared, haddrs) = (&shared, &haddrs);
            scope.spawn(move || write(shared, haddrs, writer, seed));
        }
        for round in 0..rounds {
            shared.allow(WRITES_A_ROUND);
            shared
                .wait_acknowledged(rng.random_range(1..150), &format!("round {round}: it takes writes (seed {seed})"));
            kill(&mut cluster, &shared, &mut rng, round);
        }
        shared.wait_acknowledged(1, "it takes writes after the last round");
    });
    cluster.settled();
    let record = shared.record.into_inner().unwrap();
    let counts: BTreeMap<&str, usize> = [
        ("acknowledged", record.count(Outcome::Acknowledged)),
        ("refused", record.count(Outcome::Refused)),
        ("unknown", record.count(Outcome::Unknown)),
    ]
    .into();
    let killed = began.elapsed();
    record.check_all(&cluster);
    cluster.nodes.iter_mut().for_each(Node::assert_alive);
    say(&format!(
        "crash test, seed {seed}: {rounds} rounds in {killed:.1?}, writes {counts:?}; compared on 3 nodes after {:.1?}",
        began.elapsed()
    ));
}
