//! Membership: join = learner, catch up, voter; replace; remove.
//!
//! The leader changes one thing at a time ([`Inner::membership_turn`](super::Inner)). What a member
//! asked to be is in the membership itself, so whoever leads finishes a promotion, or a joint
//! membership, that another began.
//!
//! Caveat: openraft forbids an emptied log under a known Raft id and does not notice it in release
//! builds; hence a node whose disk was wiped has a new Raft id and *replaces* its former self.

mod find;
pub(in crate::node) mod form;
pub(in crate::node) mod found;
mod identify;
pub(in crate::node) mod join;
mod look;
pub(in crate::node) mod promote;
mod quorum;
pub(in crate::node) mod remove;
pub(in crate::node) mod strangers;
pub(in crate::node) mod transfer;
mod vouch;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, RaftMetrics};
use tokio::time::{Instant, timeout_at};

use crate::command::Principal;
use crate::duration::as_ms;
use crate::node::leader::{LEADER_CHANGE_WAIT, Leader, LeaderWait};
use crate::node::rpc::{MemberChange, NotLeader, PeerError, PeerReply, PeerRequest};
use crate::node::{Node, NodeError};
use crate::node_id::PublicId;
use crate::raft_types::{Member, RaftId, TypeConfig};

/// The inner result is the final answer; `NotLeader` sends the asker elsewhere.
pub(in crate::node) type AtLeader = Result<Result<(), NodeError>, NotLeader>;

impl Node {
    /// Makes the named node a member: here, or at the leader. Returns once it has the role it asked
    /// for. `asker`: the Raft id of the process that asks for itself.
    ///
    /// # Errors
    /// [`NodeError`]. After [`NodeError::Timeout`] it may still become one.
    pub async fn join(&self, id: PublicId, asker: Option<RaftId>, deadline: Instant) -> Result<(), NodeError> {
        self.join_by(None, id, asker, deadline).await
    }

    /// The same, for a client.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn join_by(
        &self,
        by: Option<&Principal>,
        id: PublicId,
        asker: Option<RaftId>,
        deadline: Instant,
    ) -> Result<(), NodeError> {
        if asker == Some(self.inner.me.raft_id()) {
            return Err(NodeError::Conflict(format!("{id} asked itself to join")));
        }
        if id == *self.id() && asker.is_some() {
            return Err(NodeError::Conflict(format!(
                "this node is {id} itself, with another Raft id: two processes advertise one address; see --hadv, --radv"
            )));
        }
        if let Some(raft_id) = asker {
            self.look_for_asker(raft_id, &id).await;
        }
        self.at_leader(by, MemberChange::Join(id), deadline).await
    }

    /// Removes a member, here or at the leader; `wanted` is an id or part of one, as users type it.
    ///
    /// # Errors
    /// [`NodeError`]. After [`NodeError::Timeout`] it may still be removed.
    pub async fn remove(&self, wanted: &str, force: bool, deadline: Instant) -> Result<(), NodeError> {
        self.remove_by(None, wanted, force, deadline).await
    }

    /// The same, for a client.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn remove_by(
        &self,
        by: Option<&Principal>,
        wanted: &str,
        force: bool,
        deadline: Instant,
    ) -> Result<(), NodeError> {
        self.at_leader(by, MemberChange::Remove { wanted: wanted.to_owned(), force }, deadline).await
    }

    /// Moves leadership to a voter, here or at the leader; to the one that has most of the log where
    /// none is named. Returns once it leads.
    ///
    /// # Errors
    /// [`NodeError`]. After [`NodeError::Timeout`] it may still come to lead.
    pub async fn lead(&self, wanted: Option<&str>, deadline: Instant) -> Result<(), NodeError> {
        self.lead_by(None, wanted, deadline).await
    }

    /// The same, for a client.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn lead_by(
        &self,
        by: Option<&Principal>,
        wanted: Option<&str>,
        deadline: Instant,
    ) -> Result<(), NodeError> {
        self.at_leader(by, MemberChange::Lead(wanted.map(str::to_owned)), deadline).await
    }

    /// As the leader: does it, for who may have it done.
    pub(in crate::node) async fn change_here(
        &self,
        by: Option<&Principal>,
        change: MemberChange,
        deadline: Instant,
    ) -> AtLeader {
        if let Err(refused) = self.may_administer(by, deadline).await? {
            return Ok(Err(refused));
        }
        match change {
            MemberChange::Join(id) => self.join_here(id, deadline).await,
            MemberChange::Remove { wanted, force } => self.remove_here(wanted, force, deadline).await,
            MemberChange::Lead(wanted) => self.lead_here(wanted, deadline).await,
        }
    }

    /// Does something here if this node leads, else asks the leader to.
    async fn at_leader(
        &self,
        by: Option<&Principal>,
        change: MemberChange,
        deadline: Instant,
    ) -> Result<(), NodeError> {
        self.refuse_out()?;
        let wait = LeaderWait::new(deadline);
        loop {
            let outcome = match self.leader_by(&wait).await? {
                Leader::ThisNode => self.change_here(by, change.clone(), deadline).await,
                Leader::Other(target) => {
                    let knows_client = self.knows_client(by, deadline).await?;
                    let left = deadline.saturating_duration_since(Instant::now());
                    let timeout_ms = as_ms(left);
                    let request = match (by.filter(|_| knows_client).cloned(), change.clone()) {
                        (Some(by), change) => PeerRequest::AdminBy { by, change, timeout_ms },
                        (None, MemberChange::Join(id)) => PeerRequest::Join { id, timeout_ms },
                        (None, MemberChange::Remove { wanted, force }) => {
                            PeerRequest::Remove { wanted, force, timeout_ms }
                        }
                        (None, MemberChange::Lead(wanted)) => PeerRequest::Lead { wanted, timeout_ms },
                    };
                    match self.inner.peers.call(&target, request, left).await {
                        Ok(PeerReply::Admin(outcome)) => outcome,
                        Ok(other) => Ok(Err(NodeError::Internal(format!("the leader answered {other:?}")))),
                        Err(PeerError::Lost(why)) => {
                            Ok(Err(NodeError::Timeout(format!("the leader {} did not answer: {why}", target.id))))
                        }
                        Err(PeerError::Busy(why)) => Ok(Err(NodeError::Overloaded(format!(
                            "{why}; nothing was done, try again or ask the leader"
                        )))),
                        Err(PeerError::Unreachable(_) | PeerError::Refused(_)) => Err(NotLeader),
                    }
                }
            };
            match outcome {
                Ok(done) => return done,
                Err(NotLeader) => self.wait_for_a_change(&wait).await?,
            }
        }
    }

    /// Changes the membership, unless the voters that answer cannot commit it; the caller has the turn. Waits for a change
    /// that another leader began.
    pub(in crate::node) async fn change(&self, change: ChangeMembers<RaftId, Member>, deadline: Instant) -> AtLeader {
        self.change_if(Node::check_commit, change, deadline).await
    }

    /// As [`change`](Self::change), where `check` says that it may be proposed.
    pub(super) async fn change_if(
        &self,
        check: fn(&Self, &ChangeMembers<RaftId, Member>) -> Result<(), NodeError>,
        change: ChangeMembers<RaftId, Member>,
        deadline: Instant,
    ) -> AtLeader {
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
            if let Err(error) = check(self, &change) {
                return Ok(Err(error));
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
                    tokio::time::sleep(LEADER_CHANGE_WAIT).await;
                }
                Ok(Err(RaftError::APIError(error))) => return Ok(Err(NodeError::Conflict(error.to_string()))),
                Ok(Err(RaftError::Fatal(error))) => return unknown(&format!("this node is stopping ({error})")),
                Err(_) => return unknown("a quorum did not acknowledge it in time"),
            }
        }
    }
}
