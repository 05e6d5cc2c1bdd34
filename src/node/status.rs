//! The status of a node and of its cluster; the edges only print it.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Instant as _, RaftMetrics, ServerState};
use tokio::time::Instant;

use crate::formats::{Format, Speaks};
use crate::node::rpc::{Envelope, PeerError, PeerReply, PeerRequest, Refusal, Target};
use crate::node::{Node, State};
use crate::node_id::PublicId;
use crate::raft_types::alias::LogId;
use crate::raft_types::{RaftId, Role, TypeConfig};
use crate::task;

/// How long `cluster` waits for each member.
const MEMBER_STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a request that finds no leader waits for each member, to say who is silent.
const SILENCE_TIMEOUT: Duration = Duration::from_millis(300);

/// One member as the latest membership has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its public id.
    pub id: PublicId,
    /// It is a voter.
    pub voter: bool,
}

/// The source of `GET /hraftd/raft/stats`.
#[derive(Debug, Clone)]
pub struct Stats {
    /// Index of the last entry applied to the map; 0 for none, as for all indexes and terms here.
    pub applied_index: u64,
    /// Index of the last entry known to be committed.
    pub commit_index: u64,
    /// Committed entries that wait to be applied.
    pub fsm_pending: u64,
    /// How long ago, at most, the leader was in contact with this node: since the newest moment on its own clock that
    /// the leader gave back. `Some(ZERO)` on the leader, `None` for never.
    pub last_contact: Option<Duration>,
    /// Index of the last entry in the log.
    pub last_log_index: u64,
    /// Term of the last entry in the log.
    pub last_log_term: u64,
    /// Index of the last entry in the newest snapshot.
    pub last_snapshot_index: u64,
    /// Term of the last entry in the newest snapshot.
    pub last_snapshot_term: u64,
    /// Members of the latest membership, voters and learners, ordered by id.
    pub latest_configuration: Vec<Server>,
    /// Index of the entry that holds the latest membership.
    pub latest_configuration_index: u64,
    /// Voters other than this node, as far as they are committed: those of each configuration in force.
    pub num_peers: usize,
    /// The role of this node.
    pub state: State,
    /// The current term.
    pub term: u64,
    /// The cluster's format; `None` while the node loads.
    pub format: Option<Format>,
}

/// One line of `GET /hraftd/raft/cluster`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterServer {
    /// Its public id; the Raft address is `id.raddr`.
    pub id: PublicId,
    /// The state it tells, or [`State::Lost`].
    pub state: State,
    /// It is a voter.
    pub voter: bool,
    /// What it understands; `None` where it did not answer.
    pub speaks: Option<Speaks>,
}

/// The source of `GET /hraftd/raft/cluster`.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The cluster's format, as this node knows it; `None` while the node loads.
    pub format: Option<Format>,
    /// The node that was asked.
    pub current: ClusterServer,
    /// The leader, where one is known.
    pub leader: Option<ClusterServer>,
    /// All members, ordered by id; before joining only this node.
    pub servers: Vec<ClusterServer>,
    /// Faults that an operator should mend.
    pub warnings: Vec<String>,
}

/// The source of `GET /hraftd/raft/node`.
#[derive(Debug, Clone)]
pub struct About {
    /// When the process started.
    pub start_time: SystemTime,
    /// The public id.
    pub id: PublicId,
    /// Name of the machine.
    pub hostname: String,
    /// A digest of the state and the applied index it is of: equal on all nodes at an index. `None` while the node loads.
    pub digest: Option<(u64, u64)>,
    /// The cluster's format; `None` while the node loads.
    pub format: Option<Format>,
}

/// A member of the latest membership.
#[derive(Debug, Clone)]
pub(super) struct MemberView {
    pub(super) raft_id: RaftId,
    pub(super) server: Server,
    /// The role it asked for.
    pub(super) role: Role,
}

impl Node {
    /// The role this node has now.
    pub fn state(&self) -> State {
        if self.refuse_out().is_err() {
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

    /// The Raft id of the member that sent this, as far as it says: `None` for a stranger.
    pub fn member_that_sent(&self, envelope: &Envelope) -> Option<RaftId> {
        let is_of_cluster = envelope.cluster.is_some() && envelope.cluster == self.inner.me.cluster();
        (is_of_cluster && self.has_member(envelope.from_raft)).then_some(envelope.from_raft)
    }

    fn quorum_is_fresh(&self, metrics: &RaftMetrics<TypeConfig>) -> bool {
        self.quorum_age_of(metrics) <= self.inner.options.election_max()
    }

    /// As the leader of this term: how long it has led, as far as was seen.
    pub(super) fn leading_for(&self, term: u64) -> Duration {
        let mut led = self.inner.led.lock();
        match *led {
            Some((of, since)) if of == term => since.elapsed(),
            _ => {
                *led = Some((term, Instant::now()));
                Duration::ZERO
            }
        }
    }

    /// As the leader: after how long its quorum counts as lost, unless it is heard again; `None` if it is lost, or if this
    /// node does not lead.
    pub(super) fn quorum_is_doubtful_in(&self) -> Option<Duration> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let age = (metrics.state == ServerState::Leader).then(|| self.quorum_age_of(&metrics))?;
        let left = self.inner.options.election_max().checked_sub(age)?;
        Some(left + Duration::from_millis(1))
    }

    /// As the leader: how long ago, at most, a quorum followed it.
    pub(super) fn quorum_age_of(&self, metrics: &RaftMetrics<TypeConfig>) -> Duration {
        let membership = &metrics.membership_config;
        if membership.voter_ids().all(|id| id == metrics.id) {
            return Duration::ZERO;
        }
        // A quorum elected it, and may be gone before it acknowledged anything.
        let Some(acked) = metrics.last_quorum_acked.as_ref() else { return self.leading_for(metrics.current_term) };
        self.inner.acks.at_least(acked.elapsed(), metrics.id, membership)
    }

    /// The members of the latest membership, ordered by public id.
    pub(super) fn members(&self) -> Vec<MemberView> {
        members_of(&self.inner.raft.metrics().borrow_watched())
    }

    /// The member of this Raft id.
    pub(super) fn member(&self, raft_id: RaftId) -> Option<MemberView> {
        self.members().into_iter().find(|member| member.raft_id == raft_id)
    }

    /// The Raft ids and addresses of the members.
    pub(super) fn member_ids(&self) -> Vec<(RaftId, PublicId)> {
        self.members().into_iter().map(|member| (member.raft_id, member.server.id)).collect()
    }

    /// As the leader: how long ago a member acknowledged something; `None` for never.
    pub(super) fn silence_of(&self, raft_id: RaftId) -> Option<Duration> {
        silence(&self.inner.raft.metrics().borrow_watched(), raft_id)
    }

    /// As the leader: whether a member acknowledged something within the election maximum.
    pub(super) fn answered_lately(&self, raft_id: RaftId) -> bool {
        if raft_id == self.inner.me.raft_id() {
            return true;
        }
        self.silence_of(raft_id).is_some_and(|silence| silence <= self.inner.options.election_max())
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
            last_contact: if state == State::Leader {
                Some(Duration::ZERO)
            } else {
                self.inner.freshness.last_contact()
            },
            last_log_index: metrics.last_log_index.unwrap_or(0),
            last_log_term: self.inner.log.last_log_id().map_or(0, |id| id.leader_id.term),
            last_snapshot_index: index(&metrics.snapshot),
            last_snapshot_term: term(&metrics.snapshot),
            latest_configuration_index: index(metrics.membership_config.log_id()),
            num_peers: settled_voters(&metrics).filter(|id| *id != me).count(),
            latest_configuration: members.into_iter().map(|m| m.server).collect(),
            state,
            term: metrics.current_term,
            format: Some(self.format()),
        }
    }

    /// Asks all members at once what they are doing, each for at most a second; once for all who wait for that.
    pub async fn cluster(&self) -> Cluster {
        let node = self.clone();
        self.inner.cluster_rounds.ask(move || node.ask_members_at_home(MEMBER_STATUS_TIMEOUT)).await
    }

    /// The same in short, for the error of a request.
    pub(super) async fn who_is_silent(&self) -> Cluster {
        let node = self.clone();
        self.inner.silence_rounds.ask(move || node.ask_members_at_home(SILENCE_TIMEOUT)).await
    }

    /// Among the node's own tasks: beside thousands of clients an answer could miss its time for want of a turn.
    async fn ask_members_at_home(self, timeout: Duration) -> Cluster {
        let node = self.clone();
        match task::spawn_on(&self.inner.home, async move { node.ask_members(timeout).await }).await {
            Ok(cluster) => cluster,
            Err(_) => self.ask_members(timeout).await,
        }
    }

    async fn ask_members(&self, timeout: Duration) -> Cluster {
        let me = self.inner.me.raft_id();
        let leader = self.inner.raft.metrics().borrow_watched().current_leader;
        let members = self.members();
        let asked = members.iter().map(async |member| {
            if member.raft_id == me {
                let diverged = self.inner.me.diverged().map(|why| has_diverged(&why));
                let lost = self.inner.me.lost_why().map(|why| has_lost(&why));
                return (self.state(), self.complaints().into_iter().chain(diverged).chain(lost).collect());
            }
            let target = Target { raft_id: Some(member.raft_id), id: member.server.id.clone() };
            match tokio::time::timeout(timeout, self.inner.peers.call(&target, PeerRequest::Status, timeout)).await {
                Ok(Ok(PeerReply::Status(state, hindrances))) => (state, hindrances),
                Ok(Err(PeerError::Refused(Refusal::Diverged(why)))) => (State::Shutdown, vec![has_diverged(&why)]),
                Ok(Err(PeerError::Refused(Refusal::LostMemory(why)))) => (State::Shutdown, vec![has_lost(&why)]),
                _ => (State::Lost, Vec::new()),
            }
        });
        let understood = join_all(members.iter().map(|member| tokio::time::timeout(timeout, self.speaks_of(member))));
        let (told, understood) = tokio::join!(join_all(asked), understood);
        let (states, reasons): (Vec<_>, Vec<_>) = told.into_iter().unzip();
        let line = |member: &MemberView, state: State, speaks: Option<Speaks>| ClusterServer {
            id: member.server.id.clone(),
            state,
            voter: member.server.voter,
            speaks,
        };
        let mut servers = Vec::with_capacity(members.len());
        let speaks = Some(self.speaks());
        let mut current = ClusterServer { id: self.id().clone(), state: self.state(), voter: false, speaks };
        let mut leading = None;
        for ((member, state), speaks) in members.iter().zip(states).zip(understood) {
            let server = line(member, state, speaks.ok().flatten());
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
        let format = self.format();
        let mut warnings = warnings(&servers);
        warnings.extend(servers.iter().filter_map(|server| {
            let speaks = server.speaks.as_ref().filter(|speaks| !speaks.understands(format))?;
            Some(speaks.too_old(&server.id, format))
        }));
        for (member, told) in members.iter().zip(reasons) {
            warnings.extend(told.into_iter().map(|what: String| format!("{}: {what}", member.server.id)));
        }
        warnings.extend(self.fullness());
        warnings.extend(self.inner.refused_starts.warnings());
        warnings.extend(self.inner.me.aside().map(|folder| {
            format!(
                "{} lost its memory and joined anew: what it had is in the folder {folder} of its data directory; delete \
                 that once nobody needs it",
                self.id()
            )
        }));
        Cluster { format: Some(format), current, leader: leading, servers, warnings }
    }

    /// What keeps this node from going on, and what else of it an operator should mend.
    pub(super) fn complaints(&self) -> Vec<String> {
        let others = self.security_warnings().into_iter().chain(self.inner.backups.warning());
        self.hindrances().into_iter().chain(others).collect()
    }

    /// A digest of the state, and the applied index it is of.
    pub fn digest(&self) -> (u64, u64) {
        self.inner.map.digest()
    }
}

/// The voters of each configuration in force, as far as it is committed: these elect a leader whoever else is there.
fn settled_voters(metrics: &RaftMetrics<TypeConfig>) -> impl Iterator<Item = RaftId> {
    let committed = metrics.committed_membership_config.membership();
    let is_everywhere = |id: &RaftId| committed.get_joint_config().iter().all(|config| config.contains(id));
    committed.voter_ids().filter(is_everywhere)
}

/// The members of the latest membership, ordered by public id. For callers that hold the metrics.
pub(super) fn members_of(metrics: &RaftMetrics<TypeConfig>) -> Vec<MemberView> {
    let membership = &metrics.membership_config;
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

fn has_lost(why: &str) -> String {
    format!("it lost its memory and takes no part: {why}")
}

fn has_diverged(why: &str) -> String {
    format!("it has diverged and takes no part: {why}")
}

/// Warnings about a cluster of these voters.
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
