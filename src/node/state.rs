//! How far a node has come, and what it does.

use serde::{Deserialize, Serialize};

use crate::node::NodeError;

/// The role a node has now; the names are those of the program that hraftd follows.
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

/// How far this node is in becoming one that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Not a member of a cluster, as far as it knows.
    Joining,
    /// A member that applies what its log says was committed before it was started.
    Replaying,
    /// Has its own past back, but has not been told how far the cluster is.
    Recovering,
    /// Has applied all that was committed when a leader first confirmed its index.
    Ready,
}

impl Phase {
    /// The error of a request that came before its time.
    pub(super) fn not_ready(self) -> NodeError {
        NodeError::NotReady(
            match self {
                Phase::Joining => "this node has not joined a cluster yet; the log says whom it asks",
                Phase::Replaying => "this node is still applying its own log; try again",
                Phase::Recovering | Phase::Ready => "this node has not heard yet how far its cluster is; try again",
            }
            .to_owned(),
        )
    }
}
