//! Clusters of the built binary on loopback.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod backups;
mod beside_proxy;
mod boot;
mod cli;
mod configured;
mod copies;
mod doctor;
mod failover;
mod far_behind;
mod few_files;
mod forming;
mod http2;
mod keys;
mod leases;
mod locks;
mod lost_memory;
mod managed;
mod many;
mod memory;
mod moved;
mod notified;
mod offline;
mod overload;
mod pages;
mod quota;
mod refusals;
mod refused_starts;
mod removed;
mod restart;
mod robustness;
mod scraped;
mod secured;
mod slow_leader;
mod small_requests;
mod status;
mod strangers;
mod supervised;
mod values;
mod visible;
mod watch;
mod watchers;
mod wiped;
