//! How a member is, as it tells a doctor.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::{Mark, Stamp};
use crate::node::State;
use crate::observe::SecurityFault;
use crate::raft_types::RaftId;

/// What the clocks of a node say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockReading {
    /// One that nobody sets.
    pub stamp: Stamp,
    /// The time of its machine, in milliseconds since 1970.
    pub wall_ms: u64,
}

/// At what rate another member's clock runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRate {
    /// The member.
    pub member: RaftId,
    /// How many microseconds it gains in a second of the clock that it is compared with.
    pub ppm: i64,
    /// By how many it may be more or less.
    pub unsure_ppm: u64,
}

/// What a member tells of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vitals {
    /// Its version.
    pub version: CompactString,
    /// Its role.
    pub state: State,
    /// Its term.
    pub term: u64,
    /// The last entry of its log.
    pub last_log_index: u64,
    /// The last that it has applied.
    pub applied_index: u64,
    /// The leader that it believes in.
    pub leader: Option<RaftId>,
    /// The members that it reaches, itself left out.
    pub reaches: Vec<(RaftId, bool)>,
    /// Of a hundred flushes of the last minute, how long all but one took at most, in microseconds; and how many there
    /// were.
    pub flush_p99: Option<(u64, u64)>,
    /// What is free on its disk; `None` where it has none.
    pub free_bytes: Option<u64>,
    /// The bytes of its newest snapshot.
    pub snapshot_bytes: u64,
    /// Files that it may open; `None`: as many as it likes.
    pub max_files: Option<u64>,
    /// The time of its machine, in milliseconds since 1970.
    pub wall_ms: u64,
    /// The rates of the other members' clocks, by its own.
    pub clock_rates: Vec<ClockRate>,
    /// `--heartbeat-interval` and `--election-timeout`, in milliseconds.
    pub timers_ms: (u64, u64),
    /// Names and values of other flags that are to be the same at all nodes.
    pub flags: Vec<(String, String)>,
    /// The digest of its state at the newest mark.
    pub mark: Option<Mark>,
    /// Leaders that it saw in the last ten minutes.
    pub leader_changes: u64,
    /// Watchers in the last ten minutes that asked for more than its history has.
    pub compacted: u64,
    /// What keeps it from going on.
    pub hindrances: Vec<String>,
    /// Whom it voted for in its term; itself where it leads.
    pub voted_for: Option<RaftId>,
    /// The last entry that it knows to be committed.
    pub commit_index: u64,
    /// How long ago, at most, it heard a leader, in milliseconds; 0 where it leads, `None` for never.
    pub contact_ms: Option<u64>,
    /// The fingerprints of the cluster secrets that it trusts, of which the first issues.
    pub secrets: Vec<String>,
    /// What is wrong with its secrets, certificates and tokens.
    pub security: Vec<(SecurityFault, String)>,
    /// When its certificate and the authority of clients' certificates end, in seconds since 1970; 0: there is none.
    pub certificate_ends: [i64; 2],
}
