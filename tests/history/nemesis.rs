//! Registers under faults: whatever happens to nodes, what clients saw is one order of their operations.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::cluster::Cluster;
use crate::support::extent::extent;
use crate::support::history::{Recorder, StopOnDrop};
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::say;
use crate::support::wait::{SETTLE, check, eventually};

const CLIENTS: u64 = 8;
const KEYS: u64 = 5;
/// Short, so that a client does not spend the whole test waiting for a node that is stopped.
const PATIENCE: Duration = Duration::from_millis(1500);
const PACE: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy)]
enum Fault {
    KillLeader,
    KillFollower,
    KillAll,
    PauseLeader,
    PauseFollower,
    Transfer,
    TransferAndKill,
    Restart,
    Replace,
}

use Fault::{
    KillAll, KillFollower, KillLeader, PauseFollower, PauseLeader, Replace, Restart, Transfer, TransferAndKill,
};

const FAULTS: [Fault; 12] = [
    KillLeader,
    KillLeader,
    KillFollower,
    KillAll,
    PauseLeader,
    PauseLeader,
    PauseFollower,
    Transfer,
    Transfer,
    TransferAndKill,
    Restart,
    Replace,
];

pub fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn linearizable_under_faults() {
    let (seed, seconds) = (from_env("HRAFTD_SEED", 1), from_env("HRAFTD_SECONDS", extent(12, 25)));
    let mut cluster = Cluster::with_one_list_in(Lab::busy(), 3);
    cluster.start_all();
    cluster.settled();
    let recorder = Recorder::new(cluster.nodes.iter().map(|node| node.haddr.clone()).collect(), KEYS);
    let mut faults = Vec::new();
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&recorder);
        for client in 0..CLIENTS {
            let recorder = &recorder;
            scope.spawn(move || recorder.work(seed << 8 | client, PATIENCE, PACE));
        }
        let mut nemesis = Nemesis { rng: StdRng::seed_from_u64(seed), cluster: &mut cluster };
        let began = Instant::now();
        // Each kind once, in a seeded order; then at random.
        let mut all = FAULTS.to_vec();
        while began.elapsed() < Duration::from_secs(seconds) {
            let fault = if all.is_empty() {
                FAULTS[nemesis.rng.random_range(0..FAULTS.len())]
            } else {
                all.swap_remove(nemesis.rng.random_range(0..all.len()))
            };
            say(&format!("history: {:.1?} {fault:?}", began.elapsed()));
            nemesis.strike(fault);
            faults.push(fault);
        }
        nemesis.cluster.settled();
        drop(stop);
    });
    recorder.read_all();
    say(&format!("history: seed {seed}, {seconds} s, {} faults: {}", faults.len(), recorder.counts()));
    say(&format!("history: longest time without an acknowledged write {:.0?}", recorder.longest_gap()));
    recorder.assert_linearizable(&format!("seed {seed}"));
    let counts = recorder.counts();
    assert!(counts.ok > 500, "hardly anything was done: {counts}");
    for node in &mut cluster.nodes {
        node.assert_alive();
    }
}

struct Nemesis<'a> {
    rng: StdRng,
    cluster: &'a mut Cluster,
}

impl Nemesis<'_> {
    fn strike(&mut self, fault: Fault) {
        // Sometimes at a cluster that has not recovered from the last one.
        if self.rng.random_range(0..3) > 0 || matches!(fault, Replace) {
            self.cluster.settled();
        }
        let leader = self.cluster.leader();
        let follower = (leader + 1 + self.rng.random_range(0..2)) % 3;
        match fault {
            KillLeader => self.kill(&[leader], 1000),
            KillFollower => self.kill(&[follower], 1000),
            KillAll => self.kill(&[0, 1, 2], 300),
            PauseLeader => self.pause(leader),
            PauseFollower => self.pause(follower),
            Transfer => {
                self.transfer(follower);
            }
            TransferAndKill => {
                let to = self.transfer(follower);
                self.kill(&[to], 200);
            }
            Restart => {
                let number = self.rng.random_range(0..3);
                self.node(number).stop();
                self.node(number).start();
            }
            Replace => self.replace(follower),
        }
        // Room for what clients do in between.
        self.wait(1000);
    }

    fn node(&mut self, number: usize) -> &mut Node {
        &mut self.cluster.nodes[number]
    }

    /// How long a fault lasts.
    fn wait(&mut self, at_most_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.rng.random_range(0..at_most_ms)));
    }

    fn kill(&mut self, numbers: &[usize], down_ms: u64) {
        for &number in numbers {
            self.node(number).kill();
        }
        self.wait(down_ms);
        for &number in numbers {
            self.node(number).start();
        }
    }

    /// Longer than it takes to elect another, and shorter.
    fn pause(&mut self, number: usize) {
        self.node(number).pause();
        self.wait(2500);
        self.node(number).resume();
    }

    /// The new leader; the old one where it was refused.
    fn transfer(&mut self, to: usize) -> usize {
        let id = self.cluster.nodes[to].id();
        let asked = self.rng.random_range(0..3);
        let reply = self.node(asked).post("/hraftd/raft/leader", &format!(r#"{{"id":"{id}"}}"#));
        // A cluster that has not recovered may refuse.
        if reply.is_ok_and(|reply| reply.status == 200) { to } else { self.cluster.leader() }
    }

    /// Removed, wiped, and back as a new node.
    fn replace(&mut self, number: usize) {
        let id = self.cluster.nodes[number].id();
        let asked = (number + 1) % 3;
        let body = format!(r#"{{"id":"{id}"}}"#);
        eventually(SETTLE, "a follower is removed", || {
            let reply = self.cluster.nodes[asked].delete("/hraftd/raft/remove", Some(&body))?;
            check(matches!(reply.status, 200 | 404), || reply.brief())
        });
        self.node(number).kill();
        self.node(number).wipe();
        self.wait(500);
        self.node(number).start();
    }
}
