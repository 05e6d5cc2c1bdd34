//! Linearizable reads at any node: a read index confirmed by a quorum (dissertation, 6.4).
//!
//! All reads that wait share one confirmation. One that arrives while a confirmation is under way
//! needs the next one, because the index it gets must be confirmed *after* it arrived: hence one
//! task, one round at a time.
//!
//! No lease is used, so no clock is trusted. The index is at least that of the leader's first entry
//! of its own term, so a new leader never gives one that misses what its predecessor committed.
//!
//! A follower's question says whom it follows, by the newest vote it has given its log to save. By that it is an answer to
//! its leader as well: until it asked, this member had a part in no later election. In a cluster of three, these two are the
//! quorum, and where the follower has applied all, nobody else needs to be asked.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{RaftState, ReadPolicy};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::node::leader::{Leader, LeaderWait};
use crate::node::read::quorum_acks;
use crate::node::rpc::{PeerReply, PeerRequest};
use crate::node::{Node, NodeError};
use crate::raft_types::alias::{LogId, Vote};
use crate::raft_types::{RaftId, TypeConfig};
use crate::task;

/// Answers a waiting reader: the index, or `None` where it must try again.
type Waiter = oneshot::Sender<Option<u64>>;

/// The queue of readers for the next confirmation.
#[derive(Debug)]
pub(in crate::node) struct ReadIndex(mpsc::UnboundedSender<Waiter>);

impl ReadIndex {
    pub(in crate::node) fn new() -> (Self, mpsc::UnboundedReceiver<Waiter>) {
        let (queue, waiters) = mpsc::unbounded_channel();
        (Self(queue), waiters)
    }

    /// The next confirmed index; `None` where this round failed.
    pub(in crate::node) async fn next(&self) -> Option<u64> {
        let (waiter, index) = oneshot::channel();
        self.0.send(waiter).ok()?;
        index.await.ok()?
    }
}

impl Node {
    /// An index confirmed by a quorum after this call began.
    pub(in crate::node) async fn read_index(&self, deadline: Instant) -> Result<u64, NodeError> {
        self.refuse_stray()?;
        let wait = LeaderWait::new(deadline);
        loop {
            self.leader_by(&wait).await?;
            match timeout_at(deadline, self.inner.reads.next()).await {
                Ok(Some(index)) => return Ok(index),
                Ok(None) => Box::pin(self.wait_for_a_change(&wait)).await?,
                Err(_) => return Err(NodeError::Timeout("no quorum confirmed the read in time".to_owned())),
            }
        }
    }

    /// The task that confirms, round after round. It runs where those run who wait.
    pub(in crate::node) async fn confirm_read_indexes(self, mut queue: mpsc::UnboundedReceiver<Waiter>) {
        while let Some(first) = queue.recv().await {
            let mut waiters = vec![first];
            while let Ok(waiter) = queue.try_recv() {
                waiters.push(waiter);
            }
            // Among the node's own tasks: here it could miss its time for want of a turn.
            let confirmed = task::spawn_on(&self.inner.home, self.clone().confirm()).await;
            let index = confirmed.ok().flatten();
            self.inner.numbers.read_indexes[usize::from(index.is_none())].one();
            for waiter in waiters {
                // A reader that is gone needs no answer.
                let _ = waiter.send(index);
            }
        }
    }

    async fn confirm(self) -> Option<u64> {
        match self.leader()? {
            Leader::ThisNode => self.confirm_as_leader().await,
            Leader::Other(target) => {
                // What the log has, not what openraft tells: that comes after the vote is out.
                let following = self.inner.log.vote();
                let request = PeerRequest::ReadIndex { following, applied: self.applied_index() };
                match self.inner.peers.call(&target, request, self.confirm_timeout()).await {
                    Ok(PeerReply::ReadIndex(index)) => {
                        index.filter(|index| !is_of_another_history(self.last_committed(), *index, following))
                    }
                    _ => None,
                }
            }
        }
    }

    /// The read index for a member that asks for it, has given this vote last and has applied so much.
    pub(in crate::node) async fn read_index_for(
        &self,
        asker: RaftId,
        following: Option<Vote>,
        applied: u64,
    ) -> Option<u64> {
        if self.leader() != Some(Leader::ThisNode) {
            return None;
        }
        let me = self.inner.me.raft_id();
        // Within openraft's core, where what is committed is known before any follower hears of it and applies it.
        let state = move |state: &RaftState<TypeConfig>| read_index_of_two(state, me, asker, following?);
        let confirmed = async {
            match self.inner.raft.with_raft_state(state).await {
                Ok(Some(index)) if index <= applied => Some(index),
                // One that has not heard yet of what is committed hears of it by the heartbeats of this: alone, a commit
                // index waits for entries to travel with (`appends`).
                _ => self.confirm_as_leader().await,
            }
        };
        // A core that waits for its disk answers nobody.
        timeout(self.confirm_timeout(), confirmed).await.ok()?
    }

    /// The read index, if this node leads and a quorum says so now.
    pub(in crate::node) async fn confirm_as_leader(&self) -> Option<u64> {
        let confirmed = async {
            let vote = self.inner.log.vote()?;
            let read = self.inner.acks.begin();
            let linearizer = self.inner.raft.get_read_linearizer(ReadPolicy::ReadIndex).await.ok()?;
            // openraft's own word is not enough, see `acks`; what it has sent for this read is answered by now, or soon.
            let me = self.inner.me.raft_id();
            self.inner.acks.since(read, me, || self.voters()).await;
            // Else the answers may be to a later term of this node, and another may have led before that.
            (self.inner.log.vote() == Some(vote)).then(|| linearizer.read_log_id().index())
        };
        timeout(self.confirm_timeout(), confirmed).await.ok()?
    }

    fn voters(&self) -> Vec<BTreeSet<RaftId>> {
        let server = self.inner.raft.server_metrics();
        server.borrow_watched().membership_config.membership().get_joint_config().clone()
    }

    fn confirm_timeout(&self) -> Duration {
        self.inner.options.election_max()
    }
}

/// True where what is committed here, up to a read index and beyond, ends in an earlier term than that of the leader who gave
/// it: a leader's read index is in its own term. Such a node holds what its cluster does not, as after copies of directories
/// of different times were put back, and has not heard so yet.
fn is_of_another_history(committed: Option<LogId>, index: u64, following: Option<Vote>) -> bool {
    let (Some(committed), Some(vote)) = (committed, following) else { return false };
    vote.committed && committed.index >= index && committed.leader_id.term < vote.leader_id.term
}

/// The read index of `me`, if it leads by the vote `following` and is a quorum together with `asker`, which follows it by
/// that vote.
pub(in crate::node) fn read_index_of_two(
    state: &RaftState<TypeConfig>,
    me: RaftId,
    asker: RaftId,
    following: Vote,
) -> Option<u64> {
    let leads = following.committed && following.leader_id.voted_for == me && *state.vote_ref() == following;
    let committed = state.cluster_committed()?;
    // Nothing of its own term before that: it may not know yet what its predecessor committed.
    let knows_all = committed.leader_id.term == following.leader_id.term;
    let configs = state.membership_state.effective().membership().get_joint_config();
    (leads && knows_all && quorum_acks::is_quorum(configs, |id| id == me || id == asker)).then(|| committed.index())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_goes_beyond_the_read_index_in_an_earlier_term_is_of_another_history() {
        let committed = |term, index| Some(openraft::testing::log_id::<TypeConfig>(term, 1, index));
        let following = Some(Vote::new_committed(5, 1));
        assert!(is_of_another_history(committed(4, 590), 550, following), "it goes beyond");
        assert!(is_of_another_history(committed(4, 550), 550, following), "it ends there");
        assert!(!is_of_another_history(committed(4, 549), 550, following), "it has yet to hear");
        assert!(!is_of_another_history(committed(5, 590), 550, following), "the leader has gone on since");
        assert!(!is_of_another_history(None, 550, following));
        assert!(!is_of_another_history(committed(4, 590), 550, Some(Vote::new(5, 1))), "its own candidature");
        assert!(!is_of_another_history(committed(4, 590), 550, None));
    }
}
