//! What a node tells of itself and of its cluster.

use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Instant as _, RaftMetrics, ServerState};
use tokio::time::Instant;

use super::{Cluster, ClusterServer, Leader, Node, NodeError, Phase, Server, State, Stats};
use crate::node::rpc::{PeerReply, PeerRequest, Target};
use crate::node::write::LeaderWait;
use crate::raft_types::alias::LogId;
use crate::raft_types::{RaftId, Role, TypeConfig};

/// How long `cluster` waits for each member.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// A member of the latest membership.
#[derive(Debug, Clone)]
pub(super) struct MemberView {
    pub(super) raft_id: RaftId,
    pub(super) server: Server,
    /// What it asked to be.
    pub(super) role: Role,
}

impl Node {
    /// What this node is doing.
    pub fn state(&self) -> State {
        if self.inner.me.removed().borrow().is_some() {
            return State::Shutdown;
        }
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        match metrics.state {
            ServerState::Leader if self.quorum_is_fresh(&metrics) => State::Leader,
            // openraft keeps leading and calling in a minority; to its clients it no longer leads.
            ServerState::Leader | ServerState::Follower => State::Follower,
            ServerState::Candidate => State::Candidate,
            ServerState::Learner => State::Learner,
            ServerState::Shutdown => State::Shutdown,
        }
    }

    /// The highest term that this node has voted in; `None` before its first vote.
    pub fn voted_term(&self) -> Option<u64> {
        self.inner.log.vote().map(|vote| vote.leader_id.term)
    }

    /// The last entry that this node knows to be committed.
    pub fn last_committed(&self) -> Option<LogId> {
        self.inner.raft.metrics().borrow_watched().local_committed
    }

    /// True for the Raft ids of the latest membership that this node knows of.
    pub fn has_member(&self, raft_id: RaftId) -> bool {
        self.inner.raft.metrics().borrow_watched().membership_config.get_node(&raft_id).is_some()
    }

    fn quorum_is_fresh(&self, metrics: &RaftMetrics<TypeConfig>) -> bool {
        // None: it was elected by a quorum just now.
        self.quorum_age_of(metrics).is_none_or(|age| age <= self.inner.options.election_max())
    }

    /// As the leader: how long ago a quorum acknowledged it.
    pub(super) fn quorum_age(&self) -> Option<Duration> {
        self.quorum_age_of(&self.inner.raft.metrics().borrow_watched())
    }

    fn quorum_age_of(&self, metrics: &RaftMetrics<TypeConfig>) -> Option<Duration> {
        let membership = &metrics.membership_config;
        if membership.voter_ids().all(|id| id == metrics.id) {
            return Some(Duration::ZERO);
        }
        let acked = metrics.last_quorum_acked.as_ref()?.elapsed();
        Some(self.inner.acks.at_least(acked, metrics.id, membership))
    }

    /// The members of the latest membership, ordered by public id.
    pub(super) fn members(&self) -> Vec<MemberView> {
        let metrics = self.inner.raft.metrics();
        let membership = metrics.borrow_watched().membership_config.clone();
        let voters: std::collections::BTreeSet<RaftId> = membership.voter_ids().collect();
        let mut members: Vec<MemberView> = membership
            .nodes()
            .map(|(raft_id, member)| MemberView {
                raft_id: *raft_id,
                server: Server { id: member.id.clone(), voter: voters.contains(raft_id) },
                role: member.role,
            })
            .collect();
        members.sort_by(|a, b| a.server.id.cmp(&b.server.id));
        members
    }

    /// As the leader: how long ago a member acknowledged something; `None` for never.
    pub(super) fn silence_of(&self, raft_id: RaftId) -> Option<Duration> {
        silence(&self.inner.raft.metrics().borrow_watched(), raft_id)
    }

    /// The source of `GET /hraftd/raft/stats`.
    pub fn stats(&self) -> Stats {
        let members = self.members();
        let state = self.state();
        let me = self.inner.me.raft_id();
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let index = |id: &Option<LogId>| id.as_ref().map_or(0, |id| id.index);
        let term = |id: &Option<LogId>| id.as_ref().map_or(0, |id| id.leader_id.term);
        let commit_index = index(&metrics.local_committed);
        let applied_index = self.applied_index();
        Stats {
            applied_index,
            commit_index,
            fsm_pending: commit_index.saturating_sub(applied_index),
            last_contact: if state == State::Leader { Some(Duration::ZERO) } else { self.inner.contact.age() },
            last_log_index: metrics.last_log_index.unwrap_or(0),
            last_log_term: self.inner.log.last_log_id().map_or(0, |id| id.leader_id.term),
            last_snapshot_index: index(&metrics.snapshot),
            last_snapshot_term: term(&metrics.snapshot),
            latest_configuration_index: index(metrics.membership_config.log_id()),
            num_peers: members.iter().filter(|m| m.server.voter && m.raft_id != me).count(),
            latest_configuration: members.into_iter().map(|m| m.server).collect(),
            state,
            term: metrics.current_term,
        }
    }

    /// Asks all members at once what they are doing, each for at most a second.
    pub async fn cluster(&self) -> Cluster {
        self.ask_members(STATUS_TIMEOUT).await
    }

    pub(super) async fn ask_members(&self, timeout: Duration) -> Cluster {
        let me = self.inner.me.raft_id();
        let leader = self.inner.raft.metrics().borrow_watched().current_leader;
        let members = self.members();
        let asked = members.iter().map(async |member| {
            if member.raft_id == me {
                return self.state();
            }
            let target = Target { raft_id: Some(member.raft_id), id: member.server.id.clone() };
            match tokio::time::timeout(timeout, self.inner.peers.call(&target, PeerRequest::Status, timeout)).await {
                Ok(Ok(PeerReply::Status(state))) => state,
                _ => State::Lost,
            }
        });
        let states = join_all(asked).await;
        let line = |member: &MemberView, state: State| ClusterServer {
            id: member.server.id.clone(),
            state,
            voter: member.server.voter,
        };
        let mut servers = Vec::with_capacity(members.len());
        let mut current = ClusterServer { id: self.id().clone(), state: self.state(), voter: false };
        let mut leading = None;
        for (member, state) in members.iter().zip(states) {
            let server = line(member, state);
            if member.raft_id == me {
                current = server.clone();
            }
            // Believed to lead, and says so itself.
            if Some(member.raft_id) == leader && state == State::Leader {
                leading = Some(server.clone());
            }
            servers.push(server);
        }
        if servers.is_empty() {
            servers.push(current.clone());
        }
        let warnings = warnings(&servers);
        Cluster { current, leader: leading, servers, warnings }
    }

    /// A digest of the state, and the applied index it is of.
    pub fn digest(&self) -> (u64, u64) {
        self.inner.map.digest()
    }

    /// Ok where key requests would be served; otherwise why not.
    ///
    /// # Errors
    /// [`NodeError::Removed`], [`NodeError::NotReady`], [`NodeError::NoLeader`].
    pub fn ready(&self) -> Result<(), NodeError> {
        self.refuse_removed()?;
        if let Some(why) = self.inner.me.foreign() {
            return Err(NodeError::NotReady(why));
        }
        let phase = *self.inner.phase.borrow();
        if phase != Phase::Ready {
            return Err(phase.not_ready());
        }
        let heard = match self.leader() {
            Some(Leader::NodeIdentity) => self.state() == State::Leader,
            Some(Leader::Other(_)) => self.inner.contact.age().is_some_and(|age| age <= self.silence_allowed()),
            None => false,
        };
        if !heard {
            return Err(NodeError::NoLeader("no leader is known that a quorum follows".to_owned()));
        }
        Ok(())
    }

    /// Waits, as long as a request waits for a leader, until this node has come so far.
    pub(super) async fn wait_phase(&self, phase: Phase, deadline: Instant) -> Result<(), NodeError> {
        self.refuse_removed()?;
        if *self.inner.phase.borrow() >= phase {
            return Ok(());
        }
        self.wait_phase_until(phase, &LeaderWait::new(deadline)).await
    }

    pub(super) async fn wait_phase_until(&self, phase: Phase, patience: &LeaderWait) -> Result<(), NodeError> {
        let mut now = self.inner.phase.subscribe();
        let waited = tokio::time::timeout_at(patience.until, now.wait_for(|now| *now >= phase)).await;
        if let Ok(Ok(_)) = waited {
            return Ok(());
        }
        Err(self.inner.phase.borrow().not_ready())
    }
}

/// What is wrong with a cluster of these voters.
fn warnings(servers: &[ClusterServer]) -> Vec<String> {
    let voters: Vec<_> = servers.iter().filter(|server| server.voter).collect();
    let silent: Vec<_> =
        voters.iter().filter(|server| server.state == State::Lost).map(|server| server.id.to_string()).collect();
    let mut warnings = Vec::new();
    warnings.extend(even_voters(voters.len()));
    if !silent.is_empty() {
        let quorum = voters.len() / 2 + 1;
        let up = voters.len() - silent.len();
        warnings.push(format!(
            "{} of {} voters do not answer: {}; a quorum is {quorum}, so {}",
            silent.len(),
            voters.len(),
            silent.join(" "),
            match up.checked_sub(quorum) {
                None => "nothing can be written".to_owned(),
                Some(0) => "the loss of one more stops writes".to_owned(),
                Some(spare) => format!("{spare} more may be lost"),
            }
        ));
    }
    warnings
}

/// An even number of voters costs a larger quorum and survives no more losses.
pub(super) fn even_voters(voters: usize) -> Option<String> {
    (voters > 0 && voters.is_multiple_of(2)).then(|| {
        format!(
            "{voters} voters survive the loss of {}, as {} would: add one or remove one",
            voters / 2 - 1,
            voters - 1
        )
    })
}

/// As the leader: how long ago a member acknowledged something; `None` for never.
///
/// For callers that hold the metrics: to borrow them a second time is a deadlock where openraft waits to
/// write between the two.
pub(super) fn silence(metrics: &RaftMetrics<TypeConfig>, raft_id: RaftId) -> Option<Duration> {
    let acked = metrics.heartbeat.as_ref()?.get(&raft_id)?.as_ref()?;
    Some(acked.elapsed())
}

impl Phase {
    /// The error of a request that came before its time.
    fn not_ready(self) -> NodeError {
        NodeError::NotReady(
            match self {
                Phase::Joining => "this node has not joined a cluster yet; the log says whom it asks",
                Phase::Replaying => "this node is still applying its own log; try again",
                Phase::Recovering | Phase::Ready => "this node has not heard yet how far its cluster is; try again",
            }
            .to_owned(),
        )
    }
}
