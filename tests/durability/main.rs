//! That nothing acknowledged is lost: killed processes, disks that fill up and fail, transfers that break.
//!
//! Tests that mount something run in namespaces of their own and need root; where that is not to be had they say so and
//! are skipped, except in CI.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod compaction;
mod crash;
mod disk;
mod loading;
mod record;
mod transfer;
