//! Raft's timers and thresholds.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

/// Raft's timers and thresholds.
#[derive(Debug, Clone, Copy)]
pub struct RaftOptions {
    /// How often a leader calls its followers, in milliseconds.
    pub heartbeat_ms: u64,
    /// The least time without a leader before an election, in milliseconds.
    pub election_min_ms: u64,
    /// The most, and how long a leader is believed after its last message, in milliseconds.
    pub election_max_ms: u64,
    /// Log entries between snapshots.
    pub snapshot_threshold: u64,
    /// Bytes of log after which a snapshot is made whatever the threshold says.
    pub snapshot_bytes: u64,
}

impl RaftOptions {
    /// The longest time until an election.
    pub(super) fn election_max(self) -> Duration {
        Duration::from_millis(self.election_max_ms)
    }

    /// The same for openraft.
    pub(super) fn config(self) -> Config {
        Config {
            cluster_name: "hraftd".to_owned(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_min_ms,
            election_timeout_max: self.election_max_ms,
            // Only a bound for one transfer; what counts is that it makes progress, see `raft_network`.
            install_snapshot_timeout: 3_600_000,
            max_payload_entries: 1024,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_threshold),
            // Above the snapshot policy, or a snapshot would not help one that lags (openraft's docs).
            replication_lag_threshold: self.snapshot_threshold.saturating_mul(2),
            max_in_snapshot_log_to_keep: (self.snapshot_threshold / 10).min(10_000),
            purge_batch_size: 1,
            // Until it is known whether it may.
            enable_elect: false,
            enable_pre_vote: Some(true),
            // A restored leader could serve a linearizable read that misses acknowledged writes.
            enable_leader_restore: Some(false),
            allow_log_reversion: None,
            ..Config::default()
        }
    }
}
