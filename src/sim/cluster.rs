//! The nodes of a run, up and down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::net::Net;
use super::process::{Args, Process, Settings};
use super::versions::{Version, Versions};
use super::world;
use crate::exit::EX_CONFIG;
use crate::formats::OLDEST;
use crate::node::{Node, State};
use crate::raft_types::{RaftId, Role};
use crate::storage::IdentityStore;
use crate::storage::disk::{Disk as _, MemDisk};

/// How a node goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// `kill -9`: its system stays, closes its connections, and writes what it was given.
    Killed,
    /// The host is gone, and what was not flushed with it.
    PowerLoss,
}

/// What was done to a node's directory or addresses, and how it may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meddled {
    No,
    /// Its start may end, with words; the operator then starts it empty. The Raft id it had.
    Yes(Option<RaftId>),
    /// It is one too many: where it ends, with words, the operator leaves it.
    Extra,
}

#[derive(Debug)]
struct Member {
    role: Role,
    list: Vec<u16>,
    /// The client address that it tells others.
    hadv: u16,
    meddled: Meddled,
    process: Option<Process>,
    /// The disk of a node that is down.
    disk: Option<MemDisk>,
    /// How often it ended with code 1, and was started again.
    restarts: u32,
    version: Version,
}

pub struct Cluster {
    pub net: Net,
    settings: Settings,
    members: BTreeMap<u16, Member>,
    versions: Versions,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.net.clear();
    }
}

/// The Raft id on a disk.
fn raft_id(disk: &MemDisk) -> Option<RaftId> {
    let identity = IdentityStore::new(Arc::new(disk.clone())).peek();
    identity.ok().flatten().map(|identity| identity.raft_id)
}

/// A node that ends so often with code 1 does not come up.
const MOST_RESTARTS: u32 = 5;

/// Within this all must be well, once nothing is wrong any more.
const MENDS_WITHIN: Duration = Duration::from_secs(60);

/// A process that is told to stop has ended within this.
const STOPS_WITHIN: Duration = Duration::from_secs(12);

impl Cluster {
    pub fn new(net: Net, settings: Settings) -> Self {
        Self { net, settings, members: BTreeMap::new(), versions: Versions::default() }
    }

    /// A new and empty node; the same list on all.
    pub fn add(&mut self, port: u16, list: &[u16], role: Role) {
        self.put(port, list, role, MemDisk::new(), Meddled::No);
        self.up(port);
    }

    /// A node that is down, with a disk that is there already.
    pub fn put(&mut self, port: u16, list: &[u16], role: Role, disk: MemDisk, meddled: Meddled) {
        let list = list.to_vec();
        let member = Member {
            role,
            list,
            hadv: port,
            meddled,
            process: None,
            disk: Some(disk),
            restarts: 0,
            version: Version::None,
        };
        self.members.insert(port, member);
    }

    fn member(&mut self, port: u16) -> &mut Member {
        self.members.get_mut(&port).expect("a node of this run")
    }

    /// From its next start it tells others this client address.
    pub fn advertise(&mut self, port: u16, hadv: u16) {
        self.member(port).hadv = hadv;
    }

    /// From their next start all nodes have this list.
    pub fn set_list(&mut self, list: &[u16]) {
        self.members.values_mut().for_each(|member| member.list = list.to_vec());
    }

    /// The next starts of this node may end, with words.
    pub fn meddle(&mut self, port: u16) {
        let member = self.member(port);
        if member.meddled == Meddled::No {
            let before = member.disk.as_ref().and_then(raft_id);
            member.meddled = Meddled::Yes(before);
        }
    }

    /// The disk of a node that is down, which gets another.
    pub fn replace_disk(&mut self, port: u16, disk: MemDisk) -> MemDisk {
        self.member(port).disk.replace(disk).expect("it is down")
    }

    /// Takes a node that is down away: its disk and role.
    pub fn take(&mut self, port: u16) -> (MemDisk, Role) {
        let member = self.members.remove(&port).expect("a node of this run");
        (member.disk.expect("it is down"), member.role)
    }

    /// A copy of the disk of a node that is down.
    pub fn disk_copy(&mut self, port: u16) -> MemDisk {
        let disk = self.member(port).disk.as_ref().expect("it is down");
        let copy = MemDisk::new();
        for name in disk.list().expect("a disk in memory can be read") {
            copy.put(&name, disk.bytes(&name).unwrap_or_default());
        }
        copy
    }

    /// The disk of a node that is down has no space left, or has some again.
    pub fn set_full(&mut self, port: u16, full: bool) {
        if let Some(disk) = &self.member(port).disk {
            disk.fail_with(full.then_some(std::io::ErrorKind::StorageFull));
        }
    }

    /// The Raft id of a node that is up.
    pub fn raft_id(&self, port: u16) -> Option<RaftId> {
        self.process(port).and_then(|process| raft_id(&process.disk.copy()))
    }

    /// Ends a node for good.
    pub fn drop_node(&mut self, port: u16) {
        self.down(port, Down::Killed);
        self.members.remove(&port);
    }

    pub fn has(&self, port: u16) -> bool {
        self.members.contains_key(&port)
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
        self.members.get(&port)?.process.as_ref()
    }

    /// Starts one that is down.
    pub fn up(&mut self, port: u16) {
        let settings = self.settings;
        let Some(member) = self.members.get_mut(&port) else { return };
        if let Some(disk) = member.disk.take() {
            world::set_flush_ms(port, (1, 1));
            member.version = self.versions.next(member.version, &disk, settings.mixed);
            let (list, role, speaks) = (member.list.clone(), member.role, member.version.speaks());
            let args = Args { port, hadv: member.hadv, list, role, speaks, settings };
            let process = Process::start(&self.net, &args, disk);
            if member.meddled != Meddled::No {
                process.may_end();
            }
            member.process = Some(process);
        }
    }

    pub fn down(&mut self, port: u16, how: Down) {
        let Some(member) = self.members.get_mut(&port) else { return };
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
        let Some(process) = self.members.get_mut(&port).and_then(|member| member.process.as_mut()) else { return };
        world::note("stop", &[port.into()]);
        process.stop();
        let deadline = Instant::now() + STOPS_WITHIN;
        while process.end().is_none() && !process.host.is_dead() {
            if Instant::now() >= deadline {
                return world::fail(format!("available: node {port} did not stop within {STOPS_WITHIN:?}"));
            }
            sleep(Duration::from_millis(5)).await;
        }
        let how = if process.end().is_none() { Down::PowerLoss } else { Down::Killed };
        self.down(port, how);
    }

    /// It is down, and comes back empty.
    pub fn wipe(&mut self, port: u16) {
        self.down(port, Down::Killed);
        self.member(port).disk = Some(MemDisk::new());
    }

    /// What an operator does about nodes that ended by themselves, with words.
    fn tend(&mut self) {
        self.upgrade_those_left_behind();
        for port in self.ports() {
            let Some(Err(exit)) = self.process(port).and_then(Process::end) else { continue };
            world::note("tended", &[port.into()]);
            let member = self.member(port);
            match (member.meddled, exit.code) {
                (Meddled::Extra, _) => self.drop_node(port),
                // The words of 78 are to delete the directory, or to bring back what is missing.
                (_, EX_CONFIG) => {
                    self.wipe(port);
                    self.up(port);
                }
                _ => {
                    member.restarts += 1;
                    if member.restarts > MOST_RESTARTS {
                        return world::fail(format!("available: node {port} ends with each start: {exit:?}"));
                    }
                    self.down(port, Down::Killed);
                    if let Some(disk) = &self.member(port).disk {
                        disk.fail_with(None);
                    }
                    self.up(port);
                }
            }
        }
    }

    /// Nodes of the first version are started as newer ones where the cluster's format has left them behind.
    fn upgrade_those_left_behind(&mut self) {
        let raised = self.nodes().iter().any(|(_, node)| node.format() > OLDEST);
        for port in self.ports().into_iter().filter(|_| raised) {
            if self.member(port).version != Version::First {
                continue;
            }
            if self.node(port).is_some_and(|node| node.format() > OLDEST) {
                return world::fail(format!("formats: node {port} of the first version has a newer format"));
            }
            self.upgrade(port);
        }
    }

    fn upgrade(&mut self, port: u16) {
        world::note("upgrade", &[port.into()]);
        self.member(port).version = Version::Newest;
        if self.process(port).is_some() {
            self.down(port, Down::Killed);
            self.up(port);
        }
    }

    /// From now on all are of the newest version.
    pub fn upgrade_all(&mut self) {
        for port in self.ports() {
            if self.member(port).version == Version::First {
                self.upgrade(port);
            }
        }
        self.versions.stay_new();
    }

    /// How often nodes were started as which version, and whether the format was raised.
    pub fn versions_seen(&self) -> [(&'static str, u64); 3] {
        let raised = self.nodes().iter().any(|(_, node)| node.format() > OLDEST);
        self.versions.counts(u64::from(raised && self.settings.mixed))
    }

    /// Those whose power failed in the middle of something are down.
    pub fn note_failures(&mut self) {
        for port in self.ports() {
            if self.process(port).is_some_and(|process| process.host.is_dead() && process.end().is_none()) {
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
        self.tend();
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
        self.tend();
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
                Ok(()) => return self.note_ends(),
                Err(why) if Instant::now() >= deadline => {
                    return world::fail(format!("available: not within {MENDS_WITHIN:?} after all was mended: {why}"));
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// What became of those that were meddled with.
    fn note_ends(&mut self) {
        for port in self.ports() {
            let member = self.member(port);
            let meddled = std::mem::replace(&mut member.meddled, Meddled::No);
            member.restarts = 0;
            let before = match meddled {
                Meddled::No => continue,
                Meddled::Yes(before) => before,
                Meddled::Extra => None,
            };
            if let Some(now) = self.raft_id(port) {
                world::check(|seen| {
                    seen.starts.serves(before, now);
                    Ok(())
                });
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
