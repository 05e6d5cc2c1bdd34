//! Membership: join = learner, catch up, voter; replace; remove.
//!
//! The leader changes one thing at a time ([`Inner::membership_turn`](super::Inner)). What a member
//! asked to be is in the membership itself, so whoever leads finishes a promotion, or a joint
//! membership, that another began.
//!
//! Caveat: openraft forbids an emptied log under a known Raft id and does not notice it in release
//! builds; hence a node whose disk was wiped has a new Raft id and *replaces* its former self.

pub(in crate::node) mod find;
pub(in crate::node) mod form;
pub(in crate::node) mod promote;
pub(in crate::node) mod strangers;
pub(in crate::node) mod transfer;

use std::collections::{BTreeMap, BTreeSet};

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, RaftMetrics};
use tokio::time::{Instant, timeout_at};

use super::status::MemberView;
use super::{Leader, Node, NodeError};
use crate::duration::as_ms;
use crate::node::rpc::{Identification, NotLeader, PeerError, PeerReply, PeerRequest, Target};
use crate::node::write::{LOOK_AGAIN, LeaderWait};
use crate::node_id::PublicId;
use crate::raft_types::{Member, RaftId, Role, TypeConfig};
use crate::task;
use form::{IDENTIFY_TIMEOUT, is_at};

/// The inner result is the final answer; `NotLeader` sends the asker elsewhere.
pub(super) type AtLeader = Result<Result<(), NodeError>, NotLeader>;

/// What only the leader can do to the cluster.
#[derive(Debug, Clone)]
enum Change {
    Join(PublicId),
    Remove { wanted: String, force: bool },
    Lead(Option<String>),
}

impl Node {
    /// Makes the named node a member: here, or at the leader. Returns once it has the role it asked
    /// for. `asker`: the Raft id of the process that asks for itself.
    ///
    /// # Errors
    /// [`NodeError`]. After [`NodeError::Timeout`] it may still become one.
    pub async fn join(&self, id: PublicId, asker: Option<RaftId>, deadline: Instant) -> Result<(), NodeError> {
        if asker == Some(self.inner.me.raft_id()) {
            self.inner.calls.heard_myself();
            return Err(NodeError::Conflict(format!("{id} asked itself to join")));
        }
        if id == *self.id() && asker.is_some() {
            return Err(NodeError::Conflict(format!(
                "this node is {id} itself, with another Raft id: two processes advertise one address; see --hadv, --radv"
            )));
        }
        self.at_leader(Change::Join(id), deadline).await
    }

    /// Removes a member, here or at the leader; `wanted` is an id or part of one, as users type it.
    ///
    /// # Errors
    /// [`NodeError`]. After [`NodeError::Timeout`] it may still be removed.
    pub async fn remove(&self, wanted: &str, force: bool, deadline: Instant) -> Result<(), NodeError> {
        self.at_leader(Change::Remove { wanted: wanted.to_owned(), force }, deadline).await
    }

    /// Moves leadership to a voter, here or at the leader; to the one that has most of the log where
    /// none is named. Returns once it leads.
    ///
    /// # Errors
    /// [`NodeError`]. After [`NodeError::Timeout`] it may still come to lead.
    pub async fn lead(&self, wanted: Option<&str>, deadline: Instant) -> Result<(), NodeError> {
        self.at_leader(Change::Lead(wanted.map(str::to_owned)), deadline).await
    }

    /// Does something here if this node leads, else asks the leader to.
    async fn at_leader(&self, change: Change, deadline: Instant) -> Result<(), NodeError> {
        self.refuse_removed()?;
        let mut patience = LeaderWait::new(deadline);
        loop {
            let outcome = match self.leader_by(&patience).await? {
                Leader::NodeIdentity => match change.clone() {
                    Change::Join(id) => self.join_here(id, deadline).await,
                    Change::Remove { wanted, force } => self.remove_here(wanted, force, deadline).await,
                    Change::Lead(wanted) => self.lead_here(wanted, deadline).await,
                },
                Leader::Other(target) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let timeout_ms = as_ms(left);
                    let request = match change.clone() {
                        Change::Join(id) => PeerRequest::Join { id, timeout_ms },
                        Change::Remove { wanted, force } => PeerRequest::Remove { wanted, force, timeout_ms },
                        Change::Lead(wanted) => PeerRequest::Lead { wanted, timeout_ms },
                    };
                    match self.inner.peers.call(&target, request, left).await {
                        Ok(PeerReply::Admin(outcome)) => outcome,
                        Ok(other) => Ok(Err(NodeError::Internal(format!("the leader answered {other:?}")))),
                        Err(PeerError::Lost(why)) => {
                            Ok(Err(NodeError::Timeout(format!("the leader {} did not answer: {why}", target.id))))
                        }
                        Err(PeerError::Unreachable(_) | PeerError::Refused(_)) => Err(NotLeader),
                    }
                }
            };
            match outcome {
                Ok(done) => return done,
                Err(NotLeader) => self.wait_for_a_change(&mut patience).await?,
            }
        }
    }

    /// As the leader: makes a node a member and waits until it has the role it asked for. Runs to its
    /// end even where the asker goes away.
    pub(super) async fn join_here(&self, id: PublicId, deadline: Instant) -> AtLeader {
        let node = self.clone();
        let done = task::spawn(async move {
            match node.admit_member(&id, deadline).await? {
                Ok((raft_id, role)) => node.wait_for_role(&id, raft_id, role, deadline).await,
                Err(error) => Ok(Err(error)),
            }
        });
        done.await.unwrap_or_else(|error| Ok(Err(NodeError::Internal(error.to_string()))))
    }

    /// Puts the joiner into the membership, in place of the member that has its addresses.
    async fn admit_member(
        &self,
        id: &PublicId,
        deadline: Instant,
    ) -> Result<Result<(RaftId, Role), NodeError>, NotLeader> {
        let Ok(_turn) = timeout_at(deadline, self.inner.membership_turn.lock()).await else {
            return Ok(Err(NodeError::Timeout("other membership changes took too long".to_owned())));
        };
        self.confirm_as_leader().await.ok_or(NotLeader)?;
        let joiner = match self.identify(id).await {
            Ok(joiner) => joiner,
            Err(error) => return Ok(Err(error)),
        };
        let members = self.members();
        if let Some(member) = members.iter().find(|member| member.raft_id == joiner.raft_id) {
            let updated = self.update_member(&members, member, id, &joiner, deadline).await?;
            return Ok(updated.map(|()| (joiner.raft_id, joiner.role)));
        }
        for old in members.iter().filter(|m| m.server.id.haddr == id.haddr || m.server.id.raddr == id.raddr) {
            if old.raft_id == self.inner.me.raft_id() || !joiner.empty {
                return Ok(Err(NodeError::Conflict(format!(
                    "{id} has data and cannot replace the member {} that has its address; delete its data directory",
                    old.server.id
                ))));
            }
            tracing::info!("{id} came back empty and replaces its former self");
            match self.drop_member(old, deadline).await? {
                Ok(()) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        let member = Member { id: id.clone(), role: joiner.role };
        let add = ChangeMembers::AddNodes(BTreeMap::from([(joiner.raft_id, member)]));
        Ok(match self.change(add, deadline).await? {
            Ok(()) => {
                tracing::info!("{id} joined as a learner");
                Ok((joiner.raft_id, joiner.role))
            }
            Err(error) => Err(error),
        })
    }

    /// A member that moved to other addresses, or a learner that now asks to be a voter. A voter is
    /// not made a learner by a flag: that would cost a quorum unasked.
    async fn update_member(
        &self,
        members: &[MemberView],
        member: &MemberView,
        id: &PublicId,
        joiner: &Identification,
        deadline: Instant,
    ) -> AtLeader {
        let old = &member.server.id;
        let promoted = member.role == Role::Learner && joiner.role == Role::Voter;
        if old == id && !promoted {
            return Ok(Ok(()));
        }
        let taken = |other: &&MemberView| {
            other.raft_id != member.raft_id && (other.server.id.haddr == id.haddr || other.server.id.raddr == id.raddr)
        };
        if let Some(other) = members.iter().find(taken) {
            return Ok(Err(NodeError::Conflict(format!("{id} has an address of the member {}", other.server.id))));
        }
        if old.raddr != id.raddr && is_at(&self.inner.peers, old, member.raft_id).await {
            return Ok(Err(NodeError::Conflict(format!(
                "{id} uses a copy of the data directory of {old}, which still runs; stop one of them"
            ))));
        }
        let role = if promoted { Role::Voter } else { member.role };
        let set = ChangeMembers::SetNodes(BTreeMap::from([(member.raft_id, Member { id: id.clone(), role })]));
        let done = self.change(set, deadline).await?;
        if done.is_ok() && old != id {
            tracing::info!("{old} moved to {id}");
        }
        Ok(done)
    }

    /// Dials a joiner and checks that it is what it says and may be let in.
    async fn identify(&self, id: &PublicId) -> Result<Identification, NodeError> {
        if id.raddr.is_loopback() != self.id().raddr.is_loopback() {
            return Err(NodeError::Conflict(format!(
                "{id} and this cluster (for example {}) cannot reach each other: one of them advertises loopback; \
                 start the node with --hadv and --radv set to addresses that the others can reach",
                self.id()
            )));
        }
        let target = Target { raft_id: None, id: id.clone() };
        let joiner = match self.inner.peers.call(&target, PeerRequest::Identify, IDENTIFY_TIMEOUT).await {
            Ok(PeerReply::Identify(joiner)) => joiner,
            Ok(other) => return Err(NodeError::Conflict(format!("{} answered {other:?}", id.raddr))),
            Err(error) => {
                return Err(NodeError::Conflict(format!(
                    "the leader {} cannot reach {id} at its Raft address: {error}; is it running, and are --hadv and \
                     --radv addresses that the others can reach?",
                    self.id()
                )));
            }
        };
        if joiner.id != *id {
            return Err(NodeError::Conflict(format!("the node at {} is {}, not {id}", id.raddr, joiner.id)));
        }
        let cluster = self.inner.me.cluster();
        if joiner.cluster.is_some() && joiner.cluster != cluster && !joiner.empty {
            return Err(NodeError::Conflict(format!(
                "{id} belongs to another cluster; to move it here, stop it, delete its data directory and start it again"
            )));
        }
        Ok(joiner)
    }

    async fn wait_for_role(&self, id: &PublicId, raft_id: RaftId, role: Role, deadline: Instant) -> AtLeader {
        let mut metrics = self.metrics();
        let arrived = metrics.wait_until(|m| {
            let voter = m.membership_config.voter_ids().any(|voter| voter == raft_id);
            let leads = m.current_leader == Some(m.id);
            let is_member = m.membership_config.get_node(&raft_id).is_some();
            !leads || !is_member || voter || role == Role::Learner
        });
        match timeout_at(deadline, arrived).await {
            Ok(Ok(m)) if m.membership_config.get_node(&raft_id).is_none() => {
                Ok(Err(NodeError::Conflict(format!("{id} was removed while it joined"))))
            }
            Ok(Ok(m)) if m.current_leader != Some(m.id) => Err(NotLeader),
            Ok(Ok(_)) => Ok(Ok(())),
            Ok(Err(_)) => Err(NotLeader),
            Err(_) => Ok(Err(NodeError::Timeout(format!(
                "{id} is a learner and still catching up; it becomes a voter once it has"
            )))),
        }
    }

    /// As the leader: removes a member. Runs to its end even where the asker goes away.
    pub(super) async fn remove_here(&self, wanted: String, force: bool, deadline: Instant) -> AtLeader {
        let node = self.clone();
        let done = task::spawn(async move {
            let Ok(_turn) = timeout_at(deadline, node.inner.membership_turn.lock()).await else {
                return Ok(Err(NodeError::Timeout("other membership changes took too long".to_owned())));
            };
            node.confirm_as_leader().await.ok_or(NotLeader)?;
            let members = node.members();
            let checked = find::find(&members, &wanted)
                .and_then(|member| node.check_removal(&members, member, force).map(|()| member.clone()));
            let member = match checked {
                Ok(member) => member,
                Err(error) => return Ok(Err(error)),
            };
            if member.raft_id == node.inner.me.raft_id() && node.step_aside(deadline).await {
                // Its successor, which the asker now finds, removes it.
                return Err(NotLeader);
            }
            let done = node.drop_member(&member, deadline).await?;
            if done.is_ok() {
                tracing::info!("{} was removed from the cluster", member.server.id);
            }
            Ok(done)
        });
        done.await.unwrap_or_else(|error| Ok(Err(NodeError::Internal(error.to_string()))))
    }

    /// Refuses a removal after which the voters that answer would be no quorum.
    fn check_removal(&self, members: &[MemberView], gone: &MemberView, force: bool) -> Result<(), NodeError> {
        let rest: Vec<&MemberView> = members.iter().filter(|m| m.server.voter && m.raft_id != gone.raft_id).collect();
        if rest.is_empty() {
            return Err(NodeError::Conflict(format!("{} is the only voter; stop it instead", gone.server.id)));
        }
        let reachable = rest.iter().filter(|m| self.answered_lately(m.raft_id)).count();
        if gone.server.voter && !force && reachable <= rest.len() / 2 {
            return Err(NodeError::Conflict(format!(
                "without {} only {reachable} of {} voters answer, which is no quorum; start the others first, or add \
                 ?force",
                gone.server.id,
                rest.len()
            )));
        }
        Ok(())
    }

    /// As the leader: whether a member acknowledged something within the election maximum.
    pub(super) fn answered_lately(&self, raft_id: RaftId) -> bool {
        if raft_id == self.inner.me.raft_id() {
            return true;
        }
        self.silence_of(raft_id).is_some_and(|silence| silence <= self.inner.options.election_max())
    }

    async fn drop_member(&self, member: &MemberView, deadline: Instant) -> AtLeader {
        let ids = BTreeSet::from([member.raft_id]);
        let change =
            if member.server.voter { ChangeMembers::RemoveVoters(ids) } else { ChangeMembers::RemoveNodes(ids) };
        self.change(change, deadline).await
    }

    /// Changes the membership; the caller has the turn. Waits for one that another leader began.
    pub(super) async fn change(&self, change: ChangeMembers<RaftId, Member>, deadline: Instant) -> AtLeader {
        let unknown = |why: &str| Ok(Err(NodeError::Timeout(format!("{why}; the membership may still change"))));
        loop {
            // What openraft asks for: the last membership and an entry of this leader's own term are
            // committed.
            let settled = |m: &RaftMetrics<TypeConfig>| {
                m.current_leader != Some(m.id)
                    || (m.committed_membership_config == m.membership_config
                        && m.local_committed.is_some_and(|id| id.leader_id.term == m.current_term))
            };
            if timeout_at(deadline, self.metrics().wait_until(settled)).await.is_err() {
                return unknown("an earlier membership change is not committed yet");
            }
            // `retain` false: a voter that is removed does not stay as a learner.
            match timeout_at(deadline, self.inner.raft.change_membership(change.clone(), false)).await {
                Ok(Ok(response)) => {
                    // What comes next looks at the metrics, which follow openraft's own state.
                    let at = Some(response.log_id);
                    let shown = self.metrics().wait_until(|m| *m.membership_config.log_id() >= at).await;
                    return if shown.is_ok() { Ok(Ok(())) } else { Err(NotLeader) };
                }
                Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => return Err(NotLeader),
                Ok(Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)))) => {
                    return unknown("the leader changed");
                }
                Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
                )))) => {
                    // Metrics lag a little behind openraft's own state.
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Ok(Err(RaftError::APIError(error))) => return Ok(Err(NodeError::Conflict(error.to_string()))),
                Ok(Err(RaftError::Fatal(error))) => return unknown(&format!("this node is stopping ({error})")),
                Err(_) => return unknown("a quorum did not acknowledge it in time"),
            }
        }
    }
}
