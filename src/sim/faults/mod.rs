//! The faults of a run, one after the other and some at once.
//!
//! * This file: processes, power, the network, members. `disks`: what a disk refuses. `directories`: copied, put back,
//!   partly deleted. `addresses`: moved, swapped, shared. `joining`: who joins when. `restore`: backups.
//! * [`NEW_FAULTS`]: `HRAFTD_FAULTS=copy,move` has only these of the list, in half of the rounds, `HRAFTD_FAULTS=none` none.

pub mod addresses;
mod directories;
mod disks;
pub mod joining;
pub mod restore;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::clients::{Ask, Client};
use super::cluster::{Cluster, Down};
use super::net::Weather;
use super::world::{self, Word};
use crate::raft_types::Role;

/// The most that one thing lasts, in milliseconds.
const LASTS_MS: u64 = 2_500;

/// The most nodes of a run.
const MOST_NODES: usize = 5;

/// The kinds of faults that every version passed.
pub const KINDS: [&str; 15] = [
    "kill",
    "power loss",
    "power loss of all",
    "power loss in the middle",
    "power loss at a word",
    "isolation",
    "one way",
    "split",
    "pause",
    "jump",
    "slow disk",
    "weather",
    "members",
    "wipe",
    "stop",
];

/// A kind of fault that is new, and whether runs have it without being told.
pub struct NewFault {
    pub name: &'static str,
    pub on: bool,
}

const fn new(name: &'static str, on: bool) -> NewFault {
    NewFault { name, on }
}

/// The kinds of faults that were added with the table of issue 15; its rows are named.
pub const NEW_FAULTS: [NewFault; 15] = [
    new("killed before power loss", true),
    new("failed sync", true),
    new("no space", true),
    // Row 1.
    new("copy", true),
    // Row 2, and the last of row 8.
    new("lost files", true),
    // Row 3: in the end of a run.
    new("restore", true),
    // Row 4.
    new("rollback", true),
    // Row 5: when a run begins.
    new("shared name", true),
    new("joins by name", true),
    // Row 6.
    new("same address", true),
    // Row 7.
    new("move", true),
    new("swap", true),
    // Row 8.
    new("joined while it forms", true),
    new("removed one joined", true),
    // When a run begins.
    new("joins during formation", true),
];

/// The new kinds of this run.
pub fn new_kinds() -> &'static [&'static str] {
    static NAMES: OnceLock<Vec<&'static str>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let wanted = wanted();
        let is_on = |fault: &&NewFault| match wanted {
            Some("none") => false,
            Some(names) => names.split(',').any(|name| name == fault.name),
            None => fault.on,
        };
        NEW_FAULTS.iter().filter(is_on).map(|fault| fault.name).collect()
    })
}

/// True where runs have this new kind.
pub fn is_on(name: &str) -> bool {
    new_kinds().contains(&name)
}

fn wanted() -> Option<&'static str> {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    WANTED.get_or_init(|| std::env::var("HRAFTD_FAULTS").ok()).as_deref()
}

/// Kinds that are no fault among others: they are part of how a run begins or ends.
const APART: [&str; 3] = ["restore", "shared name", "joins during formation"];

pub struct Faults {
    pub cluster: Cluster,
    /// For what operators do.
    pub operator: Client,
    pub list: Vec<u16>,
    /// The last port that was taken for a node that moved, or one too many.
    pub next_port: u16,
    /// How often there was each kind.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Faults {
    /// Injects `rounds` faults, then mends all of them.
    pub async fn run(&mut self, rounds: u64) {
        for _ in 0..rounds {
            self.one().await;
            // Some faults meet what the last one left.
            if world::chance(600) {
                self.cluster.mend();
                self.wait(1_500).await;
            }
            if world::failure().is_some() {
                return;
            }
        }
        self.cluster.mend();
    }

    async fn settle(&mut self) {
        self.cluster.mend();
        self.cluster.settle().await;
    }

    /// A port that no node ever had.
    fn new_port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    async fn wait(&self, at_most_ms: u64) {
        sleep(world::ms_between((0, at_most_ms))).await;
    }

    fn any(&self) -> u16 {
        let ports = self.cluster.ports();
        // Leaders more often than others.
        match self.cluster.leader() {
            Some(leader) if world::chance(400) => leader,
            _ => ports[world::below(ports.len() as u64) as usize],
        }
    }

    fn others(&self, port: u16) -> Vec<u16> {
        // Clients are not cut off: they reach whom they ask.
        self.cluster.ports().into_iter().filter(|other| *other != port).collect()
    }

    fn kind() -> &'static str {
        let new: Vec<_> = new_kinds().iter().filter(|name| !APART.contains(name)).copied().collect();
        let pick = |names: &[&'static str]| names[world::below(names.len() as u64) as usize];
        if wanted().is_some() && !new.is_empty() && world::chance(500) {
            return pick(&new);
        }
        pick(&[KINDS.as_slice(), &new].concat())
    }

    async fn one(&mut self) {
        let kind = Self::kind();
        *self.counts.entry(kind).or_default() += 1;
        let port = self.any();
        world::note(kind, &[port.into()]);
        self.cluster.note_failures();
        match kind {
            "kill" => {
                self.cluster.down(port, Down::Killed);
                self.wait(LASTS_MS).await;
                self.cluster.up(port);
            }
            "power loss" => {
                self.cluster.down(port, Down::PowerLoss);
                self.wait(LASTS_MS).await;
                self.cluster.up(port);
            }
            "power loss of all" => {
                let all = self.cluster.ports();
                all.iter().for_each(|port| self.cluster.down(*port, Down::PowerLoss));
                self.wait(1_000).await;
                for port in all {
                    self.cluster.up(port);
                    self.wait(100).await;
                }
            }
            "power loss in the middle" => {
                if let Some(process) = self.cluster.process(port) {
                    process.disk.fail_after(world::below(8) as u32);
                }
                self.wait(LASTS_MS).await;
                self.cluster.note_failures();
                self.wait(500).await;
                self.cluster.up(port);
            }
            "power loss at a word" => {
                let word = if world::chance(500) { Word::Vote } else { Word::Append };
                self.lose_power_at(word).await;
            }
            "isolation" => {
                self.cut(&[port], &self.others(port), true, true);
                self.wait(LASTS_MS).await;
                if world::chance(500) {
                    self.cut(&[port], &self.others(port), true, false);
                }
            }
            "one way" => {
                let others = self.others(port);
                let some: Vec<_> = others.into_iter().filter(|_| world::chance(700)).collect();
                let (from, to) = if world::chance(500) { (vec![port], some) } else { (some, vec![port]) };
                self.cut(&from, &to, false, true);
                self.wait(LASTS_MS).await;
                self.cut(&from, &to, false, false);
            }
            "split" => {
                let (some, rest): (Vec<_>, Vec<_>) = self.cluster.ports().into_iter().partition(|_| world::chance(500));
                self.cut(&some, &rest, true, true);
                self.wait(LASTS_MS).await;
                self.cut(&some, &rest, true, false);
            }
            "pause" => {
                let also = world::chance(200).then(|| self.any());
                let paused: Vec<_> = [Some(port), also].into_iter().flatten().collect();
                let hosts: Vec<_> =
                    paused.iter().filter_map(|port| self.cluster.process(*port)).map(|p| p.host.clone()).collect();
                hosts.iter().for_each(super::host::Host::pause);
                self.wait(LASTS_MS).await;
                hosts.iter().for_each(super::host::Host::resume);
            }
            // All clocks at once: the machines were suspended. One alone is a pause.
            "jump" => tokio::time::advance(world::ms_between((100, 10_000))).await,
            "slow disk" => {
                let least = world::below(50);
                world::set_flush_ms(port, (least, least + world::below(400)));
                self.wait(LASTS_MS).await;
                world::set_flush_ms(port, (1, 1 + world::below(5)));
            }
            "weather" => {
                let most = world::below(120);
                let weather = Weather {
                    delay_ms: (0, most),
                    late: world::below(100),
                    lost: world::below(300),
                    twice: world::below(200),
                };
                self.cluster.net.set_weather(weather);
                self.wait(LASTS_MS).await;
                self.cluster.net.set_weather(Weather::FAIR);
            }
            "members" => self.members(port).await,
            "wipe" => {
                // Safe only where all others have what it had.
                self.settle().await;
                let port = self.any();
                // One that lists no other would be another cluster afterwards, and rightly.
                if self.list.len() < 3 {
                    return;
                }
                self.cluster.wipe(port);
                self.wait(1_000).await;
                self.cluster.up(port);
                // Until it is a voter anew, no other may lose what this one had acknowledged.
                self.wait(200).await;
                self.cluster.settle().await;
            }
            "stop" => {
                // One that stands still does not hear it.
                if let Some(process) = self.cluster.process(port) {
                    process.host.resume();
                }
                self.cluster.stop(port).await;
                self.wait(LASTS_MS).await;
                self.cluster.up(port);
            }
            "killed before power loss" => self.killed_before_power_loss(port).await,
            "failed sync" => self.failed_sync(port).await,
            "no space" => self.no_space(port).await,
            "copy" => self.copy(port).await,
            "lost files" => self.lost_files().await,
            "rollback" => self.rollback().await,
            "joins by name" => self.joins_by_name().await,
            "same address" => self.same_address().await,
            "move" => self.moves().await,
            "swap" => self.swap().await,
            "joined while it forms" => self.joined_while_it_forms(port).await,
            "removed one joined" => self.removed_one_joined(port).await,
            other => unreachable!("{other}"),
        }
    }

    /// The power fails where something was said that must be on the disk by then. It comes back at once, and among others
    /// than those who heard it: whom it voted for is not with it, or whom it told that it has an entry.
    async fn lose_power_at(&mut self, word: Word) {
        // What is not flushed before it is said is under way then.
        for port in self.cluster.ports() {
            world::set_flush_ms(port, (5, 5 + world::below(60)));
        }
        let all = self.cluster.ports();
        let leader = self.any_leader();
        // There is a vote where the leader is away.
        if word == Word::Vote {
            self.cut(&[leader], &self.others(leader), true, true);
        }
        world::set_fatal(Some(word));
        let ends = Instant::now() + Duration::from_millis(LASTS_MS);
        while world::fell().is_none() && Instant::now() < ends {
            sleep(Duration::from_millis(1)).await;
        }
        let fell = world::fell();
        world::set_fatal(None);
        self.cluster.note_failures();
        self.cut(&all, &all, true, false);
        if let Some(fell) = fell {
            let with_it = |port: &u16| match word {
                _ if *port == fell => true,
                Word::Vote => *port == leader || world::chance(300),
                Word::Append => *port != leader,
            };
            let (some, rest): (Vec<_>, Vec<_>) = all.iter().partition(|port| with_it(port));
            self.cut(&some, &rest, true, true);
            self.wait(20).await;
            self.cluster.up(fell);
            self.wait(LASTS_MS).await;
            self.cut(&some, &rest, true, false);
        }
        for port in all {
            world::set_flush_ms(port, (1, 1 + world::below(5)));
        }
    }

    fn any_leader(&self) -> u16 {
        self.cluster.leader().unwrap_or_else(|| self.any())
    }

    fn cut(&self, from: &[u16], to: &[u16], both: bool, cut: bool) {
        for from in from {
            for to in to {
                self.cluster.net.set_cut(*from, *to, cut);
                if both {
                    self.cluster.net.set_cut(*to, *from, cut);
                }
            }
        }
    }

    /// An operator adds a node, removes one, or moves leadership.
    async fn members(&mut self, port: u16) {
        let patience = Duration::from_secs(3);
        let asked = self.any();
        match world::below(3) {
            0 if self.cluster.ports().len() < MOST_NODES => {
                let new = self.new_port();
                let role = if world::chance(300) { Role::Learner } else { Role::Voter };
                self.cluster.add(new, &self.list, role);
                self.wait(LASTS_MS).await;
            }
            // One that lists no other has no one to join anew, and stays removed.
            1 if self.list.len() > 1 || port != self.list[0] => {
                let id = super::process::id(port);
                let ask = Ask::new("DELETE", format!("/hraftd/raft/remove?id={id}"), String::new());
                self.operator.ask(asked, &ask, patience).await;
                self.wait(LASTS_MS).await;
                // Started again it joins anew, if it has heard that it was removed.
                self.cluster.down(port, Down::Killed);
                self.cluster.up(port);
            }
            _ => {
                let body = format!("{{\"id\":\"{}\"}}", super::process::id(port));
                let ask = Ask::new("POST", "/hraftd/raft/leader".to_owned(), body);
                self.operator.ask(asked, &ask, patience).await;
            }
        }
    }
}
