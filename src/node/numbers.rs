//! What a node counts, and all its numbers at a moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver as _;
use parking_lot::Mutex;

use crate::kv::Sizes;
use crate::node::status::even_voters;
use crate::node::{Node, State};
use crate::observe::{Counter, Histogram, Recently, Scale, Seen};
use crate::raft_types::RaftId;
use crate::raft_types::alias::{LogId, Vote};
use crate::watch::Watching;

/// How a proposal ended, in the order of [`NodeNumbers::proposals`].
pub const PROPOSAL_OUTCOMES: [&str; 4] = ["applied", "not_leader", "unknown", "refused"];

/// How a round that confirms a read index ended, in the order of [`NodeNumbers::read_indexes`].
pub const READ_INDEX_OUTCOMES: [&str; 2] = ["confirmed", "failed"];

/// How a node tries to become the leader, in the order of [`NodeNumbers::elections`].
pub const ELECTION_KINDS: [&str; 3] = ["pre_vote", "vote", "takeover"];

/// What becomes of that, in the same place's second order.
pub const ELECTION_OUTCOMES: [&str; 2] = ["begun", "won"];

/// The kinds of warnings of [`RaftNumbers::warnings`].
pub const WARNING_KINDS: [&str; 8] =
    ["diverged", "even_voters", "hindered", "lost_memory", "refused_start", "removed", "security", "silent_voter"];

/// What a node counts from its start on.
#[derive(Debug, Default)]
pub(in crate::node) struct NodeNumbers {
    /// By [`PROPOSAL_OUTCOMES`].
    pub(in crate::node) proposals: [Counter; 4],
    /// By [`READ_INDEX_OUTCOMES`].
    pub(in crate::node) read_indexes: [Counter; 2],
    /// By [`ELECTION_KINDS`] and [`ELECTION_OUTCOMES`].
    pub(in crate::node) elections: [[Counter; 2]; 3],
    /// Leaders that were seen, one a term.
    pub(in crate::node) leader_changes: Counter,
    /// The same, lately.
    pub(in crate::node) leader_changes_lately: Recently,
    /// How long members take to answer, from when something was sent to them.
    round_trips: Mutex<BTreeMap<RaftId, Arc<Histogram>>>,
    campaign: Mutex<Campaign>,
}

/// The newest try of this node to become the leader.
#[derive(Debug, Default)]
struct Campaign {
    /// The members that were asked for a pre-vote, and whether the votes that it is for are asked for by now.
    pre_votes: std::collections::BTreeSet<RaftId>,
    takes_over: bool,
}

impl NodeNumbers {
    /// How long a member takes to answer.
    pub(in crate::node) fn round_trip_of(&self, member: RaftId) -> Arc<Histogram> {
        let mut all = self.round_trips.lock();
        all.entry(member).or_insert_with(|| Arc::new(Histogram::new(Scale::SECONDS))).clone()
    }

    /// A member is asked whether it would vote for this node. Each is asked once a round.
    pub(in crate::node) fn asks_for_pre_vote(&self, member: RaftId) -> bool {
        let mut campaign = self.campaign.lock();
        let is_new = campaign.pre_votes.is_empty() || campaign.pre_votes.contains(&member);
        if is_new {
            campaign.pre_votes.clear();
            self.elections[0][0].one();
        }
        campaign.pre_votes.insert(member);
        is_new
    }

    /// This node begins an election because its leader's process is gone.
    pub(in crate::node) fn takes_over(&self) {
        self.elections[2][0].one();
        self.campaign.lock().takes_over = true;
    }

    /// A vote is about to be saved: of this node, if it asks for votes or has won them, or of whoever it follows.
    pub(in crate::node) fn votes(&self, vote: &Vote, me: RaftId) {
        let mut campaign = self.campaign.lock();
        let is_own = vote.leader_id.voted_for == me;
        match (is_own, vote.committed) {
            (true, false) => {
                self.elections[1][0].one();
                if !std::mem::take(&mut campaign.pre_votes).is_empty() {
                    self.elections[0][1].one();
                }
            }
            (true, true) => {
                self.elections[1][1].one();
                if std::mem::take(&mut campaign.takes_over) {
                    self.elections[2][1].one();
                }
            }
            (false, _) => *campaign = Campaign::default(),
        }
    }
}

/// All numbers of a node; blank while it loads.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    /// Of Raft.
    pub raft: RaftNumbers,
    /// Of the log and the snapshots.
    pub disk: DiskNumbers,
    /// Of what clients read and write.
    pub state: StateNumbers,
}

/// The numbers of Raft.
#[derive(Debug, Clone, Default)]
pub struct RaftNumbers {
    /// The role; `None` while the node loads.
    pub state: Option<State>,
    /// A leader is known that this node hears, or that it is.
    pub has_leader: bool,
    /// The term.
    pub term: u64,
    /// The last entry of the log.
    pub last_log_index: u64,
    /// The last entry that is known to be committed.
    pub commit_index: u64,
    /// The last entry that is applied.
    pub applied_index: u64,
    /// Leaders that were seen.
    pub leader_changes: u64,
    /// By [`ELECTION_KINDS`] and [`ELECTION_OUTCOMES`].
    pub elections: [[u64; 2]; 3],
    /// At the leader since when, at most, a quorum has answered; elsewhere since when a leader was heard. `None` for never.
    pub quorum_age: Option<Duration>,
    /// The other members, by their public ids.
    pub peers: Vec<PeerNumbers>,
    /// By [`PROPOSAL_OUTCOMES`].
    pub proposals: [u64; 4],
    /// By [`READ_INDEX_OUTCOMES`].
    pub read_indexes: [u64; 2],
    /// Members that vote, and those that do not.
    pub members: [usize; 2],
    /// How many warnings there are of each of [`WARNING_KINDS`].
    pub warnings: [usize; 8],
}

/// The numbers of another member.
#[derive(Debug, Clone)]
pub struct PeerNumbers {
    /// Its public id.
    pub id: String,
    /// At the leader: how many entries it lacks, as far as is known.
    pub lag: Option<u64>,
    /// How long its answers took.
    pub round_trip: Option<Seen>,
}

/// The numbers of the data directory.
#[derive(Debug, Clone, Default)]
pub struct DiskNumbers {
    /// How long flushes took.
    pub flush: Option<Seen>,
    /// How many entries they made durable.
    pub entries: Option<Seen>,
    /// The bytes of the log after its purge point.
    pub log_bytes: u64,
    /// Bytes that were written to the log.
    pub written_bytes: u64,
    /// How long snapshots took.
    pub snapshot: Option<Seen>,
    /// The bytes of the newest.
    pub snapshot_bytes: u64,
    /// Those that could not be written.
    pub snapshot_failures: u64,
    /// What is free on the disk; `None` where that is not known.
    pub free_bytes: Option<u64>,
}

/// The numbers of the state.
#[derive(Debug, Clone, Default)]
pub struct StateNumbers {
    /// How much there is of everything.
    pub sizes: Sizes,
    /// Keys and locks that expired here.
    pub expired: [u64; 2],
    /// Who watches.
    pub watching: Watching,
    /// Log time in milliseconds.
    pub log_time_ms: u64,
}

fn index(id: Option<LogId>) -> u64 {
    id.map_or(0, |id| id.index)
}

impl Node {
    /// All numbers, now. Looks at what is there anyway, and waits for nothing.
    pub fn numbers(&self) -> Numbers {
        let log = self.inner.log.numbers();
        let snapshots = &self.inner.snapshots;
        let expired = self.inner.map.expired();
        Numbers {
            raft: self.raft_numbers(),
            disk: DiskNumbers {
                flush: Some(log.flush.seen()),
                entries: Some(log.entries.seen()),
                log_bytes: self.inner.log.bytes(),
                written_bytes: log.written.get(),
                snapshot: Some(snapshots.numbers().took.seen()),
                snapshot_bytes: snapshots.current().map_or(0, |snapshot| snapshot.len()),
                snapshot_failures: snapshots.numbers().failures.get(),
                free_bytes: snapshots.numbers().free_bytes(),
            },
            state: StateNumbers {
                sizes: self.inner.map.sizes(),
                expired: [expired.keys.get(), expired.locks.get()],
                watching: self.watches().watching(),
                log_time_ms: self.clock().now_ms(),
            },
        }
    }

    fn raft_numbers(&self) -> RaftNumbers {
        let state = self.state();
        let (last_contact, numbers) = (self.inner.freshness.last_contact(), &self.inner.numbers);
        let members = self.members();
        let (warnings, applied_index) = (self.warning_counts(), self.applied_index());
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leads = metrics.state == ServerState::Leader;
        let quorum_age = if leads { Some(self.quorum_age_of(&metrics)) } else { last_contact };
        let lag = |member: RaftId| {
            let matched = (*metrics.replication.as_ref()?.get(&member)?).map_or(0, |id| id.index);
            Some(metrics.last_log_index.unwrap_or(0).saturating_sub(matched))
        };
        let round_trips = numbers.round_trips.lock();
        let peers = members.iter().filter(|member| member.raft_id != metrics.id).map(|member| PeerNumbers {
            id: member.server.id.to_string(),
            lag: lag(member.raft_id),
            round_trip: round_trips.get(&member.raft_id).map(|seen| seen.seen()),
        });
        let voters = members.iter().filter(|member| member.server.voter).count();
        RaftNumbers {
            state: Some(state),
            has_leader: match state {
                State::Leader => true,
                _ => metrics.current_leader.is_some() && last_contact.is_some_and(|age| age <= self.silence_allowed()),
            },
            term: metrics.current_term,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            commit_index: index(metrics.local_committed),
            applied_index,
            leader_changes: numbers.leader_changes.get(),
            elections: numbers.elections.each_ref().map(|outcomes| outcomes.each_ref().map(Counter::get)),
            quorum_age,
            peers: peers.collect(),
            proposals: numbers.proposals.each_ref().map(Counter::get),
            read_indexes: numbers.read_indexes.each_ref().map(Counter::get),
            members: [voters, members.len() - voters],
            warnings,
        }
    }

    /// By [`WARNING_KINDS`].
    fn warning_counts(&self) -> [usize; 8] {
        let me = &self.inner.me;
        let members = self.members();
        let voters = members.iter().filter(|member| member.server.voter);
        let leads = self.state() == State::Leader;
        let silent = voters.clone().filter(|member| leads && !self.answered_lately(member.raft_id)).count();
        [
            usize::from(me.diverged().is_some()),
            usize::from(even_voters(voters.count()).is_some()),
            self.hindrances().len(),
            usize::from(me.lost_why().is_some()),
            self.inner.refused_starts.warnings().len(),
            usize::from(me.removed().borrow().is_some()),
            self.security_warnings().len(),
            silent,
        ]
    }
}
