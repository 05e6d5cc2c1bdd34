//! Joining: a node is identified, becomes a learner, catches up and is a voter.
//!
//! Whoever asks names an address, so it is dialled before anything is held up, few at a time, and no longer than the asker
//! waits for it ([`super::identify`]).

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
pub(super) const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(2);

/// Nodes that are dialled at a time because somebody asked for them to join.
pub(in crate::node) const MAX_DIALLED: usize = 8;

/// How often a joiner that makes no progress is asked whether it still is what it was.
const STRAY_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Tells whether this Raft node answers at these addresses.
pub async fn is_at(peers: &Arc<dyn Peers>, id: &PublicId, raft_id: RaftId) -> bool {
    let target = Target { raft_id: None, id: id.clone() };
    let answer = peers.call(&target, PeerRequest::Identify, IDENTIFY_TIMEOUT).await;
    matches!(answer, Ok(PeerReply::Identify(who)) if who.raft_id == raft_id)
}

impl Node {
    /// As the leader: makes a node a member and waits until it has the role it asked for. Once it is known who that is, it
    /// runs to its end even where the asker goes away.
    pub(in crate::node) async fn join_here(&self, id: PublicId, deadline: Instant) -> AtLeader {
        self.confirm_as_leader().await.ok_or(NotLeader)?;
        let joiner = {
            let Ok(_place) = self.inner.join_places.try_acquire() else {
                return Ok(Err(NodeError::NotReady(format!("{MAX_DIALLED} others ask to join just now; try again"))));
            };
            match timeout_at(deadline, self.identify(&id)).await {
                Ok(Ok(joiner)) => joiner,
                Ok(Err(error)) => return Ok(Err(error)),
                Err(_) => return Ok(Err(NodeError::NotReady(format!("{id} was not reached in time; try again")))),
            }
        };
        let node = self.clone();
        let done = task::spawn(async move {
            match node.admit_member(&id, &joiner, deadline).await? {
                Ok(()) => node.wait_for_role(&id, &joiner, deadline).await,
                Err(error) => Ok(Err(error)),
            }
        });
        done.await.unwrap_or_else(|error| Ok(Err(NodeError::Internal(error.to_string()))))
    }

    /// Puts the joiner into the membership, in place of its former self that lost its disk.
    async fn admit_member(&self, id: &PublicId, joiner: &Identification, deadline: Instant) -> AtLeader {
        let Ok(_turn) = timeout_at(deadline, self.inner.membership_turn.lock()).await else {
            return Ok(Err(NodeError::Timeout("other membership changes took too long".to_owned())));
        };
        self.confirm_as_leader().await.ok_or(NotLeader)?;
        if let Err(error) = self.check_format(id, &joiner.speaks, deadline).await? {
            return Ok(Err(error));
        }
        let members = self.members();
        if let Some(member) = members.iter().find(|member| member.raft_id == joiner.raft_id) {
            return self.update_member(&members, member, id, joiner, deadline).await;
        }
        if let Err(error) = self.refuse_living_former_selves(&members, id, joiner).await {
            return Ok(Err(error));
        }
        let shares = |m: &&MemberView| m.server.id.haddr == id.haddr || m.server.id.raddr == id.raddr;
        let mut former = Vec::new();
        for old in members.iter().filter(shares) {
            // A mover may have an address that another member has left.
            if self.has_left(old, id, joiner).await {
                continue;
            }
            match self.may_replace(old, id, joiner).await {
                Ok(()) => former.push(old),
                Err(error) => return Ok(Err(error)),
            }
        }
        for old in former {
            tracing::info!("{id} came back empty and replaces its former self");
            match self.drop_member(old, false, deadline).await? {
                Ok(()) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        let member = Member { id: id.clone(), role: joiner.role };
        let add = ChangeMembers::AddNodes(BTreeMap::from([(joiner.raft_id, member)]));
        let done = self.change(add, deadline).await?;
        if done.is_ok() {
            tracing::info!("{id} joined as a learner");
        }
        Ok(done)
    }

    /// Refuses a joiner with an address of a member, unless it is that member without its disk: it answers at the member's
    /// Raft address, and the member answers nowhere.
    async fn may_replace(&self, old: &MemberView, id: &PublicId, joiner: &Identification) -> Result<(), NodeError> {
        let member = &old.server.id;
        if member.raddr != id.raddr {
            return Err(NodeError::Conflict(format!(
                "{id} has the client address of the member {member}, but not its Raft address: two nodes advertise one \
                 address; see --hadv, or remove that member first if it is gone"
            )));
        }
        if old.raft_id == self.inner.me.raft_id() || !joiner.empty {
            return Err(NodeError::Conflict(format!(
                "{id} has data and cannot replace the member {member} that has its address; delete its data directory"
            )));
        }
        if self.answered_lately(old.raft_id) {
            return Err(NodeError::Conflict(format!(
                "{id} has the Raft address of the member {member}, which answered just now: two processes use one \
                 address, or it came back this moment; asking again shows which"
            )));
        }
        // Once more, now that nobody else changes anything.
        let target = Target { raft_id: None, id: id.clone() };
        match self.inner.peers.call(&target, PeerRequest::Identify, IDENTIFY_TIMEOUT).await {
            Ok(PeerReply::Identify(who)) if who.raft_id == joiner.raft_id && who.empty => Ok(()),
            _ => Err(NodeError::Conflict(format!("{id} does not answer at its Raft address every time"))),
        }
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
            match old.is_nowhere() {
                true => tracing::info!("this node was restored from a backup: it is {id} from now on"),
                false => tracing::info!("{old} moved to {id}"),
            }
        }
        Ok(done)
    }

    async fn wait_for_role(&self, id: &PublicId, joiner: &Identification, deadline: Instant) -> AtLeader {
        let raft_id = joiner.raft_id;
        let mut metrics = self.metrics();
        let arrived = metrics.wait_until(|m| {
            let voter = m.membership_config.voter_ids().any(|voter| voter == raft_id);
            let leads = m.current_leader == Some(m.id);
            let is_member = m.membership_config.get_node(&raft_id).is_some();
            !leads || !is_member || voter || joiner.role == Role::Learner
        });
        let arrived = tokio::select! {
            arrived = timeout_at(deadline, arrived) => arrived,
            why = self.turns_out_a_stray(id, joiner) => return self.take_back(raft_id, why, deadline).await,
        };
        match arrived {
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

    /// Ends where a joiner turns out to be of another cluster, or removed: it will never take what it is sent. So does one
    /// that is a copy of a member which stood still when it was let in: it would be a learner for ever.
    async fn turns_out_a_stray(&self, id: &PublicId, joiner: &Identification) -> NodeError {
        loop {
            tokio::time::sleep(STRAY_CHECK_INTERVAL).await;
            if let Err(error) = self.refuse_living_former_selves(&self.members(), id, joiner).await {
                return error;
            }
            let target = Target { raft_id: None, id: id.clone() };
            let answer = self.inner.peers.call(&target, PeerRequest::Identify, IDENTIFY_TIMEOUT).await;
            if let Ok(PeerReply::Identify(who)) = answer
                && who.raft_id == joiner.raft_id
                && let Err(error) = self.check_stray(id, &who)
            {
                return error;
            }
        }
    }

    /// Removes a learner that turned out a stray. Gives the reason.
    async fn take_back(&self, raft_id: RaftId, why: NodeError, deadline: Instant) -> AtLeader {
        let Ok(_turn) = timeout_at(deadline, self.inner.membership_turn.lock()).await else {
            return Ok(Err(why));
        };
        let member = self.member(raft_id).filter(|member| !member.server.voter);
        if let Some(member) = member {
            tracing::warn!("{} is taken out of the membership again: {why}", member.server.id);
            if let Err(error) = self.drop_member(&member, false, deadline).await? {
                return Ok(Err(error));
            }
        }
        Ok(Err(why))
    }
}
