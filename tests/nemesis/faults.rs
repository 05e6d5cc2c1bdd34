//! All faults at random, two at a time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;

use crate::support::say;
use crate::support::wait::{SETTLE, eventually};
use crate::world::{NODES, World};

/// This node is never killed nor stopped, so that what grows in a process has the time to show.
pub const WITNESS: usize = 2;

/// What the last line of a node says that ended for want of space.
const NO_SPACE: &str = "No space left on device";

const TICK: Duration = Duration::from_millis(100);
/// Of so many ticks in one a fault begins: where there is none, where there is one, where there are two.
const ODDS: [u64; 3] = [8, 20, u64::MAX];
/// How long the log of a node with a full disk is written to at most: beside another fault, and where there is none, so
/// that it must bite.
const FILLING: Duration = Duration::from_secs(8);
const FILLING_ALONE: Duration = Duration::from_secs(60);
/// Each kind of fault is there at least once, however slow the machine.
const FIRST_WITHIN: Duration = Duration::from_secs(120);

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
    rng: StdRng,
    active: Vec<Active>,
    counts: BTreeMap<Fault, u64>,
    began: Instant,
    /// What shows that a fault was there.
    bites: Bites,
}

/// What was seen of faults whose doing could be nothing.
#[derive(Debug, Default)]
pub struct Bites {
    /// Nodes that a full disk ended.
    disk_ended: u64,
    /// Packets that were dropped, by fault.
    dropped: BTreeMap<Fault, u64>,
    /// Jumps of wall clocks, the first of which was seen.
    jumped: u64,
}

impl<'a> Nemesis<'a> {
    pub fn new(world: &'a mut World, seed: u64) -> Self {
        let (rng, began) = (StdRng::seed_from_u64(seed), Instant::now());
        Self { world, rng, active: Vec::new(), counts: BTreeMap::new(), began, bites: Bites::default() }
    }

    /// Faults for so long; then all is healed. `look` is called many times.
    pub fn run(&mut self, length: Duration, mut look: impl FnMut(&mut World)) {
        // Each kind once, in a seeded order; then at random.
        self.began = Instant::now();
        let mut first = FAULTS.to_vec();
        first.dedup();
        while self.began.elapsed() < length || !first.is_empty() {
            assert!(self.began.elapsed() < length + FIRST_WITHIN, "{first:?} never began");
            std::thread::sleep(TICK);
            look(self.world);
            self.notice_ends();
            self.heal_until(Instant::now());
            if self.rng.random_range(0..ODDS[self.active.len()]) == 0 {
                if first.is_empty() {
                    let fault = FAULTS[self.rng.random_range(0..FAULTS.len())];
                    self.strike(fault);
                } else {
                    let at = self.rng.random_range(0..first.len());
                    // A disk fills up for the first time where nothing else keeps it from doing harm.
                    if (first[at] != DiskFull || self.active.is_empty()) && self.strike(first[at]) {
                        first.swap_remove(at);
                    }
                }
            }
        }
        let all = self.active.iter().map(|active| active.until).max();
        self.heal_until(all.unwrap_or_else(Instant::now));
        self.notice_ends();
    }

    pub fn counts(&self) -> String {
        format!("{:?}; {:?}; {}", self.counts, self.bites, self.world.proxy.told())
    }

    /// That every kind of fault began says nothing if it did nothing.
    pub fn assert_bitten(&self, long: bool) {
        let counts = self.counts();
        let Bites { disk_ended, dropped, jumped } = &self.bites;
        assert!(*disk_ended > 0, "no full disk ended a node: {counts}");
        assert!(*jumped > 0, "no wall clock jumped: {counts}");
        for fault in [Isolate, Mute, Deafen, CutLink, Loss] {
            assert!(dropped.get(&fault).is_some_and(|packets| *packets > 0), "{fault:?} dropped nothing: {counts}");
        }
        let (late, overtaken) = self.world.proxy.counts();
        assert!(late > 0 && (overtaken > 0 || !long), "the proxy was in nobody's way: {counts}");
    }

    /// Nobody ends by himself, but where his disk is full.
    fn notice_ends(&mut self) {
        for number in 0..NODES {
            if let Some(how) = self.world.nodes[number].ended() {
                let full = self.active.iter().any(|active| active.fault == DiskFull && active.nodes == [number]);
                assert!(full && how.contains(NO_SPACE), "node {number} ended by itself: {how}");
                self.bites.disk_ended += 1;
            }
        }
    }

    fn is_troubled(&self, number: usize) -> bool {
        self.active.iter().any(|active| active.nodes.contains(&number))
    }

    /// Whether it began: a node has one fault at a time.
    fn strike(&mut self, fault: Fault) -> bool {
        let leader = self.world.leader();
        // As often as not at the leader.
        let mut number = match leader {
            Some(leader) if self.rng.random_range(0..2) == 0 => leader,
            _ => self.rng.random_range(0..NODES),
        };
        if number == WITNESS && matches!(fault, Kill | Restart | DiskFull) {
            number = self.rng.random_range(0..WITNESS);
        }
        let other = (number + 1 + self.rng.random_range(0..NODES - 1)) % NODES;
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
            return false;
        }
        // Long enough to be felt.
        let lasts = Duration::from_millis(most_ms / 4 + self.rng.random_range(0..most_ms * 3 / 4 + 1));
        let is_leader = if nodes.iter().any(|&number| Some(number) == leader) { ", the leader" } else { "" };
        say(&format!("nemesis: {:.1?} {fault:?} {nodes:?}{is_leader} for {lasts:.1?}", self.began.elapsed()));
        *self.counts.entry(fault).or_default() += 1;
        self.begin(fault, &nodes);
        if !matches!(fault, Restart | Transfer | Clock) {
            self.active.push(Active { fault, nodes, until: Instant::now() + lasts });
        }
        true
    }

    fn begin(&mut self, fault: Fault, nodes: &[usize]) {
        let number = nodes[0];
        let amount: u64 = self.rng.random_range(0..1_000);
        let place = &mut self.world.nodes[number];
        match fault {
            Kill => place.kill(),
            KillMajority => nodes.iter().for_each(|&number| self.world.nodes[number].kill()),
            Pause => place.signal(Signal::STOP),
            Restart => {
                // One that was started just now might not have heard of signals yet.
                eventually(SETTLE, "it is up", || place.state());
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
                self.write_until_full(number);
            }
            Clock => {
                // The first jump, ahead and so at once in its answers, is looked at.
                if self.bites.jumped == 0 {
                    let hours = amount % 21 + 2;
                    place.set_clock(hours.cast_signed());
                    place.wait_jumped(hours);
                } else {
                    // A certificate is good from a day ago: with a clock more than a day ahead none is.
                    let most = if self.world.secrets.is_some() { 22 } else { 48 };
                    self.world.nodes[number].set_clock(amount.cast_signed() % (2 * most + 1) - most);
                }
                self.bites.jumped += 1;
            }
        }
    }

    /// Writes until the log of a node whose disk is full has ended it: the present segment and the spare one may hold
    /// more. With another fault beside it that may take too long.
    fn write_until_full(&mut self, number: usize) {
        let alone = self.active.is_empty();
        let mut ended = None;
        let acked = self.write_large(usize::MAX, if alone { FILLING_ALONE } else { FILLING }, |world| {
            ended = world.nodes[number].ended();
            ended.is_some()
        });
        say(&format!(
            "nemesis: {acked} large values written while a disk was full; it ended the node: {}",
            ended.is_some()
        ));
        match ended {
            Some(how) => {
                assert!(how.contains(NO_SPACE), "node {number} ended by itself: {how}");
                self.bites.disk_ended += 1;
            }
            None => assert!(!alone, "node {number} outlived its full disk"),
        }
    }

    /// What is kept of large values up to a bound, such as history for watchers, is kept from the beginning.
    pub fn warm(&mut self) {
        self.write_large(110, Duration::from_secs(60), |_| false);
    }

    /// How many were acknowledged, until there were so many or `done`.
    fn write_large(&mut self, count: usize, within: Duration, mut done: impl FnMut(&mut World) -> bool) -> usize {
        let mut acked = 0;
        // No text: nothing of it is parsed.
        let (began, value) = (Instant::now(), vec![0xff; 900_000]);
        for number in 0..count {
            if began.elapsed() > within || done(self.world) {
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
                        assert!(how.contains(NO_SPACE), "node {number} ended by itself: {how}");
                        self.bites.disk_ended += 1;
                        true
                    });
                let place = &self.world.nodes[number];
                match fault {
                    Pause => place.signal(Signal::CONT),
                    Isolate | Mute | Deafen | CutLink | Loss => {
                        *self.bites.dropped.entry(fault).or_default() += place.heal();
                    }
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
