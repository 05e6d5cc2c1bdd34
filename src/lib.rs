//! hraftd: a clustered key-value server on Raft. This page is the map of the code.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod command;
pub mod duration;
pub mod http;
pub mod node;
pub mod node_id;
pub mod raft_types;
pub mod state_machine;
pub mod storage;
pub mod telemetry;
