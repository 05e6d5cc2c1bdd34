//! A node that may still be opening its storage: what both ports hold, so that they answer from the first moment.
//!
//! Contract: until [`NodeSlot::started`] was called nothing of the node's state is told, because none is known; a key
//! request waits for that as long as it would for a leader. From then on everything is the node's.
//!
//! Caveat: a directory that belongs to a cluster says so at once ([`NodeSlot::stats`] lists this node), so that a first
//! node that comes back empty does not form a second cluster while the others are loading.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::SetOnce;
use tokio::time::{Instant, timeout_at};

use crate::node::{About, Cluster, ClusterServer, LEADER_WAIT, Node, NodeError, Server, State, Stats, hostname};
use crate::node_id::PublicId;

/// A place for one node. Clones share it.
#[derive(Debug, Clone)]
pub struct NodeSlot {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: PublicId,
    has_cluster: bool,
    since: SystemTime,
    node: SetOnce<Node>,
}

impl NodeSlot {
    /// The place of a node that is not there yet; `has_cluster` where its directory belongs to a cluster.
    pub fn new(id: PublicId, has_cluster: bool) -> Self {
        Self { inner: Arc::new(Inner { id, has_cluster, since: SystemTime::now(), node: SetOnce::new() }) }
    }

    /// From now on it is this node; a second one is ignored.
    pub fn started(&self, node: Node) {
        let _first = self.inner.node.set(node);
    }

    /// The node, once it is there.
    pub fn node(&self) -> Option<&Node> {
        self.inner.node.get()
    }

    /// Waits for the node as long as a request waits for a leader.
    ///
    /// # Errors
    /// [`NodeError::NotReady`].
    pub async fn wait(&self, deadline: Instant) -> Result<&Node, NodeError> {
        if let Some(node) = self.node() {
            return Ok(node);
        }
        let until = deadline.min(Instant::now() + LEADER_WAIT);
        timeout_at(until, self.inner.node.wait()).await.map_err(|_| not_ready())
    }

    /// The node, at once.
    ///
    /// # Errors
    /// [`NodeError::NotReady`].
    pub fn at_once(&self) -> Result<&Node, NodeError> {
        self.node().ok_or_else(not_ready)
    }

    /// The public id.
    pub fn id(&self) -> &PublicId {
        &self.inner.id
    }

    /// What the node is doing; one that loads takes no part, like a learner.
    pub fn state(&self) -> State {
        self.node().map_or(State::Learner, Node::state)
    }

    /// The source of `GET /hraftd/raft/stats`.
    pub fn stats(&self) -> Stats {
        if let Some(node) = self.node() {
            return node.stats();
        }
        let own = Server { id: self.inner.id.clone(), voter: false };
        Stats {
            applied_index: 0,
            commit_index: 0,
            fsm_pending: 0,
            last_contact: None,
            last_log_index: 0,
            last_log_term: 0,
            last_snapshot_index: 0,
            last_snapshot_term: 0,
            latest_configuration: if self.inner.has_cluster { vec![own] } else { Vec::new() },
            latest_configuration_index: 0,
            num_peers: 0,
            state: self.state(),
            term: 0,
        }
    }

    /// The source of `GET /hraftd/raft/cluster`.
    pub async fn cluster(&self) -> Cluster {
        if let Some(node) = self.node() {
            return node.cluster().await;
        }
        let current = ClusterServer { id: self.inner.id.clone(), state: self.state(), voter: false };
        Cluster { servers: vec![current.clone()], current, leader: None, warnings: Vec::new() }
    }

    /// The source of `GET /hraftd/raft/node`.
    pub fn about(&self) -> About {
        let digest = self.node().map(Node::digest);
        About { start_time: self.inner.since, id: self.inner.id.clone(), hostname: hostname(), digest }
    }
}

fn not_ready() -> NodeError {
    NodeError::NotReady("this node is still loading its data; the log says when it is ready".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn before_the_node_is_there_nothing_is_told_of_it() {
        let id: PublicId = "127.0.0.1:1,127.0.0.1:2".parse().unwrap();
        let starting = NodeSlot::new(id.clone(), true);
        let began = Instant::now();
        let waited = starting.wait(began + Duration::from_secs(10)).await;
        assert!(matches!(waited, Err(NodeError::NotReady(_))));
        assert_eq!(began.elapsed(), LEADER_WAIT);
        assert!(starting.wait(Instant::now() + Duration::from_millis(5)).await.is_err());
        assert_eq!(began.elapsed(), LEADER_WAIT + Duration::from_millis(5));
        assert_eq!(starting.stats().latest_configuration, [Server { id: id.clone(), voter: false }]);
        assert_eq!(NodeSlot::new(id, false).stats().latest_configuration, []);
        assert_eq!(starting.cluster().await.leader, None);
    }
}
