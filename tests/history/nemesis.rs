//! Registers under faults: whatever happens to nodes, what clients saw is one order of their operations.

use std::collections::BTreeSet;
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
    Move,
    CopyAway,
    Rollback,
}

use Fault::{
    CopyAway, KillAll, KillFollower, KillLeader, Move, PauseFollower, PauseLeader, Replace, Restart, Rollback,
    Transfer, TransferAndKill,
};

const FAULTS: [Fault; 16] = [
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
    Move,
    Move,
    CopyAway,
    Rollback,
];

pub fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn linearizable_under_faults() {
    run(3, 0, extent(20, 40));
}

/// `HRAFTD_SECONDS=600` has it for ten minutes, and `.ci/night` for longer.
#[test]
fn five_and_a_learner_are_linearizable_under_faults() {
    run(5, 1, extent(20, 40));
}

fn run(voters: usize, learners: usize, seconds: u64) {
    let (seed, seconds) = (from_env("HRAFTD_SEED", 1), from_env("HRAFTD_SECONDS", seconds));
    let mut cluster = Cluster::with_one_list_in(Lab::busy(), voters + learners);
    let mut nemesis = Nemesis { rng: StdRng::seed_from_u64(seed), voters, cluster: &mut cluster, recorder: None };
    nemesis.tell_all();
    nemesis.cluster.start_all();
    nemesis.settled();
    let haddrs = nemesis.cluster.nodes.iter().map(|node| node.haddr.clone()).collect();
    let recorder = Recorder::new(haddrs, KEYS);
    nemesis.recorder = Some(&recorder);
    let mut faults = Vec::new();
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&recorder);
        for client in 0..CLIENTS {
            let recorder = &recorder;
            scope.spawn(move || recorder.work(seed << 8 | client, PATIENCE, PACE));
        }
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
        nemesis.settled();
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
    /// The first of the nodes; the others are learners.
    voters: usize,
    cluster: &'a mut Cluster,
    recorder: Option<&'a Recorder>,
}

impl Nemesis<'_> {
    fn strike(&mut self, fault: Fault) {
        // Sometimes at a cluster that has not recovered from the last one.
        if self.rng.random_range(0..3) > 0 || matches!(fault, Replace | Move | CopyAway | Rollback) {
            self.settled();
        }
        let leader = self.cluster.leader();
        let all = self.cluster.nodes.len();
        let voter = (leader + 1 + self.rng.random_range(0..self.voters - 1)) % self.voters;
        // A learner at times, where there is one.
        let follower = (leader + 1 + self.rng.random_range(0..all - 1)) % all;
        match fault {
            KillLeader => self.kill(&[leader], 1000),
            KillFollower => self.kill(&[follower], 1000),
            KillAll => self.kill(&(0..all).collect::<Vec<_>>(), 300),
            PauseLeader => self.pause(leader),
            PauseFollower => self.pause(follower),
            Transfer => {
                self.transfer(voter);
            }
            TransferAndKill => {
                let to = self.transfer(voter);
                self.kill(&[to], 200);
            }
            Restart => {
                let number = self.rng.random_range(0..all);
                self.node(number).stop();
                self.node(number).start();
            }
            Replace => self.replace(follower),
            Move => self.moves(),
            CopyAway => self.copy(),
            Rollback => self.rollback(follower),
        }
        // Room for what clients do in between.
        self.wait(1000);
    }

    fn node(&mut self, number: usize) -> &mut Node {
        &mut self.cluster.nodes[number]
    }

    /// Waits until each is a member as it is to be, and serves.
    fn settled(&self) {
        let ids = |nodes: &[Node]| nodes.iter().map(Node::id).collect::<BTreeSet<_>>();
        let (voters, learners) = self.cluster.nodes.split_at(self.voters);
        let wanted = (ids(voters), ids(learners));
        eventually(SETTLE, &format!("one leader, and the voters and learners {wanted:?}"), || {
            for node in &self.cluster.nodes {
                let found = members(node)?;
                check(found == wanted, || format!("{} knows {found:?}", node.name))?;
            }
            self.cluster.one_leader().map(drop)
        });
        self.cluster.nodes.iter().for_each(Node::wait_ready);
    }

    /// From their next start all have the list of where they all are.
    fn tell_all(&mut self) {
        let list = self.cluster.nodes.iter().map(|node| node.haddr.clone()).collect::<Vec<_>>().join(",");
        for (number, node) in self.cluster.nodes.iter_mut().enumerate() {
            let args = ["--rjoin", &list, "--non-voter"];
            node.set_args(if number < self.voters { &args[..2] } else { &args });
        }
    }

    /// Some or all come back at other addresses.
    fn moves(&mut self) {
        let all = self.cluster.nodes.len();
        let (first, count) = (self.rng.random_range(0..all), self.rng.random_range(1..=all));
        let moved: Vec<usize> = (first..first + count).map(|number| number % all).collect();
        moved.iter().for_each(|&number| self.node(number).stop());
        for &number in &moved {
            self.node(number).move_away();
            let haddr = self.node(number).haddr.clone();
            self.recorder.inspect(|recorder| recorder.moved(number, &haddr));
        }
        self.tell_all();
        moved.iter().for_each(|&number| self.node(number).start());
        self.settled();
    }

    /// A copy of the directory of a node that runs is started elsewhere: it ends with 78, and does no harm.
    fn copy(&mut self) {
        let number = self.rng.random_range(0..self.cluster.nodes.len());
        let list = self.cluster.nodes.iter().map(|node| node.haddr.clone()).collect::<Vec<_>>().join(",");
        let mut copy = self.cluster.lab.node("copy").args(&["--rjoin", &list]);
        // Another one each time.
        copy.rdir = self.cluster.lab.path().join(format!("copy-{}", copy.haddr));
        self.node(number).copy_dir(&copy.rdir);
        let ended = copy.start_refused();
        assert_eq!(ended.code, Some(78), "a copy of node {number}: {ended:?}");
    }

    /// The directory of a follower is put back to an older copy, while the others run: it comes back as a new member.
    fn rollback(&mut self, number: usize) {
        let older = self.cluster.lab.path().join(format!("older-{number}"));
        let _ = std::fs::remove_dir_all(&older);
        self.node(number).stop();
        self.node(number).copy_dir(&older);
        self.node(number).start();
        self.settled();
        self.wait(1000);
        self.node(number).kill();
        self.node(number).wipe();
        std::fs::rename(&older, &self.node(number).rdir).unwrap();
        self.node(number).start();
        self.settled();
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
        let asked = self.rng.random_range(0..self.cluster.nodes.len());
        let reply = self.node(asked).post("/hraftd/raft/leader", &format!(r#"{{"id":"{id}"}}"#));
        // A cluster that has not recovered may refuse.
        if reply.is_ok_and(|reply| reply.status == 200) { to } else { self.cluster.leader() }
    }

    /// Removed, wiped, and back as a new node.
    fn replace(&mut self, number: usize) {
        let id = self.cluster.nodes[number].id();
        let asked = (number + 1) % self.cluster.nodes.len();
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

/// The voters and the learners, as a node knows them.
fn members(node: &Node) -> Result<(BTreeSet<String>, BTreeSet<String>), String> {
    let stats = node.stats().map_err(|error| format!("{}: {error}", node.name))?;
    let servers = stats["latest_configuration"].as_array().ok_or_else(|| stats.to_string())?;
    let of = |suffrage: &str| {
        let some = servers.iter().filter(|server| server["suffrage"] == suffrage);
        some.filter_map(|server| Some(server["id"].as_str()?.to_owned())).collect::<BTreeSet<String>>()
    };
    let (voters, learners) = (of("Voter"), of("Nonvoter"));
    check(voters.len() + learners.len() == servers.len(), || format!("an id twice: {servers:?}"))?;
    Ok((voters, learners))
}
