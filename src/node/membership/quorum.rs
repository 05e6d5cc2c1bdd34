//! The guard of all changes: what the voters that answer cannot commit is not proposed.
//!
//! A change that was proposed cannot be taken back: from then on it counts, and a cluster that cannot commit it takes no
//! writes until it can.

use std::collections::BTreeSet;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver as _;

use crate::node::{Node, NodeError};
use crate::raft_types::{Member, RaftId};

impl Node {
    /// As the leader: refuses a change of the members that the voters that answer cannot commit, now and afterwards.
    ///
    /// # Errors
    /// [`NodeError::Conflict`].
    pub(super) fn check_commit(&self, change: &ChangeMembers<RaftId, Member>) -> Result<(), NodeError> {
        self.check_quorums(|last| voters_after(last, change))
    }

    /// As the leader: refuses what needs the voters that there are, where too few of them answer.
    ///
    /// # Errors
    /// [`NodeError::Conflict`].
    pub(super) fn check_quorum(&self) -> Result<(), NodeError> {
        self.check_quorums(BTreeSet::clone)
    }

    fn check_quorums(&self, after: impl FnOnce(&BTreeSet<RaftId>) -> BTreeSet<RaftId>) -> Result<(), NodeError> {
        let mut configs = {
            let metrics = self.inner.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().get_joint_config().clone()
        };
        // A joint membership goes on to its last part.
        let next = configs.last().map(after).unwrap_or_default();
        configs.push(next);
        let answer = |voters: &BTreeSet<RaftId>| voters.iter().filter(|id| self.answered_lately(**id)).count();
        match configs.iter().map(|voters| (answer(voters), voters.len())).find(|(up, all)| *up <= all / 2) {
            None => Ok(()),
            Some((up, all)) => Err(NodeError::Conflict(format!(
                "only {up} of {all} voters answer, which is no quorum: nothing was changed; start the others, and try again"
            ))),
        }
    }
}

/// The voters that a change leaves.
fn voters_after(last: &BTreeSet<RaftId>, change: &ChangeMembers<RaftId, Member>) -> BTreeSet<RaftId> {
    match change {
        ChangeMembers::AddVoterIds(ids) => last | ids,
        ChangeMembers::AddVoters(members) => last.iter().chain(members.keys()).copied().collect(),
        ChangeMembers::RemoveVoters(ids) => last - ids,
        ChangeMembers::ReplaceAllVoters(ids) => ids.clone(),
        ChangeMembers::Batch(changes) => {
            changes.iter().fold(last.clone(), |voters, change| voters_after(&voters, change))
        }
        // Learners and addresses.
        _ => last.clone(),
    }
}
