//! The background tasks of a node: heartbeats, expiry, failover, clocks and the report of what changes.

pub(in crate::node) mod clocks;
pub(in crate::node) mod expiry;
pub(in crate::node) mod failover;
pub(in crate::node) mod give_way;
pub(in crate::node) mod heartbeat;
pub(in crate::node) mod log_bound;
pub(in crate::node) mod report;
pub(in crate::node) mod stall;
