//! All faults at random, two at a time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::random::Random;
use crate::support::say;
use crate::world::{NODES, World};

/// This node is never killed nor stopped, so that what grows in a process has the time to show.
pub const WITNESS: usize = 2;

const TICK: Duration = Duration::from_millis(100);
/// Of so many ticks in one a fault begins: where there is none, where there is one, where there are two.
const ODDS: [u64; 3] = [8, 20, u64::MAX];
/// How long the log of a node with a full disk is written to at most.
const FILLING: Duration = Duration::from_secs(8);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    KillMajority,
    Pause,
    Restart,
    Transfer,
    Isolate,
    Mute,
    Deafen,
    CutLink,
    Loss,
    Delay,
    DiskFull,
    Clock,
}

use Fault::*;

const FAULTS: [Fault; 14] =
    [Kill, Kill, KillMajority, Pause, Restart, Transfer, Isolate, Mute, Deafen, CutLink, Loss, Delay, DiskFull, Clock];

/// A fault that is to be healed.
struct Active {
    fault: Fault,
    nodes: Vec<usize>,
    until: Instant,
}

pub struct Nemesis<'a> {
    world: &'a mut World,
    random: Random,
    active: Vec<Active>,
    counts: BTreeMap<Fault, u64>,
    began: Instant,
    /// How often a full disk ended a node.
    pub disk_ended: u64,
}

impl<'a> Nemesis<'a> {
    pub fn new(world: &'a mut World, seed: u64) -> Self {
        let (random, began) = (Random::new(seed), Instant::now());
        Self { world, random, active: Vec::new(), counts: BTreeMap::new(), began, disk_ended: 0 }
    }

    /// Faults for so long; then all is healed. `look` is called many times.
    pub fn run(&mut self, length: Duration, mut look: impl FnMut(&World)) {
        // Each kind once, in a seeded order; then at random.
        self.began = Instant::now();
        let mut first = FAULTS.to_vec();
        first.dedup();
        while self.began.elapsed() < length {
            std::thread::sleep(TICK);
            look(self.world);
            self.notice_ends();
            self.heal_until(Instant::now());
            if self.random.below(ODDS[self.active.len()]) == 0 {
                let fault = if first.is_empty() {
                    FAULTS[self.random.index(FAULTS.len())]
                } else {
                    first.swap_remove(self.random.index(first.len()))
                };
                self.strike(fault);
            }
        }
        let all = self.active.iter().map(|active| active.until).max();
        self.heal_until(all.unwrap_or_else(Instant::now));
        self.notice_ends();
    }

    pub fn counts(&self) -> String {
        format!("{:?}", self.counts)
    }

    /// Nobody ends by himself, but where his disk is full.
    fn notice_ends(&mut self) {
        for number in 0..NODES {
            if let Some(how) = self.world.nodes[number].ended() {
                let full = self.active.iter().any(|active| active.fault == DiskFull && active.nodes == [number]);
                assert!(full && how.contains("No space left on device"), "node {number} ended by itself: {how}");
                self.disk_ended += 1;
            }
        }
    }

    fn is_troubled(&self, number: usize) -> bool {
        self.active.iter().any(|active| active.nodes.contains(&number))
    }

    fn strike(&mut self, fault: Fault) {
        let leader = self.world.leader();
        // As often as not at the leader.
        let mut number = match leader {
            Some(leader) if self.random.below(2) == 0 => leader,
            _ => self.random.index(NODES),
        };
        if number == WITNESS && matches!(fault, Kill | Restart | DiskFull) {
            number = self.random.index(WITNESS);
        }
        let other = (number + 1 + self.random.index(NODES - 1)) % NODES;
        let (nodes, most_ms) = match fault {
            KillMajority => (vec![0, 1], 1_000),
            Kill => (vec![number], 2_000),
            Pause => (vec![number], 3_000),
            CutLink => (vec![number, other], 4_000),
            DiskFull => (vec![number], 4_000),
            Restart | Transfer | Clock => (vec![number], 0),
            Isolate | Mute | Deafen | Loss | Delay => (vec![number], 4_000),
        };
        if nodes.iter().any(|&number| self.is_troubled(number)) {
            return;
        }
        let lasts = Duration::from_millis(self.random.below(most_ms + 1));
        let is_leader = if nodes.iter().any(|&number| Some(number) == leader) { ", the leader" } else { "" };
        say(&format!("nemesis: {:.1?} {fault:?} {nodes:?}{is_leader} for {lasts:.1?}", self.began.elapsed()));
        *self.counts.entry(fault).or_default() += 1;
        self.begin(fault, &nodes);
        if !matches!(fault, Restart | Transfer | Clock) {
            self.active.push(Active { fault, nodes, until: Instant::now() + lasts });
        }
    }

    fn begin(&mut self, fault: Fault, nodes: &[usize]) {
        let number = nodes[0];
        let amount = self.random.below(1_000);
        let place = &mut self.world.nodes[number];
        match fault {
            Kill => place.kill(),
            KillMajority => nodes.iter().for_each(|&number| self.world.nodes[number].kill()),
            Pause => place.signal(Signal::STOP),
            Restart => {
                place.signal(Signal::TERM);
                let status = place.process.as_mut().unwrap().process.wait(Duration::from_secs(8), "a stop by SIGTERM");
                assert_eq!(status.code(), Some(0), "node {number}, SIGTERM");
                place.kill();
                self.world.start_node(number);
            }
            Transfer => {
                let body = format!(r#"{{"id":"{}"}}"#, place.id());
                // A cluster in trouble may refuse.
                let _ = self.world.nodes[amount as usize % NODES].call("POST", "/hraftd/raft/leader", Some(&body));
            }
            Isolate => {
                place.mute();
                place.deafen();
            }
            Mute => place.mute(),
            Deafen => place.deafen(),
            CutLink => {
                place.cut_from(nodes[1]);
                if amount.is_multiple_of(2) {
                    self.world.nodes[nodes[1]].cut_from(number);
                }
            }
            Loss => place.lose(5 + amount % 35),
            Delay => self.world.proxy.slow(number, 10 + amount % 400),
            DiskFull => {
                place.fill_disk();
                self.write_much();
            }
            Clock => place.set_clock(amount.cast_signed() % 97 - 48),
        }
    }

    /// So that the log needs space: some segments of it.
    fn write_much(&self) {
        // More than the present segment and the spare one hold.
        let acked = self.write_large(80, FILLING);
        say(&format!("nemesis: {acked} large values written while a disk was full"));
    }

    /// What is kept of large values up to a bound, such as history for watchers, is kept from the beginning.
    pub fn warm(&self) {
        self.write_large(110, Duration::from_secs(60));
    }

    /// How many were acknowledged.
    fn write_large(&self, count: usize, within: Duration) -> usize {
        let mut acked = 0;
        // No text: nothing of it is parsed.
        let (began, value) = (Instant::now(), vec![0xff; 900_000]);
        for number in 0..count {
            if began.elapsed() > within {
                break;
            }
            let target = format!("/hraftd/key/much/{}?timeout=500ms", number % 3);
            // Through whichever node takes it; what matters is that many are.
            let reply = self.world.nodes[number % NODES].put(&target, &value);
            acked += usize::from(reply.is_ok_and(|reply| matches!(reply.status, 200 | 201)));
        }
        acked
    }

    fn heal_until(&mut self, when: Instant) {
        let (over, active) = std::mem::take(&mut self.active).into_iter().partition(|active| active.until <= when);
        self.active = active;
        for Active { fault, nodes, .. } in over {
            for number in nodes {
                // Before the space is there again: it may have ended only for want of it.
                let ended = fault == DiskFull
                    && self.world.nodes[number].ended().is_some_and(|how| {
                        assert!(how.contains("No space left on device"), "node {number} ended by itself: {how}");
                        self.disk_ended += 1;
                        true
                    });
                let place = &self.world.nodes[number];
                match fault {
                    Pause => place.signal(Signal::CONT),
                    Isolate | Mute | Deafen | CutLink | Loss => place.heal(),
                    Delay => self.world.proxy.slow(number, 0),
                    DiskFull => place.free_disk(),
                    Kill | KillMajority | Restart | Transfer | Clock => {}
                }
                if ended || place.process.is_none() {
                    self.world.start_node(number);
                }
            }
        }
    }
}
