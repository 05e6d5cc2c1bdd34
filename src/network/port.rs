//! The Raft port: the node behind it, and its limits.

use std::sync::Arc;

use super::limits::PortLimits;
use super::validate::CommandLimits;
use crate::node::NodeSlot;

/// The state shared by the routes of the Raft port.
#[derive(Debug, Clone)]
pub(super) struct Port {
    pub(super) node: NodeSlot,
    pub(super) limits: Arc<PortLimits>,
    pub(super) command_limits: CommandLimits,
}

impl Port {
    pub(super) fn new(node: NodeSlot, command_limits: CommandLimits, max_streams: usize) -> Self {
        Self { node, limits: Arc::new(PortLimits::new(max_streams)), command_limits }
    }
}
