//! The hand-over of a leader, as nodes say it to one another.

use openraft::raft::TransferLeaderRequest;
use serde::{Deserialize, Serialize};

use crate::raft_types::alias::{LogId, Vote};
use crate::raft_types::{RaftId, TypeConfig};

/// [`TransferLeaderRequest`] in parts, because openraft's own does not serialise.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TransferRequest {
    /// The vote of the leader that hands over.
    pub from: Vote,
    /// The Raft node that is to lead.
    pub to: RaftId,
    /// The last log id it must have.
    pub last_log_id: Option<LogId>,
}

impl From<&TransferLeaderRequest<TypeConfig>> for TransferRequest {
    fn from(request: &TransferLeaderRequest<TypeConfig>) -> Self {
        Self { from: *request.from_leader(), to: *request.to_node_id(), last_log_id: request.last_log_id().copied() }
    }
}

impl From<TransferRequest> for TransferLeaderRequest<TypeConfig> {
    fn from(request: TransferRequest) -> Self {
        Self::new(request.from, request.to, request.last_log_id)
    }
}
