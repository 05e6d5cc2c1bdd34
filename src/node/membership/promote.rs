//! Learners that have caught up become the voters they asked to be.
//!
//! The membership itself says which role a member asked for. Any leader can therefore finish a
//! promotion, or a joint membership, that another began.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::metrics::RaftServerMetrics;
use tokio::time::Instant;

use crate::node::Node;
use crate::node::leader::{LEADER_WAIT, Leader};
use crate::node::rpc::NotLeader;
use crate::node::status::silence;
use crate::raft_types::{Member, RaftId, Role, TypeConfig};

/// A learner this close to the end of the log, in entries, has caught up.
const CAUGHT_UP_LAG_ENTRIES: u64 = 100;

/// How often the leader looks whether those who are to be promoted have caught up.
const PROMOTION_CHECK_INTERVAL: Duration = Duration::from_millis(100);

impl Node {
    /// The task that, on the leader, promotes learners that have caught up and asked to be voters,
    /// and finishes a joint membership whose leader is gone.
    pub(in crate::node) async fn promote_learners(self) {
        let mut server = self.inner.raft.server_metrics();
        let mut said = String::new();
        loop {
            // A new leader or membership is an event; that a learner has caught up is none that is rarer than this.
            let look_again =
                if is_promotion_ahead(&server.borrow_and_update()) { PROMOTION_CHECK_INTERVAL } else { Duration::MAX };
            let woken = tokio::time::timeout(look_again, server.changed()).await;
            if matches!(woken, Ok(Err(_))) {
                return;
            }
            if self.leader() != Some(Leader::ThisNode) {
                continue;
            }
            let Some(promoted) = self.to_promote() else { continue };
            let _turn = self.inner.membership_turn.lock().await;
            // Once more under the turn: a removal may have come between.
            if self.to_promote().as_ref() != Some(&promoted) {
                continue;
            }
            let Some(change) = self.promotion_of(&promoted).await else { continue };
            match self.change(change, Instant::now() + LEADER_WAIT * 3).await {
                Ok(Ok(())) => {
                    for member in self.members().iter().filter(|m| m.server.voter && promoted.contains(&m.raft_id)) {
                        tracing::info!("{} caught up and is a voter", member.server.id);
                    }
                }
                Ok(Err(error)) => {
                    let why = format!("a learner could not be made a voter yet: {error}");
                    if said != why {
                        tracing::warn!("{why}");
                        said = why;
                    }
                }
                Err(NotLeader) => {}
            }
        }
    }

    /// Learners to promote; an empty set where only a joint membership is to be finished.
    ///
    /// They have acknowledged an entry since they are members, have nearly all there are, and answer still.
    fn to_promote(&self) -> Option<BTreeSet<RaftId>> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let stored = &metrics.membership_config;
        if metrics.committed_membership_config != *stored {
            return None;
        }
        let voters: BTreeSet<RaftId> = stored.voter_ids().collect();
        // The membership that has them is at this index, or they were members before.
        let joined = stored.log_id().as_ref().map_or(0, |id| id.index);
        let end = metrics.last_log_index.unwrap_or(0);
        let matched = |id: &RaftId| metrics.replication.as_ref()?.get(id)?.as_ref().map(|log_id| log_id.index);
        let ready: BTreeSet<RaftId> = stored
            .nodes()
            .filter(|(id, member)| member.role == Role::Voter && !voters.contains(id))
            .filter(|(id, _)| matched(id).is_some_and(|index| index >= joined && index + CAUGHT_UP_LAG_ENTRIES >= end))
            .filter(|(id, _)| {
                silence(&metrics, **id).is_some_and(|silence| silence <= self.inner.options.election_max())
            })
            .map(|(id, _)| *id)
            .collect();
        let joint = stored.membership().get_joint_config().len() > 1;
        (joint || !ready.is_empty()).then_some(ready)
    }
}

/// Tells whether this node leads, and a joint membership is to be finished or somebody promoted.
fn is_promotion_ahead(server: &RaftServerMetrics<TypeConfig>) -> bool {
    let membership = &server.membership_config;
    let voters: BTreeSet<RaftId> = membership.voter_ids().collect();
    let waits = |(id, member): (&RaftId, &Member)| member.role == Role::Voter && !voters.contains(id);
    server.state == ServerState::Leader
        && (membership.membership().get_joint_config().len() > 1 || membership.nodes().any(waits))
}
