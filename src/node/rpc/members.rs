//! Changes of the members, and why one is refused.

use serde::{Deserialize, Serialize};

use crate::node::NodeError;
use crate::node_id::PublicId;

/// A change of the cluster that only the leader can make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberChange {
    /// Make this node a member.
    Join(PublicId),
    /// Remove a member.
    Remove {
        /// An id or part of one, as a user typed it.
        wanted: String,
        /// Remove it even where the rest would lack a quorum.
        force: bool,
    },
    /// Hand leadership to this member, or to the one that has most of the log.
    Lead(Option<String>),
}

/// Why a node did not let another join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRefusal {
    /// Its own words.
    pub msg: String,
    /// It cannot now, for want of a leader or because it is starting: that is no news to an operator.
    pub for_now: bool,
}

impl From<NodeError> for JoinRefusal {
    fn from(error: NodeError) -> Self {
        let for_now = matches!(error, NodeError::NoLeader(_) | NodeError::NotReady(_));
        Self { msg: error.to_string(), for_now }
    }
}
