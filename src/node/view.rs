//! What a node tells of itself and of its cluster; the edges only print it.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::node_id::PublicId;

/// What a node is doing, in the seed's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Leads, and heard a quorum within the election maximum.
    Leader,
    /// A voter that follows, or one that lost its quorum.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Receives the log without a vote; also a node that has not joined yet.
    Learner,
    /// Removed, or stopping.
    Shutdown,
    /// Did not answer when asked.
    Lost,
}

impl State {
    /// The word shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Leader => "Leader",
            State::Follower => "Follower",
            State::Candidate => "Candidate",
            State::Learner => "Learner",
            State::Shutdown => "Shutdown",
            State::Lost => "Lost",
        }
    }
}

/// One member as the latest membership has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its public id.
    pub id: PublicId,
    /// Whether it is a voter.
    pub voter: bool,
}

/// The source of `GET /hraftd/raft/stats`.
#[derive(Debug, Clone)]
pub struct Stats {
    /// Index of the last entry applied to the map; 0 for none, as for all indexes and terms here.
    pub applied_index: u64,
    /// Index of the last entry known to be committed.
    pub commit_index: u64,
    /// Committed entries that wait to be applied.
    pub fsm_pending: u64,
    /// How long ago the leader was last heard; `Some(ZERO)` on the leader, `None` for never.
    pub last_contact: Option<Duration>,
    /// Index of the last entry in the log.
    pub last_log_index: u64,
    /// Term of the last entry in the log.
    pub last_log_term: u64,
    /// Index of the last entry in the newest snapshot.
    pub last_snapshot_index: u64,
    /// Term of the last entry in the newest snapshot.
    pub last_snapshot_term: u64,
    /// Members of the latest membership, voters and learners, ordered by id.
    pub latest_configuration: Vec<Server>,
    /// Index of the entry that holds the latest membership.
    pub latest_configuration_index: u64,
    /// Voters other than this node.
    pub num_peers: usize,
    /// What this node is doing.
    pub state: State,
    /// The current term.
    pub term: u64,
}

/// One line of `GET /hraftd/raft/cluster`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterServer {
    /// Its public id; the Raft address is `id.raddr`.
    pub id: PublicId,
    /// What it says it is doing, or [`State::Lost`].
    pub state: State,
    /// Whether it is a voter.
    pub voter: bool,
}

/// The source of `GET /hraftd/raft/cluster`.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The node that was asked.
    pub current: ClusterServer,
    /// The leader, where one is known.
    pub leader: Option<ClusterServer>,
    /// All members, ordered by id; before joining only this node.
    pub servers: Vec<ClusterServer>,
    /// What an operator should mend.
    pub warnings: Vec<String>,
}

/// The source of `GET /hraftd/raft/node`.
#[derive(Debug, Clone)]
pub struct About {
    /// When the process started.
    pub start_time: SystemTime,
    /// The public id.
    pub id: PublicId,
    /// Name of the machine.
    pub hostname: String,
    /// A digest of the state and the applied index it is of: equal on all nodes at an index. `None` while the node loads.
    pub digest: Option<(u64, u64)>,
}
