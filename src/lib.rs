//! hraftd: a clustered key-value server on Raft. This page is the map of the code.
//!
//! ```text
//! main ── config ── telemetry
//!   ├── client       hraftd get, watch, lock, import, backup, drill and the like: over the API of a cluster
//!   ├── offline      hraftd inspect, recover, restore, backup verify: stopped nodes' directories, backups; knows storage and kv only
//!   ├── credentials  hraftd secret, hraftd token: makes them, and writes them into files
//!   │
//! server ─────────── sole wiring: sockets, signals, threads, and what is behind both ports
//!   ├── api          client HTTP: routes, limits, JSON, status codes      ┐ the edges: the only code
//!   ├── network      peer HTTP: one request enum over hyper and axum      ┤ that knows HTTP
//!   ├── http         the accept loop under both                           ┘
//!   ├── tls          who belongs to the cluster, and what clients are shown: the network's alone
//!   │
//! start ──────────── the life of a process but for sockets: open the directory, start Raft, hand over, close
//!   │
//!  node ──────────── the façade: write, read, status, membership, formation; `Peers` is its seam
//!   │
//! state_machine ──── openraft's trait: apply, build and install snapshots
//!   ├── watch        the last changes, and the watchers that wait for more
//!   ├── kv           pure: keys, locks, leases, kept outcomes and `apply(index, Command) -> Reply`;
//!   │                no I/O, no clock, no randomness
//! storage ────────── data directory, identity, Raft log, snapshots, backups; `Disk` is its seam
//!       observe, json, raft_types, node_id, command, record, log_time, duration, exit, formats, platform, quote,
//!       secret, seldom, task: leaves
//! ```
//!
//! Arrows go down only: `kv` knows no Raft, `node` no HTTP, `network` and `api` not each other.
//!
//! **A write**: [`api`] checks and parses it. [`node::Node::write`] proposes it, or forwards it one hop to the leader,
//! where `node::write::propose` hands all waiting writes to openraft together. [`storage::log`] appends them with one
//! flush, and `node::replication::append_stream` carries them to the followers in a stream. openraft commits them,
//! [`state_machine`] applies them to [`kv`] and answers each with its index.
//!
//! **A linearizable read**: the leader confirms a read index with a quorum, once for all reads that wait. A follower that
//! asks for one counts as its own part of the quorum. The node that was asked waits until it has applied that index, and
//! reads its own map.
//!
//! **Expiry**: leaders stamp commands with [`log_time`], and propose ticks while there are deadlines. [`kv`] drops expired
//! keys when it applies a tick, and at no other time.
//!
//! **A change**: applying an entry appends its changes to the ring of [`watch`], before the entry counts as applied.
//! Watchers read the ring from their own positions.
//!
//! **Overload**: [`http`] counts connections, `api::admission` requests at work and requests that wait,
//! `api::response::memory` answers that clients do not read, `api::retry_shares` what is kept of each client's requests;
//! the rest gets 503. `network::limits` counts messages at the
//! Raft port, `http::places` its members' connections apart from strangers'. The client port has threads of its own, so that Raft keeps its time.
//!
//! **Versions**: nodes of two releases are members of one cluster. [`formats`] lists what they have in common, the state has
//! which of it is in force, and `node::formats` raises that.
//!
//! **Under test** all of this but sockets and disks runs on simulated time, network and disks, with faults from a seed:
//! `sim`, by `.ci/simulate`.
//!
//! Begin with these: [`start`] is the life of a process, [`node::rpc`] all messages between nodes,
//! [`storage::log`] the content of the disk.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod client;
pub mod command;
pub mod config;
pub mod credentials;
pub mod duration;
pub mod exit;
pub mod formats;
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
pub mod observe;
pub mod offline;
pub mod platform;
mod quote;
pub mod raft_types;
pub mod record;
pub mod secret;
mod seldom;
pub mod server;
#[cfg(test)]
mod sim;
pub mod start;
pub mod state_machine;
pub mod storage;
pub mod task;
pub mod telemetry;
pub mod tls;
pub mod watch;
