//! As the leader: a member that moved is replaced by itself, as a new member.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, sleep};

use super::search::{Sighting, ask_leaders, look};
use crate::node::membership::join::is_at;
use crate::node::rpc::{Identification, MemberAnswer};
use crate::node::status::MemberView;
use crate::node::{Node, NodeError};
use crate::node_id::PublicId;
use crate::raft_types::{Member, RaftId};

/// How often a node looks whether a former self of it runs.
const LIFE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

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

    /// For a node that is to replace its former selves: ends, with the reason, where one of them runs, or is heard, for
    /// longer than a leader remembers one that has just stopped. Its directory is a copy then.
    pub(in crate::node) async fn former_self_lives(&self) -> String {
        let replaces = self.inner.me.replaces();
        if replaces.is_empty() {
            return std::future::pending().await;
        }
        let mut since = None;
        loop {
            sleep(LIFE_CHECK_INTERVAL).await;
            let Some(original) = self.living_former_self(&replaces).await else {
                since = None;
                continue;
            };
            if since.get_or_insert_with(Instant::now).elapsed() >= self.inner.options.election_max() * 2 {
                let me = &self.inner.me;
                return format!(
                    "{} is a copy of the directory of {original}, which still runs: {} must not use its identity; stop that \
                     node first, or give another --rdir",
                    me.data_place,
                    me.id()
                );
            }
        }
    }

    /// A former self that is a member still, and runs.
    async fn living_former_self(&self, replaces: &BTreeSet<RaftId>) -> Option<PublicId> {
        let members = self.members();
        let former: Vec<&MemberView> = members.iter().filter(|member| replaces.contains(&member.raft_id)).collect();
        let known = members.iter().map(|member| member.server.id.clone()).filter(|id| id != self.id()).collect();
        let listed = self.inner.listed.get().cloned().unwrap_or_default();
        let seen = look(&self.inner.peers, known, &listed).await;
        let cluster = self.inner.me.cluster();
        let lives = |who: &&Identification| {
            who.cluster == cluster
                && !who.removed
                && !who.standing.moved.is_passive()
                && former.iter().any(|member| member.raft_id == who.raft_id)
        };
        if let Some(original) = seen.iter().filter_map(Sighting::node).find(lives) {
            return Some(original.id.clone());
        }
        for member in former {
            let word = ask_leaders(&self.inner.peers, &seen, member.raft_id).await;
            if matches!(word, Some((_, MemberAnswer::Member { heard: true, .. }))) {
                return Some(member.server.id.clone());
            }
        }
        None
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
