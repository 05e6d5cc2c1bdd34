//! As the leader: a member that moved is replaced by itself, as a new member.

use std::collections::BTreeSet;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;

use crate::node::membership::join::is_at;
use crate::node::rpc::Identification;
use crate::node::status::MemberView;
use crate::node::{Node, NodeError};
use crate::node_id::PublicId;
use crate::raft_types::{Member, RaftId};

impl Node {
    /// Refuses a joiner that is to replace a member which is still there.
    ///
    /// # Errors
    /// [`NodeError::Conflict`], which names both.
    pub(in crate::node) async fn refuse_living_former_selves(
        &self,
        members: &[MemberView],
        id: &PublicId,
        joiner: &Identification,
    ) -> Result<(), NodeError> {
        for former in members.iter().filter(|member| joiner.standing.replaces.contains(&member.raft_id)) {
            let old = &former.server.id;
            if self.answered_lately(former.raft_id) || is_at(&self.inner.peers, old, former.raft_id).await {
                return Err(NodeError::Conflict(format!(
                    "{id} was started on a copy of the data directory of {old}, which still runs; stop one of them"
                )));
            }
        }
        Ok(())
    }

    /// Tells whether a member whose address a joiner with data has is elsewhere now: it is the joiner's former self, or does
    /// not answer at that address any more.
    pub(in crate::node) async fn has_left(&self, member: &MemberView, id: &PublicId, joiner: &Identification) -> bool {
        let is_mover = !joiner.standing.replaces.is_empty();
        is_mover
            && (joiner.standing.replaces.contains(&member.raft_id)
                || member.server.id.raddr == id.raddr
                || !is_at(&self.inner.peers, &member.server.id, member.raft_id).await)
    }

    /// The change that makes these learners voters, each in place of its former selves; `None` where none can be now.
    pub(in crate::node) async fn promotion_of(
        &self,
        learners: &BTreeSet<RaftId>,
    ) -> Option<ChangeMembers<RaftId, Member>> {
        if learners.is_empty() {
            return Some(ChangeMembers::AddVoterIds(BTreeSet::new()));
        }
        let members = self.members();
        let (mut promoted, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for learner in members.iter().filter(|member| learners.contains(&member.raft_id)) {
            // One that does not answer is asked again: it may have a former self that would stay.
            let Some(replaces) = self.replaced_by(learner.raft_id, &learner.server.id).await else { continue };
            let former = members.iter().filter(|member| replaces.contains(&member.raft_id));
            let former: BTreeSet<RaftId> = former.map(|member| member.raft_id).collect();
            if former.iter().any(|raft_id| self.answered_lately(*raft_id)) {
                continue;
            }
            promoted.insert(learner.raft_id);
            gone.extend(former);
        }
        if promoted.is_empty() {
            return None;
        }
        if gone.is_empty() {
            return Some(ChangeMembers::AddVoterIds(promoted));
        }
        let metrics = self.inner.raft.metrics();
        let voters: BTreeSet<RaftId> = metrics.borrow_watched().membership_config.voter_ids().collect();
        let voters = voters.difference(&gone).copied().chain(promoted).collect();
        Some(ChangeMembers::ReplaceAllVoters(voters))
    }
}
