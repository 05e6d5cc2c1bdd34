//! Nodes that are asked to join when nobody thought of it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Faults, LASTS_MS};
use crate::raft_types::Role;
use crate::sim::clients::{Ask, Outcome};
use crate::sim::cluster::{Down, Meddled};
use crate::sim::world;
use crate::storage::disk::MemDisk;

/// An answer that says no comes within this.
const NO_WITHIN: Duration = Duration::from_secs(15);

/// As long as the product's own limit for a join.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);

pub fn join(port: u16) -> Ask {
    Ask::new("POST", "/hraftd/raft/join".to_owned(), format!("{{\"id\":\"{}\"}}", crate::sim::process::id(port)))
}

impl Faults {
    /// A node that was told of no other is started, and within its first second an operator lets it into the cluster. It is
    /// then a member of that one, or refused because it has one of its own. Row 8.
    pub(super) async fn joined_while_it_forms(&mut self, asked: u16) {
        self.settle().await;
        if self.cluster.ports().len() >= super::MOST_NODES {
            return;
        }
        let new = self.new_port();
        self.cluster.put(new, &[], Role::Voter, MemDisk::new(), Meddled::No);
        self.cluster.up(new);
        self.wait(1_100).await;
        self.operator.ask(asked, &join(new), JOIN_PATIENCE).await;
        self.wait(500).await;
        let id = self.cluster.raft_id(new);
        let nodes = self.cluster.nodes();
        let is_in = |node: &crate::node::Node| id.is_some_and(|id| node.has_member(id));
        if !nodes.iter().any(|(port, node)| *port != new && is_in(node)) {
            // It was refused: it is a cluster of its own, which nobody wants.
            self.cluster.drop_node(new);
        }
        let list = self.list.clone();
        self.cluster.set_list(&list);
        self.settle().await;
    }

    /// An operator removes a node and asks it to join again, while it still runs. The answer is no, at once. Row 8.
    pub(super) async fn removed_one_joined(&mut self, port: u16) {
        self.settle().await;
        if self.list.len() < 3 || !self.cluster.has(port) {
            return;
        }
        let asked = self.others(port)[0];
        let id = crate::sim::process::id(port);
        let remove = Ask::new("DELETE", format!("/hraftd/raft/remove?id={id}"), String::new());
        let removed = self.operator.ask(asked, &remove, Duration::from_secs(10)).await;
        self.wait(2_000).await;
        if matches!(removed, Outcome::Done(_)) {
            let began = Instant::now();
            let outcome = self.operator.ask(asked, &join(port), JOIN_PATIENCE).await;
            if began.elapsed() > NO_WITHIN {
                world::fail(format!(
                    "told: node {port} was removed and is asked to join; the answer came after {:?}: {outcome:?}",
                    began.elapsed()
                ));
            }
        }
        // Started again it joins anew.
        self.cluster.down(port, Down::Killed);
        self.cluster.up(port);
        self.wait(LASTS_MS).await;
        self.settle().await;
    }
}
