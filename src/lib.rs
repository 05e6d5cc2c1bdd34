//! hraftd: a clustered key-value server on Raft. This page is the map of the code.
//!
//! ```text
//! main ── config ── telemetry
//!   ├── offline      hraftd inspect, hraftd recover: a stopped node's directory; knows storage and kv only
//!   │
//! server ─────────── sole wiring: open the data directory, start Raft, serve both ports, drain
//!   ├── api          client HTTP: routes, limits, JSON, status codes      ┐ the edges: the only code
//!   ├── network      peer HTTP: one request enum over reqwest and axum    ┤ that knows HTTP
//!   ├── http         the accept loop under both                           ┘
//!   │
//!  node ──────────── the façade: write, read, status, membership, formation; `Peers` is its seam
//!   │
//! state_machine ──── openraft's trait: apply, build and install snapshots
//!   ├── watch        what has changed lately, and who waits for more of it
//!   ├── kv           pure: keys, locks, kept outcomes and `apply(index, Command) -> Reply`; no I/O, no clock, no randomness
//! storage ────────── data directory, identity, Raft log, snapshots; `Disk` is its seam
//!       json, raft_types, node_id, command, record, log_time, duration, exit, task: leaves
//! ```
//!
//! Arrows go down only: `kv` knows no Raft, `node` no HTTP, `network` and `api` not each other.
//!
//! **A write**: [`api`] checks and parses, [`node::Node::write`] proposes it or passes it one hop to
//! the leader, where `node::write::propose` hands what waits to openraft together; [`storage::log`] appends it with one
//! flush, `node::replication::append_stream` carries it to the followers in a stream, openraft commits it, [`state_machine`] applies it
//! to [`kv`] and answers with its index.
//!
//! **A linearizable read**: the leader confirms a read index with a quorum, once for all reads that
//! wait; a follower's question for one is its own part of the quorum. The node asked waits until it has applied that, and
//! reads its own map.
//!
//! **Expiry**: leaders stamp commands with [`log_time`], and propose ticks while there are deadlines; [`kv`] drops what is
//! due when a tick is applied, and never else.
//!
//! **A change**: applying appends it to the ring of [`watch`], before the entry counts as applied; whoever watches reads
//! the ring from where it is.
//!
//! **Too much**: [`http`] counts connections, `api::admission` requests at work and those who wait, `api::response::memory` what clients
//! do not read; the rest gets 503. `network::limits` counts what comes to the Raft port. The client port has threads of its own, so that Raft keeps its time.
//!
//! **Under test** all of this but sockets and disks runs on simulated time, network and disks, with faults from a seed:
//! `sim`, by `.ci/simulate`.
//!
//! Where to begin: [`server::run`] is the life of a process, [`node::rpc`] all that nodes say to one
//! another, [`storage::log`] what is on the disk.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod command;
pub mod config;
pub mod duration;
pub mod exit;
#[cfg(test)]
#[path = "../tests/fuzz/mod.rs"]
mod fuzz;
pub mod http;
mod json;
pub mod kv;
pub mod log_time;
pub mod network;
pub mod node;
pub mod node_id;
pub mod offline;
pub mod raft_types;
pub mod record;
pub mod server;
#[cfg(test)]
mod sim;
pub mod state_machine;
pub mod storage;
pub mod task;
pub mod telemetry;
pub mod watch;
