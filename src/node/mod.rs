//! The façade that the edges talk to: write, read, status, membership.

mod error;
mod view;

use bytes::Bytes;
use tokio::time::Instant;

use crate::command::{Command, Key, Reply};
use crate::node_id::PublicId;

pub use error::NodeError;
pub use view::{About, Cluster, ClusterServer, Server, State, Stats};

/// What a read promises; the names are rqlite's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadLevel {
    /// Sees every write acknowledged before the read began.
    Linearizable,
    /// This node's own state, now.
    None,
}

/// A write that was applied.
#[derive(Debug, Clone)]
pub struct Written {
    /// Index of its log entry.
    pub index: u64,
    /// What applying it answered.
    pub reply: Reply,
    /// The node that proposed it.
    pub served_by: PublicId,
}

/// What a read found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The value as it was sent; `None` where there is no such key.
    pub value: Option<Bytes>,
    /// The applied index it was read at.
    pub index: u64,
}

/// A handle to the running node; clones share it.
#[derive(Debug, Clone)]
pub struct Node {}

#[allow(unused_variables, clippy::unimplemented, missing_docs)]
impl Node {
    pub fn id(&self) -> &PublicId {
        unimplemented!()
    }
    /// Proposes a command here or at the leader; returns once it is applied.
    pub async fn write(&self, command: Command, deadline: Instant) -> Result<Written, NodeError> {
        unimplemented!()
    }
    /// Reads one key from this node's own map, at the level asked for.
    pub async fn read(&self, key: &Key, level: ReadLevel, deadline: Instant) -> Result<Found, NodeError> {
        unimplemented!()
    }
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }
    /// Asks all members at once, each for at most a second.
    pub async fn cluster(&self) -> Cluster {
        unimplemented!()
    }
    pub fn state(&self) -> State {
        unimplemented!()
    }
    pub fn about(&self) -> About {
        unimplemented!()
    }
    /// Ok where key requests would be served; otherwise why not.
    pub fn ready(&self) -> Result<(), NodeError> {
        unimplemented!()
    }
    /// Makes the named node a member: here, or at the leader. `asker_raft_id`: the Raft id the asking process gave
    /// in the header `X-Hraftd-Raft-Id`, if any.
    pub async fn join(&self, id: PublicId, asker_raft_id: Option<u64>, deadline: Instant) -> Result<(), NodeError> {
        unimplemented!()
    }
    /// Removes a member, here or at the leader; `wanted` is an id or part of one, as users type it.
    pub async fn remove(&self, wanted: &str, force: bool, deadline: Instant) -> Result<(), NodeError> {
        unimplemented!()
    }
}
