//! What clients see while nodes are killed, stopped, moved and restarted: histories recorded against real processes,
//! and a checker for them.
//!
//! `HRAFTD_SECONDS=600 HRAFTD_SEED=7 cargo test --test history under_faults` for more of the same.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod checker;
mod increments;
mod nemesis;
mod rolling;
mod stale;
mod watch;
