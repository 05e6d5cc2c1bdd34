//! The nodes of a run, up and down.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::net::Net;
use super::process::{Process, Settings};
use super::world;
use crate::node::{Node, State};
use crate::raft_types::Role;
use crate::storage::disk::MemDisk;

/// How a node goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// `kill -9`: its system stays, closes its connections, and writes what it was given.
    Killed,
    /// The host is gone, and what was not flushed with it.
    PowerLoss,
}

#[derive(Debug)]
struct Member {
    role: Role,
    list: Vec<u16>,
    process: Option<Process>,
    /// The disk of a node that is down.
    disk: Option<MemDisk>,
}

pub struct Cluster {
    pub net: Net,
    settings: Settings,
    members: BTreeMap<u16, Member>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.net.clear();
    }
}

/// Within this all must be well, once nothing is wrong any more.
const MENDS_WITHIN: Duration = Duration::from_secs(60);

/// A process that is told to stop has ended within this.
const STOPS_WITHIN: Duration = Duration::from_secs(12);

impl Cluster {
    pub fn new(net: Net, settings: Settings) -> Self {
        Self { net, settings, members: BTreeMap::new() }
    }

    /// A new and empty node; the same list on all.
    pub fn add(&mut self, port: u16, list: &[u16], role: Role) {
        let disk = Some(MemDisk::new());
        self.members.insert(port, Member { role, list: list.to_vec(), process: None, disk });
        self.up(port);
    }

    pub fn ports(&self) -> Vec<u16> {
        self.members.keys().copied().collect()
    }

    pub fn node(&self, port: u16) -> Option<Node> {
        self.net.server(port).and_then(|server| server.node())
    }

    /// All nodes that are up, with their ports.
    pub fn nodes(&self) -> Vec<(u16, Node)> {
        self.ports().into_iter().filter_map(|port| Some((port, self.node(port)?))).collect()
    }

    pub fn process(&self, port: u16) -> Option<&Process> {
        self.members[&port].process.as_ref()
    }

    /// Starts one that is down.
    pub fn up(&mut self, port: u16) {
        let member = self.members.get_mut(&port).expect("a node of this run");
        if let Some(disk) = member.disk.take() {
            world::set_flush_ms(port, (1, 1));
            member.process = Some(Process::start(&self.net, port, &member.list, member.role, disk, self.settings));
        }
    }

    pub fn down(&mut self, port: u16, how: Down) {
        let member = self.members.get_mut(&port).expect("a node of this run");
        let Some(process) = member.process.take() else { return };
        world::note("down", &[port.into(), how as u64]);
        process.host.kill();
        self.net.down(port, how == Down::PowerLoss);
        member.disk = Some(match how {
            Down::Killed => process.disk.after_kill(),
            Down::PowerLoss => process.disk.after_power_loss(),
        });
    }

    /// SIGTERM: it hands over, answers what it has begun to, and leaves the mark of a clean stop. It is down then.
    pub async fn stop(&mut self, port: u16) {
        let member = self.members.get_mut(&port).expect("a node of this run");
        let Some(process) = &mut member.process else { return };
        world::note("stop", &[port.into()]);
        process.stop();
        let deadline = Instant::now() + STOPS_WITHIN;
        while !process.has_ended() && !process.host.is_dead() {
            if Instant::now() >= deadline {
                return world::fail(format!("available: node {port} did not stop within {STOPS_WITHIN:?}"));
            }
            sleep(Duration::from_millis(5)).await;
        }
        let how = if process.host.is_dead() { Down::PowerLoss } else { Down::Killed };
        self.down(port, how);
    }

    /// It is down, and comes back empty.
    pub fn wipe(&mut self, port: u16) {
        self.down(port, Down::Killed);
        self.members.get_mut(&port).expect("a node of this run").disk = Some(MemDisk::new());
    }

    /// Those whose power failed in the middle of something are down.
    pub fn note_failures(&mut self) {
        for port in self.ports() {
            if self.process(port).is_some_and(|process| process.host.is_dead()) {
                self.down(port, Down::PowerLoss);
            }
        }
    }

    pub fn leader(&self) -> Option<u16> {
        let leads = |(port, node): (u16, Node)| (node.state() == State::Leader).then_some(port);
        self.nodes().into_iter().find_map(leads)
    }

    /// Nothing is wrong from now on, and everybody is started.
    pub fn mend(&mut self) {
        self.net.heal();
        self.note_failures();
        for port in self.ports() {
            world::set_flush_ms(port, (1, 1));
            if let Some(process) = self.process(port) {
                process.disk.mend();
                process.host.resume();
            }
            self.up(port);
        }
    }

    /// Checks that all are members with the role they asked for, and serve. Starts those that were removed again.
    fn look(&mut self) -> Result<(), String> {
        let mut seen = None;
        let removed = self.nodes().into_iter().find(|(_, node)| node.state() == State::Shutdown);
        if let Some((port, _)) = removed {
            self.down(port, Down::Killed);
            self.up(port);
            return Err(format!("node {port} was removed"));
        }
        for port in self.ports() {
            let Some(node) = self.node(port) else { return Err(format!("node {port} does not serve yet")) };
            node.ready().map_err(|why| format!("node {port} is not ready: {why}"))?;
            let members = node.settled_members();
            let members = members.ok_or_else(|| format!("node {port} is in the middle of a change of the members"))?;
            let voters = self.members.values().filter(|member| member.role == Role::Voter).count();
            let counts = (members.len(), members.iter().filter(|(_, voter)| *voter).count());
            if counts != (self.members.len(), voters) || *seen.get_or_insert(members.clone()) != members {
                return Err(format!("node {port} has the members {members:?}"));
            }
        }
        Ok(())
    }

    /// Waits until all is well; fails the run where that takes too long.
    pub async fn settle(&mut self) {
        let deadline = Instant::now() + MENDS_WITHIN;
        loop {
            self.note_failures();
            match self.look() {
                Ok(()) => return,
                Err(why) if Instant::now() >= deadline => {
                    return world::fail(format!("available: not within {MENDS_WITHIN:?} after all was mended: {why}"));
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Waits until all hold the same at the same index.
    pub async fn agree(&self) {
        let deadline = Instant::now() + MENDS_WITHIN;
        loop {
            let digests: Vec<_> = self.nodes().iter().map(|(_, node)| node.digest()).collect();
            let (first, index) = digests[0];
            if digests.iter().all(|(_, at)| *at == index) {
                if let Some(other) = digests.iter().find(|(digest, _)| *digest != first) {
                    world::fail(format!("equal state: {other:?} and {:?}", digests[0]));
                }
                world::check(|seen| seen.acknowledged.all_present(index));
                return;
            }
            if Instant::now() >= deadline {
                return world::fail(format!("equal state: no common index within {MENDS_WITHIN:?}: {digests:?}"));
            }
            sleep(Duration::from_millis(7)).await;
        }
    }
}
