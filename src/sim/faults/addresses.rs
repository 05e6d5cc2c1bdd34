//! Nodes that move to other addresses or change them with one another, and addresses that several nodes have.

use super::{Faults, LASTS_MS};
use crate::raft_types::Role;
use crate::sim::cluster::{Down, Meddled};
use crate::sim::world;
use crate::storage::disk::MemDisk;

/// The name that leads to all nodes.
pub const NAME: u16 = 100;

impl Faults {
    /// From one to all nodes are stopped, and started on new addresses, which all lists have. Row 7.
    pub(super) async fn moves(&mut self) {
        self.settle().await;
        let ports = self.cluster.ports();
        let count = 1 + world::below(ports.len() as u64) as usize;
        let moved: Vec<u16> = ports.into_iter().take(count).collect();
        // Those of a majority must be known to have stopped.
        for port in &moved {
            self.cluster.stop(*port).await;
        }
        let to: Vec<u16> = moved.iter().map(|_| self.new_port()).collect();
        self.change_addresses(&moved, &to).await;
    }

    /// Two or more nodes change their addresses with one another. Row 7.
    pub(super) async fn swap(&mut self) {
        self.settle().await;
        let ports = self.cluster.ports();
        if ports.len() < 2 {
            return;
        }
        let count = 2 + world::below(ports.len() as u64 - 1) as usize;
        let moved: Vec<u16> = ports.into_iter().take(count).collect();
        for port in &moved {
            self.cluster.stop(*port).await;
        }
        let mut to = moved.clone();
        to.rotate_left(1);
        self.change_addresses(&moved, &to).await;
    }

    async fn change_addresses(&mut self, from: &[u16], to: &[u16]) {
        for (old, new) in from.iter().zip(to) {
            self.list.iter_mut().filter(|port| *port == old).for_each(|port| *port = 0);
            if let Some(place) = self.list.iter_mut().find(|port| **port == 0) {
                // Marked, so that one that moves here is not taken for the one that was here.
                *place = *new + MARK;
            }
        }
        self.list.iter_mut().filter(|port| **port >= MARK).for_each(|port| *port -= MARK);
        // The operator names the new addresses, those of nodes too that were in no list; a name leads to them.
        let mut list = self.list.clone();
        if list != [NAME] {
            list.extend(to.iter().filter(|new| !self.list.contains(*new)));
        }
        let taken: Vec<(MemDisk, Role)> = from.iter().map(|port| self.cluster.take(*port)).collect();
        for (new, (disk, role)) in to.iter().zip(taken) {
            self.cluster.put(*new, &list, role, disk, Meddled::No);
            self.cluster.meddle(*new);
            self.operator.shared.add(*new);
        }
        self.cluster.set_list(&list);
        self.cluster.net.set_name(NAME, self.cluster.ports());
        self.wait(500).await;
        for new in to {
            self.cluster.up(*new);
            self.wait(200).await;
        }
        self.wait(LASTS_MS).await;
        self.settle().await;
    }

    /// An empty node joins that tells others the client address of a member. The member stays. Row 6.
    pub(super) async fn same_address(&mut self) {
        // Who is no member yet has no address that could be taken from it.
        self.settle().await;
        let port = self.any();
        if self.list.len() < 3 {
            return;
        }
        let Some(id) = self.cluster.raft_id(port) else { return };
        let other = self.any();
        let is_down = other != port && world::chance(500);
        if is_down {
            self.cluster.down(other, Down::Killed);
        }
        let new = self.new_port();
        self.cluster.put(new, &self.list.clone(), Role::Voter, MemDisk::new(), Meddled::Extra);
        self.cluster.advertise(new, port);
        self.cluster.up(new);
        self.wait(2 * LASTS_MS).await;
        self.cluster.drop_node(new);
        if is_down {
            self.cluster.up(other);
        }
        let leader = self.cluster.leader().and_then(|leader| self.cluster.node(leader));
        if leader.is_some_and(|leader| !leader.has_member(id)) && self.cluster.raft_id(port) == Some(id) {
            world::fail(format!("the living stay: node {port} was removed for a stranger with its client address"));
        }
        self.settle().await;
    }

    /// An empty node is told to join by a name that leads to all nodes, itself among them. Row 5.
    pub(super) async fn joins_by_name(&mut self) {
        self.settle().await;
        if self.cluster.ports().len() >= super::MOST_NODES || self.list.len() < 3 {
            return;
        }
        let new = self.new_port();
        let mut all = self.cluster.ports();
        all.push(new);
        self.cluster.net.set_name(NAME, all);
        self.cluster.put(new, &[NAME], Role::Voter, MemDisk::new(), Meddled::No);
        self.cluster.up(new);
        self.operator.shared.add(new);
        self.wait(LASTS_MS).await;
        let list = self.list.clone();
        self.cluster.set_list(&list);
        self.settle().await;
    }
}

/// Above all ports.
const MARK: u16 = 10_000;
