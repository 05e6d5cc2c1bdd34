//! Which strangers called: leaders that know this node's address under another Raft id or cluster.
//!
//! A node with an empty disk listens here before it forms a cluster of its own, and everybody uses
//! it to say a thing once rather than with every heartbeat.

use parking_lot::Mutex;
use std::collections::HashSet;

use tokio::sync::watch;

use crate::node_id::PublicId;

/// The calls of strangers.
#[derive(Debug, Default)]
pub(in crate::node) struct Strangers {
    /// The last leader that called this node's address but meant another Raft node.
    leader: watch::Sender<Option<PublicId>>,
    /// Counts the times this node was asked to join by itself.
    myself: watch::Sender<u64>,
    said: Mutex<HashSet<String>>,
}

impl Strangers {
    /// A leader called this node's public id, but another Raft id.
    pub(in crate::node) fn leader_called(&self, from: PublicId) {
        self.leader.send_replace(Some(from));
    }

    /// The leader that called, once there is one.
    pub(in crate::node) fn leader(&self) -> watch::Receiver<Option<PublicId>> {
        self.leader.subscribe()
    }

    /// This node was asked to join by itself.
    pub(in crate::node) fn heard_myself(&self) {
        self.myself.send_modify(|times| *times += 1);
    }

    /// Changes whenever this node is asked to join by itself.
    pub(in crate::node) fn myself(&self) -> watch::Receiver<u64> {
        self.myself.subscribe()
    }

    /// True for the first call with this text only.
    pub(in crate::node) fn first_time(&self, what: String) -> bool {
        let mut said = self.said.lock();
        // Bounded: each entry is a pair of nodes, but ids come from the network.
        said.len() < 1024 && said.insert(what)
    }
}
