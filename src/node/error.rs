//! Errors of requests; none knows of HTTP.

use serde::{Deserialize, Serialize};

use crate::command::Denied;

/// Why a node did not do what it was asked. Travels between nodes with a forwarded request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum NodeError {
    /// No leader showed up in time. Nothing was done.
    #[error("{0}")]
    NoLeader(String),
    /// This node is joining or recovering. Nothing was done.
    #[error("{0}")]
    NotReady(String),
    /// This node was removed from its cluster. Nothing was done.
    #[error("{0}")]
    Removed(String),
    /// The time is up; a write may have been done or may still be.
    #[error("{0}")]
    Timeout(String),
    /// The named thing does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The request cannot be done in the present state. Nothing was done.
    #[error("{0}")]
    Conflict(String),
    /// The request makes no sense. Nothing was done.
    #[error("{0}")]
    BadRequest(String),
    /// A fault of this node.
    #[error("{0}")]
    Internal(String),
    /// There is more to do than can be done in time. Nothing was done.
    #[error("{0}")]
    Overloaded(String),
    /// This node's state is not its cluster's. Nothing was done.
    #[error("{0}")]
    Diverged(String),
    /// The cluster has members that are too old for it. Nothing was done. Nodes of the first format cannot read this one: it
    /// is not sent to other nodes.
    #[error("{0}")]
    NotYet(String),
    /// The client may not do that. Nothing was done. Nodes of the first format cannot read this one: it comes only where
    /// authentication is on, which they know nothing of.
    #[error("{0}")]
    Denied(Denied),
}
