//! Which strangers called: leaders that know this node's address under another Raft id or cluster.
//!
//! A node with an empty disk listens here before it forms a cluster of its own, and everybody uses
//! it to say a thing once rather than with every heartbeat.

use parking_lot::Mutex;
use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::node_id::PublicId;

/// How long after a cluster asked for this node it may still let it in.
const ASKED_LAPSE: Duration = Duration::from_secs(3);

/// The calls of strangers.
#[derive(Debug, Default)]
pub(in crate::node) struct Strangers {
    /// The last leader that called this node's address but meant another Raft node.
    leader: watch::Sender<Option<PublicId>>,
    /// When a node that has a cluster last asked who this one is.
    asked_for: Mutex<Option<Instant>>,
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

    /// A node that has a cluster asked who this one is: to let it in, perhaps.
    pub(in crate::node) fn asks_for(&self) {
        *self.asked_for.lock() = Some(Instant::now());
    }

    /// True for a while after a cluster asked for this node. A leader that lets it in calls it right afterwards.
    pub(in crate::node) fn is_asked_for(&self) -> bool {
        self.asked_for.lock().is_some_and(|at| at.elapsed() < ASKED_LAPSE)
    }

    /// True for the first call with this text only.
    pub(in crate::node) fn first_time(&self, what: String) -> bool {
        let mut said = self.said.lock();
        // Bounded: each entry is a pair of nodes, but ids come from the network.
        said.len() < 1024 && said.insert(what)
    }
}
