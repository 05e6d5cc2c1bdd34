//! Joining: a node is identified, becomes a learner, catches up and is a voter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, timeout_at};

use crate::node::membership::AtLeader;
use crate::node::rpc::{Identification, NotLeader, PeerReply, PeerRequest, Peers, Target};
use crate::node::status::MemberView;
use crate::node::{Node, NodeError};
use crate::node_id::PublicId;
use crate::raft_types::{Member, RaftId, Role};
use crate::task;

/// How long a node may take to say who it is.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(2);

/// Tells whether this Raft node answers at these addresses.
pub async fn is_at(peers: &Arc<dyn Peers>, id: &PublicId, raft_id: RaftId) -> bool {
    let target = Target { raft_id: None, id: id.clone() };
    let answer = peers.call(&target, PeerRequest::Identify, IDENTIFY_TIMEOUT).await;
    matches!(answer, Ok(PeerReply::Identify(who)) if who.raft_id == raft_id)
}

impl Node {
    /// As the leader: makes a node a member and waits until it has the role it asked for. Runs to its
    /// end even where the asker goes away.
    pub(in crate::node) async fn join_here(&self, id: PublicId, deadline: Instant) -> AtLeader {
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
        if let Err(error) = self.refuse_living_former_selves(&members, id, &joiner).await {
            return Ok(Err(error));
        }
        let has_address = |m: &&MemberView| m.server.id.haddr == id.haddr || m.server.id.raddr == id.raddr;
        for old in members.iter().filter(has_address) {
            if self.has_left(old, id, &joiner).await {
                continue;
            }
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
        for other in members.iter().filter(taken) {
            // Two that swapped their addresses find each other's in the membership.
            if other.server.id.raddr != id.raddr && is_at(&self.inner.peers, &other.server.id, other.raft_id).await {
                let other = &other.server.id;
                return Ok(Err(NodeError::Conflict(format!("{id} has an address of the member {other}"))));
            }
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
}
